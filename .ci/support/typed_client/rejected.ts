/** Mistakes that the types of openapi.yaml must find: a line below that has no error is one for the compiler. */
import createClient from "openapi-fetch";
import type { components, paths } from "./postern.js";

const api = createClient<paths>();

// @ts-expect-error: a code that no response of this operation has
export const code: components["schemas"]["SignInError"]["error_code"] = "session_token_incorrect";

// @ts-expect-error: a code that is not handled
export function text(error: components["schemas"]["TokenError"]): string {
  switch (error.error_code) {
    case "token_not_provided": return "Please sign in.";
    case "token_expired": return "Please sign in again.";
  }
}

export async function mistakes(): Promise<unknown> {
  // @ts-expect-error: a path that there is not
  await api.POST("/api/auth/signIn", { body: { username: "st.huber", password: "Password1234!" } });
  // @ts-expect-error: a missing field
  const { data, error } = await api.POST("/api/auth/signin", { body: { username: "st.huber" } });
  // @ts-expect-error: a field that the response may lack
  const token: string = data?.session_token;
  // @ts-expect-error: a code that is misspelt
  return error && "error_code" in error && error.error_code === "not_active" ? token : undefined;
}
