//! The verification of reset codes within their tries, for checking a code and for resetting with it.

use std::net::IpAddr;
use std::time::Duration;

use aws_types::SdkConfig;

use crate::clock;
use crate::domain::{Budget, CodeHolder, CodeId, Network, SubmittedCode, User, Username};
use crate::failure::{Failure, Refused};
use crate::secrets::{HmacKey, Secret};
use crate::settings::{ConfigError, Settings};
use crate::store::{AddressBudget, AddressLimit, ReservedTry, Store, TryError};
use crate::telemetry::{self, identify, identify_unknown};

/// Verifies reset codes.
#[derive(Debug)]
pub struct CodeVerification {
    store: Store,
    keys: Secret<HmacKey>,
    /// True if answers must not reveal whether a user exists.
    conceal: bool,
    /// The wrong codes and unknown usernames of one source address; `None` turns this budget off.
    address_limit: Option<AddressLimit>,
}

/// The reason why a code was not found right.
#[derive(Debug)]
pub enum CodeError {
    /// No user has the username.
    UnknownUsername,
    /// There is no code, or it is used, expired or revoked.
    NoCodeRequested,
    /// The tries of the code are used up.
    TriesUsedUp,
    /// The code is wrong.
    Incorrect,
    /// The budget of the source address is used up, or the check could not be completed.
    Refused(Refused),
}

/// The use of a code that was found right.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CodeUse {
    /// It is used up, and its tries with it.
    UsedUp,
    /// It can be used again, so its try is released.
    Kept,
}

impl<R: Into<Refused>> From<R> for CodeError {
    fn from(refused: R) -> Self {
        Self::Refused(refused.into())
    }
}

impl CodeVerification {
    /// Verification of the deployment's codes.
    pub fn new(settings: &Settings, aws: &SdkConfig, store: Store) -> Result<Self, ConfigError> {
        Ok(Self {
            store,
            keys: Secret::code_key(settings, aws)?,
            conceal: settings.prevents_user_existence_errors()?,
            address_limit: AddressLimit::from_settings(settings, AddressBudget::CodeFailures)?,
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

    /// Verifies that `code` is the one that was sent to `username`, and runs `action` if it is, with the user as read
    /// and the code's id. The try that was reserved for the comparison is released afterwards, unless `action` used the
    /// code up: a right code costs no try, also if `action` fails.
    ///
    /// A wrong code and an unknown username are charged to the address that the request came from before they are
    /// answered, so that no more such answers leave than it may get.
    pub async fn with_code<E: From<CodeError>>(
        &self,
        username: &Username,
        code: &SubmittedCode,
        source_ip: IpAddr,
        action: impl AsyncFnOnce(&User, &CodeId) -> Result<CodeUse, E>,
    ) -> Result<CodeUse, E> {
        let (user, reserved) = self.verify(username, code, source_ip).await?;
        let outcome = action(&user, &reserved.code.code_id).await;
        if !matches!(outcome, Ok(CodeUse::UsedUp)) {
            self.release(username, &reserved).await;
        }
        outcome
    }

    /// Verifies a code, and charges the address if it is wrong.
    async fn verify(
        &self,
        username: &Username,
        code: &SubmittedCode,
        source_ip: IpAddr,
    ) -> Result<(User, ReservedTry), CodeError> {
        let (wait, user) = tokio::join!(self.address_wait(source_ip), self.store.user(username));
        if let Some(wait) = wait? {
            return Err(Refused::Wait(wait).into());
        }
        let verified = self.verify_within_tries(username, user?, code, source_ip).await;
        if let (Some(limit), Err(CodeError::Incorrect | CodeError::UnknownUsername)) =
            (self.address_limit, &verified)
        {
            self.store.charge_address(source_ip, limit, clock::now()).await?;
        }
        verified
    }

    async fn address_wait(&self, source_ip: IpAddr) -> Result<Option<Duration>, Failure> {
        match self.address_limit {
            Some(limit) => self.store.address_wait(source_ip, limit, clock::now()).await,
            None => Ok(None),
        }
    }

    /// Verifies a code. A try is reserved before anything is compared, in the budget that the network has for this
    /// user.
    ///
    /// A code that was revoked counts as none, and uses no try. In safe mode it is compared like any wrong code, tries
    /// included: a known user's answers would otherwise differ from those of an unknown user, whose code is never
    /// revoked.
    async fn verify_within_tries(
        &self,
        username: &Username,
        user: Option<User>,
        code: &SubmittedCode,
        source_ip: IpAddr,
    ) -> Result<(User, ReservedTry), CodeError> {
        if let Some(user) = &user {
            identify(&user.user_id);
        } else {
            identify_unknown(username);
            if !self.conceal {
                return Err(CodeError::UnknownUsername);
            }
        }
        let holder = user.as_ref().map_or_else(CodeHolder::unknown, CodeHolder::from);
        let budget = Budget::of(user.as_ref(), &Network::from(source_ip));
        let required_holder = (!self.conceal).then_some(&holder);
        let reserved = match self.store.reserve_try(username, required_holder, budget, clock::now()).await {
            Ok(reserved) => reserved,
            Err(TryError::Exhausted) => return Err(CodeError::TriesUsedUp),
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
                self.release(username, &reserved).await;
                return Err(failure.into());
            }
        };
        let right = code.matches(key.value().expose(), &holder, &live.code_id, &live.hash);
        match user {
            Some(user) if right => Ok((user, reserved)),
            _ => Err(CodeError::Incorrect),
        }
    }

    /// The error if there is no live code. In safe mode, "no code requested" would reveal that the user exists.
    fn no_code(&self) -> CodeError {
        if self.conceal { CodeError::Incorrect } else { CodeError::NoCodeRequested }
    }

    /// Releases a try. If that fails, more is counted than happened.
    async fn release(&self, username: &Username, reserved: &ReservedTry) {
        if let Err(failure) = self.store.release_try(username, reserved).await {
            telemetry::warn("try not released", failure);
        }
    }
}
