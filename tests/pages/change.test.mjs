// A change of one's own password.

import assert from "node:assert/strict";
import { look } from "./helpers/look.mjs";
import { newUser, NEW_PASSWORD, PASSWORD } from "./helpers/service.mjs";
import {
  field, focusIsOnError, isSignedIn, seesNews, seesSignIn, seesText, signIn, submitButton,
} from "./helpers/steps.mjs";
import { BOTH, visits } from "./helpers/visit.mjs";

async function changes({ page }, old, password) {
  await field(page, "current-password").fill(old);
  for (const input of await field(page, "new-password").all()) await input.fill(password);
  await submitButton(page).click();
}

visits("a person changes the password", BOTH, async (visit) => {
  const { page, words } = visit;
  const username = await newUser();
  await signIn(visit, username, { stay: true });
  await isSignedIn(visit);
  await page.goto("/change-password");
  await field(page, "new-password").first().waitFor();
  assert.equal(await field(page, "username").inputValue(), username, "for password managers");
  await look(visit, "change");
  await changes(visit, NEW_PASSWORD, NEW_PASSWORD + "!");
  await seesText(page, words.wrongOld);
  await focusIsOnError(page);
  await look(visit, "change.wrong");
  await changes(visit, PASSWORD, "short");
  await seesText(page, words.tooShort);
  await focusIsOnError(page);
  await changes(visit, PASSWORD, "Password123");
  await seesText(page, words.common);
  await focusIsOnError(page);
  await changes(visit, PASSWORD, PASSWORD);
  await seesText(page, words.same);
  await focusIsOnError(page);
  await changes(visit, PASSWORD, NEW_PASSWORD);
  await seesNews(page, words.changed);
  await look(visit, "change.done");
});

visits("the change of a password begins with a sign-in where there was none", async (visit) => {
  const { page } = visit;
  const username = await newUser();
  // As password managers ask for it.
  await page.goto("/.well-known/change-password");
  await seesSignIn(page);
  assert.equal(await field(page, "new-password").count(), 0);
  await signIn(visit, username, { path: null });
  await field(page, "new-password").first().waitFor();
  assert.equal(new URL(page.url()).pathname, "/change-password");
});
