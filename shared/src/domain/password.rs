use secrecy::{ExposeSecret, SecretString};

use super::blocklist::is_local_part;
use super::{Blocklist, EmailAddress, Username};

/// A password as it was typed: any 1–256 Unicode scalar values, never trimmed, never cut short.
#[derive(Clone, Debug)]
pub struct Password(SecretString);

/// A new password that meets all requirements that can be checked before its user is verified: a [`Password`] that also
/// has the deployment's minimum length and is not on the blocklist.
#[derive(Clone, Debug)]
pub struct NewPassword(Password);

/// A new password that is also no local part of its user's addresses.
#[derive(Debug)]
pub struct UncommonPassword(Password);

/// A new password that meets all requirements, so that it can be hashed for its user.
#[derive(Debug)]
pub struct ApprovedPassword(Password);

/// A new password is refused because it would be guessed soon.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TooCommon;

/// Why a string is not a password.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PasswordError {
    /// The empty string.
    Empty,
    /// Fewer characters than the deployment's minimum; only for new passwords.
    TooShort,
    /// More than 256 characters.
    TooLong,
    /// On the blocklist; only for new passwords.
    TooCommon,
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
    /// Returns whether the new password equals `old`, byte for byte.
    #[must_use]
    pub fn is_unchanged_from(&self, old: &Password) -> bool {
        self.0.expose() == old.expose()
    }
}

impl UncommonPassword {
    /// The password itself.
    #[must_use]
    pub fn as_password(&self) -> &Password {
        &self.0
    }

    /// Approves the password. Only for the module that knows the requirements that are left: a service may know the
    /// password to be breached.
    pub(crate) fn approve(self) -> ApprovedPassword {
        ApprovedPassword(self.0)
    }
}

impl ApprovedPassword {
    /// The password itself.
    #[must_use]
    pub fn as_password(&self) -> &Password {
        &self.0
    }
}

/// The deployment's requirements for new passwords (NIST SP 800-63B-4 §3.1.1.2: length and a blocklist, and no rules of
/// composition).
#[derive(Clone, Debug)]
pub struct PasswordPolicy {
    min_chars: usize,
    blocklist: Option<Blocklist>,
}

impl PasswordPolicy {
    /// The longest password, in Unicode scalar values (NIST SP 800-63B-4 §3.1.1.2 asks for at least 64).
    pub const MAX_CHARS: usize = 256;

    /// A policy that asks for at least `min_chars` Unicode scalar values, and refuses common passwords if there is a
    /// `blocklist`.
    #[must_use]
    pub fn new(min_chars: u32, blocklist: Option<Blocklist>) -> Self {
        Self { min_chars: min_chars as usize, blocklist }
    }

    /// The shortest new password, in Unicode scalar values.
    #[must_use]
    pub fn min_chars(&self) -> usize {
        self.min_chars
    }

    /// Parses a new password of the user with this name; `None` if the request names none. Returns the first fault in
    /// the order empty, too short or too long, too common.
    pub fn parse(&self, typed: String, username: Option<&Username>) -> Result<NewPassword, PasswordError> {
        let password = Password::parse(typed)?;
        let text = password.0.expose_secret();
        if text.chars().count() < self.min_chars {
            return Err(PasswordError::TooShort);
        }
        if self.blocklist.as_ref().is_some_and(|blocklist| blocklist.contains(text, username)) {
            return Err(PasswordError::TooCommon);
        }
        Ok(NewPassword(password))
    }

    /// Checks a new password for a user with these addresses. Only after the old password or the code was found right:
    /// the refusal reveals an address.
    pub fn check_addresses(
        &self,
        password: NewPassword,
        addresses: &[EmailAddress],
    ) -> Result<UncommonPassword, TooCommon> {
        let NewPassword(password) = password;
        if self.blocklist.is_some() && is_local_part(password.0.expose_secret(), addresses) {
            return Err(TooCommon);
        }
        Ok(UncommonPassword(password))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A policy with the blocklist of a product named Postern.
    fn policy(min_chars: u32) -> PasswordPolicy {
        PasswordPolicy::new(min_chars, Some(Blocklist::new("Postern")))
    }

    #[test]
    fn the_first_fault_is_told() {
        let username = Username::parse("st.huber").unwrap();
        let parse = |policy: &PasswordPolicy, typed: &str| {
            policy.parse(typed.to_owned(), Some(&username)).map(|_| ()).err()
        };
        for (typed, error) in [
            ("", Some(PasswordError::Empty)),
            ("Huber", Some(PasswordError::TooShort)),
            // Common as well.
            ("password", Some(PasswordError::TooShort)),
            ("st.huber", Some(PasswordError::TooShort)),
            ("password1", Some(PasswordError::TooCommon)),
            ("ST.Huber2026", Some(PasswordError::TooCommon)),
            ("Postern12", Some(PasswordError::TooCommon)),
            ("Password1234!", None),
        ] {
            assert_eq!(parse(&policy(9), typed), error, "{typed}");
            let without = error.filter(|error| *error != PasswordError::TooCommon);
            assert_eq!(parse(&PasswordPolicy::new(9, None), typed), without, "{typed}");
        }
        assert_eq!(parse(&policy(1), &"a".repeat(257)), Some(PasswordError::TooLong));
    }

    #[test]
    fn a_local_part_is_refused_when_the_user_is_known() {
        let addresses = [EmailAddress::parse("St.Huber@example.com").unwrap()];
        let check = |policy: PasswordPolicy, typed: &str, addresses: &[EmailAddress]| {
            policy.check_addresses(policy.parse(typed.to_owned(), None).unwrap(), addresses).map(|_| ())
        };
        assert_eq!(check(policy(8), "st.huber1", &addresses), Err(TooCommon));
        assert_eq!(check(policy(8), "st.huber1", &[]), Ok(()));
        assert_eq!(check(policy(8), "st.huber1!", &addresses), Ok(()));
        assert_eq!(check(PasswordPolicy::new(8, None), "st.huber1", &addresses), Ok(()));
    }

    #[test]
    fn debug_shows_nothing() {
        let policy = policy(1);
        let password = policy.parse("Password1234!".to_owned(), None).unwrap();
        assert!(!format!("{password:?}").contains("1234"));
        let password = policy.check_addresses(password, &[]).unwrap();
        assert!(!format!("{password:?}").contains("1234"));
        assert!(!format!("{:?}", password.approve()).contains("1234"));
    }

    #[test]
    fn the_bounds_are_exact() {
        let parse = |chars| Password::parse("😀".repeat(chars)).map(drop);
        assert_eq!((parse(0), parse(1)), (Err(PasswordError::Empty), Ok(())));
        assert_eq!((parse(256), parse(257)), (Ok(()), Err(PasswordError::TooLong)));

        let policy = policy(12);
        assert_eq!(policy.min_chars(), 12);
        let parse = |chars| policy.parse("😀".repeat(chars), None).map(drop);
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
            prop_assert_eq!(policy(min).parse("😀".repeat(chars), None).map(|_| ()), expected);
        }
    }
}
