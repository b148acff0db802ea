use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::User;

/// Wrong tries that one code allows.
pub(crate) const TRIES: u32 = 12;

/// A limit on the codes that may be sent to one user in any period of a length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendLimit {
    /// The number of codes.
    pub(crate) sends: usize,
    /// The length of the period.
    pub(crate) period: Duration,
}

/// 5 codes in any 60 minutes.
pub(crate) const HOURLY_SENDS: SendLimit = SendLimit { sends: 5, period: Duration::from_hours(1) };

/// 10 codes in any 24 hours.
pub(crate) const DAILY_SENDS: SendLimit = SendLimit { sends: 10, period: Duration::from_hours(24) };

/// A code that was sent by e-mail: six digits, of which the first is not 0. (A numeric input field drops leading
/// zeros.)
#[derive(Clone, Debug)]
pub struct ResetCode(SecretString);

impl ResetCode {
    /// The numbers that are codes.
    pub const NUMBERS: RangeInclusive<u32> = 100_000..=999_999;

    /// The code that is one of [`Self::NUMBERS`].
    #[must_use]
    pub fn from_number(number: u32) -> Self {
        Self(SecretString::from(number.to_string()))
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

/// A code as a client sent it: 1–6 ASCII digits. Fewer than six are well-formed and never right.
#[derive(Clone, Debug)]
pub struct SubmittedCode(SecretString);

impl SubmittedCode {
    /// Parses digits with any white space (Unicode `White_Space`) around them; `None` when they are not 1–6 ASCII
    /// digits.
    #[must_use]
    pub fn parse(typed: String) -> Option<Self> {
        let typed = SecretString::from(typed);
        let digits = typed.expose_secret().trim();
        ((1..=6).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| Self(SecretString::from(digits)))
    }

    /// Parses a number 0…999999.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        Self::parse(number.to_string())
    }

    /// Returns whether this is the code that was stored as `hash`. Takes the same time for every wrong code.
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

/// The user that a code was sent to, until the user's [`RecoveryStamp`](super::RecoveryStamp) is replaced: the SHA-256
/// of that stamp. Another user of the same name is another holder, and so is the same user after a revocation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CodeHolder(Vec<u8>);

impl CodeHolder {
    /// The holder of a code that was asked for in an unknown user's name. No user's stamp is empty.
    #[must_use]
    pub fn unknown() -> Self {
        Self::of("")
    }

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

    fn of(stamp: &str) -> Self {
        Self(Sha256::digest(stamp).to_vec())
    }
}

impl From<&User> for CodeHolder {
    fn from(user: &User) -> Self {
        Self::of(user.recovery_stamp.as_str())
    }
}

/// HMAC-SHA-256 of a reset code, bound to its holder and to this one sending of it.
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
    for part in [holder.as_bytes(), code_id.as_str().as_bytes(), digits.as_bytes()] {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";

    fn names(stamp: &str, code: &str) -> (CodeHolder, CodeId) {
        (CodeHolder::of(stamp), CodeId::new(code.to_owned()))
    }

    #[test]
    fn only_one_to_six_ascii_digits_are_well_formed() {
        for typed in ["0", "000000", "123456", " 123456", "\u{a0}123456\u{3000}\r\n", "\u{85}1\u{2028}"] {
            assert!(SubmittedCode::parse(typed.to_owned()).is_some(), "{typed}");
        }
        for typed in ["", " ", "1234567", "12345a", "-12345", "123 456", "\u{200b}123456", "١٢٣٤٥٦"] {
            assert!(SubmittedCode::parse(typed.to_owned()).is_none(), "{typed}");
        }
        assert!(SubmittedCode::from_number(999_999).is_some());
        assert!(SubmittedCode::from_number(1_000_000).is_none());
    }

    #[test]
    fn white_space_around_a_code_does_not_count() {
        let (holder, code_id) = names("a", "a");
        let hash = ResetCode::from_number(482_901).hash(KEY, &holder, &code_id);
        for typed in ["482901", " 482901\n", "\u{3000}482901\u{a0}"] {
            let code = SubmittedCode::parse(typed.to_owned()).unwrap();
            assert!(code.matches(KEY, &holder, &code_id, &hash), "{typed:?}");
        }
    }

    #[test]
    fn a_hash_is_of_one_holder_one_sending_and_one_key() {
        let (holder, code_id) = names("a", "a");
        let hash = ResetCode::from_number(482_901).hash(KEY, &holder, &code_id);
        let code = SubmittedCode::parse("482901".to_owned()).unwrap();
        let (other_holder, other_code) = names("b", "b");
        assert!(!code.matches(KEY, &other_holder, &code_id, &hash));
        assert!(!code.matches(KEY, &holder, &other_code, &hash));
        assert!(!code.matches(b"another key", &holder, &code_id, &hash));
    }

    proptest! {
        #[test]
        fn exactly_the_sent_code_matches(sent in ResetCode::NUMBERS, typed in 0..1_000_000_u32) {
            let (holder, code_id) = names("a", "a");
            let hash = ResetCode::from_number(sent).hash(KEY, &holder, &code_id);
            let hash = CodeHash::from_bytes(hash.as_bytes().to_vec());
            for (typed, right) in [(sent, true), (typed, sent == typed)] {
                for code in [
                    SubmittedCode::parse(typed.to_string()),
                    SubmittedCode::parse(format!("{typed:06}")),
                    SubmittedCode::from_number(typed.into()),
                ] {
                    prop_assert_eq!(code.unwrap().matches(KEY, &holder, &code_id, &hash), right);
                }
            }
        }
    }
}
