// The steps of a person on the pages. Fields are found by the purpose that they state for password managers.

import { PASSWORD } from "./service.mjs";

export const field = (page, purpose) => page.locator(`form:visible [autocomplete~="${purpose}"]:visible`);
export const submitButton = (page) => page.locator("button[type=submit]:visible");
export const button = (page, name) => page.getByRole("button", { name });
export const link = (page, name) => page.getByRole("link", { name });

const sees = (locator, text) => locator.filter({ hasText: text, visible: true }).first().waitFor();

/** Waits for an error with these words. */
export const seesError = (page, text) => sees(page.getByRole("alert"), text);
/** Waits for news with these words. */
export const seesNews = (page, text) => sees(page.getByRole("status"), text);
/** Waits for words anywhere, such as those that stand at a field. */
export const seesText = (page, text) => sees(page.getByText(text));

export const seesSignIn = (page) => field(page, "current-password").waitFor();
export const isSignedIn = ({ page, words }, tab = page) => button(tab, words.signOut).first().waitFor();

export async function signIn({ page, words }, username, { password = PASSWORD, stay = false, path = "/" } = {}) {
  if (path) await page.goto(path);
  await field(page, "username").fill(username);
  await field(page, "current-password").fill(password);
  await page.getByLabel(words.stay).setChecked(stay);
  await submitButton(page).click();
}

/** Waits until the focus is where an error leaves it: on the message, or on the field that it is about. */
export async function focusIsOnError(page) {
  await page.locator("[role=alert]:focus, [role=alert] :focus, [aria-invalid=true]:focus").waitFor();
}

/** Answers the requests to a route of the API from here on with `answer`, a status, headers and a body. */
export async function answers(page, route, { status, headers, body }) {
  await page.route(`**/api/${route}`, (request) => request.fulfill({ status, headers, json: body }));
}

/** Holds the requests to a route of the API until the returned function is called. */
export async function holds(page, route) {
  let release;
  const released = new Promise((resolve) => (release = resolve));
  await page.route(`**/api/${route}`, async (request) => {
    await released;
    // The page may have given up.
    await request.continue().catch(() => {});
  });
  return release;
}
