// Staying signed in, and the sessions of a user.

import assert from "node:assert/strict";
import { look } from "./helpers/look.mjs";
import { isGood, manage, newUser, signInElsewhere } from "./helpers/service.mjs";
import { answers, button, isSignedIn, seesNews, seesSignIn, seesText, signIn } from "./helpers/steps.mjs";
import { BOTH, visits } from "./helpers/visit.mjs";

const EXPIRED = { status: 401, body: { msg: "Provided token is expired.", error_code: "token_expired" } };

/** Signs in to stay, and returns the tokens. */
async function signedIn(visit, username) {
  const answer = visit.page.waitForResponse("**/api/auth/signin");
  await signIn(visit, username, { stay: true });
  const tokens = await (await answer).json();
  await isSignedIn(visit);
  return tokens;
}

/** Signs in while two other devices are signed in as well, and goes to the list of sessions. */
async function listsSessions(visit, { stay = true } = {}) {
  const username = await newUser();
  const phone = await signInElsewhere(username, "Firefox on Anna's phone");
  const work = await signInElsewhere(username, "Chrome at work, in a room with a long name: (X11; Linux x86_64)");
  await signIn(visit, username, { stay });
  await isSignedIn(visit);
  await visit.page.goto("/sessions");
  await visit.page.getByText("Firefox on Anna's phone").waitFor();
  return { username, phone: phone.session_token, work: work.session_token };
}

visits("a person who stays signed in is so in new tabs and after a reload", async (visit) => {
  await signIn(visit, await newUser(), { stay: true });
  await isSignedIn(visit);
  await visit.page.reload();
  await isSignedIn(visit);
  const tab = await visit.newTab();
  await tab.goto("/");
  await isSignedIn(visit, tab);
});

visits("a person who does not stay signed in is so after a reload, and in no other tab", async (visit) => {
  await signIn(visit, await newUser());
  await isSignedIn(visit);
  await visit.page.reload();
  await isSignedIn(visit);
  const tab = await visit.newTab();
  await tab.goto("/");
  await seesSignIn(tab);
});

visits("an expired token is renewed by the session", async (visit) => {
  const { page } = visit;
  const { token } = await signedIn(visit, await newUser());
  await page.route("**/api/v1/user/myself/session", (route) => {
    const isOld = route.request().headers().authorization === `Bearer ${token}`;
    return isOld ? route.fulfill({ status: EXPIRED.status, json: EXPIRED.body }) : route.continue();
  });
  await page.goto("/sessions");
  await seesText(page, visit.words.thisSession);
});

visits("without a session, an expired token leads to the sign-in and back", BOTH, async (visit) => {
  const { page, words } = visit;
  const { username } = await listsSessions(visit, { stay: false });
  await answers(page, "v1/user/myself/session", EXPIRED);
  await page.reload();
  await seesSignIn(page);
  await seesText(page, words.over);
  await look(visit, "signed-in-no-more");
  await page.unroute("**/api/v1/user/myself/session");
  await signIn(visit, username, { path: null });
  await page.getByText("Firefox on Anna's phone").waitFor();
});

visits("a session that ended elsewhere leads to the sign-in", async (visit) => {
  const { page } = visit;
  const { username } = await listsSessions(visit);
  await manage({ action: "revoke_sessions", username });
  await page.reload();
  await seesSignIn(page);
});

visits("a person ends one session", BOTH, async (visit) => {
  const { page, words } = visit;
  const { phone, work } = await listsSessions(visit);
  const own = page.getByRole("listitem").filter({ hasText: words.thisSession });
  await own.getByRole("button", { name: words.signOut }).waitFor();
  await look(visit, "sessions");
  const session = page.getByRole("listitem").filter({ hasText: "Anna's phone" });
  await session.getByRole("button", { name: words.endSession }).click();
  await page.getByText("Firefox on Anna's phone").waitFor({ state: "detached" });
  await seesNews(page, words.ended);
  await look(visit, "session-ended");
  assert(!(await isGood(phone)));
  assert(await isGood(work));
  assert.notEqual(await page.evaluate(() => document.activeElement.tagName), "BODY", "the focus is not lost");
});

visits("a person ends all other sessions", BOTH, async (visit) => {
  const { page, words } = visit;
  const { phone, work } = await listsSessions(visit);
  await button(page, words.endOthers).click();
  await page.getByText("Firefox on Anna's phone").waitFor({ state: "detached" });
  await page.getByText("Chrome at work").waitFor({ state: "detached" });
  await seesNews(page, words.othersEnded);
  await look(visit, "only-this-session");
  assert(!(await isGood(phone)));
  assert(!(await isGood(work)));
  await page.reload();
  await isSignedIn(visit);
});

visits("signing out ends the session, and no other", async (visit) => {
  const { page, words } = visit;
  const username = await newUser();
  const elsewhere = await signInElsewhere(username, "Firefox on Anna's phone");
  const { session_token } = await signedIn(visit, username);
  await button(page, words.signOut).click();
  await seesSignIn(page);
  assert(!(await isGood(session_token)));
  assert(await isGood(elsewhere.session_token));
  const kept = await page.evaluate(() => JSON.stringify([localStorage, sessionStorage]));
  assert(!kept.includes("token"), kept);
});

visits("signing out in one tab signs out in the others", async (visit) => {
  const { page, words } = visit;
  await signIn(visit, await newUser(), { stay: true });
  await isSignedIn(visit);
  const other = await visit.newTab();
  await other.goto("/sessions");
  await isSignedIn(visit, other);
  await button(page, words.signOut).first().click();
  await seesSignIn(other);
});
