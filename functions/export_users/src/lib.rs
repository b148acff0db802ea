//! `export_users`: users with their password hashes, in the form that `manage_users` imports. A function of its own,
//! because IAM allows or denies functions, not payloads: administrators of users need not see hashes.

use aws_types::SdkConfig;
use lambda_runtime::LambdaEvent;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use shared::administration::{Outcome, UserView, answer, with_cursor};
use shared::domain::{PasswordHash, UserWithHash};
use shared::failure::Failure;
use shared::fields::{Page, Payload, Validator};
use shared::function::{Error, Function};
use shared::settings::{ConfigError, Settings};
use shared::store::Store;

/// The function `export_users`.
#[derive(Debug)]
pub struct ExportUsers {
    store: Store,
}

/// A user in the form that `create` and `import` of `manage_users` take.
#[derive(Serialize)]
struct Exported<'a> {
    #[serde(flatten)]
    user: UserView<'a>,
    /// Missing if there is none, or if the stored one is damaged: such a user has to reset the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    password_hash: Option<&'a str>,
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
        let command = async { (None, self.execute(&payload).await) };
        Ok(answer(Self::NAME, &context, command).await)
    }
}

impl ExportUsers {
    async fn execute(&self, payload: &RawValue) -> Outcome {
        let (mut payload, mut fields) = (Payload::parse(payload), Validator::default());
        let page = fields.page(&mut payload);
        payload.finish(&mut fields);
        Ok(("exported", self.export(&fields.finish(page)?).await?))
    }

    async fn export(&self, page: &Page) -> Result<Value, Failure> {
        let (users, cursor) = self.store.users_with_hashes(page.cursor.as_deref(), page.limit).await?;
        let users: Vec<_> = users.iter().map(exported).collect();
        Ok(with_cursor(json!({ "ok": true, "users": users }), cursor))
    }
}

fn exported(UserWithHash { user, password_hash }: &UserWithHash) -> Exported<'_> {
    let hash = password_hash.as_ref().and_then(|hash| hash.as_ref().ok());
    Exported { user: user.into(), password_hash: hash.map(PasswordHash::expose) }
}
