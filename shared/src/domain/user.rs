use std::fmt;

use super::{EmailAddress, MAX_NAME_CHARS, PasswordHash, Timestamp, Username};

/// A user as the store holds it.
#[derive(Clone, Debug)]
pub struct User {
    /// What the user signs in with.
    pub username: Username,
    /// What tokens name the user by; never changes and is never reused while the user exists.
    pub user_id: UserId,
    /// The stored hash of the password.
    pub password_hash: PasswordHash,
    /// What every token and session of the user is bound to.
    pub security_stamp: SecurityStamp,
    /// The `jti` of the JSON Web Token that made the last password change and outlives it.
    pub kept_jti: Option<String>,
    /// Where reset codes and notices go.
    pub email_addresses: Vec<EmailAddress>,
    /// Whether an administrator let the user in.
    pub activated: bool,
    /// Whether the user has to change the password before signing in.
    pub must_change_password: bool,
    /// When the user was created.
    pub created_at: Timestamp,
    /// When the password was last changed or reset.
    pub password_changed_at: Option<Timestamp>,
    /// When the user last signed in.
    pub last_signin_at: Option<Timestamp>,
}

/// Names a user for good, in tokens (`sub`) and logs: 1–190 printable ASCII characters.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UserId(String);

impl UserId {
    /// Parses what an administrator chose or a token names; `None` when it is out of bounds.
    #[must_use]
    pub fn parse(written: &str) -> Option<Self> {
        let well_formed = (1..=MAX_NAME_CHARS).contains(&written.len())
            && written.bytes().all(|byte| byte.is_ascii_graphic());
        well_formed.then(|| Self(written.to_owned()))
    }

    /// The id itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<uuid::Uuid> for UserId {
    fn from(uuid: uuid::Uuid) -> Self {
        Self(uuid.to_string())
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A value that is replaced by every password change, revocation and deactivation. Tokens and sessions carry the
/// stamp they were issued under and count for nothing once it differs, so one write revokes any number of them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SecurityStamp(String);

impl SecurityStamp {
    /// Takes over a unique string.
    #[must_use]
    pub fn new(unique: String) -> Self {
        Self(unique)
    }

    /// The string itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
