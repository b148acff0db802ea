// A reset of the password, with the code from a mail.

import assert from "node:assert/strict";
import { look } from "./helpers/look.mjs";
import { mailedCode, manage, newUser, NEW_PASSWORD } from "./helpers/service.mjs";
import {
  answers, button, field, focusIsOnError, isSignedIn, link, seesError, seesNews, seesSignIn, seesText, signIn,
  submitButton,
} from "./helpers/steps.mjs";
import { BOTH, visits } from "./helpers/visit.mjs";

async function asksForCode({ page }, username) {
  await page.goto("/forgot-password");
  await field(page, "username").fill(username);
  await submitButton(page).click();
}

async function enters({ page }, purpose, text) {
  for (const input of await field(page, purpose).all()) await input.fill(text);
  await submitButton(page).click();
}

const codeField = ({ page }) => field(page, "one-time-code").waitFor();
const passwordField = ({ page }) => field(page, "new-password").first().waitFor();

visits("a person resets the password in three steps", BOTH, async (visit) => {
  const { page, words } = visit;
  const username = await newUser();
  await page.goto("/");
  await link(page, words.forgotten).click();
  await field(page, "current-password").waitFor({ state: "hidden" });
  await look(visit, "reset");
  await field(page, "username").fill(username);
  await submitButton(page).click();
  await codeField(visit);
  await look(visit, "reset.code");
  // As it is copied from a mail.
  await enters(visit, "one-time-code", ` ${await mailedCode(username)} `);
  await passwordField(visit);
  assert.equal(await field(page, "username").inputValue(), username);
  await look(visit, "reset.password");
  await enters(visit, "new-password", "Password123");
  await seesText(page, words.common);
  await focusIsOnError(page);
  await look(visit, "reset.common");
  await enters(visit, "new-password", NEW_PASSWORD);
  await seesNews(page, words.changed);
  await look(visit, "reset.done");
  await signIn(visit, username, { password: NEW_PASSWORD });
  await isSignedIn(visit);
});

visits("a wrong code is told, and the right one still works", BOTH, async (visit) => {
  const { page, words } = visit;
  const username = await newUser();
  await asksForCode(visit, username);
  await codeField(visit);
  const code = await mailedCode(username);
  await enters(visit, "one-time-code", code === "482901" ? "482902" : "482901");
  await seesError(page, words.wrongCode);
  await focusIsOnError(page);
  await look(visit, "reset.wrong-code");
  await enters(visit, "one-time-code", code);
  await passwordField(visit);
});

visits("a code of five digits is told without a request", BOTH, async (visit) => {
  const { page, words } = visit;
  await asksForCode(visit, await newUser());
  await codeField(visit);
  await enters(visit, "one-time-code", "12345");
  await seesText(page, words.notACode);
  await focusIsOnError(page);
  assert.equal(visit.requestsTo("auth/forgotPassword/checkCode").length, 0);
});

visits("a new code replaces the one before", BOTH, async (visit) => {
  const { page, words } = visit;
  const username = await newUser();
  await asksForCode(visit, username);
  await codeField(visit);
  await button(page, words.resend).click();
  await seesNews(page, words.newCode);
  await look(visit, "reset.new-code");
  await enters(visit, "one-time-code", await mailedCode(username));
  await passwordField(visit);
});

visits("a code that expired between two steps can be replaced", BOTH, async (visit) => {
  const { page, words } = visit;
  const username = await newUser();
  await asksForCode(visit, username);
  await codeField(visit);
  await enters(visit, "one-time-code", await mailedCode(username));
  await passwordField(visit);
  // The answer is that to an expired code.
  await manage({ action: "revoke_sessions", username });
  await enters(visit, "new-password", NEW_PASSWORD);
  await seesError(page, words.noCode);
  await look(visit, "reset.expired");
});

visits("an unknown user is told", BOTH, async (visit) => {
  await asksForCode(visit, "no such user");
  await seesError(visit.page, visit.words.unknownUser);
  await focusIsOnError(visit.page);
  await look(visit, "reset.unknown-user");
});

visits("an account without an address is told", BOTH, async (visit) => {
  await asksForCode(visit, await newUser({ email_addresses: [] }));
  await seesError(visit.page, visit.words.noAddress);
  await focusIsOnError(visit.page);
});

visits("too many codes are told", BOTH, async (visit) => {
  const username = await newUser();
  await visit.page.goto("/forgot-password");
  await answers(visit.page, "auth/forgotPassword/sendEmail", {
    status: 400,
    headers: { "retry-after": "1800" },
    body: { msg: "Rate limit exceeded", error_code: "rate_limit_exceeded" },
  });
  await field(visit.page, "username").fill(username);
  await submitButton(visit.page).click();
  await seesError(visit.page, visit.words.wait);
  await focusIsOnError(visit.page);
  await look(visit, "reset.wait");
});

visits("after a reset, the sign-in is one click away", async (visit) => {
  const username = await newUser();
  await asksForCode(visit, username);
  await codeField(visit);
  await enters(visit, "one-time-code", await mailedCode(username));
  await passwordField(visit);
  await enters(visit, "new-password", NEW_PASSWORD);
  await seesNews(visit.page, visit.words.changed);
  if (!(await field(visit.page, "current-password").isVisible())) await link(visit.page, visit.words.signIn).click();
  await seesSignIn(visit.page);
});
