use secrecy::{ExposeSecret, SecretString};

/// A password as it was typed: any 1–256 Unicode scalar values, never trimmed, never cut short.
#[derive(Clone, Debug)]
pub struct Password(SecretString);

/// A new password: a [`Password`] that also has the deployment's minimum length.
#[derive(Clone, Debug)]
pub struct NewPassword(Password);

/// Why a string is not a password.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PasswordError {
    /// The empty string.
    Empty,
    /// Fewer characters than the deployment's minimum; only for new passwords.
    TooShort,
    /// More than 256 characters.
    TooLong,
}

impl Password {
    /// Parses a password that is to be compared with a stored one.
    pub fn parse(typed: String) -> Result<Self, PasswordError> {
        // Taken over at once, so that a refused password is wiped as well.
        let typed = SecretString::from(typed);
        match typed.expose_secret().chars().count() {
            0 => Err(PasswordError::Empty),
            1..=PasswordPolicy::MAX_CHARS => Ok(Self(typed)),
            _ => Err(PasswordError::TooLong),
        }
    }

    /// The bytes to hash.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.0.expose_secret().as_bytes()
    }
}

impl NewPassword {
    /// The password itself.
    #[must_use]
    pub fn as_password(&self) -> &Password {
        &self.0
    }

    /// Returns whether the new password equals `old`, byte for byte.
    #[must_use]
    pub fn is_unchanged_from(&self, old: &Password) -> bool {
        self.0.expose() == old.expose()
    }
}

/// The deployment's requirements for new passwords (NIST SP 800-63B-4 §3.1.1.2: length, and no rules of composition).
#[derive(Clone, Copy, Debug)]
pub struct PasswordPolicy {
    min_chars: usize,
}

impl PasswordPolicy {
    /// The longest password, in Unicode scalar values (NIST SP 800-63B-4 §3.1.1.2 asks for at least 64).
    pub const MAX_CHARS: usize = 256;

    /// A policy that asks for at least `min_chars` Unicode scalar values.
    #[must_use]
    pub fn new(min_chars: u32) -> Self {
        Self { min_chars: min_chars as usize }
    }

    /// The shortest new password, in Unicode scalar values.
    #[must_use]
    pub fn min_chars(self) -> usize {
        self.min_chars
    }

    /// Parses a new password.
    pub fn parse(self, typed: String) -> Result<NewPassword, PasswordError> {
        let password = Password::parse(typed)?;
        if password.0.expose_secret().chars().count() < self.min_chars {
            return Err(PasswordError::TooShort);
        }
        Ok(NewPassword(password))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn debug_shows_nothing() {
        let password = PasswordPolicy::new(1).parse("Password1234!".to_owned()).unwrap();
        assert!(!format!("{password:?}").contains("1234"));
    }

    #[test]
    fn the_bounds_are_exact() {
        let parse = |chars| Password::parse("😀".repeat(chars)).map(drop);
        assert_eq!((parse(0), parse(1)), (Err(PasswordError::Empty), Ok(())));
        assert_eq!((parse(256), parse(257)), (Ok(()), Err(PasswordError::TooLong)));

        let policy = PasswordPolicy::new(12);
        assert_eq!(policy.min_chars(), 12);
        let parse = |chars| policy.parse("😀".repeat(chars)).map(drop);
        assert_eq!((parse(0), parse(11)), (Err(PasswordError::Empty), Err(PasswordError::TooShort)));
        assert_eq!((parse(12), parse(257)), (Ok(()), Err(PasswordError::TooLong)));
    }

    proptest! {
        #[test]
        fn a_password_is_kept_to_the_byte(typed in ".{1,256}") {
            let password = Password::parse(typed.clone()).unwrap();
            prop_assert_eq!(password.expose(), typed.as_bytes());
        }

        #[test]
        fn length_is_counted_in_scalar_values(chars in 0_usize..300, min in 1_u32..=256) {
            let expected = match chars {
                0 => Err(PasswordError::Empty),
                257.. => Err(PasswordError::TooLong),
                _ if chars < min as usize => Err(PasswordError::TooShort),
                _ => Ok(()),
            };
            prop_assert_eq!(PasswordPolicy::new(min).parse("😀".repeat(chars)).map(|_| ()), expected);
        }
    }
}
