//! Verifying a reset code within its tries, which checking a code and resetting with it share.

use aws_config::SdkConfig;

use crate::clock;
use crate::config::{ConfigError, Environment};
use crate::domain::{CodeHolder, SubmittedCode, User, Username};
use crate::http::{Error, identify};
use crate::secrets::SecretKeys;
use crate::store::{ReservedTry, Store, TryError};

/// Verifies reset codes.
#[derive(Debug)]
pub struct CodeVerification {
    store: Store,
    keys: SecretKeys,
    /// Whether the answer must not tell if the user exists.
    conceal: bool,
}

/// A user who showed the right code. The try still counts until it is
/// [given back](CodeVerification::give_back), or the code is used up.
#[derive(Debug)]
pub struct Verified {
    /// The user as read when the code was verified.
    pub user: User,
    /// The reserved try.
    pub reserved: ReservedTry,
}

impl CodeVerification {
    /// Verification of the deployment's codes.
    pub fn new(environment: &Environment, aws: &SdkConfig) -> Result<Self, ConfigError> {
        let store = Store::new(environment, aws);
        Ok(Self {
            store,
            keys: SecretKeys::for_codes(environment, aws)?,
            conceal: environment.one_of("PREVENT_USER_EXISTENCE_ERRORS", false, "true, false")?,
        })
    }

    /// Verifies that `code` is the one that was sent to `username`. A try is reserved before anything is compared.
    pub async fn verify(&self, username: &Username, code: &SubmittedCode) -> Result<Verified, Error> {
        let (user, reserved) =
            tokio::join!(self.store.user(username), self.store.reserve_try(username, clock::now()));
        let user = user?;
        match &user {
            Some(user) => identify(&user.user_id),
            None if self.conceal => {}
            None => return Err(Error::UnknownUsername),
        }
        let reserved = reserved.map_err(|error| match error {
            TryError::NoCode => self.no_code(),
            error => error.into(),
        })?;
        let live = &reserved.code;
        // A code whose key is two rotations old counts as expired.
        let key = self.keys.version(&live.key_version).await?.ok_or_else(|| self.no_code())?;
        let holder = user.as_ref().map_or_else(CodeHolder::nobody, CodeHolder::from);
        let right = code.matches(key.expose(), &holder, &live.code_id, &live.hash);
        match user {
            Some(user) if right => Ok(Verified { user, reserved }),
            _ => Err(Error::CodeIncorrect),
        }
    }

    /// That there is no code would tell that the user exists, or else that nobody asked for one.
    fn no_code(&self) -> Error {
        if self.conceal { Error::CodeIncorrect } else { Error::NoCodeRequested }
    }

    /// Gives back the try of a right code. Where this fails, only more is counted than happened.
    pub async fn give_back(&self, verified: &Verified) {
        if let Err(failure) = self.store.give_back_try(&verified.user.username, &verified.reserved).await {
            tracing::warn!(cause = %failure, "try not given back");
        }
    }
}
