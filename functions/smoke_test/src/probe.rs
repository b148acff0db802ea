//! The probe users: made for one test, and deleted after it.

use std::time::Duration;

use aws_types::SdkConfig;
use futures_util::future::try_join_all;
use secrecy::{ExposeSecret, SecretString};
use shared::domain::{
    EmailAddress, Networks, OwnChanges, Password, Timestamp, User, UserId, UserWithHash, Username,
};
use shared::failure::Failure;
use shared::hashing::PasswordHasher;
use shared::settings::{ConfigError, Settings};
use shared::store::{CreateUserError, Store};
use shared::{clock, random};

/// The beginning of the names and of the ids of all probe users. The role of this function allows no others.
const PREFIX: &str = "smoke-test-";

/// The number of tests that can run at the same time. Each holds one of the ids `smoke-test-0`, `smoke-test-1` and so
/// on. So a user whose test crashed is found by the id, without a scan of the table.
const IDS: usize = 8;

/// The age from which a probe user is left over: several times the time-out of this function.
const LEFT_OVER: Duration = Duration::from_mins(10);

/// Makes and deletes probe users.
#[derive(Debug)]
pub(crate) struct Probes {
    store: Store,
    hasher: PasswordHasher,
}

/// A probe user. Its name is random, so that no stranger can use up its attempts.
#[derive(Debug)]
pub(crate) struct Probe {
    user: User,
    password: SecretString,
    /// An address of SES's mailbox simulator, which accepts every mail, also from the sandbox.
    pub(crate) email_address: Option<EmailAddress>,
    pub(crate) created_at: Timestamp,
}

impl Probe {
    pub(crate) fn username(&self) -> &str {
        self.user.username.display()
    }

    pub(crate) fn user_id(&self) -> &str {
        self.user.user_id.as_str()
    }

    pub(crate) fn password(&self) -> &str {
        self.password.expose_secret()
    }
}

impl Probes {
    pub(crate) fn new(settings: &Settings, aws: &SdkConfig) -> Result<Self, ConfigError> {
        let hasher = PasswordHasher::from_settings(settings)?;
        Ok(Self { store: Store::new(settings, aws), hasher })
    }

    /// Makes a user, after it has deleted those that are left over from other tests.
    pub(crate) async fn create(&self, has_address: bool) -> Result<Probe, String> {
        let now = clock::now();
        let ids = (0..IDS).filter_map(|number| UserId::parse(&format!("{PREFIX}{number}")));
        let ids = try_join_all(ids.map(|id| self.free(id, now))).await.map_err(|error| error.to_string())?;
        let password = SecretString::from(random::secret_key());
        let hash = Password::parse(password.expose_secret().to_owned())
            .map_err(|error| format!("password: {error:?}"))?;
        let hash = self.hasher.rehash(&hash).await.map_err(|error| error.to_string())?;
        for user_id in ids.into_iter().flatten() {
            let probe = Probe::new(user_id, password.clone(), has_address, now)?;
            let user = UserWithHash { user: probe.user.clone(), password_hash: Some(Ok(hash.clone())) };
            match self.store.create_user(&user).await {
                Ok(()) => return Ok(probe),
                // Another test was faster.
                Err(CreateUserError::UserIdTaken) => {}
                Err(CreateUserError::UsernameTaken) => return Err("a random name is taken".to_owned()),
                Err(CreateUserError::Failure(failure)) => {
                    // The response alone may have been lost. What this misses, a later test deletes.
                    let _ = self.store.delete_user(&probe.user).await;
                    return Err(failure.to_string());
                }
            }
        }
        Err(format!("{IDS} other tests are running"))
    }

    /// Returns the id if no user has it, after the deletion of a user who is left over.
    async fn free(&self, id: UserId, now: Timestamp) -> Result<Option<UserId>, Failure> {
        match self.store.user_by_id(&id).await? {
            None => Ok(Some(id)),
            Some(user) if now.since(user.created_at) < LEFT_OVER => Ok(None),
            Some(user) => {
                self.store.delete_user(&user).await?;
                Ok(Some(id))
            }
        }
    }

    /// Deletes the user, which ends everything that was made for it.
    pub(crate) async fn delete(&self, probe: &Probe) -> Result<(), String> {
        match self.store.delete_user(&probe.user).await {
            Ok(true) => Ok(()),
            Ok(false) => Err("somebody else deleted the user".to_owned()),
            Err(failure) => Err(failure.to_string()),
        }
    }
}

impl Probe {
    fn new(
        user_id: UserId,
        password: SecretString,
        has_address: bool,
        now: Timestamp,
    ) -> Result<Self, String> {
        let name = random::unique();
        let username = Username::parse(&format!("{PREFIX}{name}"));
        let username = username.map_err(|error| format!("username: {error:?}"))?;
        let address = || EmailAddress::parse(&format!("success+{name}@simulator.amazonses.com"));
        let email_address = has_address.then(address).transpose().map_err(|error| error.to_string())?;
        let user = User {
            username,
            user_id,
            security_stamp: random::security_stamp(),
            recovery_stamp: random::recovery_stamp(),
            session_owner: random::session_owner(),
            kept_jti: None,
            email_addresses: email_address.iter().cloned().collect(),
            locale: None,
            activated: true,
            must_change_password: false,
            created_at: now,
            password_changed_at: None,
            own_changes: OwnChanges::default(),
            last_signin_at: None,
            networks: Networks::default(),
        };
        Ok(Self { user, password, email_address, created_at: now })
    }
}
