// A service that is down, broken or slow, and a slow network.

import assert from "node:assert/strict";
import { look } from "./helpers/look.mjs";
import { newUser, PASSWORD } from "./helpers/service.mjs";
import { focusIsOnError, field, isSignedIn, seesError, seesNews, signIn, submitButton } from "./helpers/steps.mjs";
import { BOTH, visits } from "./helpers/visit.mjs";

const HTML = "<html><body>Bad Gateway</body></html>";
const UNAVAILABLE = { msg: "Service unavailable, try again later", error_code: "service_unavailable" };

const html = (status) => (request) => request.fulfill({ status, contentType: "text/html", body: HTML });
const json = (status, body, headers = {}) => (request) => request.fulfill({ status, headers, json: body });

/** How each failure is made, and the words that tell it. */
const FAILURES = {
  "a lost connection": [(request) => request.abort("connectionreset"), "noAnswer"],
  "an error that is not JSON": [html(502), "unreadable"],
  "a success that is not JSON": [html(200), "unreadable"],
  "a service that is unavailable": [json(503, UNAVAILABLE, { "retry-after": "1" }), "unavailable"],
  "a limit of API Gateway": [json(429, { message: "Too Many Requests" }), "busy"],
  "an unknown error code": [json(400, { msg: "Something new", error_code: "something_new" }), "unknown"],
};

for (const [failure, [answer, words]] of Object.entries(FAILURES)) {
  visits(`${failure} is told, and a second try works`, BOTH, async (visit) => {
    const { page } = visit;
    const username = await newUser();
    await page.goto("/");
    await page.route("**/api/auth/signin", answer);
    await signIn(visit, username, { path: null });
    await seesError(page, visit.words[words]);
    assert(!(await page.getByRole("main").innerText()).match(/Bad Gateway|Something new|undefined|\[object/));
    await focusIsOnError(page);
    await look(visit, failure.replaceAll(" ", "-"));
    await page.unroute("**/api/auth/signin");
    await field(page, "current-password").fill(PASSWORD);
    await submitButton(page).click();
    await isSignedIn(visit);
  });
}

visits("a service that does not answer is waited for, but not for ever", BOTH, async (visit) => {
  const { page, words } = visit;
  await page.clock.install();
  // The clock of the test does not drive it.
  await page.addInitScript(() => {
    AbortSignal.timeout = (time) => {
      const controller = new AbortController();
      setTimeout(() => controller.abort(new DOMException("late", "TimeoutError")), time);
      return controller.signal;
    };
  });
  await page.goto("/");
  await page.route("**/api/auth/signin", () => {});
  await signIn(visit, "anna", { path: null });
  await page.clock.runFor(6_000);
  await seesNews(page, words.slow);
  await look(visit, "slow");
  await page.clock.runFor(30_000);
  await seesError(page, words.timedOut);
  await focusIsOnError(page);
  assert.equal(await page.getByRole("status").innerText(), "");
});

visits("a device that is offline is told", BOTH, async (visit) => {
  const { page, context, words } = visit;
  await page.goto("/");
  await context.setOffline(true);
  await signIn(visit, "anna", { path: null });
  await seesError(page, words.offline);
  await focusIsOnError(page);
});

visits("the list of sessions says that the service is down", BOTH, async (visit) => {
  const { page, words } = visit;
  await signIn(visit, await newUser(), { stay: true });
  await isSignedIn(visit);
  await page.route("**/api/v1/user/myself/session", (request) => request.abort());
  await page.goto("/sessions");
  await seesError(page, words.noAnswer);
  await look(visit, "sessions.lost-connection");
});

visits("a session whose renewal fails is not forgotten", async (visit) => {
  const { page, words } = visit;
  await signIn(visit, await newUser(), { stay: true });
  await isSignedIn(visit);
  await page.route("**/api/**", (request) => request.abort());
  await (await visit.newTab()).close();
  await page.goto("/sessions");
  await seesError(page, words.noAnswer);
  await page.unroute("**/api/**");
  await page.reload();
  await isSignedIn(visit);
});

visits("nothing can be sent before the script has arrived", async (visit) => {
  const { page } = visit;
  let release;
  const released = new Promise((resolve) => (release = resolve));
  await page.route("**/*.js", async (request) => {
    await released;
    await request.continue();
  });
  await page.goto("/", { waitUntil: "commit" });
  await page.getByRole("heading").waitFor();
  assert.equal(await page.locator("form").count(), 0);
  release();
  await signIn(visit, await newUser(), { path: null });
  await isSignedIn(visit);
});
