// The parts that all pages have: views, messages, forms and their errors.

import { fill, text } from './texts.js';

const ids = ['title', 'intro', 'alert', 'status', 'view'];
const [title, intro, alert, status, view] = ids.map((id) => document.getElementById(id));
const titleOfPage = title.textContent;

// After this time, a person is told that an answer takes long.
const SLOW_MS = 5_000;

// The fields that an error is about, if it is about one.
const FIELDS = {
  username_or_password_incorrect: 'password',
  password_incorrect: 'old_password',
  unknown_username: 'username',
  code_incorrect: 'code',
};

let countdown;

// What the server tells the script about the page.
export const page = document.body.dataset;

// Shows the view of this name, and returns its elements by their ids. The focus goes to the first empty field, or else
// to the title.
export function show(name, values = {}) {
  const template = document.getElementById(`${name}-view`);
  const shown = template.content.cloneNode(true);
  for (const element of shown.querySelectorAll('[data-fill]')) {
    element.textContent = fill(element.textContent, values);
  }
  for (const button of shown.querySelectorAll('.reveal')) {
    button.addEventListener('click', () => reveal(button));
  }
  title.textContent = template.dataset.title ?? titleOfPage;
  document.title = `${title.textContent} · ${page.product}`;
  intro.textContent = fill(template.dataset.intro ?? '', values);
  clearMessages();
  view.replaceChildren(shown);
  if (values.username && view.querySelector('#username')) view.querySelector('#username').value = values.username;
  const fields = [...view.querySelectorAll('input:not([type=checkbox])')];
  (fields.find((field) => !field.value) ?? title).focus();
  if (template.dataset.status) tell(template.dataset.status);
  return Object.fromEntries([...view.querySelectorAll('[id]')].map((element) => [element.id, element]));
}

// Says what happened.
export function tell(message) {
  stopCountdown();
  status.textContent = message;
}

// Says what went wrong, and moves the focus there.
export function warn(message) {
  alert.textContent = message;
  alert.focus();
}

export function clearMessages() {
  stopCountdown();
  alert.textContent = '';
  status.textContent = '';
}

// Shows the error of an answer to what a form has sent.
export function fail(answer, form, values = {}) {
  const named = Object.keys(answer.body.errors ?? {}).filter((name) => form?.elements[name]);
  if (answer.code === 'validation_failed' && named.length > 0) {
    const fallback = { new_password: 'too_common', username: 'invalid_username', code: 'invalid_code' };
    const problems = named.map((name) => [name, problem(name, values) ?? fallback[name] ?? 'invalid_field']);
    showProblems(form, problems);
    return;
  }
  warn(text(answer.code));
  const field = form?.elements[FIELDS[answer.code]];
  if (field) {
    field.setAttribute('aria-invalid', 'true');
    field.focus();
    field.select();
  }
  if (answer.wait > 0) countDown(answer.wait);
}

// Calls `send` with the values of the form when it is submitted, unless a field cannot be right.
export function onSubmit(form, send) {
  const button = form.querySelector('[type=submit]');
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    if (isBusy(button)) return;
    const values = valuesOf(form);
    clearMessages();
    for (const field of form.elements) field.removeAttribute('aria-invalid');
    for (const error of form.querySelectorAll('.error')) error.textContent = '';
    const problems = Object.keys(values).map((name) => [name, problem(name, values)]);
    const found = problems.filter(([, key]) => key);
    if (found.length > 0) showProblems(form, found);
    else during(button, () => send(values));
  });
}

// Calls `work` when the button is pressed.
export function onPress(button, work) {
  button.addEventListener('click', () => {
    if (isBusy(button)) return;
    clearMessages();
    during(button, work);
  });
}

// Keeps the button from starting `work` again until it is done. It is not disabled, or it would lose the focus.
async function during(button, work) {
  button.setAttribute('aria-disabled', 'true');
  const slow = setTimeout(() => tell(text('slow')), SLOW_MS);
  try {
    await work();
  } catch (error) {
    console.error(error);
    warn(text('unknown_error'));
  } finally {
    clearTimeout(slow);
    if (status.textContent === text('slow')) tell('');
    button.removeAttribute('aria-disabled');
  }
}

function isBusy(button) {
  return button.getAttribute('aria-disabled') === 'true';
}

function valuesOf(form) {
  const values = {};
  for (const field of form.querySelectorAll('input')) {
    values[field.name] = field.type === 'checkbox' ? field.checked : field.value;
  }
  if ('username' in values) values.username = values.username.trim();
  // A code that was copied can have blanks in it and around it.
  if ('code' in values) values.code = values.code.replace(/\s/g, '');
  return values;
}

// The key of the text about a value that the service would refuse.
function problem(name, values) {
  const value = values[name];
  if (typeof value !== 'string') return null;
  if (value === '') return `required_${name}`;
  const length = [...value].length;
  if (name === 'code') return /^[0-9]{6}$/.test(value) ? null : 'invalid_code';
  if (name === 'username') return length > 190 ? 'invalid_username' : null;
  if (length > Number(page.maxChars)) return 'too_long';
  if (name !== 'new_password') return null;
  if (length < Number(page.minChars)) return 'too_short';
  return value === values.old_password ? 'same_password' : null;
}

function showProblems(form, problems) {
  for (const [name, key] of problems) {
    form.elements[name].setAttribute('aria-invalid', 'true');
    form.querySelector(`#${name}-error`).textContent = text(key);
  }
  alert.textContent = text('validation_failed');
  form.elements[problems[0][0]].focus();
}

// Counts the seconds of a wait for the eye. A screen reader hears it once a minute, and at the end.
function countDown(seconds) {
  const end = Date.now() + seconds * 1000;
  const heard = document.createElement('span');
  const seen = document.createElement('span');
  heard.className = 'unseen';
  seen.setAttribute('aria-hidden', 'true');
  status.replaceChildren(heard, seen);
  const tick = () => {
    const left = Math.max(0, Math.ceil((end - Date.now()) / 1000));
    if (left === 0) {
      alert.textContent = '';
      tell(text('wait_over'));
      return;
    }
    const unit = left > 60 ? [Math.ceil(left / 60), 'minute'] : [left, 'second'];
    const spoken = text('wait', { time: amount(...unit) });
    if (left > 60 ? heard.textContent !== spoken : left % 30 === 0 || heard.textContent === '') heard.textContent = spoken;
    const clock = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, '0')}`;
    seen.textContent = text('wait', { time: left > 60 ? clock : amount(left, 'second') });
  };
  tick();
  countdown = setInterval(tick, 1000);
}

function stopCountdown() {
  clearInterval(countdown);
}

function amount(number, unit) {
  const form = { style: 'unit', unit, unitDisplay: 'long' };
  return new Intl.NumberFormat(document.documentElement.lang, form).format(number);
}

// Shows the password beside a button, or hides it again.
function reveal(button) {
  const field = document.getElementById(button.getAttribute('aria-controls'));
  field.type = field.type === 'password' ? 'text' : 'password';
  const { other, otherLabel } = button.dataset;
  button.dataset.other = button.textContent;
  button.dataset.otherLabel = button.getAttribute('aria-label');
  button.textContent = other;
  button.setAttribute('aria-label', otherLabel);
}
