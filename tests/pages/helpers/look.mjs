// A look at a page in one state, as different people have it: automated rules of accessibility, and pictures.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { PICTURES } from "./visit.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const desktop = { width: 1280, height: 800 };
const phone = { width: 320, height: 640 };

// Each language in both schemes and in both widths, without each combination of the three.
const LOOKS = {
  en: [["light", desktop], ["dark", phone]],
  de: [["dark", desktop], ["light", phone]],
};

/** Fails if axe finds anything, with what it finds. */
export async function assertAccessible(page, where) {
  if (!(await page.evaluate("'axe' in window"))) await page.evaluate(AXE);
  const violations = await page.evaluate(async () => {
    const { violations } = await axe.run(document, { resultTypes: ["violations"] });
    return violations.flatMap(({ id, nodes }) => nodes.map((node) => [id, node.html, node.failureSummary]));
  });
  assert.deepEqual(violations, [], where);
}

/** Fails if a page is wider than the window. */
export async function assertFits(page, where) {
  const { scrollWidth, clientWidth } = await page.evaluate(() => {
    const { scrollWidth, clientWidth } = document.scrollingElement;
    return { scrollWidth, clientWidth };
  });
  assert(scrollWidth <= clientWidth, `${where}: ${scrollWidth} px wide in ${clientWidth}`);
}

/** Looks at a page that shows the named state. */
export async function look({ page, language }, state) {
  const before = page.viewportSize();
  for (const [colorScheme, viewport] of LOOKS[language]) {
    const where = [state, language, colorScheme, viewport === phone ? "phone" : "desktop"].join(".");
    await page.setViewportSize(viewport);
    await page.emulateMedia({ colorScheme });
    await page.screenshot({ path: `${PICTURES}${where}.png`, fullPage: true });
    await assertFits(page, where);
    await assertAccessible(page, where);
  }
  await page.emulateMedia({ colorScheme: null });
  await page.setViewportSize(before);
}
