use std::borrow::Cow;

use shared::endpoint::{Error, NumberedError};

/// The numbered errors of the endpoint's document, in the order of their numbers. Those from 6 on are this service's
/// own.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum PasswordChangeError {
    OldPasswordMissing,
    NewPasswordMissing,
    NewPasswordCheckMissing,
    OldPasswordIncorrect,
    NewPasswordCheckUnequal,
    /// The new password is not within these numbers of characters.
    NewPasswordLength {
        min: usize,
        max: usize,
    },
    NewPasswordTooCommon,
    NewPasswordUnchanged,
}

impl PasswordChangeError {
    /// The table: the number, the field and the message.
    fn row(self) -> (u8, &'static str, Cow<'static, str>) {
        match self {
            Self::OldPasswordMissing => {
                (1, "old_password", "Please, provide old password. This cannot be empty.".into())
            }
            Self::NewPasswordMissing => (2, "new_password", "You must provide new password.".into()),
            Self::NewPasswordCheckMissing => {
                (3, "new_password_check", "You must provide new password check.".into())
            }
            Self::OldPasswordIncorrect => {
                (4, "old_password", "Password is incorrect. Please provide you current password".into())
            }
            Self::NewPasswordCheckUnequal => (
                5,
                "new_password_check",
                "Both “new password” and “new password check” values must be equal".into(),
            ),
            Self::NewPasswordLength { min, max } => {
                let message = format!("New password must be between {min} and {max} characters long");
                (6, "new_password", message.into())
            }
            Self::NewPasswordTooCommon => (7, "new_password", "New password is too common".into()),
            Self::NewPasswordUnchanged => {
                (8, "new_password", "New password must differ from the old one".into())
            }
        }
    }
}

/// The refusal that lists `errors` in the order of their numbers.
pub(crate) fn refusal(mut errors: Vec<PasswordChangeError>) -> Error {
    errors.sort();
    // A wrong old password is a failed attempt, which a mistake in a form is not.
    let outcome = if errors.contains(&PasswordChangeError::OldPasswordIncorrect) {
        "old_password_incorrect"
    } else {
        "validation_failed"
    };
    let numbered = |error: PasswordChangeError| {
        let (code, param, message) = error.row();
        NumberedError { code, message, param }
    };
    Error::Numbered { outcome, errors: errors.into_iter().map(numbered).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_in_the_order_of_their_numbers() {
        let errors = vec![
            PasswordChangeError::NewPasswordUnchanged,
            PasswordChangeError::NewPasswordTooCommon,
            PasswordChangeError::NewPasswordLength { min: 8, max: 256 },
            PasswordChangeError::NewPasswordCheckUnequal,
            PasswordChangeError::OldPasswordIncorrect,
            PasswordChangeError::NewPasswordCheckMissing,
            PasswordChangeError::NewPasswordMissing,
            PasswordChangeError::OldPasswordMissing,
        ];
        let Error::Numbered { outcome, errors } = refusal(errors) else { panic!("numbered errors") };
        assert_eq!(outcome, "old_password_incorrect");
        let told: Vec<_> = errors.iter().map(|error| (error.code, error.param)).collect();
        let expected = [
            (1, "old_password"),
            (2, "new_password"),
            (3, "new_password_check"),
            (4, "old_password"),
            (5, "new_password_check"),
            (6, "new_password"),
            (7, "new_password"),
            (8, "new_password"),
        ];
        assert_eq!(told, expected);
        assert_eq!(errors[5].message, "New password must be between 8 and 256 characters long");
    }

    #[test]
    fn only_a_wrong_old_password_is_a_failed_attempt() {
        let refused = refusal(vec![PasswordChangeError::NewPasswordMissing]);
        assert!(matches!(refused, Error::Numbered { outcome: "validation_failed", .. }));
    }
}
