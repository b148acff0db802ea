use std::fmt;

use sha2::{Digest, Sha256};

use super::{
    EmailAddress, MAX_IDENTIFIER_CHARS, Networks, OwnChanges, PasswordHash, PasswordHashError, SessionOwner,
    Timestamp, Username,
};

/// A user as the store holds it, without the hash of the password.
#[derive(Clone, Debug)]
pub struct User {
    /// The name that the user signs in with.
    pub username: Username,
    /// The id that tokens carry. It never changes, and is never reused while the user exists.
    pub user_id: UserId,
    /// The stamp that every token and session of the user is bound to.
    pub security_stamp: SecurityStamp,
    /// The value that every reset code of the user is bound to.
    pub recovery_stamp: RecoveryStamp,
    /// The name that all sessions of the user have in common.
    pub session_owner: SessionOwner,
    /// The `jti` of the JSON Web Token that made the last password change and outlives it.
    pub kept_jti: Option<String>,
    /// The addresses for reset codes and notices.
    pub email_addresses: Vec<EmailAddress>,
    /// The language of mails to the user; the deployment's if there is none.
    pub locale: Option<Locale>,
    /// True if an administrator has activated the user.
    pub activated: bool,
    /// True if the user has to change the password before signing in.
    pub must_change_password: bool,
    /// When the user was created.
    pub created_at: Timestamp,
    /// When the password was last changed or reset.
    pub password_changed_at: Option<Timestamp>,
    /// The latest changes of the password by the user, which are limited.
    pub own_changes: OwnChanges,
    /// When the user last signed in.
    pub last_signin_at: Option<Timestamp>,
    /// The networks whose attempts have budgets of their own.
    pub networks: Networks,
}

/// A user together with the hash of the password, for the functions that verify, count or export hashes. The others
/// neither read hashes nor may: their roles leave `password_hash` out.
#[derive(Clone, Debug)]
pub struct UserWithHash {
    /// The user.
    pub user: User,
    /// The hash.
    pub password_hash: StoredHash,
}

/// The stored hash of a user's password: `None` if the user has no password yet, `Err` if the hash is of no known form
/// or its cost out of bounds. In both cases every password is wrong until one is set.
pub type StoredHash = Option<Result<PasswordHash, PasswordHashError>>;

/// Names a user for good, in tokens (`sub`) and logs: 1–190 printable ASCII characters.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UserId(String);

impl UserId {
    /// Parses an id from an administrator or a token; `None` if it is out of bounds.
    #[must_use]
    pub fn parse(written: &str) -> Option<Self> {
        let well_formed = (1..=MAX_IDENTIFIER_CHARS).contains(&written.len())
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

/// A language, and perhaps a region, such as `de` or `de-AT`: the form of a language tag (RFC 5646).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Locale(String);

impl Locale {
    /// Parses a tag: subtags of 1–8 ASCII letters and digits with hyphens between them, the first one of 2–8
    /// letters, 35 characters at most (RFC 5646 §4.4.1).
    #[must_use]
    pub fn parse(written: &str) -> Option<Self> {
        let language = written.split('-').next()?;
        let well_formed = written.len() <= 35
            && language.len() >= 2
            && language.bytes().all(|byte| byte.is_ascii_alphabetic())
            && written.split('-').all(|subtag| {
                (1..=8).contains(&subtag.len()) && subtag.bytes().all(|byte| byte.is_ascii_alphanumeric())
            });
        well_formed.then(|| Self(written.to_owned()))
    }

    /// The tag as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tag's first part, in lower case.
    #[must_use]
    pub fn language(&self) -> String {
        self.0.split('-').next().unwrap_or_default().to_ascii_lowercase()
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

    /// The SHA-256 of the stamp, for places from which no stamp may leak. A plain hash suffices because stamps are
    /// random.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(&self.0).into()
    }
}

/// A value that is replaced together with the [`SecurityStamp`], and by every change of the e-mail addresses to other
/// ones. A reset code carries the stamp it was sent under and no longer exists once the user's differs, so that a
/// revocation of sessions ends the code too. It is a stamp of its own because a change of addresses revokes no session.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RecoveryStamp(String);

impl RecoveryStamp {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_1_to_190_printable_ascii_characters() {
        for written in ["33", "!", "~", &"x".repeat(190)] {
            assert_eq!(UserId::parse(written).as_ref().map(UserId::as_str), Some(written));
        }
        for written in ["", " ", "a b", "a\n", "\u{7f}", "ü", &"x".repeat(191)] {
            assert_eq!(UserId::parse(written), None, "{written:?}");
        }
    }

    #[test]
    fn a_locale_is_a_language_tag() {
        for (written, language) in [("de", "de"), ("de-AT", "de"), ("EN-us", "en"), ("zh-Hant-TW", "zh")] {
            let locale = Locale::parse(written).unwrap();
            assert_eq!((locale.as_str(), &*locale.language()), (written, language));
        }
        for written in ["", "d", "de_AT", "de-", "-de", "de AT", "d3", "deutschland", "de-1234567890"] {
            assert_eq!(Locale::parse(written), None, "{written}");
        }
    }
}
