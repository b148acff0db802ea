//! What can go wrong on our side.

/// Something that is not the client's doing. The text is the cause, for the log alone; it never holds a password,
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
    /// What answers call it.
    #[must_use]
    pub fn error_code(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "service_unavailable",
            Self::Defect(_) => "internal_error",
        }
    }

    /// What answers say of it: nothing of the cause.
    #[must_use]
    pub fn msg(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "Service unavailable, try again later",
            Self::Defect(_) => "Internal error",
        }
    }
}
