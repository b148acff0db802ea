// Properties of the pages themselves: marks, languages, weight, and preferences of the person.

import assert from "node:assert/strict";
import { test } from "node:test";
import { assertAccessible, assertFits } from "./helpers/look.mjs";
import { API_URL, PASSWORD } from "./helpers/service.mjs";
import { field } from "./helpers/steps.mjs";
import { visits } from "./helpers/visit.mjs";

const PATHS = ["/", "/forgot-password", "/change-password", "/sessions"];

test("the documents are marked as browsers and screen readers need it", async () => {
  for (const path of PATHS) {
    const response = await fetch(API_URL + path);
    const html = await response.text();
    assert.equal(response.status, 200, path);
    assert.match(response.headers.get("content-type"), /^text\/html; *charset=utf-8$/i);
    for (const role of ["alert", "status"]) assert.match(html, new RegExp(`role="?${role}\\b`), `${role} in ${path}`);
    for (const [form] of html.matchAll(/<form[\s\S]*?<\/form>/g)) {
      const submits = [...form.matchAll(/<button[^>]*type="?submit/g)];
      assert.equal(submits.length, 1, `one submit button in each form of ${path}: ${form}`);
    }
    assert(!/<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=|javascript:/i.test(html), `no inline code in ${path}`);
    assert.match(html, /<noscript>[^<]*(<[^/][^<]*)*JavaScript/, `a sentence without scripts in ${path}`);
  }
});

visits("the sign-in page weighs at most 40 KB in four requests", async ({ page }) => {
  const session = await page.context().newCDPSession(page);
  await session.send("Network.enable");
  const weights = [];
  session.on("Network.loadingFinished", ({ encodedDataLength }) => weights.push(encodedDataLength));
  await page.goto("/", { waitUntil: "networkidle" });
  // The icon is the logo, which is in the cache then.
  assert.equal(weights.filter((weight) => weight > 0).length, 4);
  const sum = weights.reduce((total, weight) => total + weight);
  assert(sum > 10_000 && sum <= 40_000, `${sum} bytes`);
});

visits("a second page comes with one request", async (visit) => {
  const { page } = visit;
  await page.goto("/", { waitUntil: "networkidle" });
  const before = visit.requests.length;
  await page.goto("/forgot-password", { waitUntil: "networkidle" });
  const transferred = [];
  for (const request of visit.requests.slice(before)) {
    if ((await request.sizes()).responseBodySize > 0) transferred.push(new URL(request.url()).pathname);
  }
  assert.deepEqual(transferred, ["/forgot-password"]);
});

test("the documents come in the language of the address, or else of the browser", async () => {
  const expected = [
    ["de-AT,de;q=0.9,en;q=0.8", "", "de"],
    ["de-AT", "?lang=en", "en"],
    ["en-GB", "?lang=de", "de"],
    ["fr", "", "en"],
    ["de", "?lang=fr", "en"],
  ];
  for (const path of PATHS) {
    for (const [accepted, query, language] of expected) {
      const response = await fetch(API_URL + path + query, { headers: { "accept-language": accepted } });
      const html = await response.text();
      assert.match(html, new RegExp(`<html[^>]* lang="?${language}\\b`), `${path}${query} for ${accepted}`);
      assert.equal(response.headers.get("content-language"), language);
    }
  }
});

visits("a language that was chosen by address stays on the way", { locale: "en" }, async ({ page }) => {
  await page.goto("/?lang=de");
  await page.getByRole("link", { name: /vergessen/ }).click();
  await field(page, "current-password").waitFor({ state: "hidden" });
  assert.equal(await page.evaluate(() => document.documentElement.lang), "de");
});

visits("without scripts a person is told so, and nothing can be sent", { javaScriptEnabled: false }, async (visit) => {
  const { page, words } = visit;
  for (const path of PATHS) {
    await page.goto(path);
    await page.getByText(words.javascript).waitFor();
    assert.equal(await page.locator("form").count(), 0);
  }
});

visits("the pages work with the person's own spacing of text", { phone: true, language: "de" }, async ({ page }) => {
  for (const path of PATHS.slice(0, 2)) {
    await page.goto(path);
    // WCAG 2.2, 1.4.12
    await page.evaluate(() => {
      for (const element of document.body.querySelectorAll("*")) {
        element.style.setProperty("line-height", "1.5", "important");
        element.style.setProperty("letter-spacing", "0.12em", "important");
        element.style.setProperty("word-spacing", "0.16em", "important");
      }
    });
    await assertFits(page, path);
    const cut = await page.evaluate(() => {
      const clips = (element) => element.tagName !== "INPUT" && getComputedStyle(element).overflow !== "visible";
      const isCut = (element) => element.clientHeight > 1 && element.scrollHeight > element.clientHeight + 1;
      return [...document.body.querySelectorAll("*")].filter(clips).filter(isCut).map((element) => element.outerHTML);
    });
    assert.deepEqual(cut, []);
  }
});

visits("the pages fit at a zoom of 400 %", { viewport: { width: 320, height: 256 } }, async ({ page }) => {
  for (const path of PATHS) {
    await page.goto(path, { waitUntil: "networkidle" });
    await assertFits(page, path);
  }
});

visits("the pages fit with text of twice the size", { phone: true, language: "de" }, async ({ page }) => {
  for (const path of PATHS.slice(0, 2)) {
    await page.goto(path);
    await page.evaluate(() => document.documentElement.style.setProperty("font-size", "200%"));
    await assertFits(page, path);
  }
});

visits("nothing moves for a person who prefers that", async ({ page }) => {
  await page.goto("/");
  const moving = await page.evaluate(() => {
    const moves = (times) => times.split(", ").some((time) => parseFloat(time) > 0.01);
    const styles = [...document.querySelectorAll("*")].map((element) => getComputedStyle(element));
    return styles.filter((style) => moves(style.transitionDuration) || moves(style.animationDuration)).length;
  });
  assert.equal(moving, 0);
});

visits("forced colours leave borders and focus visible", { forcedColors: "active" }, async (visit) => {
  const { page } = visit;
  await page.goto("/");
  await assertAccessible(page, "forced colours");
  for (const control of await page.locator("input:visible:not([type=checkbox]), button[type=submit]:visible").all()) {
    // The border of a field with a button in it is that of both.
    const borders = await control.evaluate((element) =>
      [element, element.parentElement].map((box) => parseFloat(getComputedStyle(box).borderTopWidth)));
    assert(borders.some((width) => width >= 1), `${control} has a border`);
  }
});

visits("fields of passwords can be pasted into", async ({ page }) => {
  await page.goto("/");
  await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  await page.evaluate((text) => navigator.clipboard.writeText(text), PASSWORD);
  await field(page, "current-password").focus();
  await page.keyboard.press("ControlOrMeta+v");
  assert.equal(await field(page, "current-password").inputValue(), PASSWORD);
});

test("other paths stay unknown", async () => {
  for (const path of ["/signin", "/index.html", "/assets/", "/favicon.png", "/sessions/1"]) {
    assert.equal((await fetch(API_URL + path)).status, 404, path);
  }
});
