//! The clients of a scenario, and their requests.

use std::sync::Arc;
use std::time::Duration;

use aws_types::SdkConfig;
use functions::Started;
use futures_util::future::BoxFuture;
use lambda_runtime::Context;
use serde_json::{Value, json};
use shared::settings::Settings;

use crate::beginning::username_hash;
use crate::world::{RESET_CODES, TABLES, USERS};

pub(crate) const USERNAME: &str = "st.huber";
pub(crate) const PASSWORD: &str = "Password1234!";
/// A code that is too short to be correct.
pub(crate) const WRONG_CODE: &str = "48290";
/// The source address of clients unless a scenario gives another.
const ADDRESS: &str = "192.0.2.1";

/// A client that makes one request, or a few in sequence.
pub(crate) struct Client {
    pub(crate) connect: Box<dyn Fn(&SdkConfig) -> Act>,
    /// True if responses to its calls can be lost.
    pub(crate) loses: bool,
}

/// One run of a client.
pub(crate) type Act = Box<dyn Fn() -> BoxFuture<'static, Answer>>;

/// The answer to a client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Client {
    fn new(connect: impl Fn(&SdkConfig) -> Act + 'static) -> Self {
        Self { connect: Box::new(connect), loses: true }
    }

    /// Invokes a function with an event. At most `failures_per_ip` wrong passwords from one source address are
    /// answered, or any number if it is 0.
    fn invokes(function: &'static str, failures_per_ip: u32, event: &Value) -> Self {
        let event = event.to_string();
        Self::new(move |aws| {
            let (function, event) = (start(function, failures_per_ip, aws), event.clone());
            Box::new(move || {
                let (function, event) = (Arc::clone(&function), event.clone());
                Box::pin(async move { invoke(&*function, &event).await })
            })
        })
    }

    /// Sends a body to an endpoint from a source address.
    fn posts(function: &'static str, address: &str, body: &Value) -> Self {
        Self::invokes(function, 0, &request(address, None, body))
    }

    /// Sends a body to an endpoint with a token.
    fn posts_as(function: &'static str, token: &str, body: &Value) -> Self {
        Self::invokes(function, 0, &request(ADDRESS, Some(token), body))
    }

    /// The same client, without lost responses.
    pub(crate) fn without_losses(self) -> Self {
        Self { loses: false, ..self }
    }

    pub(crate) fn sends() -> Self {
        Self::sends_from(ADDRESS)
    }

    pub(crate) fn sends_from(address: &str) -> Self {
        Self::posts("forgot_password_send_email", address, &json!({"username": USERNAME}))
    }

    pub(crate) fn checks(code: &str) -> Self {
        Self::checks_from(ADDRESS, code)
    }

    pub(crate) fn checks_from(address: &str, code: &str) -> Self {
        let body = json!({"username": USERNAME, "code": code});
        Self::posts("forgot_password_check_code", address, &body)
    }

    pub(crate) fn resets(code: &str, new: &str) -> Self {
        let body = json!({"username": USERNAME, "code": code, "new_password": new});
        Self::posts("forgot_password_reset_password", ADDRESS, &body)
    }

    /// Signs in and opens a session.
    pub(crate) fn signs_in(password: &str) -> Self {
        let body = json!({"username": USERNAME, "password": password, "stay_logged_in": true});
        Self::posts("signin", ADDRESS, &body)
    }

    /// Signs in with a username from a source address.
    pub(crate) fn signs_in_from(address: &str, username: &str, password: &str) -> Self {
        Self::signs_in_within(0, address, username, password)
    }

    /// The same with a limit of wrong passwords from one source address.
    pub(crate) fn signs_in_within(
        failures_per_ip: u32,
        address: &str,
        username: &str,
        password: &str,
    ) -> Self {
        let body = json!({"username": username, "password": password});
        Self::invokes("signin", failures_per_ip, &request(address, None, &body))
    }

    /// Signs in without opening a session.
    pub(crate) fn signs_in_once(password: &str) -> Self {
        Self::posts("signin", ADDRESS, &json!({"username": USERNAME, "password": password}))
    }

    /// Makes the change of the password that is due, and opens a session.
    pub(crate) fn makes_due_change(new: &str) -> Self {
        let body = json!({
            "username": USERNAME,
            "old_password": PASSWORD,
            "new_password": new,
            "stay_logged_in": true,
        });
        Self::posts("change_password_after_signin", ADDRESS, &body)
    }

    pub(crate) fn changes(token: &str, new: &str) -> Self {
        Self::changes_from(token, PASSWORD, new)
    }

    pub(crate) fn changes_from(token: &str, old: &str, new: &str) -> Self {
        let body = json!({"old_password": old, "new_password": new, "new_password_check": new});
        Self::posts_as("change_password", token, &body)
    }

    /// Changes the password through the endpoint of the settings page.
    pub(crate) fn changes_in_settings(token: &str, new: &str) -> Self {
        let body = json!({"old_password": PASSWORD, "new_password": new});
        Self::posts_as("change_my_password", token, &body)
    }

    /// Checks a token. The request contains nothing else, so 422 means that the token is valid.
    pub(crate) fn presents(token: &str) -> Self {
        Self::posts_as("change_password", token, &json!({}))
    }

    /// Ends the session of a session token.
    pub(crate) fn logs_out(token: &str, session_token: &str) -> Self {
        Self::posts_as("sessions", token, &json!({"session_token": session_token}))
    }

    /// Lists the sessions and ends each by its id. The answer is their number.
    pub(crate) fn ends_sessions(token: &str) -> Self {
        let request = request(ADDRESS, Some(token), &Value::Null);
        Self::new(move |aws| {
            let (function, request) = (start("sessions", 0, aws), request.clone());
            Box::new(move || {
                let (function, request) = (Arc::clone(&function), request.clone());
                Box::pin(async move {
                    let ask = async |method: &str, id: &Value| {
                        let mut request = request.clone();
                        request["requestContext"]["http"]["method"] = method.into();
                        request["pathParameters"] = json!({"id": id.to_string()});
                        invoke(&*function, &request.to_string()).await
                    };
                    let list = ask("GET", &Value::Null).await;
                    let listed = list.body["sessions"].as_array().unwrap();
                    for session in listed {
                        assert!(ask("DELETE", &session["id"]).await.is_success());
                    }
                    Answer { status: 200, body: json!(listed.len()) }
                })
            })
        })
    }

    /// Exchanges a session token for a new token.
    pub(crate) fn resumes(session_token: &str) -> Self {
        Self::posts("session_signin", ADDRESS, &json!({"session_token": session_token}))
    }

    /// Performs an action of `manage_users` on the user.
    pub(crate) fn manages(action: &str, fields: Value) -> Self {
        let mut payload = fields;
        payload["action"] = json!(action);
        payload["username"] = json!(USERNAME);
        Self::invokes("manage_users", 0, &payload)
    }

    /// Simulates time that passes: sets an instant in the user's item of a table back by an hour, if there is one.
    fn passes(table: &'static str, instant: &'static str) -> Self {
        let (_, key) = TABLES.into_iter().find(|(name, _)| *name == table).unwrap();
        let value = if table == RESET_CODES { username_hash() } else { USERNAME.to_owned() };
        Self::new(move |aws| {
            use aws_sdk_dynamodb::types::AttributeValue::{N, S};
            let hour = Duration::from_hours(1).as_micros();
            let update = aws_sdk_dynamodb::Client::new(aws)
                .update_item()
                .table_name(table)
                .key(key, S(value.clone()))
                .condition_expression(format!("attribute_exists({instant})"))
                .update_expression(format!("SET {instant} = {instant} - :hour"))
                .expression_attribute_values(":hour", N(hour.to_string()));
            Box::new(move || {
                let update = update.clone();
                Box::pin(async move {
                    let status = if update.send().await.is_ok() { 200 } else { 400 };
                    Answer { status, body: Value::Null }
                })
            })
        })
    }

    pub(crate) fn lets_code_expire() -> Self {
        Self::passes(RESET_CODES, "expires_at")
    }

    pub(crate) fn lets_wait_end() -> Self {
        Self::passes(USERS, "other_attempt_at")
    }
}

fn start(function: &str, failures_per_ip: u32, aws: &SdkConfig) -> Arc<dyn Started> {
    let function = functions::find(function).unwrap();
    Arc::from(function.start(&settings(failures_per_ip), aws).unwrap())
}

async fn invoke(function: &dyn Started, event: &str) -> Answer {
    let response = function.invoke(event.as_bytes(), Context::default()).await.unwrap();
    let response: Value = serde_json::from_slice(&response).unwrap();
    match response["statusCode"].as_u64() {
        Some(status) => {
            let body = serde_json::from_str(response["body"].as_str().unwrap()).unwrap();
            Answer { status: status.try_into().unwrap(), body }
        }
        // A function without a route answers with the object itself.
        None => Answer { status: 200, body: response },
    }
}

/// A request as API Gateway passes it on.
fn request(address: &str, token: Option<&str>, body: &Value) -> Value {
    let event = include_str!("../../events/signin/without_session.json");
    let mut event: Value = serde_json::from_str(event).unwrap();
    event["requestContext"]["http"]["sourceIp"] = address.into();
    if let Some(token) = token {
        event["headers"]["authorization"] = format!("Bearer {token}").into();
    }
    event["body"] = body.to_string().into();
    event
}

pub(crate) fn settings(failures_per_ip: u32) -> Settings {
    Settings::new(move |variable| {
        let value = match variable {
            "SIGNIN_FAILURES_PER_IP" => return Some(failures_per_ip.to_string()),
            // A search may take longer than the default lifetime of codes, and `lets_code_expire` subtracts an hour.
            "RESET_CODE_TTL_SECONDS" => "3600",
            "ARGON2_MEMORY_KIB" => "128",
            "ARGON2_ITERATIONS" => "1",
            "MAIL_FROM" => "no-reply@example.com",
            "CORS_ALLOW_ORIGINS" => "*",
            // Off, because the budget of a shared address would be one more item that all clients write.
            "CODE_FAILURES_PER_IP" | "RESET_MAILS_PER_IP" => "0",
            _ => return None,
        };
        Some(value.to_owned())
    })
}

impl Answer {
    pub(crate) fn is_success(&self) -> bool {
        self.status == 200
    }

    /// The error's code, or its message if it has no code.
    pub(crate) fn error(&self) -> &str {
        let body = &self.body;
        let error = body["error_code"].as_str().or(body["msg"].as_str()).or(body["message"].as_str());
        assert!(!self.is_success(), "{body}");
        error.unwrap()
    }

    pub(crate) fn token(&self) -> &str {
        self.body["token"].as_str().unwrap()
    }

    pub(crate) fn session_token(&self) -> &str {
        self.body["session_token"].as_str().unwrap()
    }
}
