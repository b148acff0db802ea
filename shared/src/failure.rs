//! Failures on our side, and refusals for a while.

use std::time::Duration;

/// A failure that the client did not cause. The text is the cause, for the log alone; it never holds a password,
/// code, token, hash or secret.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Failure {
    /// A service that this one depends on failed or was slow. Trying again later can help.
    #[error("{0}")]
    Unavailable(String),
    /// Our code or our data is wrong. Trying again does not help.
    #[error("{0}")]
    Defect(String),
}

impl Failure {
    /// A user or a session that other requests changed between each reading and writing, as often as that was retried.
    #[must_use]
    pub fn conflict() -> Self {
        Self::Unavailable("others changed the item each time".to_owned())
    }

    /// The `error_code` that clients get.
    #[must_use]
    pub fn error_code(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "service_unavailable",
            Self::Defect(_) => "internal_error",
        }
    }

    /// The message that clients get, which never reveals the cause.
    #[must_use]
    pub fn msg(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "Service unavailable, try again later",
            Self::Defect(_) => "Internal error",
        }
    }
}

/// The number of times to retry a write that is conditional on the item as read, each time after reading it again.
pub const MAX_CONFLICT_RETRIES: usize = 3;

/// The reason why something that is limited was not done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Refused {
    /// The limit is reached. After this time, it is let through again.
    Wait(Duration),
    /// It could not be completed.
    Failure(Failure),
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}
