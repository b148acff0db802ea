/** Signs in, continues with the session, and lists sessions, with the types that openapi-typescript makes of openapi.yaml. */
import createClient from "openapi-fetch";
import type { components, paths } from "./postern.js";

const api = createClient<paths>({ baseUrl: "http://127.0.0.1:3000" });
const authorized = (token: string) => ({ headers: { Authorization: `Bearer ${token}` } });

/** Returns a token and a session token, or the text for the user. */
export async function signIn(username: string, password: string): Promise<components["schemas"]["Tokens"] | string> {
  const { data, error } = await api.POST("/api/auth/signin", { body: { username, password, stay_logged_in: true } });
  if (data) return data;
  // A response of API Gateway itself has no code.
  switch ("error_code" in error ? error.error_code : "service_unavailable") {
    case "username_or_password_incorrect": return "Wrong username or password.";
    case "rate_limit_exceeded": return "Too many attempts, try again later.";
    case "not_activated": return "Your account is not activated yet.";
    case "change_password": return "Please choose a new password.";
    case "validation_failed": return "Please fill in both fields.";
    case "service_unavailable": return "Please try again later.";
    case "malformed_json": case "payload_too_large": case "origin_not_allowed": case "edge_bypassed":
    case "internal_error": return "A defect.";
  }
}

/** Returns a new token, or undefined if the session has ended. */
export async function refresh(session_token: string): Promise<string | undefined> {
  const { data, error } = await api.POST("/api/auth/IamLoggedIn", { body: { session_token } });
  if (error && !("error_code" in error && error.error_code === "session_token_incorrect")) throw new Error(JSON.stringify(error));
  return data?.token;
}

/** Returns the sessions of the token's user, with the time of their last use. */
export async function sessions(token: string): Promise<[information: string, lastUsed: Date][]> {
  const { data, error } = await api.GET("/api/v1/user/myself/session", authorized(token));
  if (error) throw new Error("msg" in error ? error.msg : error.message);
  return data.sessions.map(({ information, last_used }) => [information, new Date(last_used)]);
}
