use std::fmt;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

use super::User;

/// Wrong tries that one code allows.
pub(crate) const TRIES: u32 = 12;

/// Codes that may be sent to one user in any such period: 5 in 60 minutes.
pub(crate) const HOURLY_SENDS: (usize, Duration) = (5, Duration::from_hours(1));

/// Codes that may be sent to one user in any such period: 10 in 24 hours.
pub(crate) const DAILY_SENDS: (usize, Duration) = (10, Duration::from_hours(24));

/// A code that was sent by e-mail: six digits.
#[derive(Clone, Debug)]
pub struct ResetCode(SecretString);

impl ResetCode {
    /// How many codes there are.
    pub const COUNT: u32 = 1_000_000;

    /// The code of a number below [`Self::COUNT`], with leading zeros.
    #[must_use]
    pub fn from_number(number: u32) -> Self {
        Self(SecretString::from(format!("{number:06}")))
    }

    /// The digits as the user reads them.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// The keyed hash under which the code is stored.
    #[must_use]
    pub fn hash(&self, key: &[u8], holder: &CodeHolder, code_id: &CodeId) -> CodeHash {
        CodeHash(mac(key, holder, code_id, self.expose()).finalize().into_bytes().to_vec())
    }
}

/// A code that somebody typed: 1–6 ASCII digits. Fewer than six are well-formed and never right.
#[derive(Clone, Debug)]
pub struct SubmittedCode(SecretString);

impl SubmittedCode {
    /// Parses digits; `None` when they are not 1–6 ASCII digits.
    #[must_use]
    pub fn parse(typed: String) -> Option<Self> {
        let typed = SecretString::from(typed);
        let digits = typed.expose_secret().as_bytes();
        ((1..=6).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit)).then_some(Self(typed))
    }

    /// Parses a number 0…999999, which stands for its six digits with leading zeros.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        (number < u64::from(ResetCode::COUNT)).then(|| Self(SecretString::from(format!("{number:06}"))))
    }

    /// Whether this is the code that was stored as `hash`; takes the same time for every wrong code.
    #[must_use]
    pub fn matches(&self, key: &[u8], holder: &CodeHolder, code_id: &CodeId, hash: &CodeHash) -> bool {
        mac(key, holder, code_id, self.0.expose_secret()).verify_slice(&hash.0).is_ok()
    }
}

/// Names one sent code, so that a hash, a try or a reset can never be taken for another code's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CodeId(String);

impl CodeId {
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

/// Whom a code is for: one user from creation to deletion, and not a later one of the same name or id.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CodeHolder(String);

impl CodeHolder {
    /// The holder of a code that nobody may use, because it was asked for in the name of nobody.
    #[must_use]
    pub fn nobody() -> Self {
        Self(String::new())
    }
}

impl From<&User> for CodeHolder {
    fn from(user: &User) -> Self {
        Self(format!("{} {}", user.created_at.as_micros(), user.user_id))
    }
}

/// HMAC-SHA-256 of a reset code, bound to its user and to this one sending of it.
///
/// Keyed because a million codes are tried against a plain or slow hash in no time once a table leaks.
#[derive(Clone)]
pub struct CodeHash(Vec<u8>);

impl fmt::Debug for CodeHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("CodeHash")
    }
}

impl CodeHash {
    /// Takes over stored bytes.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes to store.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[expect(clippy::expect_used, reason = "HMAC takes keys of every length (RFC 2104 §3)")]
fn mac(key: &[u8], holder: &CodeHolder, code_id: &CodeId, digits: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    // Lengths go first, so that no two different triples are the same message.
    for part in [&*holder.0, code_id.as_str(), digits] {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part.as_bytes());
    }
    mac
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";

    fn names(user: &str, code: &str) -> (CodeHolder, CodeId) {
        (CodeHolder(user.to_owned()), CodeId::new(code.to_owned()))
    }

    #[test]
    fn only_one_to_six_ascii_digits_are_well_formed() {
        for typed in ["0", "000000", "123456"] {
            assert!(SubmittedCode::parse(typed.to_owned()).is_some(), "{typed}");
        }
        for typed in ["", "1234567", "12345a", "-12345", " 123", "١٢٣٤٥٦"] {
            assert!(SubmittedCode::parse(typed.to_owned()).is_none(), "{typed}");
        }
        assert!(SubmittedCode::from_number(999_999).is_some());
        assert!(SubmittedCode::from_number(1_000_000).is_none());
    }

    #[test]
    fn a_number_is_read_with_leading_zeros_and_a_string_is_not() {
        let (holder, code_id) = names("st.huber", "a");
        let hash = ResetCode::from_number(42).hash(KEY, &holder, &code_id);
        assert!(SubmittedCode::from_number(42).unwrap().matches(KEY, &holder, &code_id, &hash));
        assert!(!SubmittedCode::parse("42".to_owned()).unwrap().matches(KEY, &holder, &code_id, &hash));
    }

    #[test]
    fn a_hash_is_of_one_user_one_sending_and_one_key() {
        let (holder, code_id) = names("st.huber", "a");
        let hash = ResetCode::from_number(482_901).hash(KEY, &holder, &code_id);
        let code = SubmittedCode::parse("482901".to_owned()).unwrap();
        let (other_user, other_code) = names("st.maier", "b");
        assert!(!code.matches(KEY, &other_user, &code_id, &hash));
        assert!(!code.matches(KEY, &holder, &other_code, &hash));
        assert!(!code.matches(b"another key", &holder, &code_id, &hash));
    }

    proptest! {
        #[test]
        fn exactly_the_sent_code_matches(sent in 0..ResetCode::COUNT, typed in 0..ResetCode::COUNT) {
            let (holder, code_id) = names("st.huber", "a");
            let hash = ResetCode::from_number(sent).hash(KEY, &holder, &code_id);
            let hash = CodeHash::from_bytes(hash.as_bytes().to_vec());
            for (typed, right) in [(sent, true), (typed, sent == typed)] {
                let code = SubmittedCode::parse(format!("{typed:06}")).unwrap();
                prop_assert_eq!(code.matches(KEY, &holder, &code_id, &hash), right);
            }
        }
    }
}
