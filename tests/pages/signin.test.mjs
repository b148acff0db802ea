// Signing in, with the forced change of the password.

import assert from "node:assert/strict";
import { look } from "./helpers/look.mjs";
import { newUser, NEW_PASSWORD, PASSWORD } from "./helpers/service.mjs";
import {
  answers, button, field, focusIsOnError, holds, isSignedIn, seesError, seesNews, seesSignIn, seesText, signIn,
  submitButton,
} from "./helpers/steps.mjs";
import { BOTH, visits } from "./helpers/visit.mjs";

visits("a person signs in and signs out", BOTH, async (visit) => {
  const { page, words } = visit;
  const username = await newUser();
  await page.goto("/");
  await look(visit, "signin");
  await signIn(visit, username);
  await isSignedIn(visit);
  await button(page, words.signOut).first().click();
  await seesSignIn(page);
  await seesNews(page, words.signedOut);
  await look(visit, "signed-out");
});

visits("a wrong password and an unknown user look the same", BOTH, async (visit) => {
  const { page, words } = visit;
  const told = [];
  for (const username of [await newUser(), "no such user"]) {
    await signIn(visit, username, { password: NEW_PASSWORD });
    await seesError(page, words.wrong);
    await focusIsOnError(page);
    told.push(await page.getByRole("main").innerText());
    assert.equal(await field(page, "username").inputValue(), username, "the username stays");
  }
  assert.equal(told[0], told[1]);
  await look(visit, "wrong-password");
});

visits("a person can try again after a wrong password", async (visit) => {
  const { page, words } = visit;
  await signIn(visit, await newUser(), { password: NEW_PASSWORD });
  await seesError(page, words.wrong);
  await field(page, "current-password").fill(PASSWORD);
  await submitButton(page).click();
  await isSignedIn(visit);
});

visits("empty fields are told without a request", BOTH, async (visit) => {
  const { page, words } = visit;
  await page.goto("/");
  await submitButton(page).click();
  await seesText(page, words.required);
  await focusIsOnError(page);
  assert.equal(await page.evaluate(() => document.activeElement.autocomplete), "username");
  assert.equal(visit.requestsTo("auth/signin").length, 0);
  await look(visit, "empty-fields");
});

visits("a field that the service refuses is marked", BOTH, async (visit) => {
  const { page } = visit;
  const body = {
    msg: "The given data was invalid",
    error_code: "validation_failed",
    errors: { username: ["The username field is required."] },
  };
  await page.goto("/");
  await answers(page, "auth/signin", { status: 422, body });
  await signIn(visit, "anna", { path: null });
  await page.locator("[aria-invalid=true]").waitFor();
  await focusIsOnError(page);
  assert.equal(await field(page, "username").getAttribute("aria-invalid"), "true");
  assert.notEqual(await field(page, "current-password").getAttribute("aria-invalid"), "true");
  await look(visit, "refused-field");
});

visits("an account that is not activated is told", BOTH, async (visit) => {
  await signIn(visit, await newUser({ activated: false }));
  await seesError(visit.page, visit.words.notActivated);
  await focusIsOnError(visit.page);
  await look(visit, "not-activated");
});

visits("a password that has to be changed is changed first", BOTH, async (visit) => {
  const { page, words } = visit;
  const username = await newUser({ must_change_password: true });
  await signIn(visit, username);
  await field(page, "new-password").first().waitFor();
  const name = field(page, "username");
  assert.equal(await name.inputValue(), username, "for password managers");
  assert(await name.evaluate((input) => input.readOnly));
  await look(visit, "forced-change");

  const change = async (password) => {
    for (const input of await field(page, "new-password").all()) await input.fill(password);
    await submitButton(page).click();
  };
  await change("Password123");
  await seesText(page, words.common);
  await focusIsOnError(page);
  await look(visit, "forced-change.common");
  await change(PASSWORD);
  await seesText(page, words.same);
  await focusIsOnError(page);
  await change(NEW_PASSWORD);
  await isSignedIn(visit);
});

visits("a wait is counted down, and ends", BOTH, async (visit) => {
  const { page, words } = visit;
  await page.clock.install();
  await page.goto("/");
  const body = { msg: "Rate limit exceeded", error_code: "rate_limit_exceeded" };
  await answers(page, "auth/signin", { status: 400, headers: { "retry-after": "90" }, body });
  await signIn(visit, "anna", { path: null });
  await seesError(page, words.wait);
  await focusIsOnError(page);
  await look(visit, "wait");
  const shown = await page.getByRole("status").innerText();
  await page.clock.runFor(10_000);
  assert.notEqual(await page.getByRole("status").innerText(), shown);
  await page.clock.runFor(90_000);
  await seesNews(page, words.waitOver);
  await page.unroute("**/api/auth/signin");
  await signIn(visit, await newUser(), { path: null });
  await isSignedIn(visit);
});

visits("ten wrong passwords lead to a wait, after which the right one signs in", async (visit) => {
  const { page, words } = visit;
  const username = await newUser();
  await signIn(visit, username, { password: NEW_PASSWORD });
  const waiting = page.getByRole("alert").filter({ hasText: words.wait, visible: true });
  // A wait may be over before the next attempt arrives. Then the attempt counts, and the next wait is longer.
  while ((await waiting.count()) === 0) {
    await field(page, "current-password").fill(NEW_PASSWORD);
    const [response] = await Promise.all([page.waitForResponse("**/api/auth/signin"), submitButton(page).click()]);
    const { error_code } = await response.json();
    await seesError(page, error_code === "rate_limit_exceeded" ? words.wait : words.wrong);
  }
  await seesNews(page, words.waitOver);
  await field(page, "current-password").fill(PASSWORD);
  await submitButton(page).click();
  await isSignedIn(visit);
});

visits("a second click sends no second request", BOTH, async (visit) => {
  const { page } = visit;
  const username = await newUser();
  await page.goto("/");
  const release = await holds(page, "auth/signin");
  await signIn(visit, username, { path: null });
  await submitButton(page).click({ force: true, clickCount: 2 });
  await field(page, "current-password").press("Enter").catch(() => {});
  await look(visit, "signing-in");
  release();
  await isSignedIn(visit);
  assert.equal(visit.requestsTo("auth/signin").length, 1);
});

visits("the password can be shown and hidden again", BOTH, async (visit) => {
  const { page, words } = visit;
  await page.goto("/");
  const password = field(page, "current-password");
  await password.fill(PASSWORD);
  await button(page, words.show).click();
  assert.equal(await password.getAttribute("type"), "text");
  await look(visit, "password-shown");
  await button(page, words.hide).click();
  assert.equal(await password.getAttribute("type"), "password");
});
