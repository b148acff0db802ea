//! Verifying a password within the budgets of failed attempts. All functions that verify passwords share one budget for
//! each username, twice (for known networks and others), and one for each source IP address.
//!
//! An attempt is charged before its outcome is revealed: the password is compared first, one conditional write then
//! charges or clears the attempt and decides at the same moment whether it was allowed, and nothing is answered before.
//! The outcomes that clients see are those of attempts that are made one after the other, however many are made at
//! once.
//!
//! An attempt that is refused must not reveal whether its password was right, by its time either. Therefore right and
//! wrong passwords do the same from the comparison to the response of that write; everything else follows it.

use std::net::IpAddr;

use crate::domain::{Network, Password, User, Username};
use crate::failure::{Failure, Refused};
use crate::hashing::{PasswordHasher, Verification};
use crate::settings::{ConfigError, Settings};
use crate::store::{AddressBudget, AddressLimit, Attempt, Candidate, Commit, Store};
use crate::telemetry::{from_new_network, identify, identify_unknown};
use crate::{clock, random};

/// How many times an attempt is committed before giving up. A round fails only if in the meantime a right password
/// came from another network or the password was changed, or 24 quiet hours ended.
const ROUNDS: usize = 50;

/// Verifies passwords.
#[derive(Debug)]
pub struct Authenticator {
    store: Store,
    hasher: PasswordHasher,
    /// The wrong passwords of one source address; `None` turns this budget off.
    address_limit: Option<AddressLimit>,
}

/// The reason why a password was not found right.
#[derive(Debug)]
pub enum AuthenticationError {
    /// The user is unknown or the password wrong.
    Incorrect,
    /// A budget is used up, or the check could not be completed. Reveals nothing about the password.
    Refused(Refused),
}

/// The purpose that a password is verified for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// A sign-in, which is noted with the user if the user may sign in.
    SignIn {
        /// True if it opens a session, which is counted.
        opens_session: bool,
    },
    /// Anything else.
    Check,
}

/// A user whose password was right.
#[derive(Debug)]
pub struct Authenticated {
    /// The user at the moment of the verification.
    pub user: User,
    /// True if the stored hash has another form than new ones have.
    pub outdated_hash: bool,
    /// An upper bound of the user's sessions, the one that a sign-in opens included.
    pub sessions_opened: u32,
}

impl<R: Into<Refused>> From<R> for AuthenticationError {
    fn from(refused: R) -> Self {
        Self::Refused(refused.into())
    }
}

impl Authenticator {
    /// Verification with the deployment's hashing parameters and `SIGNIN_FAILURES_PER_IP`.
    pub fn new(settings: &Settings, store: Store, hasher: PasswordHasher) -> Result<Self, ConfigError> {
        let address_limit = AddressLimit::from_settings(settings, AddressBudget::SigninFailures)?;
        Ok(Self { store, hasher, address_limit })
    }

    /// The budget of wrong passwords of each source address.
    #[must_use]
    pub fn address_limit(&self) -> Option<AddressLimit> {
        self.address_limit
    }

    /// Verifies that `password` is the one of `username`. An unknown username is treated like a known one, down to the
    /// hash that is verified.
    pub async fn verify(
        &self,
        username: &Username,
        password: &Password,
        source_ip: IpAddr,
        purpose: Purpose,
    ) -> Result<Authenticated, AuthenticationError> {
        let candidate = self.store.candidate(username, source_ip, self.address_limit, clock::now()).await?;
        if candidate.is_unknown() {
            identify_unknown(username);
        }
        self.verify_candidate(candidate, password, source_ip, purpose).await
    }

    /// Verifies that `password` is the one of `candidate`, who was read for the present request.
    ///
    /// A user whose stored hash or row cannot be read is treated like one with a wrong password, up to the answer: an
    /// [`AuthenticationError::from`].
    pub async fn verify_candidate(
        &self,
        mut candidate: Candidate,
        password: &Password,
        source_ip: IpAddr,
        purpose: Purpose,
    ) -> Result<Authenticated, AuthenticationError> {
        if let Some(wait) = candidate.address_wait() {
            return Err(Refused::Wait(wait).into());
        }
        let (network, id) = (Network::from(source_ip), random::unique());
        let mut compared = None;
        for _ in 0..ROUNDS {
            if let Some(user) = candidate.user() {
                identify(&user.user_id);
            }
            if let Some(wait) = candidate.wait(&network, clock::now()) {
                return Err(Refused::Wait(wait).into());
            }
            // Every change of the password replaces the stamp, so that one verification holds for one stamp.
            let stamp = candidate.user().map(|user| user.security_stamp.clone());
            let verification = match compared.take() {
                Some((of, verification)) if of == stamp => verification,
                _ => self.compare(&candidate, password).await,
            };
            let attempt = Attempt {
                id: &id,
                network: &network,
                is_right: matches!(verification, Ok(Verification::Correct { .. })),
                is_signin: matches!(purpose, Purpose::SignIn { .. })
                    && candidate.user().is_some_and(|user| user.activated && !user.must_change_password),
                opens_session: purpose == Purpose::SignIn { opens_session: true },
                now: clock::now(),
            };
            let known = candidate.user().map(|user| &user.networks).filter(|known| !known.is_empty());
            let is_new_network = known.is_some_and(|known| !known.contains(&network));
            match self.store.commit_attempt(&candidate, &attempt).await? {
                Commit::Made(user) => {
                    if attempt.is_right && is_new_network {
                        from_new_network();
                    }
                    return self.reveal(user, verification, source_ip).await;
                }
                Commit::Refused(current) => (candidate, compared) = (*current, Some((stamp, verification))),
            }
        }
        Err(Failure::conflict().into())
    }

    /// Compares the password with the stored hash, or with the decoy if there is none that can be read.
    async fn compare(&self, candidate: &Candidate, password: &Password) -> Result<Verification, Failure> {
        let verification = self.hasher.verify(password, candidate.password_hash()).await;
        candidate.defect().map_or(verification, Err)
    }

    /// Answers an attempt that was charged or cleared. A wrong one is first charged to the address, so that no more
    /// than its budget of wrong answers leave.
    async fn reveal(
        &self,
        user: Option<Box<(User, u32)>>,
        verification: Result<Verification, Failure>,
        source_ip: IpAddr,
    ) -> Result<Authenticated, AuthenticationError> {
        if let (Ok(Verification::Correct { outdated }), Some(user)) = (&verification, user) {
            let (user, sessions_opened) = *user;
            return Ok(Authenticated { user, outdated_hash: *outdated, sessions_opened });
        }
        if let Some(limit) = self.address_limit {
            self.store.charge_address(source_ip, limit, clock::now()).await?;
        }
        Err(verification.err().map_or(AuthenticationError::Incorrect, AuthenticationError::from))
    }
}
