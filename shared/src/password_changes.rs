//! Changes of passwords: the only way to change a password, which notifies the user as well.

use aws_types::SdkConfig;

use crate::failure::Failure;
use crate::mail::{Mailer, PasswordChanged};
use crate::settings::{ConfigError, Settings};
use crate::store::{PasswordChange, Store};

/// Makes changes of passwords.
#[derive(Debug)]
pub struct PasswordChanges {
    store: Store,
    mailer: Mailer,
}

impl PasswordChanges {
    /// Changes of passwords with the deployment's settings.
    pub fn new(settings: &Settings, aws: &SdkConfig, store: Store) -> Result<Self, ConfigError> {
        Ok(Self { store, mailer: Mailer::new(settings, aws)? })
    }

    /// The mailer of the notices, for notices of other changes.
    #[must_use]
    pub fn mailer(&self) -> &Mailer {
        &self.mailer
    }

    /// Makes a change, and tells the user by e-mail at all addresses. Returns false if the user or the code is no
    /// longer as it was read; nothing is changed then. A mail that fails does not fail the change.
    pub async fn make(&self, change: &PasswordChange<'_>) -> Result<bool, Failure> {
        if !self.store.change_password(change).await? {
            return Ok(false);
        }
        let notice = PasswordChanged {
            changed_at: change.now,
            source_ip: change.source_ip(),
            information: change.information(),
            begins_session: change.begins_session(),
        };
        self.mailer.notify_password_changed(change.user, &notice).await;
        Ok(true)
    }
}
