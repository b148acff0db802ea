//! `export_users`: users with their password hashes, in the form that `manage_users` imports. A function of its own,
//! because IAM allows or denies functions and not payloads: who may administer users need not see hashes.

use aws_types::SdkConfig;
use lambda_runtime::LambdaEvent;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use shared::config::{ConfigError, Environment};
use shared::domain::{EmailAddress, Locale, PasswordHash, Timestamp, UserWithHash};
use shared::error::Failure;
use shared::fields::{Page, Payload, Validator};
use shared::function::{Error, Function};
use shared::store::Store;
use shared::telemetry::{count_answer, invocation_span};
use tracing::Instrument;

/// The function `export_users`.
#[derive(Debug)]
pub struct ExportUsers {
    store: Store,
}

/// What `create` and `import` of `manage_users` take.
#[derive(Serialize)]
struct Exported<'a> {
    username: &'a str,
    /// Missing where there is none, or the stored one is damaged: such a user has to reset the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    password_hash: Option<&'a str>,
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

impl Function for ExportUsers {
    const NAME: &'static str = "export_users";

    type Event = Box<RawValue>;

    fn new(environment: &Environment, aws: &SdkConfig) -> Result<Self, ConfigError> {
        Ok(Self { store: Store::new(environment, aws) })
    }

    /// Answers one payload `{"limit"?: …, "cursor"?: …}`.
    async fn invoke(&self, event: LambdaEvent<Box<RawValue>>) -> Result<impl Serialize + Send, Error> {
        let LambdaEvent { payload, context } = event;
        let span = invocation_span(&context);
        async {
            let (outcome, answer) = self.answer(&payload).await;
            tracing::info!(event = "export_users", outcome, "answered");
            count_answer("export_users", outcome);
            Ok(answer)
        }
        .instrument(span)
        .await
    }
}

impl ExportUsers {
    /// The answer, and what the audit log calls it.
    async fn answer(&self, payload: &RawValue) -> (&'static str, Value) {
        let (mut payload, mut fields) = (Payload::parse(payload), Validator::default());
        let page = fields.page(&mut payload);
        payload.finish(&mut fields);
        let page = match fields.finish(page) {
            Ok(page) => page,
            Err(errors) => {
                let answer = json!({
                    "ok": false,
                    "error_code": "validation_failed",
                    "msg": "The given data was invalid",
                    "errors": errors,
                });
                return ("validation_failed", answer);
            }
        };
        match self.export(&page).await {
            Ok(answer) => ("exported", answer),
            Err(failure) => {
                tracing::error!(event = "export_users", cause = %failure, "failed");
                let answer = json!({ "ok": false, "error_code": failure.error_code(), "msg": failure.msg() });
                (failure.error_code(), answer)
            }
        }
    }

    async fn export(&self, page: &Page) -> Result<Value, Failure> {
        let (users, cursor) = self.store.users_with_hashes(page.cursor.as_deref(), page.limit).await?;
        let users: Vec<_> = users.iter().map(exported).collect();
        let mut answer = json!({ "ok": true, "users": users });
        if let Some(cursor) = cursor {
            answer["cursor"] = cursor.into();
        }
        Ok(answer)
    }
}

fn exported(UserWithHash { user, password_hash }: &UserWithHash) -> Exported<'_> {
    Exported {
        username: user.username.display(),
        password_hash: password_hash.as_ref().and_then(|hash| hash.as_ref().ok()).map(PasswordHash::expose),
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
