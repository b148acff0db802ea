//! The password of a signed-in user, verified within the budgets of failed attempts, and changed. The functions
//! `change_password` and `change_my_password` differ in the forms of requests and answers, and in nothing else.

use std::net::IpAddr;

use aws_types::SdkConfig;

use crate::authentication::{Authenticated, Authentication, AuthenticationError};
use crate::config::{ConfigError, Environment};
use crate::domain::{NewPassword, Password, UserWithHash};
use crate::hashing::PasswordHasher;
use crate::http::{Error, identify};
use crate::mail::{Mailer, PasswordChanged};
use crate::store::{PasswordChange, Store};
use crate::tokens::{SignedIn, TokenError, Tokens};
use crate::{clock, random};

/// Verifies and changes the passwords of signed-in users.
#[derive(Debug)]
pub struct OwnPassword {
    store: Store,
    hasher: PasswordHasher,
    authentication: Authentication,
    tokens: Tokens,
    mailer: Mailer,
}

/// The user whose token came with the present request.
#[derive(Debug)]
pub struct Account {
    token: String,
    jti: String,
    user: UserWithHash,
}

impl OwnPassword {
    /// Verification and changes with the deployment's settings.
    pub fn new(environment: &Environment, aws: &SdkConfig) -> Result<Self, ConfigError> {
        let store = Store::new(environment, aws);
        let hasher = PasswordHasher::from_environment(environment)?;
        Ok(Self {
            authentication: Authentication::new(environment, store.clone(), hasher.clone())?,
            store,
            hasher,
            tokens: Tokens::new(environment, aws)?,
            mailer: Mailer::new(environment, aws)?,
        })
    }

    /// Opens the connections, and fetches the key, that a request needs.
    pub async fn connect(&self) {
        tokio::join!(self.store.connect(), self.tokens.prefetch());
    }

    /// Finds the user whose `token` this is, and names the user in the log.
    pub async fn authenticate(&self, token: &str) -> Result<Account, TokenError> {
        let (SignedIn { user, jti }, password_hash) =
            self.tokens.authenticate_with_hash(token, &self.store).await?;
        identify(&user.user_id);
        Ok(Account { token: token.to_owned(), jti, user: UserWithHash { user, password_hash } })
    }

    /// Verifies that `password` is the user's. A wrong one is [`Error::PasswordIncorrect`] and counts as a failure; a
    /// right one clears the failures.
    pub async fn verify(
        &self,
        account: &Account,
        password: &Password,
        source_ip: IpAddr,
    ) -> Result<(), Error> {
        let authenticated = self.authenticated(account, password, source_ip).await?;
        self.authentication.release(&authenticated).await;
        Ok(())
    }

    /// Changes the password from `old_password`, which is [verified](Self::verify) first, to the one that
    /// `new_password` returns; its error is returned, and nothing is changed then. The change revokes all other tokens
    /// and all sessions, ends a pending password change, and is told by e-mail.
    ///
    /// [`Error::PasswordIncorrect`] also means that another change came first, and [`Error::RateLimitExceeded`] that the
    /// user made [as many changes as are allowed](crate::domain::OwnChanges).
    pub async fn change(
        &self,
        account: &Account,
        old_password: &Password,
        source_ip: IpAddr,
        new_password: impl FnOnce() -> Result<NewPassword, Error> + Send,
    ) -> Result<(), Error> {
        let authenticated = self.authenticated(account, old_password, source_ip).await?;
        let user = &account.user.user;
        let change = async {
            let password_hash = self.hasher.hash(&new_password()?).await?;
            let (now, stamp) = (clock::now(), random::security_stamp());
            let change = PasswordChange::signed_in(user, &password_hash, &stamp, &account.jti, now)?;
            if !self.store.change_password(change).await? {
                return Ok(false);
            }
            let notice = PasswordChanged {
                changed_at: now,
                source_ip: Some(source_ip),
                information: None,
                begins_session: false,
            };
            self.mailer.notify_password_changed(user, &notice).await;
            Ok::<bool, Error>(true)
        };
        let (changed, ()) = tokio::join!(change, self.authentication.release(&authenticated));
        if changed? {
            return Ok(());
        }
        // Another change came first. It revoked this token, or kept it and made the old password a wrong one.
        self.tokens.authenticate(&account.token, &self.store).await?;
        Err(Error::PasswordIncorrect)
    }

    async fn authenticated(
        &self,
        account: &Account,
        password: &Password,
        source_ip: IpAddr,
    ) -> Result<Authenticated, Error> {
        let verified = self.authentication.verify_again(account.user.clone(), password, source_ip).await;
        verified.map_err(|error| match error {
            AuthenticationError::Incorrect => Error::PasswordIncorrect,
            other => other.into(),
        })
    }
}
