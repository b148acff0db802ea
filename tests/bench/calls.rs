//! The calls that are measured: the main path of every endpoint and of the authorizer, and the other paths of a sign-in. Each has its own user, so
//! that it does not depend on the others.

use axum::body::Bytes;
use serde_json::{Value, json};
use support::Stack;

use crate::Result;

/// The password of every user here.
const PASSWORD: &str = "Password1234!";
const NEW_PASSWORD: &str = "NewPassword1234!";
const WRONG_PASSWORD: &str = "WrongPassword1234!";

/// An address, reserved for documentation, whose budget of failed sign-ins is exhausted.
const USED_UP_ADDRESS: &str = "198.51.100.9";
/// A number of failed sign-ins that exhausts the budget of any address.
const MANY: usize = 1000;

/// A call of a function.
#[derive(Clone)]
pub(crate) struct Call {
    /// The part of the names of its figures.
    pub(crate) key: &'static str,
    pub(crate) function: &'static str,
    pub(crate) event: Bytes,
    /// True if the response is a success rather than a refusal.
    pub(crate) succeeds: bool,
    /// The number of password hashes that it computes.
    pub(crate) hashes: u8,
}

/// The functions and the inbox of a stack.
pub(crate) struct Service {
    url: String,
    http: reqwest::Client,
}

/// Prepares the store, and returns the calls.
pub(crate) async fn prepare(stack: &Stack) -> Result<Vec<Call>> {
    let service = Service::of(stack)?;
    let mut calls = Vec::new();
    let mut add = |key, function, hashes, event: Value| {
        let succeeds = !["signin_wrong", "refused"].contains(&key);
        calls.push(Call { key, function, event: event.to_string().into(), succeeds, hashes });
    };

    let user = service.create_user("signin", false).await?;
    // The first sign-in from a network writes more than the following ones, which are the usual case.
    service.invoke("signin", &signin(&user)).await?;
    add("signin", "signin", 1, signin(&user));

    let user = service.create_user("signin_session", false).await?;
    service.invoke("signin", &signin(&user)).await?;
    add("signin_session", "signin", 1, signin_with_session(&user)?);

    let user = service.create_user("signin_wrong", false).await?;
    let wrong = |username: &str| {
        let event = include_str!("../../events/signin/wrong_password.json");
        filled(event, &json!({"username": username, "password": WRONG_PASSWORD}), None)
    };
    add("signin_wrong", "signin", 1, wrong(&user)?);

    let user = service.create_user("refused", false).await?;
    let from_used_up_address = |mut event: Value| {
        event["requestContext"]["http"]["sourceIp"] = USED_UP_ADDRESS.into();
        event
    };
    for unknown in 0..MANY {
        let event = from_used_up_address(wrong(&format!("bench.unknown.{unknown}"))?);
        if service.invoke("signin", &event).await?["headers"]["retry-after"].is_string() {
            break;
        }
    }
    add("refused", "signin", 0, from_used_up_address(signin(&user)));

    let user = service.create_user("check", false).await?;
    let code = service.code_for(&user).await?;
    let event = include_str!("../../events/forgot_password_check_code/string_code.json");
    let event = filled(event, &json!({"username": user, "code": code}), None)?;
    add("check", "forgot_password_check_code", 0, event);

    let user = service.create_user("reset", false).await?;
    let code = service.code_for(&user).await?;
    let event = include_str!("../../events/forgot_password_reset_password/right_code.json");
    let body = json!({"username": user, "code": code, "new_password": NEW_PASSWORD});
    add("reset", "forgot_password_reset_password", 1, filled(event, &body, None)?);

    let user = service.create_user("send", false).await?;
    let event = include_str!("../../events/forgot_password_send_email/known_username.json");
    add("send", "forgot_password_send_email", 0, filled(event, &json!({"username": user}), None)?);

    let user = service.create_user("change", false).await?;
    let (token, _) = service.tokens_of(&user).await?;
    let event = include_str!("../../events/change_password/bearer.json");
    let body = json!({
        "old_password": PASSWORD,
        "new_password": NEW_PASSWORD,
        "new_password_check": NEW_PASSWORD,
    });
    add("change", "change_password", 2, filled(event, &body, Some(&token))?);

    let user = service.create_user("change_my", false).await?;
    let (token, _) = service.tokens_of(&user).await?;
    let event = include_str!("../../events/change_my_password/change_with_header.json");
    let body = json!({"old_password": PASSWORD, "new_password": NEW_PASSWORD});
    add("change_my", "change_my_password", 2, filled(event, &body, Some(&token))?);

    let user = service.create_user("check_my", false).await?;
    let (token, _) = service.tokens_of(&user).await?;
    let event = include_str!("../../events/change_my_password/check_old_password.json");
    add("check_my", "change_my_password", 1, filled(event, &json!({"password": PASSWORD}), Some(&token))?);

    let user = service.create_user("change_after_signin", true).await?;
    let event = include_str!("../../events/change_password_after_signin/stay_logged_in.json");
    let body = json!({
        "username": user,
        "old_password": PASSWORD,
        "new_password": NEW_PASSWORD,
        "stay_logged_in": true,
    });
    add("change_after_signin", "change_password_after_signin", 2, filled(event, &body, None)?);

    let user = service.create_user("session_signin", false).await?;
    let (_, session_token) = service.tokens_of(&user).await?;
    let event = include_str!("../../events/session_signin/good_token.json");
    add(
        "session_signin",
        "session_signin",
        0,
        filled(event, &json!({"session_token": session_token}), None)?,
    );

    let user = service.create_user("sessions", false).await?;
    let (token, _) = service.tokens_of(&user).await?;
    let list = include_str!("../../events/sessions/list_with_header.json");
    add("sessions", "sessions", 0, filled(list, &Value::Null, Some(&token))?);

    let user = service.create_user("session_end", false).await?;
    let (token, _) = service.tokens_of(&user).await?;
    // The token ends with its own session, so another session is ended.
    service.tokens_of(&user).await?;
    let answer = service.invoke("sessions", &filled(list, &Value::Null, Some(&token))?).await?;
    let answer: Value = serde_json::from_str(answer["body"].as_str().unwrap_or_default())?;
    let mut event = filled(include_str!("../../events/sessions/delete.json"), &Value::Null, Some(&token))?;
    event["pathParameters"]["id"] = answer["sessions"][1]["id"].to_string().into();
    add("session_end", "sessions", 0, event);

    let user = service.create_user("authorizer", false).await?;
    let (token, _) = service.tokens_of(&user).await?;
    let mut event: Value = serde_json::from_str(include_str!("../../events/authorizer/http_api.json"))?;
    event["identitySource"] = json!([format!("Bearer {token}")]);
    add("authorizer", "authorizer", 0, event);
    Ok(calls)
}

/// The sign-in event of a user that [`Service::create_user`] created, or of a copy of one.
pub(crate) fn signin(username: &str) -> Value {
    let event = include_str!("../../events/signin/without_session.json");
    filled(event, &json!({"username": username, "password": PASSWORD}), None).unwrap_or_default()
}

/// The event of a sign-in that creates a session.
fn signin_with_session(username: &str) -> Result<Value> {
    let event = include_str!("../../events/signin/stay_logged_in.json");
    let body = json!({"username": username, "password": PASSWORD, "stay_logged_in": true});
    filled(event, &body, None)
}

/// Fills an event with a body and a token.
fn filled(event: &str, body: &Value, token: Option<&str>) -> Result<Value> {
    let mut event: Value = serde_json::from_str(event)?;
    if !body.is_null() {
        event["body"] = body.to_string().into();
    }
    if let Some(token) = token {
        event["headers"]["authorization"] = format!("Bearer {token}").into();
    }
    Ok(event)
}

impl Service {
    pub(crate) fn of(stack: &Stack) -> Result<Self> {
        Ok(Self { url: stack.aws_url(), http: reqwest::Client::builder().no_proxy().build()? })
    }

    /// Invokes a function of the stack, and returns its response.
    async fn invoke(&self, function: &str, payload: &Value) -> Result<Value> {
        let url = format!("{}/2015-03-31/functions/{function}/invocations", self.url);
        Ok(self.http.post(url).body(payload.to_string()).send().await?.json().await?)
    }

    /// Creates a user with [`PASSWORD`], and returns the name. It is also the id, and as long as a generated one.
    pub(crate) async fn create_user(&self, purpose: &str, must_change_password: bool) -> Result<String> {
        let username = format!("bench.{purpose:_<30}");
        let create = json!({
            "action": "create",
            "username": username,
            "user_id": username,
            "password": PASSWORD,
            "email_addresses": [address(&username)],
            "activated": true,
            "must_change_password": must_change_password,
        });
        let answer = self.invoke("manage_users", &create).await?;
        if answer["ok"] == true { Ok(username) } else { Err(format!("no user: {answer}").into()) }
    }

    /// Requests a code, and reads it from the mail.
    async fn code_for(&self, username: &str) -> Result<String> {
        let event = include_str!("../../events/forgot_password_send_email/known_username.json");
        let event = filled(event, &json!({"username": username}), None)?;
        self.invoke("forgot_password_send_email", &event).await?;
        let url = format!("{}/_aws/ses?email={}", self.url, address(username));
        let inbox: Value = self.http.get(url).send().await?.json().await?;
        let text = inbox["messages"][0]["Body"]["text_part"].as_str().unwrap_or_default();
        let code = text.lines().map(str::trim).find(|line| line.len() == 6 && line.parse::<u32>().is_ok());
        Ok(code.ok_or_else(|| format!("no code in {inbox}"))?.to_owned())
    }

    /// Signs in, and returns a token and a session token.
    async fn tokens_of(&self, username: &str) -> Result<(String, String)> {
        let answer = self.invoke("signin", &signin_with_session(username)?).await?;
        let body: Value = serde_json::from_str(answer["body"].as_str().unwrap_or_default())?;
        match (body["token"].as_str(), body["session_token"].as_str()) {
            (Some(token), Some(session_token)) => Ok((token.to_owned(), session_token.to_owned())),
            _ => Err(format!("no tokens: {answer}").into()),
        }
    }
}

fn address(username: &str) -> String {
    format!("{username}@example.com")
}
