use std::fmt;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::{MAX_IDENTIFIER_CHARS, Timestamp};

/// A session ends when it was not used for this long.
const IDLE_LIFETIME: Duration = Duration::from_hours(30 * 24);

/// A session ends this long after it began, used or not.
const ABSOLUTE_LIFETIME: Duration = Duration::from_hours(90 * 24);

/// The most sessions that a user has. One more ends the least recently used one.
pub(crate) const MAX_SESSIONS: usize = 100;

/// The name that all sessions of a user have in common and that their tokens begin with: 22 random characters of
/// `[0-9A-Za-z]`. It is no secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SessionOwner(String);

impl SessionOwner {
    /// The number of characters: 131 bits, enough never to be drawn twice.
    pub const CHARS: usize = 22;

    /// Takes over 22 random characters of `[0-9A-Za-z]`.
    #[must_use]
    pub fn new(characters: String) -> Self {
        Self(characters)
    }

    /// Parses a stored name; `None` when it has another form.
    #[must_use]
    pub fn parse(written: &str) -> Option<Self> {
        (written.len() == Self::CHARS && is_alphanumeric(written)).then(|| Self(written.to_owned()))
    }

    /// The characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The number of a session, unique among those of its user: 1–2147483647, because clients read it as a signed integer
/// of 32 bits. It is taken from the token's hash and reveals nothing of the token.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct SessionId(u32);

impl SessionId {
    /// The greatest id.
    pub const MAX: u32 = i32::MAX.unsigned_abs();

    /// Takes an id that is in range.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        (1..=Self::MAX).contains(&number).then_some(Self(number))
    }

    /// Parses an id that a client names: the decimal digits of a number in range, without leading zeros.
    #[must_use]
    pub fn parse(written: &str) -> Option<Self> {
        let is_plain = written.bytes().all(|byte| byte.is_ascii_digit()) && !written.starts_with('0');
        written.parse().ok().filter(|_| is_plain).and_then(Self::from_number)
    }

    /// The number.
    #[must_use]
    pub fn as_number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A session's owner and id, which together find it: `{owner}.{id}` in the claim `sid` of JSON Web Tokens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SessionKey {
    /// The name that all sessions of the user have in common.
    pub owner: SessionOwner,
    /// The session's id.
    pub id: SessionId,
}

impl SessionKey {
    /// Parses the form that [`Display`](fmt::Display) writes.
    #[must_use]
    pub fn parse(written: &str) -> Option<Self> {
        let (owner, id) = written.split_once('.')?;
        Some(Self { owner: SessionOwner::parse(owner)?, id: SessionId::parse(id)? })
    }
}

impl fmt::Display for SessionKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.owner.as_str(), self.id)
    }
}

/// The SHA-256 of a session token. A plain hash suffices because the token is uniformly random.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SessionTokenHash([u8; 32]);

impl SessionTokenHash {
    /// The bytes of the hash.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn of(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }

    fn session_id(&self) -> SessionId {
        let [first, second, third, fourth, ..] = self.0;
        SessionId(u32::from_be_bytes([first, second, third, fourth]) % SessionId::MAX + 1)
    }
}

/// The secret with which a client continues its session: 64 characters of `[0-9A-Za-z]`, the [`SessionOwner`] and then
/// 42 random ones, which are 250 bits.
#[derive(Clone, Debug)]
pub struct SessionToken {
    characters: SecretString,
    key: SessionKey,
    hash: SessionTokenHash,
}

impl SessionToken {
    /// The number of characters of a token.
    pub const CHARS: usize = 64;
    /// The number of characters that are drawn for each token.
    pub const RANDOM_CHARS: usize = Self::CHARS - SessionOwner::CHARS;

    /// Makes a token of 42 random characters of `[0-9A-Za-z]`.
    #[must_use]
    pub fn new(owner: SessionOwner, random: &str) -> Self {
        Self::of(SecretString::from(format!("{}{random}", owner.as_str())), owner)
    }

    /// Parses a token from a client; `None` if it cannot be a session's token.
    #[must_use]
    pub fn parse(shown: String) -> Option<Self> {
        let characters = SecretString::from(shown);
        let text = characters.expose_secret();
        if text.len() != Self::CHARS || !is_alphanumeric(text) {
            return None;
        }
        let owner = SessionOwner::parse(text.get(..SessionOwner::CHARS)?)?;
        Some(Self::of(characters, owner))
    }

    fn of(characters: SecretString, owner: SessionOwner) -> Self {
        let hash = SessionTokenHash::of(characters.expose_secret());
        Self { characters, key: SessionKey { owner, id: hash.session_id() }, hash }
    }

    /// The token as the client gets it, once.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.characters.expose_secret()
    }

    /// The owner and the id of this token's session.
    #[must_use]
    pub fn key(&self) -> &SessionKey {
        &self.key
    }

    /// The hash by which the session knows this token.
    #[must_use]
    pub fn hash(&self) -> &SessionTokenHash {
        &self.hash
    }
}

fn is_alphanumeric(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The instants after which a session that is live began and was last used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LiveSessions {
    pub(crate) created_after: Timestamp,
    pub(crate) used_after: Timestamp,
}

impl LiveSessions {
    /// The sessions that are live at `now`.
    #[must_use]
    pub(crate) fn at(now: Timestamp) -> Self {
        Self { created_after: now - ABSOLUTE_LIFETIME, used_after: now - IDLE_LIFETIME }
    }

    /// Returns whether a session that began and was last used at these instants is live.
    #[must_use]
    pub(crate) fn include(self, created_at: Timestamp, last_used_at: Timestamp) -> bool {
        created_at > self.created_after && last_used_at > self.used_after
    }
}

/// The latest end of a session that is last used at `last_used_at`. Its age may end it before.
#[must_use]
pub(crate) fn idle_session_end(last_used_at: Timestamp) -> Timestamp {
    last_used_at + IDLE_LIFETIME
}

/// A client's information about itself, such as `Firefox: 69; Mobile: true;`: 1–190 Unicode scalar values.
#[derive(Clone, Eq, PartialEq)]
pub struct SessionInformation(String);

impl SessionInformation {
    /// Parses information from a client; `None` if it is empty or too long.
    #[must_use]
    pub fn parse(written: String) -> Option<Self> {
        (1..=MAX_IDENTIFIER_CHARS).contains(&written.chars().count()).then_some(Self(written))
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
    use proptest::prelude::*;

    use super::*;

    const OWNER: &str = "0123456789ABCDEFGHIJKL";
    const RANDOM: &str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEF";

    #[test]
    fn a_token_is_its_owner_and_what_was_drawn() {
        let token = SessionToken::new(SessionOwner::parse(OWNER).unwrap(), RANDOM);
        assert_eq!(token.expose(), format!("{OWNER}{RANDOM}"));
        assert_eq!(token.key().owner.as_str(), OWNER);
        assert_eq!(token.hash().as_bytes(), Sha256::digest(token.expose()).as_slice());

        let shown = SessionToken::parse(token.expose().to_owned()).unwrap();
        assert_eq!((shown.key(), shown.hash()), (token.key(), token.hash()));
        assert_eq!(shown.expose(), token.expose());
        assert!(!format!("{token:?}").contains(RANDOM));
    }

    #[test]
    fn a_token_has_64_letters_and_digits() {
        let token = format!("{OWNER}{RANDOM}");
        for other in [
            String::new(),
            token[1..].to_owned(),
            format!("{token}0"),
            format!(" {}", &token[1..]),
            format!("{}-", &token[1..]),
            format!("{}ü", &token[2..]),
            "😀".repeat(16),
            "٣".repeat(32),
        ] {
            assert!(SessionToken::parse(other.clone()).is_none(), "{other}");
        }
    }

    #[test]
    fn information_has_1_to_190_characters() {
        for (chars, fits) in [(0, false), (1, true), (190, true), (191, false)] {
            let text = "😀".repeat(chars);
            let information = SessionInformation::parse(text.clone());
            assert_eq!(information.as_ref().map(SessionInformation::as_str), fits.then_some(&*text));
        }
    }

    #[test]
    fn ids_are_positive_signed_integers_of_32_bits() {
        for (hash, id) in [
            ([0; 4], 1),
            ([0, 0, 0, 1], 2),
            ([0x7f, 0xff, 0xff, 0xfe], i32::MAX),
            ([0x7f, 0xff, 0xff, 0xff], 1),
            ([0xff; 4], 2),
        ] {
            let mut bytes = [0; 32];
            bytes[..4].copy_from_slice(&hash);
            assert_eq!(SessionTokenHash(bytes).session_id().as_number(), id.unsigned_abs(), "{hash:?}");
        }
    }

    #[test]
    fn an_id_is_written_in_decimal_digits_without_leading_zeros() {
        for (written, id) in [("1", 1), ("153", 153), ("2147483647", SessionId::MAX)] {
            let parsed = SessionId::parse(written).unwrap();
            assert_eq!((parsed.as_number(), parsed.to_string().as_str()), (id, written));
        }
        for written in [
            "",
            "0",
            "01",
            "+1",
            "-1",
            " 1",
            "1 ",
            "1.0",
            "1e3",
            "0x1",
            "١",
            "1\n",
            "2147483648",
            "4294967297",
            "18446744073709551617",
        ] {
            assert_eq!(SessionId::parse(written), None, "{written:?}");
        }
    }

    #[test]
    fn a_key_is_an_owner_and_an_id() {
        for written in ["", ".", "153", OWNER, &format!("{OWNER}153"), &format!("{OWNER}."), "a.153"] {
            assert_eq!(SessionKey::parse(written), None, "{written}");
        }
        for written in [format!("{OWNER}.0"), format!("{OWNER}.1.2"), format!("{}-.1", &OWNER[1..])] {
            assert_eq!(SessionKey::parse(&written), None, "{written}");
        }
    }

    proptest! {
        #[test]
        fn a_key_is_read_as_it_is_written(owner in "[0-9A-Za-z]{22}", id in 1..=SessionId::MAX) {
            let key = SessionKey {
                owner: SessionOwner::parse(&owner).unwrap(),
                id: SessionId::from_number(id).unwrap(),
            };
            prop_assert_eq!(SessionKey::parse(&key.to_string()), Some(key));
        }

        #[test]
        fn an_id_is_taken_exactly_as_it_is_written(written in "[0-9+ -]{0,11}") {
            if let Some(id) = SessionId::parse(&written) {
                prop_assert_eq!(id.to_string(), written);
            }
        }

        #[test]
        fn every_alphanumeric_text_of_64_characters_may_be_a_token(text in "[0-9A-Za-z]{64}") {
            let token = SessionToken::parse(text.clone()).unwrap();
            prop_assert_eq!(token.expose(), &text);
            prop_assert!((1..=SessionId::MAX).contains(&token.key().id.as_number()));
        }
    }

    #[test]
    fn a_session_ends_after_thirty_idle_days_or_ninety_in_all() {
        let day = Duration::from_hours(24);
        let tick = Duration::from_micros(1);
        let start = Timestamp::from_micros(0);
        for (used_after, ends_after) in [(0, 30), (30, 60), (59, 89), (60, 90), (61, 90), (89, 90)] {
            let (used, end) = (start + day * used_after, start + day * ends_after);
            assert!(LiveSessions::at(end - tick).include(start, used), "{used_after}");
            assert!(!LiveSessions::at(end).include(start, used), "{used_after}");
            assert!(idle_session_end(used) >= end);
        }
    }
}
