// The pages with settings of an operator: .ci/steps/pages has them.

import assert from "node:assert/strict";
import { look } from "./helpers/look.mjs";
import { API_URL, newUser, OTHER_API_URL } from "./helpers/service.mjs";
import { button, field, isSignedIn, seesError, signIn, submitButton } from "./helpers/steps.mjs";
import { BOTH, visits } from "./helpers/visit.mjs";

const OTHER = { ...BOTH, origins: [OTHER_API_URL] };
const APPLICATION = "http://app.example";
const STRANGER = "http://stranger.example";

visits("the pages have the operator's colour, logo and name", OTHER, async (visit) => {
  const { page } = visit;
  await page.goto("/");
  assert.match(await page.title(), /Fabrikam/);
  await page.getByText("Fabrikam").first().waitFor();
  await look(visit, "brand");
  const logo = await page.locator("header img").evaluate((image) => image.naturalWidth);
  assert(logo > 0, "the logo is shown");
});

visits("a reset in safe mode goes on for an unknown user", OTHER, async (visit) => {
  const { page } = visit;
  await page.goto("/forgot-password");
  await field(page, "username").fill("no such user");
  await submitButton(page).click();
  await field(page, "one-time-code").fill("482901");
  await look(visit, "reset.safe-mode");
  await submitButton(page).click();
  await seesError(page, visit.words.wrongCode);
});

/** Opens the sign-in from an application on another origin, and returns what the application is told. */
async function opensFrom(visit, origin, query) {
  const { page, context } = visit;
  const answer = { contentType: "text/html; charset=utf-8", body: "<title>Application</title>" };
  await context.route(`${origin}/**`, (route) => route.fulfill(answer));
  await page.goto(`${origin}/`);
  const popup = context.waitForEvent("page");
  await page.evaluate((address) => {
    window.messages = [];
    addEventListener("message", ({ origin, data }) => window.messages.push({ origin, data }));
    window.popup = open(address, "signin", "popup,width=480,height=720");
  }, `${API_URL}/?${query}`);
  visit.page = await popup;
  await visit.page.waitForLoadState();
  return () => page.evaluate(() => window.messages);
}

const FROM_APPLICATION = { ...BOTH, origins: [API_URL, APPLICATION] };
const FROM_STRANGER = { ...BOTH, origins: [API_URL, STRANGER] };

visits("an application gets the tokens of a user who agrees", FROM_APPLICATION, async (visit) => {
  const { words } = visit;
  const application = visit.page;
  const messages = await opensFrom(visit, APPLICATION, `return_origin=${APPLICATION}`);
  await look(visit, "return.signin");
  await signIn(visit, await newUser(), { path: null });
  await isSignedIn(visit);
  assert.deepEqual(await messages(), [], "nothing is told before the user agrees");
  await look(visit, "return");
  const closed = visit.page.waitForEvent("close");
  await button(visit.page, words.continueTo).click();
  await closed;
  visit.page = application;
  const [{ origin, data }] = await messages();
  assert.equal(origin, API_URL);
  assert.equal(data.type, "postern:signed_in");
  assert.match(data.token, /^eyJ/);
  assert.equal(data.session_token, undefined, "the user does not stay signed in");
});

visits("another application is refused", FROM_STRANGER, async (visit) => {
  const messages = await opensFrom(visit, STRANGER, `return_origin=${STRANGER}`);
  await seesError(visit.page, visit.words.returnRefused);
  await look(visit, "return.refused");
  await signIn(visit, await newUser(), { path: null });
  await isSignedIn(visit);
  assert.equal(await button(visit.page, visit.words.continueTo).count(), 0);
  assert.deepEqual(await messages(), []);
});

visits("tokens for one application reach no other that opened the page", FROM_STRANGER, async (visit) => {
  const { words } = visit;
  const messages = await opensFrom(visit, STRANGER, `return_origin=${APPLICATION}`);
  await signIn(visit, await newUser(), { path: null });
  visit.expects(/postMessage/);
  const closed = visit.page.waitForEvent("close");
  await button(visit.page, words.continueTo).click();
  await closed;
  assert.deepEqual(await messages(), []);
});
