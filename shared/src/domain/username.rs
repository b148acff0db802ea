use std::fmt;

use unicode_normalization::UnicodeNormalization;

use super::{MAX_IDENTIFIER_CHARS, is_invisible};

/// The name a user signs in with: 1–190 Unicode scalar values, not only white space.
///
/// Two usernames are the same user when their normalised forms are equal: NFKC, then lower case, so `St.Huber`
/// is `st.huber`. The form it was written in is kept for display.
#[derive(Clone, Eq, PartialEq)]
pub struct Username {
    normalised: String,
    display: String,
}

/// Why a string is not a username.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UsernameError {
    /// Nothing but white space.
    Blank,
    /// More than 190 characters, as written or after normalisation.
    TooLong,
}

/// Why a string is no name for a new user.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NewUsernameError {
    /// The string is no username at all.
    Username(UsernameError),
    /// White space begins or ends it.
    SurroundingWhiteSpace,
    /// It contains a character that does not show, so that it could look like another name.
    Invisible(char),
}

impl Username {
    /// Parses a username from a client or an administrator.
    pub fn parse(written: &str) -> Result<Self, UsernameError> {
        if written.chars().count() > MAX_IDENTIFIER_CHARS {
            return Err(UsernameError::TooLong);
        }
        let normalised = normalise(written);
        if normalised.trim().is_empty() {
            return Err(UsernameError::Blank);
        }
        if normalised.chars().count() > MAX_IDENTIFIER_CHARS {
            return Err(UsernameError::TooLong);
        }
        Ok(Self { normalised, display: written.to_owned() })
    }

    /// Parses a name that is about to be given to a user, at creation or by renaming. It shows as it is: no white space
    /// around it, and no invisible characters. Only for these: the tables of Unicode that this needs are then linked
    /// into the functions that name users, and into no other.
    pub fn parse_new(written: &str) -> Result<Self, NewUsernameError> {
        let username = Self::parse(written).map_err(NewUsernameError::Username)?;
        if written.trim() != written {
            return Err(NewUsernameError::SurroundingWhiteSpace);
        }
        match written.chars().find(|&character| is_invisible(character)) {
            Some(character) => Err(NewUsernameError::Invisible(character)),
            None => Ok(username),
        }
    }

    /// The username of a stored user. Not normalised again: the stored form is the key, also under a later Unicode.
    pub(crate) fn from_stored(normalised: &str, display: &str) -> Self {
        Self { normalised: normalised.to_owned(), display: display.to_owned() }
    }

    /// The form that is compared and stored as a key.
    #[must_use]
    pub fn normalised(&self) -> &str {
        &self.normalised
    }

    /// The form it was written in.
    #[must_use]
    pub fn display(&self) -> &str {
        &self.display
    }
}

impl fmt::Debug for Username {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Many deployments use e-mail addresses as usernames, which do not belong in logs.
        formatter.write_str("Username")
    }
}

/// Lower-casing can leave a string that NFKC would compose further, hence the second pass.
pub(super) fn normalise(written: &str) -> String {
    written.nfkc().collect::<String>().to_lowercase().nfkc().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normalised(written: &str) -> String {
        Username::parse(written).unwrap().normalised().to_owned()
    }

    #[test]
    fn case_and_compatibility_forms_are_the_same_user() {
        assert_eq!(normalised("St.Huber"), "st.huber");
        assert_eq!(normalised("ＳＴ．ＨＵＢＥＲ"), "st.huber");
        assert_eq!(normalised("MU\u{308}LLER"), "müller");
    }

    #[test]
    fn a_dotless_i_is_another_user() {
        assert_ne!(normalised("m\u{131}ke"), normalised("mike"));
    }

    #[test]
    fn blank_is_not_a_username() {
        for written in ["", " ", "\u{a0}\t\n", "\u{3000}"] {
            assert_eq!(Username::parse(written), Err(UsernameError::Blank));
        }
    }

    #[test]
    fn length_counts_scalar_values_before_and_after_normalisation() {
        assert!(Username::parse(&"😀".repeat(190)).is_ok());
        assert_eq!(Username::parse(&"a".repeat(191)), Err(UsernameError::TooLong));
        // ﷺ becomes 18 characters under NFKC.
        assert!(Username::parse(&"\u{fdfa}".repeat(10)).is_ok());
        assert_eq!(Username::parse(&"\u{fdfa}".repeat(11)), Err(UsernameError::TooLong));
    }

    #[test]
    fn a_new_name_shows_as_it_is() {
        for written in ["St.Huber", "st huber", "st\u{a0}huber", "字", "e\u{301}", "😀\u{fe0f}"] {
            assert!(Username::parse_new(written).is_ok(), "{written:?}");
        }
        for written in [" a", "a ", "\u{a0}a", "a\u{3000}", "a\n", "\ta"] {
            assert_eq!(
                Username::parse_new(written),
                Err(NewUsernameError::SurroundingWhiteSpace),
                "{written:?}"
            );
        }
        for character in
            ['\0', '\t', '\u{ad}', '\u{200b}', '\u{202e}', '\u{2028}', '\u{2800}', '\u{e000}', '\u{fff8}']
        {
            let written = format!("a{character}b");
            assert_eq!(
                Username::parse_new(&written),
                Err(NewUsernameError::Invisible(character)),
                "{written:?}"
            );
            // Those who have such a name can still sign in.
            assert!(Username::parse(&written).is_ok());
        }
        assert_eq!(Username::parse_new(" "), Err(NewUsernameError::Username(UsernameError::Blank)));
    }

    #[test]
    fn every_character_has_one_normalised_form() {
        for written in '\0'..=char::MAX {
            let once = normalise(&format!("a{written}A\u{301}"));
            assert_eq!(normalise(&once), once, "{written:?}");
        }
    }

    proptest! {
        #[test]
        fn normalising_twice_changes_nothing(written in any::<String>()) {
            let once = normalise(&written);
            prop_assert_eq!(normalise(&once), once);
        }

        #[test]
        fn a_parsed_username_is_within_its_bounds(written in any::<String>()) {
            if let Ok(username) = Username::parse(&written) {
                prop_assert!((1..=MAX_IDENTIFIER_CHARS).contains(&username.normalised().chars().count()));
                prop_assert_eq!(username.display(), written);
            }
        }
    }
}
