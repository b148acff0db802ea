//! Verifying a password within the budgets of failed attempts. Sign-in, the forced change and the change by a
//! signed-in user all come through here, and so share one budget per username and one per source IP address.

use std::net::IpAddr;
use std::time::Duration;

use crate::clock;
use crate::config::{ConfigError, Environment};
use crate::domain::{Password, User, UserWithHash, Username};
use crate::error::Failure;
use crate::hashing::{PasswordHasher, Verdict};
use crate::http::{identify, identify_unknown};
use crate::store::{AddressReservation, Store};

/// Verifies passwords.
#[derive(Debug)]
pub struct Authentication {
    store: Store,
    hasher: PasswordHasher,
    /// Zero turns the budget per source IP address off.
    failures_per_ip: u32,
}

/// Why a password was not found right.
#[derive(Debug)]
pub enum AuthenticationError {
    /// An attempt will be let through after this time; the password was not looked at.
    RateLimited(Duration),
    /// The user is unknown or the password wrong.
    Incorrect,
    /// It could not be told.
    Failure(Failure),
}

/// A user whose password was right. The attempt still counts as failed until it is
/// [released](Authentication::release), which has to happen whatever the answer to the request is.
#[derive(Debug)]
pub struct Authenticated {
    /// The user as read when the password was verified.
    pub user: User,
    /// Whether the stored hash is of another form than new ones are.
    pub outdated_hash: bool,
    address: Option<AddressReservation>,
}

impl From<Failure> for AuthenticationError {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl Authentication {
    /// Verification with the deployment's hashing parameters and `SIGNIN_FAILURES_PER_IP`.
    pub fn new(environment: &Environment, store: Store, hasher: PasswordHasher) -> Result<Self, ConfigError> {
        let failures_per_ip = environment.number("SIGNIN_FAILURES_PER_IP", 100, 0..=1_000_000)?;
        Ok(Self { store, hasher, failures_per_ip })
    }

    /// Verifies that `password` is the one of `username`.
    ///
    /// The attempt is reserved first with the address, then with the username, so that an address that used up its
    /// budget cannot use up anybody's; and a refused attempt counts for neither. An unknown username and a user whose
    /// stored hash or row is unreadable are treated the same, down to the hash that is verified; the latter then is an
    /// [`AuthenticationError::Failure`], which counts like a wrong password.
    pub async fn verify(
        &self,
        username: &Username,
        password: &Password,
        source_ip: IpAddr,
    ) -> Result<Authenticated, AuthenticationError> {
        let (address, user) =
            tokio::join!(self.reserve_address(source_ip), self.store.user_with_hash(username));
        self.verify_reserved(address?, username, password, user).await
    }

    /// Verifies that `password` is the one of `user`, who was read for the present request.
    pub async fn verify_again(
        &self,
        user: UserWithHash,
        password: &Password,
        source_ip: IpAddr,
    ) -> Result<Authenticated, AuthenticationError> {
        let address = self.reserve_address(source_ip).await?;
        let username = user.user.username.clone();
        self.verify_reserved(address, &username, password, Ok(Some(user))).await
    }

    async fn verify_reserved(
        &self,
        address: Option<AddressReservation>,
        username: &Username,
        password: &Password,
        user: Result<Option<UserWithHash>, Failure>,
    ) -> Result<Authenticated, AuthenticationError> {
        let (user, hash, defect) = match user {
            Ok(Some(UserWithHash { user, password_hash })) => {
                identify(&user.user_id);
                let unreadable = || Failure::Defect("a stored hash is of no known form".to_owned());
                let defect = password_hash.is_none().then(unreadable);
                (Some(user), password_hash, defect)
            }
            Ok(None) => {
                identify_unknown(username);
                (None, None, None)
            }
            // A damaged row, too, is answered only within the budgets.
            Err(defect @ Failure::Defect(_)) => (None, None, Some(defect)),
            Err(unavailable) => return Err(self.not_compared(address.as_ref(), unavailable.into()).await),
        };
        match self.store.reserve_signin(username, clock::now()).await {
            Ok(Ok(())) => {}
            Ok(Err(wait)) => {
                let refused = AuthenticationError::RateLimited(wait);
                return Err(self.not_compared(address.as_ref(), refused).await);
            }
            Err(failure) => return Err(self.not_compared(address.as_ref(), failure.into()).await),
        }
        // From here on the attempt stays counted unless the password is right.
        let verdict = self.hasher.verify(password, hash.as_ref()).await;
        match (defect, verdict?, user) {
            (Some(defect), ..) => Err(defect.into()),
            (None, Verdict::Right { outdated }, Some(user)) => {
                Ok(Authenticated { user, outdated_hash: outdated, address })
            }
            _ => Err(AuthenticationError::Incorrect),
        }
    }

    /// Gives back the attempt of an address that was answered without a comparison.
    async fn not_compared(
        &self,
        address: Option<&AddressReservation>,
        error: AuthenticationError,
    ) -> AuthenticationError {
        self.give_back(address).await;
        error
    }

    /// Takes the attempt of a right password out of both budgets, and forgets the failures before it. Where this
    /// fails, only more is counted than happened: the answer stands.
    pub async fn release(&self, authenticated: &Authenticated) {
        let forget = async {
            if let Err(failure) = self.store.clear_signin_failures(&authenticated.user.username).await {
                tracing::warn!(cause = %failure, "sign-in failures not forgotten");
            }
        };
        tokio::join!(forget, self.give_back(authenticated.address.as_ref()));
    }

    async fn reserve_address(
        &self,
        source_ip: IpAddr,
    ) -> Result<Option<AddressReservation>, AuthenticationError> {
        if self.failures_per_ip == 0 {
            return Ok(None);
        }
        match self.store.reserve_address(source_ip, self.failures_per_ip, clock::now()).await? {
            Ok(reservation) => Ok(Some(reservation)),
            Err(wait) => Err(AuthenticationError::RateLimited(wait)),
        }
    }

    async fn give_back(&self, address: Option<&AddressReservation>) {
        let Some(address) = address else {
            return;
        };
        if let Err(failure) = self.store.give_back_address(address).await {
            tracing::warn!(cause = %failure, "attempt not given back to the source IP address");
        }
    }
}
