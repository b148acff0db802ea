//! The clients of a scenario: what each of them asks the service for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_types::SdkConfig;
use change_my_password::ChangeMyPassword;
use change_password::ChangePassword;
use change_password_after_signin::ChangePasswordAfterSignin;
use forgot_password_check_code::CheckCode;
use forgot_password_reset_password::ResetPassword;
use forgot_password_send_email::SendEmail;
use futures_util::future::BoxFuture;
use lambda_http::http::Method;
use lambda_http::{Body, Request, RequestExt, Response};
use lambda_runtime::{Context, LambdaEvent};
use manage_users::ManageUsers;
use serde_json::{Value, json};
use session_signin::SessionSignin;
use sessions::Sessions;
use shared::endpoint::{Endpoint, answer};
use shared::function::Function;
use shared::settings::Settings;
use signin::Signin;

use crate::beginning::username_hash;
use crate::world::{RESET_CODES, TABLES, USERS};

pub(crate) const USERNAME: &str = "st.huber";
pub(crate) const PASSWORD: &str = "Password1234!";
/// A code that never is anybody's: it is too short.
pub(crate) const WRONG_CODE: &str = "48290";

/// What a client does, from the request to the answer.
pub(crate) struct Client {
    pub(crate) connect: Box<dyn Fn(&SdkConfig) -> Act>,
    /// Whether answers to its calls can get lost.
    pub(crate) loses: bool,
}

/// Does it once.
pub(crate) type Act = Box<dyn Fn() -> BoxFuture<'static, Answer>>;

/// What a client is answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Client {
    fn new(connect: impl Fn(&SdkConfig) -> Act + 'static) -> Self {
        Self { connect: Box::new(connect), loses: true }
    }

    /// Sends a body to an endpoint, with a token if there is one.
    fn of<E: Endpoint>(token: Option<&str>, body: &Value) -> Self {
        let authorization = token.map(|token| format!("Bearer {token}"));
        let body = body.to_string();
        Self::new(move |aws| {
            let endpoint = start::<E>(aws);
            let (authorization, body) = (authorization.clone(), body.clone());
            Box::new(move || {
                let (endpoint, mut request) = (Arc::clone(&endpoint), Request::new(Body::from(body.clone())));
                *request.method_mut() = Method::POST;
                if let Some(authorization) = &authorization {
                    request.headers_mut().insert("authorization", authorization.parse().unwrap());
                }
                Box::pin(async move { Answer::from(answer(&*endpoint, &request).await) })
            })
        })
    }

    /// The same client where no answer to its calls gets lost.
    pub(crate) fn without_losses(self) -> Self {
        Self { loses: false, ..self }
    }

    /// Sends a body to an endpoint from a source address.
    fn of_from<E: Endpoint>(address: &str, body: &Value) -> Self {
        Self::within::<E>(0, address, body)
    }

    /// The same where so many wrong passwords of one source address are answered.
    fn within<E: Endpoint>(failures_per_ip: u32, address: &str, body: &Value) -> Self {
        let mut event: Value =
            serde_json::from_str(include_str!("../../events/signin/without_session.json")).unwrap();
        event["body"] = body.to_string().into();
        event["requestContext"]["http"]["sourceIp"] = address.into();
        Self::new(move |aws| {
            let (function, event) = (start_within::<E>(failures_per_ip, aws), event.to_string());
            Box::new(move || {
                let function = Arc::clone(&function);
                let request = lambda_http::request::from_str(&event).unwrap();
                Box::pin(async move { Answer::from(answer(&*function, &request).await) })
            })
        })
    }

    pub(crate) fn sends() -> Self {
        Self::of::<SendEmail>(None, &json!({"username": USERNAME}))
    }

    pub(crate) fn sends_from(address: &str) -> Self {
        Self::of_from::<SendEmail>(address, &json!({"username": USERNAME}))
    }

    pub(crate) fn checks(code: &str) -> Self {
        Self::of::<CheckCode>(None, &json!({"username": USERNAME, "code": code}))
    }

    pub(crate) fn checks_from(address: &str, code: &str) -> Self {
        Self::of_from::<CheckCode>(address, &json!({"username": USERNAME, "code": code}))
    }

    pub(crate) fn resets(code: &str, new: &str) -> Self {
        let body = json!({"username": USERNAME, "code": code, "new_password": new});
        Self::of::<ResetPassword>(None, &body)
    }

    /// Signs in to stay logged in.
    pub(crate) fn signs_in(password: &str) -> Self {
        Self::of::<Signin>(None, &json!({"username": USERNAME, "password": password, "stay_logged_in": true}))
    }

    /// Signs in with this name, from this source address.
    pub(crate) fn signs_in_from(address: &str, username: &str, password: &str) -> Self {
        Self::signs_in_within(0, address, username, password)
    }

    /// The same where so many wrong passwords of one source address are answered.
    pub(crate) fn signs_in_within(
        failures_per_ip: u32,
        address: &str,
        username: &str,
        password: &str,
    ) -> Self {
        let body = json!({"username": username, "password": password});
        Self::within::<Signin>(failures_per_ip, address, &body)
    }

    /// Signs in without staying logged in.
    pub(crate) fn signs_in_once(password: &str) -> Self {
        Self::of::<Signin>(None, &json!({"username": USERNAME, "password": password}))
    }

    /// Makes the change that is due, to stay logged in.
    pub(crate) fn makes_due_change(new: &str) -> Self {
        let body = json!({
            "username": USERNAME,
            "old_password": PASSWORD,
            "new_password": new,
            "stay_logged_in": true,
        });
        Self::of::<ChangePasswordAfterSignin>(None, &body)
    }

    pub(crate) fn changes(token: &str, new: &str) -> Self {
        Self::changes_from(token, PASSWORD, new)
    }

    pub(crate) fn changes_from(token: &str, old: &str, new: &str) -> Self {
        let body = json!({"old_password": old, "new_password": new, "new_password_check": new});
        Self::of::<ChangePassword>(Some(token), &body)
    }

    /// Changes the password as the original clients do.
    pub(crate) fn changes_in_settings(token: &str, new: &str) -> Self {
        let body = json!({"old_password": PASSWORD, "new_password": new});
        Self::of::<ChangeMyPassword>(Some(token), &body)
    }

    /// Shows a token to see whether it counts: there is nothing else in the request, so 422 means that it does.
    pub(crate) fn shows(token: &str) -> Self {
        Self::of::<ChangePassword>(Some(token), &json!({}))
    }

    /// Ends the session of a session token.
    pub(crate) fn logs_out(token: &str, session_token: &str) -> Self {
        Self::of::<Sessions>(Some(token), &json!({"session_token": session_token}))
    }

    /// Ends all sessions that are listed, by their ids, and is answered how many there were.
    pub(crate) fn ends_sessions(token: &str) -> Self {
        let authorization = format!("Bearer {token}");
        Self::new(move |aws| {
            let function = start::<Sessions>(aws);
            let authorization = authorization.clone();
            Box::new(move || {
                let (function, authorization) = (Arc::clone(&function), authorization.clone());
                Box::pin(async move {
                    let ask = async |method: Method, id: &str| {
                        let mut request = Request::new(Body::Empty);
                        *request.method_mut() = method;
                        request.headers_mut().insert("authorization", authorization.parse().unwrap());
                        let id = HashMap::from([("id".to_owned(), id.to_owned())]);
                        Answer::from(answer(&*function, &request.with_path_parameters(id)).await)
                    };
                    let list = ask(Method::GET, "").await;
                    let listed = list.body["sessions"].as_array().unwrap();
                    for session in listed {
                        assert!(ask(Method::DELETE, &session["id"].to_string()).await.is_success());
                    }
                    Answer { status: 200, body: json!(listed.len()) }
                })
            })
        })
    }

    /// Shows a session token for a new token.
    pub(crate) fn returns(session_token: &str) -> Self {
        Self::of::<SessionSignin>(None, &json!({"session_token": session_token}))
    }

    /// Has `manage_users` do something with the user.
    pub(crate) fn manages(action: &str, fields: Value) -> Self {
        let mut payload = fields;
        payload["action"] = json!(action);
        payload["username"] = json!(USERNAME);
        Self::new(move |aws| {
            let function = Arc::new(ManageUsers::new(&settings(0), aws).unwrap());
            let payload = payload.clone();
            Box::new(move || {
                let payload = serde_json::value::to_raw_value(&payload).unwrap();
                let event = LambdaEvent::new(payload, Context::default());
                let function = Arc::clone(&function);
                Box::pin(async move {
                    let answer = function.invoke(event).await.unwrap();
                    Answer { status: 200, body: serde_json::to_value(answer).unwrap() }
                })
            })
        })
    }

    /// Time: sets an instant of the user's item in a table back by an hour, if it is there.
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

fn start<E: Endpoint>(aws: &SdkConfig) -> Arc<E> {
    start_within(0, aws)
}

fn start_within<E: Endpoint>(failures_per_ip: u32, aws: &SdkConfig) -> Arc<E> {
    Arc::new(<E as Endpoint>::new(&settings(failures_per_ip), aws).unwrap())
}

pub(crate) fn settings(failures_per_ip: u32) -> Settings {
    Settings::new(move |variable| {
        let value = match variable {
            "SIGNIN_FAILURES_PER_IP" => return Some(failures_per_ip.to_string()),
            // A search may take longer than codes live by default. To let one expire takes an hour off.
            "RESET_CODE_TTL_SECONDS" => "3600",
            "ARGON2_MEMORY_KIB" => "128",
            "ARGON2_ITERATIONS" => "1",
            "MAIL_FROM" => "no-reply@example.com",
            // All clients have one address, whose budget would be one more item between them.
            "CODE_FAILURES_PER_IP" | "RESET_MAILS_PER_IP" => "0",
            _ => return None,
        };
        Some(value.to_owned())
    })
}

impl From<Response<Body>> for Answer {
    fn from(response: Response<Body>) -> Self {
        let body = serde_json::from_slice(response.body()).unwrap();
        Self { status: response.status().as_u16(), body }
    }
}

impl Answer {
    pub(crate) fn is_success(&self) -> bool {
        self.status == 200
    }

    /// The error's code, or else what is said of it.
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
