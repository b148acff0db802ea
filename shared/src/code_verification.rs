//! Verifying a reset code within its tries, which checking a code and resetting with it share.

use aws_types::SdkConfig;

use crate::clock;
use crate::config::{ConfigError, Environment};
use crate::domain::{CodeHolder, SubmittedCode, User, Username};
use crate::error::Failure;
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
    pub fn new(environment: &Environment, aws: &SdkConfig, store: Store) -> Result<Self, ConfigError> {
        Ok(Self {
            store,
            keys: SecretKeys::for_codes(environment, aws)?,
            conceal: environment.prevents_user_existence_errors()?,
        })
    }

    /// Opens the connections, and fetches the key, that it needs.
    pub async fn connect(&self) {
        tokio::join!(self.store.connect(), self.keys.prefetch());
    }

    /// Verifies that `code` is the one that was sent to `username`. A try is reserved before anything is compared.
    pub async fn verify(&self, username: &Username, code: &SubmittedCode) -> Result<Verified, Error> {
        let (user, reserved) =
            tokio::join!(self.store.user(username), self.store.reserve_try(username, clock::now()));
        match &user {
            Ok(Some(user)) => identify(&user.user_id),
            Ok(None) if !self.conceal => return Err(Error::UnknownUsername),
            _ => {}
        }
        let reserved = reserved.map_err(|error| match error {
            TryError::NoCode => self.no_code(),
            error => error.into(),
        });
        let user = match (user, &reserved) {
            (Ok(user), _) => user,
            (Err(failure), Ok(reserved)) => return Err(self.not_compared(username, reserved, failure).await),
            (Err(failure), Err(_)) => return Err(failure.into()),
        };
        let reserved = reserved?;
        let live = &reserved.code;
        let key = match self.keys.version(&live.key_version).await {
            Ok(Some(key)) => key,
            // A code whose key is two rotations old counts as expired.
            Ok(None) => return Err(self.no_code()),
            Err(failure) => return Err(self.not_compared(username, &reserved, failure).await),
        };
        let holder = user.as_ref().map_or_else(CodeHolder::nobody, CodeHolder::from);
        let right = code.matches(key.expose(), &holder, &live.code_id, &live.hash);
        match user {
            Some(user) if right => Ok(Verified { user, reserved }),
            _ => Err(Error::CodeIncorrect),
        }
    }

    /// Gives back a try that our own failure left without a comparison.
    async fn not_compared(&self, username: &Username, reserved: &ReservedTry, failure: Failure) -> Error {
        self.give_back_try(username, reserved).await;
        failure.into()
    }

    /// That there is no code would tell that the user exists, or else that nobody asked for one.
    fn no_code(&self) -> Error {
        if self.conceal { Error::CodeIncorrect } else { Error::NoCodeRequested }
    }

    /// Gives back the try of a right code. Where this fails, only more is counted than happened.
    pub async fn give_back(&self, verified: &Verified) {
        self.give_back_try(&verified.user.username, &verified.reserved).await;
    }

    async fn give_back_try(&self, username: &Username, reserved: &ReservedTry) {
        if let Err(failure) = self.store.give_back_try(username, reserved).await {
            tracing::warn!(cause = %failure, "try not given back");
        }
    }
}
