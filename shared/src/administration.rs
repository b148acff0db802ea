//! Administration: the functions without a route, which operators invoke directly and IAM guards. They answer
//! `{"ok":true, …}`, or `{"ok":false,"error_code":…,"msg":…}` with `errors` if fields break their constraints.

use lambda_runtime::Context;
use serde::Serialize;
use serde_json::{Value, json};

use crate::domain::{EmailAddress, Locale, Timestamp, User};
use crate::failure::Failure;
use crate::fields::FieldErrors;
use crate::telemetry::{Audit, Summary};

/// The result of a command: the name of the act, for the audit log, and the answer; or the reason why it was
/// refused.
pub type Outcome = Result<(&'static str, Value), Refusal>;

/// The reason why a command was not carried out.
#[derive(Debug)]
pub enum Refusal {
    /// Fields of the payload break their constraints.
    Validation(FieldErrors),
    /// The command does not fit the users that there are.
    Conflict {
        /// The `error_code` of the answer.
        error_code: &'static str,
        /// The message of the answer.
        msg: &'static str,
    },
    /// This service failed.
    Failure(Failure),
}

/// A user as administrators see it, without the password hash.
#[derive(Debug, Serialize)]
pub struct UserView<'a> {
    username: &'a str,
    user_id: &'a str,
    email_addresses: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    locale: Option<&'a str>,
    activated: bool,
    must_change_password: bool,
    created_at: String,
    password_changed_at: Option<String>,
    last_signin_at: Option<String>,
}

/// Awaits a command of `function`, writes its line to the log, and returns the answer. The command is its name, if it
/// has one that is known, and its outcome.
pub async fn answer(
    function: &'static str,
    context: &Context,
    command: impl Future<Output = (Option<&'static str>, Outcome)>,
) -> Value {
    let audit = Audit::of_invocation(function, context);
    let (_, outcome) = audit.record(command, |(action, outcome)| summary(*action, outcome)).await;
    outcome.map_or_else(|refusal| refusal.to_response(), |(_, response)| response)
}

/// Adds to the answer of a page the cursor by which the next page begins, if there may be one.
#[must_use]
pub fn with_cursor(mut response: Value, cursor: Option<String>) -> Value {
    if let Some(cursor) = cursor {
        response["cursor"] = cursor.into();
    }
    response
}

fn summary<'a>(action: Option<&'static str>, outcome: &'a Outcome) -> Summary<'a> {
    let (outcome, failure) = match outcome {
        Ok((done, _)) => (*done, None),
        Err(Refusal::Failure(failure)) => (failure.error_code(), Some(failure)),
        Err(refusal) => (refusal.error_code(), None),
    };
    Summary { outcome, action, failure, ..Summary::default() }
}

impl Refusal {
    /// The `error_code` of the answer.
    #[must_use]
    pub fn error_code(&self) -> &'static str {
        match self {
            Self::Validation(_) => "validation_failed",
            Self::Conflict { error_code, .. } => error_code,
            Self::Failure(failure) => failure.error_code(),
        }
    }

    fn to_response(&self) -> Value {
        let msg = match self {
            Self::Validation(_) => "The given data was invalid",
            Self::Conflict { msg, .. } => msg,
            Self::Failure(failure) => failure.msg(),
        };
        let mut response = json!({ "ok": false, "error_code": self.error_code(), "msg": msg });
        if let Self::Validation(errors) = self {
            response["errors"] = json!(errors);
        }
        response
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<FieldErrors> for Refusal {
    fn from(errors: FieldErrors) -> Self {
        Self::Validation(errors)
    }
}

impl<'a> From<&'a User> for UserView<'a> {
    fn from(user: &'a User) -> Self {
        Self {
            username: user.username.display(),
            user_id: user.user_id.as_str(),
            email_addresses: user.email_addresses.iter().map(EmailAddress::as_str).collect(),
            locale: user.locale.as_ref().map(Locale::as_str),
            activated: user.activated,
            must_change_password: user.must_change_password,
            created_at: user.created_at.to_rfc3339(),
            password_changed_at: user.password_changed_at.map(Timestamp::to_rfc3339),
            last_signin_at: user.last_signin_at.map(Timestamp::to_rfc3339),
        }
    }
}
