// The service that the pages belong to: its users and its mails.

export const API_URL = process.env.API_URL ?? "http://127.0.0.1:3000";
/** The same service with other settings, as .ci/steps/pages has them. */
export const OTHER_API_URL = process.env.OTHER_API_URL;
const AWS_URL = process.env.AWS_ENDPOINT_URL ?? "http://127.0.0.1:4566";

export const PASSWORD = "a long meadow 7";
export const NEW_PASSWORD = "a short river 8";

async function json(url, body) {
  const response = await fetch(url, body && { method: "POST", body: JSON.stringify(body) });
  return response.json();
}

/** Invokes `manage_users`, and throws unless it succeeds. */
export async function manage(payload) {
  const answer = await json(`${AWS_URL}/2015-03-31/functions/manage_users/invocations`, payload);
  if (!answer.ok) throw new Error(JSON.stringify(answer));
  return answer;
}

let users = 0;

/** Creates a user that no other test has, and returns its name. */
export async function newUser(fields = {}) {
  const username = `anna.${process.pid}.${++users}`;
  const email_addresses = [`${username}@example.com`];
  await manage({ action: "create", username, password: PASSWORD, email_addresses, activated: true, ...fields });
  return username;
}

/** Sends a request as another client of the user would, and returns the answer's body. */
export const post = (route, body) => json(`${API_URL}/api/auth/${route}`, body);

/** Signs in on another device, and returns the token and the session token. */
export function signInElsewhere(username, session_information) {
  return post("signin", { username, password: PASSWORD, session_information, stay_logged_in: true });
}

/** Whether a session token is still good. */
export async function isGood(session_token) {
  return "token" in (await post("IamLoggedIn", { session_token }));
}

/** Returns the code of the newest mail to a user. */
export async function mailedCode(username) {
  const { messages } = await json(`${AWS_URL}/_aws/ses?email=${username}@example.com`);
  return messages.at(-1).Body.text_part.match(/\b\d{6}\b/)[0];
}
