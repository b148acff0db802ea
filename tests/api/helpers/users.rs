//! Users that tests create.

use serde_json::Value;
use uuid::Uuid;

use super::Service;

pub(crate) struct User {
    /// In its normalised form.
    pub(crate) username: String,
    pub(crate) id: String,
    /// The first address, or an empty string if there is none.
    pub(crate) email: String,
}

pub(crate) struct NewUser<'a> {
    pub(super) service: &'a Service,
    pub(super) fields: Value,
}

impl NewUser<'_> {
    pub(crate) fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.fields[field] = value.into();
        self
    }

    pub(crate) fn not_activated(self) -> Self {
        self.with("activated", false)
    }

    pub(crate) fn due_a_password_change(self) -> Self {
        self.with("must_change_password", true)
    }

    /// Sets a password that the service hashes itself.
    pub(crate) fn with_password(mut self, password: &str) -> Self {
        self.fields.as_object_mut().unwrap().remove("password_hash");
        self.with("password", password)
    }

    pub(crate) async fn create(self) -> User {
        let answer = self.service.manage(&self.fields).await;
        assert_eq!(answer["ok"], true, "{answer}");
        User {
            username: self.fields["username"].as_str().unwrap().to_owned(),
            id: answer["user"]["user_id"].as_str().unwrap().to_owned(),
            email: self.fields["email_addresses"][0].as_str().unwrap_or_default().to_owned(),
        }
    }
}

/// A new username that no user has.
pub(crate) fn unknown_username() -> String {
    format!("st.huber.{}", Uuid::new_v4().simple())
}
