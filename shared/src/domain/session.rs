use std::fmt;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::{MAX_NAME_CHARS, Timestamp};

/// A session ends when it was not used for this long.
const IDLE_LIFETIME: Duration = Duration::from_hours(30 * 24);

/// A session ends this long after it began, used or not.
const ABSOLUTE_LIFETIME: Duration = Duration::from_hours(90 * 24);

/// What a client shows to go on with its session: 64 characters of `[0-9A-Za-z]`, some 381 bits.
#[derive(Clone, Debug)]
pub struct SessionToken(SecretString);

impl SessionToken {
    /// The number of characters of a token.
    pub const CHARS: usize = 64;

    /// Takes over 64 random characters of `[0-9A-Za-z]`.
    #[must_use]
    pub fn new(characters: String) -> Self {
        Self(SecretString::from(characters))
    }

    /// Parses what a client shows: 1–190 Unicode scalar values, of which only 64 of the right ones can be right.
    #[must_use]
    pub fn parse(shown: String) -> Option<Self> {
        let shown = SecretString::from(shown);
        (1..=MAX_NAME_CHARS).contains(&shown.expose_secret().chars().count()).then_some(Self(shown))
    }

    /// The token as the client gets it, once.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// The public name of this token's session.
    #[must_use]
    pub fn session_id(&self) -> SessionId {
        let digest = Sha256::digest(self.expose());
        SessionId(digest.iter().fold(String::with_capacity(64), |hex, byte| format!("{hex}{byte:02x}")))
    }
}

/// The SHA-256 of a session token in lower-case hexadecimal: names a session, in the table and to its user, and
/// is of no use in place of the token. A plain hash suffices because the token is uniformly random.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SessionId(String);

impl SessionId {
    /// Parses an id that a client names; `None` when it cannot be any session's.
    #[must_use]
    pub fn parse(written: &str) -> Option<Self> {
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (written.len() == 64 && written.bytes().all(is_hex)).then(|| Self(written.to_owned()))
    }

    /// The hexadecimal form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// When a session ends that began at `created_at` and was last used at `last_used_at`.
#[must_use]
pub(crate) fn session_end(created_at: Timestamp, last_used_at: Timestamp) -> Timestamp {
    (last_used_at + IDLE_LIFETIME).min(created_at + ABSOLUTE_LIFETIME)
}

/// What a client says about itself, such as `Firefox: 69; Mobile: true;`: 1–190 Unicode scalar values.
#[derive(Clone, Eq, PartialEq)]
pub struct SessionInformation(String);

impl SessionInformation {
    /// Parses what a client sent; `None` when it is empty or too long.
    #[must_use]
    pub fn parse(written: String) -> Option<Self> {
        (1..=MAX_NAME_CHARS).contains(&written.chars().count()).then_some(Self(written))
    }

    /// The text as it was sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SessionInformation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SessionInformation")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_id_is_the_hash_of_the_token() {
        let token = SessionToken::new("abc".to_owned());
        assert_eq!(
            token.session_id().as_str(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn what_a_client_shows_or_says_has_1_to_190_characters() {
        for (chars, fits) in [(0, false), (1, true), (190, true), (191, false)] {
            let text = "😀".repeat(chars);
            let token = SessionToken::parse(text.clone());
            assert_eq!(token.as_ref().map(SessionToken::expose), fits.then_some(&*text));
            let information = SessionInformation::parse(text.clone());
            assert_eq!(information.as_ref().map(SessionInformation::as_str), fits.then_some(&*text));
        }
    }

    #[test]
    fn an_id_is_64_hexadecimal_digits_in_lower_case() {
        let id = "0123456789abcdef".repeat(4);
        assert_eq!(SessionId::parse(&id).as_ref().map(SessionId::as_str), Some(&*id));
        for other in [&id[1..], &format!("{id}0"), &id.to_uppercase(), &id.replace('f', "g"), ""] {
            assert_eq!(SessionId::parse(other), None, "{other}");
        }
    }

    #[test]
    fn ends_after_thirty_idle_days_or_ninety_in_all() {
        let day = Duration::from_hours(24);
        let start = Timestamp::from_micros(0);
        assert_eq!(session_end(start, start), start + day * 30);
        assert_eq!(session_end(start, start + day * 59), start + day * 89);
        assert_eq!(session_end(start, start + day * 61), start + day * 90);
    }
}
