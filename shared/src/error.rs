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
