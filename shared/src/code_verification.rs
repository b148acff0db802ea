//! Verifying a reset code within its tries, which checking a code and resetting with it share.

use std::net::IpAddr;

use aws_types::SdkConfig;

use crate::clock;
use crate::config::{ConfigError, Environment};
use crate::domain::{CodeHolder, SubmittedCode, User, Username};
use crate::endpoint::Error;
use crate::error::Failure;
use crate::secrets::SecretKeys;
use crate::store::{AddressBudget, AddressLimit, ReservedTry, Store, TryError};
use crate::telemetry::{self, identify, identify_unknown};

/// Verifies reset codes.
#[derive(Debug)]
pub struct CodeVerification {
    store: Store,
    keys: SecretKeys,
    /// Whether the answer must not tell if the user exists.
    conceal: bool,
    /// The wrong codes and unknown usernames of one source address; `None` turns this budget off.
    address_limit: Option<AddressLimit>,
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
            address_limit: AddressLimit::from_environment(environment, AddressBudget::CodeFailures)?,
        })
    }

    /// Opens the connections, and fetches the key, that it needs.
    pub async fn connect(&self) {
        tokio::join!(self.store.connect(), self.keys.prefetch());
    }

    /// Verifies that `code` is the one that was sent to `username`. A wrong code and an unknown username are charged to the
    /// address that the request came from before they are answered, so that no more such answers leave than it may get.
    pub async fn verify(
        &self,
        username: &Username,
        code: &SubmittedCode,
        source_ip: IpAddr,
    ) -> Result<Verified, Error> {
        let Some(limit) = self.address_limit else {
            return self.verify_within_tries(username, code).await;
        };
        if let Some(wait) = self.store.address_wait(source_ip, limit, clock::now()).await? {
            return Err(Error::RateLimitExceeded(Some(wait)));
        }
        let verified = self.verify_within_tries(username, code).await;
        if let Err(Error::CodeIncorrect | Error::UnknownUsername) = verified {
            let charged = self.store.charge_address(source_ip, limit, clock::now()).await?;
            charged.map_err(|wait| Error::RateLimitExceeded(Some(wait)))?;
        }
        verified
    }

    /// Verifies a code. A try is reserved before anything is compared.
    ///
    /// A code that was revoked counts as none, before its tries count. In safe mode it is compared like any wrong code,
    /// tries included: a known user's answers would otherwise differ from those of an unknown user, whose code is
    /// never revoked.
    async fn verify_within_tries(
        &self,
        username: &Username,
        code: &SubmittedCode,
    ) -> Result<Verified, Error> {
        let (user, reserved) =
            tokio::join!(self.store.user(username), self.store.reserve_try(username, clock::now()));
        match &user {
            Ok(Some(user)) => identify(&user.user_id),
            Ok(None) => {
                identify_unknown(username);
                if !self.conceal {
                    return Err(Error::UnknownUsername);
                }
            }
            Err(_) => {}
        }
        let user = match (user, &reserved) {
            (Ok(user), _) => user,
            (Err(failure), Ok(reserved)) => return Err(self.not_compared(username, reserved, failure).await),
            (Err(failure), Err(_)) => return Err(failure.into()),
        };
        let holder = user.as_ref().map_or_else(CodeHolder::unknown, CodeHolder::from);
        let is_revoked = |of: &CodeHolder| *of != holder && !self.conceal;
        let reserved = match reserved {
            Ok(reserved) if is_revoked(&reserved.code.holder) => {
                // If the user was read before a revocation and the try reserved after a new code was sent, the try is
                // one of the new code's.
                self.give_back_try(username, &reserved).await;
                return Err(Error::NoCodeRequested);
            }
            Ok(reserved) => reserved,
            Err(TryError::Exhausted(of)) if !is_revoked(&of) => return Err(Error::RateLimitExceeded(None)),
            Err(TryError::Exhausted(_) | TryError::NoCode) => return Err(self.no_code()),
            Err(TryError::Failure(failure)) => return Err(failure.into()),
        };
        let live = &reserved.code;
        let key = match self.keys.version(&live.key_version).await {
            Ok(Some(key)) => key,
            // A code whose key is two rotations old counts as expired.
            Ok(None) => return Err(self.no_code()),
            Err(failure) => return Err(self.not_compared(username, &reserved, failure).await),
        };
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

    /// The answer where there is no live code. In safe mode, "no code requested" would reveal that the user exists.
    fn no_code(&self) -> Error {
        if self.conceal { Error::CodeIncorrect } else { Error::NoCodeRequested }
    }

    /// Gives back the try of a right code. Where this fails, only more is counted than happened.
    pub async fn give_back(&self, verified: &Verified) {
        self.give_back_try(&verified.user.username, &verified.reserved).await;
    }

    async fn give_back_try(&self, username: &Username, reserved: &ReservedTry) {
        if let Err(failure) = self.store.give_back_try(username, reserved).await {
            telemetry::warn("try not given back", failure);
        }
    }
}
