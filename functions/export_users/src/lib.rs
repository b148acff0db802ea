//! `export_users`: users with their password hashes, in the form that `manage_users` imports. A function of its own,
//! because IAM allows or denies functions and not payloads: who may administer users need not see hashes.

use aws_types::SdkConfig;
use lambda_runtime::LambdaEvent;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use shared::domain::{EmailAddress, Locale, PasswordHash, Timestamp, UserWithHash};
use shared::failure::Failure;
use shared::fields::{FieldErrors, Page, Payload, Validator};
use shared::function::{Error, Function};
use shared::settings::{ConfigError, Settings};
use shared::store::Store;
use shared::telemetry::{Audit, Summary};

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

/// The reason why there is no export.
enum Refusal {
    /// The payload's fields break their constraints.
    Validation(FieldErrors),
    /// This service failed.
    Failure(Failure),
}

impl Function for ExportUsers {
    const NAME: &'static str = "export_users";

    type Event = Box<RawValue>;

    fn new(settings: &Settings, aws: &SdkConfig) -> Result<Self, ConfigError> {
        Ok(Self { store: Store::new(settings, aws) })
    }

    /// Answers one payload `{"limit"?: …, "cursor"?: …}`.
    async fn invoke(&self, event: LambdaEvent<Box<RawValue>>) -> Result<impl Serialize + Send, Error> {
        let LambdaEvent { payload, context } = event;
        let audit = Audit::of_invocation(Self::NAME, &context);
        Ok(match audit.record(self.answer(&payload), summary).await {
            Ok(answer) => answer,
            Err(Refusal::Validation(errors)) => json!({
                "ok": false,
                "error_code": "validation_failed",
                "msg": "The given data was invalid",
                "errors": errors,
            }),
            Err(Refusal::Failure(failure)) => {
                json!({ "ok": false, "error_code": failure.error_code(), "msg": failure.msg() })
            }
        })
    }
}

impl ExportUsers {
    async fn answer(&self, payload: &RawValue) -> Result<Value, Refusal> {
        let (mut payload, mut fields) = (Payload::parse(payload), Validator::default());
        let page = fields.page(&mut payload);
        payload.finish(&mut fields);
        let page = fields.finish(page).map_err(Refusal::Validation)?;
        self.export(&page).await.map_err(Refusal::Failure)
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

fn summary(result: &Result<Value, Refusal>) -> Summary<'_> {
    let (outcome, failure) = match result {
        Ok(_) => ("exported", None),
        Err(Refusal::Validation(_)) => ("validation_failed", None),
        Err(Refusal::Failure(failure)) => (failure.error_code(), Some(failure)),
    };
    Summary { outcome, failure, ..Summary::default() }
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
