// The texts of the script in the language of the page, which come with it.

const texts = new Map();
for (const element of document.getElementById('texts').content.children) {
  texts.set(element.dataset.key, element.textContent);
}

// The text with this key, or the one of an unknown error.
export function text(key, values = {}) {
  return fill(texts.get(key) ?? texts.get('unknown_error'), values);
}

export function fill(template, values) {
  return template.replace(/\{(\w+)\}/g, (placeholder, name) => values[name] ?? placeholder);
}
