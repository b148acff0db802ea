//! The password of a signed-in user, verified within the budgets of failed attempts, and changed. The functions
//! `change_password` and `change_my_password` differ in the forms of requests and answers, and in nothing else.

use std::net::IpAddr;

use aws_types::SdkConfig;

use crate::authentication::{AuthenticationError, Authenticator, Purpose};
use crate::clock;
use crate::domain::{ApprovedPassword, Password, User};
use crate::endpoint::Error;
use crate::hashing::PasswordHasher;
use crate::password_changes::PasswordChanges;
use crate::settings::{ConfigError, Settings};
use crate::store::{Candidate, PasswordChange, Store};
use crate::telemetry::identify;
use crate::tokens::{SignedIn, TokenError, Tokens};

/// Verifies and changes the passwords of signed-in users.
#[derive(Debug)]
pub struct OwnPassword {
    store: Store,
    hasher: PasswordHasher,
    authentication: Authenticator,
    tokens: Tokens,
    changes: PasswordChanges,
}

/// The user whose token came with the present request.
#[derive(Debug)]
pub struct Account {
    token: String,
    signed_in: SignedIn,
    candidate: Candidate,
    source_ip: IpAddr,
}

impl Account {
    /// The user.
    #[must_use]
    pub fn user(&self) -> &User {
        &self.signed_in.user
    }
}

impl OwnPassword {
    /// Verification and changes with the deployment's settings.
    pub fn new(settings: &Settings, aws: &SdkConfig) -> Result<Self, ConfigError> {
        let store = Store::new(settings, aws);
        let hasher = PasswordHasher::from_settings(settings)?;
        Ok(Self {
            authentication: Authenticator::new(settings, store.clone(), hasher.clone())?,
            changes: PasswordChanges::new(settings, aws, store.clone())?,
            store,
            hasher,
            tokens: Tokens::new(settings, aws)?,
        })
    }

    /// Opens the connection that it needs.
    pub async fn connect(&self) {
        self.store.connect().await;
    }

    /// Fetches the key that it needs.
    pub async fn prefetch(&self) {
        self.tokens.prefetch().await;
    }

    /// Finds the user whose `token` came from `source_ip`, and names the user in the log.
    pub async fn authenticate(&self, token: &str, source_ip: IpAddr) -> Result<Account, TokenError> {
        let limit = self.authentication.address_limit();
        let (signed_in, candidate) =
            self.tokens.authenticate_candidate(token, &self.store, source_ip, limit).await?;
        identify(&signed_in.user.user_id);
        Ok(Account { token: token.to_owned(), signed_in, candidate, source_ip })
    }

    /// Verifies that `password` is the user's. A wrong one is [`Error::PasswordIncorrect`] and counts as a failure; a
    /// right one clears the failures.
    pub async fn verify(&self, account: &Account, password: &Password) -> Result<(), Error> {
        let (candidate, source_ip) = (account.candidate.clone(), account.source_ip);
        let verified =
            self.authentication.verify_candidate(candidate, password, source_ip, Purpose::Check).await;
        match verified {
            Ok(_) => Ok(()),
            Err(AuthenticationError::Incorrect) => Err(Error::PasswordIncorrect),
            Err(other) => Err(other.into()),
        }
    }

    /// Changes the password from `old_password`, which is [verified](Self::verify) first, to the one that `approve`
    /// returns; its error is returned, and nothing is changed then. The change revokes all other tokens and all
    /// sessions, ends a pending password change, and notifies the user by e-mail.
    ///
    /// [`Error::PasswordIncorrect`] also means that another change came first, and [`Error::RateLimitExceeded`] that
    /// the user made [as many changes as are allowed](crate::domain::OwnChanges).
    pub async fn change(
        &self,
        account: &Account,
        old_password: &Password,
        approve: impl AsyncFnOnce() -> Result<ApprovedPassword, Error>,
    ) -> Result<(), Error> {
        self.verify(account, old_password).await?;
        // As read with the token: if the stamp has been replaced since, perhaps the token was revoked with it.
        let SignedIn { user, jti } = &account.signed_in;
        let password_hash = self.hasher.hash(&approve().await?).await?;
        let change = PasswordChange::signed_in(user, &password_hash, jti, account.source_ip, clock::now())?;
        if self.changes.make(&change).await? {
            return Ok(());
        }
        // Another change came first. It revoked this token, or kept it and made the old password a wrong one.
        self.tokens.authenticate(&account.token, &self.store).await?;
        Err(Error::PasswordIncorrect)
    }
}
