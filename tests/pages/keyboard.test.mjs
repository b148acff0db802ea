// The flows with nothing but a keyboard.

import assert from "node:assert/strict";
import { mailedCode, newUser, NEW_PASSWORD, PASSWORD, signInElsewhere } from "./helpers/service.mjs";
import { field, isSignedIn, seesNews, submitButton } from "./helpers/steps.mjs";
import { visits } from "./helpers/visit.mjs";

/** Presses Tab until the focus is on the element, and fails if it gets there never, or unseen on the way. */
async function tabTo(page, target) {
  for (let presses = 0; presses < 30; presses += 1) {
    await page.keyboard.press("Tab");
    const focused = page.locator(":focus");
    if ((await focused.count()) === 0) continue;
    // The outline of a field with a button in it is that of both.
    const isVisible = await focused.evaluate((element) => {
      const styles = [element, element.parentElement].map((box) => getComputedStyle(box));
      return styles.some((style) => style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 1);
    });
    assert(isVisible, `the focus can be seen on ${await focused.evaluate((element) => element.outerHTML)}`);
    if (await target.evaluate((element) => element === document.activeElement)) return;
  }
  assert.fail(`no way to ${target}`);
}

async function types(page, purpose, text) {
  await tabTo(page, field(page, purpose).first());
  await page.keyboard.type(text);
}

async function signsIn({ page, words }, username) {
  await page.goto("/");
  await types(page, "username", username);
  await page.keyboard.press("Tab");
  await types(page, "current-password", PASSWORD);
  await tabTo(page, page.getByLabel(words.stay));
  await page.keyboard.press("Space");
  await tabTo(page, submitButton(page));
  await page.keyboard.press("Enter");
}

visits("signing in, ending a session and signing out need no mouse", async (visit) => {
  const { page, words } = visit;
  const username = await newUser();
  await signInElsewhere(username, "Firefox on Anna's phone");
  await signsIn(visit, username);
  await isSignedIn(visit);
  if (new URL(page.url()).pathname !== "/sessions") {
    await tabTo(page, page.getByRole("link", { name: words.sessions }));
    await page.keyboard.press("Enter");
  }
  const session = page.getByRole("listitem").filter({ hasText: "Anna's phone" });
  await session.waitFor();
  await tabTo(page, session.getByRole("button"));
  await page.keyboard.press("Enter");
  await session.waitFor({ state: "detached" });
  await tabTo(page, page.getByRole("button", { name: words.signOut }).first());
  await page.keyboard.press("Enter");
  await field(page, "current-password").waitFor();
});

visits("a reset needs no mouse", async (visit) => {
  const { page, words } = visit;
  const username = await newUser();
  await page.goto("/");
  await tabTo(page, page.getByRole("link", { name: words.forgotten }));
  await page.keyboard.press("Enter");
  await page.waitForURL("**/forgot-password");
  await types(page, "username", username);
  await page.keyboard.press("Enter");
  await field(page, "one-time-code").waitFor();
  const isFocused = await field(page, "one-time-code").evaluate((input) => input === document.activeElement);
  assert(isFocused, "the focus follows the steps");
  await page.keyboard.type(await mailedCode(username));
  await page.keyboard.press("Enter");
  await field(page, "new-password").first().waitFor();
  for (const input of await field(page, "new-password").all()) {
    if (!(await input.evaluate((element) => element === document.activeElement))) await tabTo(page, input);
    await page.keyboard.type(NEW_PASSWORD);
  }
  await page.keyboard.press("Enter");
  await seesNews(page, words.changed);
});

visits("a change of the password needs no mouse", async (visit) => {
  const { page, words } = visit;
  const username = await newUser();
  await signsIn(visit, username);
  await isSignedIn(visit);
  await tabTo(page, page.getByRole("link", { name: words.changePassword }));
  await page.keyboard.press("Enter");
  await page.waitForURL("**/change-password");
  await field(page, "current-password").waitFor();
  await types(page, "current-password", PASSWORD);
  for (const input of await field(page, "new-password").all()) {
    await tabTo(page, input);
    await page.keyboard.type(NEW_PASSWORD);
  }
  await page.keyboard.press("Enter");
  await seesNews(page, words.changed);
});
