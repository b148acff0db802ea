use std::collections::BTreeSet;
use std::fmt;

use argon2::password_hash::phc;

/// The most memory that a stored Argon2 hash may ask for, in KiB.
const MAX_ARGON2_MEMORY_KIB: u32 = 256 * 1024;
/// The most passes that a stored Argon2 hash may ask for.
const MAX_ARGON2_ITERATIONS: u32 = 16;
/// The most lanes that a stored Argon2 hash may ask for.
const MAX_ARGON2_PARALLELISM: u32 = 16;
/// The most rounds of PBKDF2 that a stored hash may ask for: over three times OWASP's recommendation.
const MAX_PBKDF2_ROUNDS: u32 = 2_000_000;
/// The most memory that a stored scrypt hash may ask for, in bytes: 128 · N · r.
const MAX_SCRYPT_MEMORY_BYTES: u64 = 256 * 1024 * 1024;
/// The most work that a stored scrypt hash may ask for, in bytes mixed: 128 · N · r · p.
const MAX_SCRYPT_WORK_BYTES: u64 = 1024 * 1024 * 1024;
/// The bcrypt costs that are run: 2^4 to 2^14 rounds.
const BCRYPT_COSTS: std::ops::RangeInclusive<u32> = 4..=14;

/// A stored password hash of a known form whose cost is bounded: Argon2, PBKDF2 or scrypt as a PHC string, or bcrypt.
///
/// Whoever can write a hash, into the table or through an import, can therefore not make a sign-in run for
/// minutes or out of memory.
#[derive(Clone, Eq, PartialEq)]
pub struct PasswordHash {
    text: String,
    scheme: Scheme,
}

/// How a [`PasswordHash`] is verified.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scheme {
    /// Argon2id, Argon2i or Argon2d (RFC 9106).
    Argon2,
    /// PBKDF2 (RFC 8018) with HMAC-SHA-256 or HMAC-SHA-512.
    Pbkdf2,
    /// scrypt (RFC 7914).
    Scrypt,
    /// bcrypt, which looks at the first 72 bytes of a password only.
    Bcrypt,
}

impl PasswordHash {
    /// Parses a stored hash; `None` when its form is unknown or its cost out of bounds.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let scheme = if ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| text.starts_with(prefix)) {
            is_bounded_bcrypt(text).then_some(Scheme::Bcrypt)?
        } else {
            bounded_phc(&phc::PasswordHash::new(text).ok()?)?
        };
        Some(Self { text: text.to_owned(), scheme })
    }

    /// The text to store.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// How to verify it.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PasswordHash").field("scheme", &self.scheme).finish_non_exhaustive()
    }
}

/// The scheme of a PHC string, if it is complete and its cost within bounds.
fn bounded_phc(hash: &phc::PasswordHash) -> Option<Scheme> {
    let mut names = BTreeSet::new();
    // The format knows no parameter twice, and readers differ in which of the two counts.
    let is_unambiguous = hash.params.iter().all(|(name, _)| names.insert(name));
    if hash.salt.is_none() || hash.hash.is_none() || !is_unambiguous {
        return None;
    }
    if argon2::Algorithm::new(hash.algorithm).is_ok() {
        let params = argon2::Params::try_from(hash).ok()?;
        let known_version = hash.version.is_none_or(|version| argon2::Version::try_from(version).is_ok());
        let bounded = known_version
            && params.m_cost() <= MAX_ARGON2_MEMORY_KIB
            && params.t_cost() <= MAX_ARGON2_ITERATIONS
            && params.p_cost() <= MAX_ARGON2_PARALLELISM;
        bounded.then_some(Scheme::Argon2)
    } else if pbkdf2::Algorithm::new(hash.algorithm).is_ok() {
        let params = pbkdf2::Params::try_from(hash).ok()?;
        (params.rounds() <= MAX_PBKDF2_ROUNDS).then_some(Scheme::Pbkdf2)
    } else if hash.algorithm == scrypt::phc::ALG_ID {
        let params = scrypt::Params::try_from(hash).ok()?;
        let memory = params.n().saturating_mul(u64::from(params.r())).saturating_mul(128);
        let work = memory.saturating_mul(u64::from(params.p()));
        let bounded = memory <= MAX_SCRYPT_MEMORY_BYTES && work <= MAX_SCRYPT_WORK_BYTES;
        bounded.then_some(Scheme::Scrypt)
    } else {
        None
    }
}

fn is_bounded_bcrypt(text: &str) -> bool {
    text.parse::<bcrypt::HashParts>().is_ok_and(|parts| BCRYPT_COSTS.contains(&parts.get_cost()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SALT_AND_HASH: &str = "c2FsdHNhbHRzYWx0c2FsdA$YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE";
    const BCRYPT_TAIL: &str = "N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy";

    #[test]
    fn known_forms_are_told_apart() {
        let argon2 = format!("$argon2id$v=19$m=19456,t=2,p=1${SALT_AND_HASH}");
        assert_eq!(PasswordHash::parse(&argon2).map(|hash| hash.scheme()), Some(Scheme::Argon2));
        for prefix in ["$2a$", "$2b$", "$2y$"] {
            let bcrypt = format!("{prefix}10${BCRYPT_TAIL}");
            assert_eq!(PasswordHash::parse(&bcrypt).map(|hash| hash.scheme()), Some(Scheme::Bcrypt));
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "Password1234!",
            "$argon2id$v=19$m=19456,t=2,p=1$",
            "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA",
            "$argon2x$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE",
            "$argon2id$v=19$m=8,t=1,p=256,p=1$c2FsdHNhbHRzYWx0c2FsdA$YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE",
            "$2x$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy",
            "$2b$10$tooshort",
            "$1$salt$hash",
            "5f4dcc3b5aa765d61d8327deb882cf99",
        ] {
            assert_eq!(PasswordHash::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn argon2_costs_are_bounded(m in 8_u32..600_000, t in 1_u32..40, p in 1_u32..40) {
            let text = format!("$argon2id$v=19$m={m},t={t},p={p}${SALT_AND_HASH}");
            let bounded = m <= 262_144 && t <= 16 && p <= 16 && m >= 8 * p;
            prop_assert_eq!(PasswordHash::parse(&text).is_some(), bounded);
        }

        #[test]
        fn pbkdf2_costs_are_bounded(rounds in 1000_u32..4_000_000) {
            let text = format!("$pbkdf2-sha256$i={rounds},l=32${SALT_AND_HASH}");
            prop_assert_eq!(PasswordHash::parse(&text).is_some(), rounds <= 2_000_000);
        }

        #[test]
        fn scrypt_costs_are_bounded(log_n in 1_u32..30, r in 2_u32..40, p in 1_u32..40) {
            let text = format!("$scrypt$ln={log_n},r={r},p={p}${SALT_AND_HASH}");
            let memory = (128_u64 << log_n) * u64::from(r);
            let bounded = memory <= 256 * 1024 * 1024 && memory * u64::from(p) <= 1024 * 1024 * 1024;
            prop_assert_eq!(PasswordHash::parse(&text).is_some(), bounded);
        }

        #[test]
        fn bcrypt_costs_are_bounded(cost in 0_u32..100) {
            let text = format!("$2b${cost:02}${BCRYPT_TAIL}");
            prop_assert_eq!(PasswordHash::parse(&text).is_some(), (4..=14).contains(&cost));
        }

        #[test]
        fn no_input_panics(text in "\\$?(argon2id|2b|scrypt|pbkdf2-sha256)?[ -~]{0,120}") {
            let _ = PasswordHash::parse(&text);
        }
    }
}
