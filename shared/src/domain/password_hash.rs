use std::fmt;

use argon2::Params;
use argon2::password_hash::phc;

/// The most memory that a stored Argon2 hash may ask for, in KiB.
const MAX_ARGON2_MEMORY_KIB: u32 = 256 * 1024;
/// The most passes that a stored Argon2 hash may ask for.
const MAX_ARGON2_ITERATIONS: u32 = 16;
/// The most lanes that a stored Argon2 hash may ask for.
const MAX_ARGON2_PARALLELISM: u32 = 16;
/// The bcrypt costs that are run: 2^4 to 2^14 rounds.
const BCRYPT_COSTS: std::ops::RangeInclusive<u32> = 4..=14;

/// A stored password hash of a known form whose cost is bounded: Argon2 as a PHC string, or bcrypt.
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
    /// bcrypt, which looks at the first 72 bytes of a password only.
    Bcrypt,
}

impl PasswordHash {
    /// Parses a stored hash; `None` when its form is unknown or its cost out of bounds.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let scheme = if text.starts_with("$argon2") && is_bounded_argon2(text) {
            Scheme::Argon2
        } else if ["$2a$", "$2b$", "$2y$"]
            .iter()
            .any(|prefix| text.starts_with(prefix))
            && is_bounded_bcrypt(text)
        {
            Scheme::Bcrypt
        } else {
            return None;
        };
        Some(Self {
            text: text.to_owned(),
            scheme,
        })
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
        formatter
            .debug_struct("PasswordHash")
            .field("scheme", &self.scheme)
            .finish_non_exhaustive()
    }
}

fn is_bounded_argon2(text: &str) -> bool {
    let Ok(hash) = phc::PasswordHash::new(text) else {
        return false;
    };
    let Ok(params) = Params::try_from(&hash) else {
        return false;
    };
    hash.salt.is_some()
        && hash.hash.is_some()
        && argon2::Algorithm::new(hash.algorithm).is_ok()
        && hash
            .version
            .is_none_or(|version| argon2::Version::try_from(version).is_ok())
        && params.m_cost() <= MAX_ARGON2_MEMORY_KIB
        && params.t_cost() <= MAX_ARGON2_ITERATIONS
        && params.p_cost() <= MAX_ARGON2_PARALLELISM
}

fn is_bounded_bcrypt(text: &str) -> bool {
    text.parse::<bcrypt::HashParts>()
        .is_ok_and(|parts| BCRYPT_COSTS.contains(&parts.get_cost()))
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
        assert_eq!(
            PasswordHash::parse(&argon2).map(|hash| hash.scheme()),
            Some(Scheme::Argon2)
        );
        for prefix in ["$2a$", "$2b$", "$2y$"] {
            let bcrypt = format!("{prefix}10${BCRYPT_TAIL}");
            assert_eq!(
                PasswordHash::parse(&bcrypt).map(|hash| hash.scheme()),
                Some(Scheme::Bcrypt)
            );
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
        fn bcrypt_costs_are_bounded(cost in 0_u32..100) {
            let text = format!("$2b${cost:02}${BCRYPT_TAIL}");
            prop_assert_eq!(PasswordHash::parse(&text).is_some(), (4..=14).contains(&cost));
        }

        #[test]
        fn no_input_panics(text in "\\$?(argon2id|2b)?[ -~]{0,120}") {
            let _ = PasswordHash::parse(&text);
        }
    }
}
