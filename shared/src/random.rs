//! Unpredictable and unique values, straight from the operating system's random source.
//!
//! Should that source ever fail, these panic: no answer is better than a guessable one.

use rand::distr::{Alphanumeric, SampleString};
use rand::rngs::SysRng;
use rand::{RngExt, rand_core::UnwrapErr};

use crate::domain::{CodeId, RecoveryStamp, ResetCode, SecurityStamp, SessionOwner, SessionToken, UserId};

/// 22 characters of `[0-9A-Za-z]` hold 131 bits: enough never to meet twice.
const UNIQUE_CHARS: usize = 22;

/// A reset code, uniform over 100000–999999.
#[must_use]
pub fn reset_code() -> ResetCode {
    ResetCode::from_number(UnwrapErr(SysRng).random_range(ResetCode::NUMBERS))
}

/// The name of a user's sessions.
#[must_use]
pub fn session_owner() -> SessionOwner {
    SessionOwner::new(alphanumeric(SessionOwner::CHARS))
}

/// A session token of a user.
#[must_use]
pub fn session_token(owner: &SessionOwner) -> SessionToken {
    SessionToken::new(owner.clone(), &alphanumeric(SessionToken::RANDOM_CHARS))
}

/// A name for one sending of a reset code.
#[must_use]
pub fn code_id() -> CodeId {
    CodeId::new(unique())
}

/// A value that no token or session was issued under yet.
#[must_use]
pub fn security_stamp() -> SecurityStamp {
    SecurityStamp::new(unique())
}

/// A value that no reset code was sent under yet.
#[must_use]
pub fn recovery_stamp() -> RecoveryStamp {
    RecoveryStamp::new(unique())
}

/// An id for a user without one from the administrator: a UUID (RFC 9562, version 4).
#[must_use]
pub fn user_id() -> UserId {
    let mut bytes = [0; 16];
    UnwrapErr(SysRng).fill(&mut bytes);
    UserId::from(uuid::Builder::from_random_bytes(bytes).into_uuid())
}

/// A key to sign or hash with: 64 characters of `[0-9A-Za-z]`, some 381 bits.
#[must_use]
pub fn secret_key() -> String {
    alphanumeric(64)
}

/// A name for one try of a code: 8 characters of `[0-9A-Za-z]`, or 47 bits. They are short because the item of a code
/// has up to 48 of them. If one met another try of the same code, which happens once in 10^12 tries, that try would not
/// count.
#[must_use]
pub fn try_name() -> String {
    alphanumeric(8)
}

/// A string that will not be met again: a `jti`, the name of an attempt.
#[must_use]
pub fn unique() -> String {
    alphanumeric(UNIQUE_CHARS)
}

fn alphanumeric(chars: usize) -> String {
    Alphanumeric.sample_string(&mut UnwrapErr(SysRng), chars)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_tokens_are_64_alphanumerics() {
        let owner = session_owner();
        let [first, second] = [session_token(&owner), session_token(&owner)];
        for token in [&first, &second] {
            assert_eq!(token.expose().len(), 64);
            assert!(token.expose().bytes().all(|byte| byte.is_ascii_alphanumeric()));
            assert_eq!(token.key().owner, owner);
        }
        // 42 characters of an alphabet of 62 are 250 bits.
        assert_eq!(SessionToken::RANDOM_CHARS, 42);
        assert_ne!(first.expose(), second.expose());
        assert_ne!(session_owner(), owner);
    }

    /// Pearson's χ² over the leading digit, which is 1–9, and the last, which is 0–9. With up to 9 degrees of freedom a
    /// fair source exceeds 52 once in twenty million times; a modulo over too small a range, or a digit that is never
    /// drawn, exceeds it by far.
    #[test]
    fn reset_codes_are_uniform() {
        const DRAWS: u32 = 18_000;
        for (position, digits) in [(0, 1..10), (5, 0..10)] {
            let mut counts = [0_u32; 10];
            for _ in 0..DRAWS {
                let code = reset_code();
                assert!(code.expose().parse().is_ok_and(|number| ResetCode::NUMBERS.contains(&number)));
                counts[usize::from(code.expose().as_bytes()[position] - b'0')] += 1;
            }
            let counts = &counts[digits];
            let expected = f64::from(DRAWS / u32::try_from(counts.len()).unwrap());
            let chi_squared: f64 =
                counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum();
            assert!(chi_squared < 52.0, "digit {position}: {counts:?}");
        }
    }
}
