//! Verifying a reset code within its tries, which checking a code and resetting with it share.

use std::net::IpAddr;
use std::time::Duration;

use aws_types::SdkConfig;

use crate::clock;
use crate::config::{ConfigError, Environment};
use crate::domain::{Budget, CodeHolder, Network, SubmittedCode, User, Username};
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

    /// Opens the connection that it needs.
    pub async fn connect(&self) {
        self.store.connect().await;
    }

    /// Fetches the key that it needs.
    pub async fn prefetch(&self) {
        self.keys.prefetch().await;
    }

    /// Verifies that `code` is the one that was sent to `username`. A wrong code and an unknown username are charged to the
    /// address that the request came from before they are answered, so that no more such answers leave than it may get.
    pub async fn verify(
        &self,
        username: &Username,
        code: &SubmittedCode,
        source_ip: IpAddr,
    ) -> Result<Verified, Error> {
        let (wait, user) = tokio::join!(self.address_wait(source_ip), self.store.user(username));
        if let Some(wait) = wait? {
            return Err(Error::RateLimitExceeded(Some(wait)));
        }
        let verified = self.verify_within_tries(username, user?, code, source_ip).await;
        if let (Some(limit), Err(Error::CodeIncorrect | Error::UnknownUsername)) =
            (self.address_limit, &verified)
        {
            let charged = self.store.charge_address(source_ip, limit, clock::now()).await?;
            charged.map_err(|wait| Error::RateLimitExceeded(Some(wait)))?;
        }
        verified
    }

    async fn address_wait(&self, source_ip: IpAddr) -> Result<Option<Duration>, Failure> {
        match self.address_limit {
            Some(limit) => self.store.address_wait(source_ip, limit, clock::now()).await,
            None => Ok(None),
        }
    }

    /// Verifies a code. A try is reserved before anything is compared, in the budget that the network has for this user.
    ///
    /// A code that was revoked counts as none, and uses no try. In safe mode it is compared like any wrong code, tries
    /// included: a known user's answers would otherwise differ from those of an unknown user, whose code is never revoked.
    async fn verify_within_tries(
        &self,
        username: &Username,
        user: Option<User>,
        code: &SubmittedCode,
        source_ip: IpAddr,
    ) -> Result<Verified, Error> {
        if let Some(user) = &user {
            identify(&user.user_id);
        } else {
            identify_unknown(username);
            if !self.conceal {
                return Err(Error::UnknownUsername);
            }
        }
        let holder = user.as_ref().map_or_else(CodeHolder::unknown, CodeHolder::from);
        let budget = Budget::of(user.as_ref(), &Network::from(source_ip));
        let required_holder = (!self.conceal).then_some(&holder);
        let reserved = match self.store.reserve_try(username, required_holder, budget, clock::now()).await {
            Ok(reserved) => reserved,
            Err(TryError::Exhausted) => return Err(Error::RateLimitExceeded(None)),
            Err(TryError::NoCode) => return Err(self.no_code()),
            Err(TryError::Failure(failure)) => return Err(failure.into()),
        };
        let live = &reserved.code;
        let key = match self.keys.version(&live.key_version).await {
            Ok(Some(key)) => key,
            // A code whose key is two rotations old counts as expired.
            Ok(None) => return Err(self.no_code()),
            Err(failure) => {
                // Nothing was compared.
                self.give_back_try(username, &reserved).await;
                return Err(failure.into());
            }
        };
        let right = code.matches(key.expose(), &holder, &live.code_id, &live.hash);
        match user {
            Some(user) if right => Ok(Verified { user, reserved }),
            _ => Err(Error::CodeIncorrect),
        }
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
