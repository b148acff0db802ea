use std::borrow::Cow;

use super::{Field, FieldErrors};
use crate::domain::{
    MAX_IDENTIFIER_CHARS, NewPassword, NewUsernameError, Password, PasswordError, PasswordPolicy,
    SessionInformation, SessionToken, SubmittedCode, Username, UsernameError,
};

/// The constraint that a common password breaks.
const TOO_COMMON: &str = "is too common";

/// The session that a client asks for.
#[derive(Debug)]
pub struct SessionRequest {
    /// True if the client wants a session token.
    pub stay_logged_in: bool,
    /// The client's information about itself.
    pub information: Option<SessionInformation>,
}

/// Parses [`Field`]s and collects those that fail, so that one response names them all.
#[derive(Default)]
pub struct Validator {
    errors: FieldErrors,
}

impl Validator {
    /// A `username`.
    pub fn username(&mut self, field: Field) -> Option<Username> {
        let text = self.text("username", field)?;
        match Username::parse(&text) {
            Ok(username) => Some(username),
            Err(UsernameError::Blank) => self.required("username"),
            Err(UsernameError::TooLong) => self.at_most("username", MAX_IDENTIFIER_CHARS),
        }
    }

    /// A username that is about to be given to a user.
    pub fn new_username(&mut self, name: &'static str, field: Field) -> Option<Username> {
        let text = self.text(name, field)?;
        match Username::parse_new(&text) {
            Ok(username) => Some(username),
            Err(NewUsernameError::Username(UsernameError::Blank)) => self.required(name),
            Err(NewUsernameError::Username(UsernameError::TooLong)) => {
                self.at_most(name, MAX_IDENTIFIER_CHARS)
            }
            Err(NewUsernameError::SurroundingWhiteSpace) => {
                self.refuse(name, "may not begin or end with white space")
            }
            Err(NewUsernameError::Invisible(character)) => {
                let code_point = u32::from(character);
                self.refuse(name, &format!("may not contain the invisible character U+{code_point:04X}"))
            }
        }
    }

    /// A password that is to be compared with the stored one.
    pub fn password(&mut self, name: &'static str, field: Field) -> Option<Password> {
        let text = self.text(name, field)?;
        Password::parse(text).map_or_else(|error| self.password_error(name, error, 1), Some)
    }

    /// A new password of the user with this name, if it is known.
    pub fn new_password(
        &mut self,
        name: &'static str,
        field: Field,
        policy: &PasswordPolicy,
        username: Option<&Username>,
    ) -> Option<NewPassword> {
        let text = self.text(name, field)?;
        policy
            .parse(text, username)
            .map_or_else(|error| self.password_error(name, error, policy.min_chars()), Some)
    }

    /// A reset `code`: a string of digits, or a number that stands for them.
    pub fn code(&mut self, field: Field) -> Option<SubmittedCode> {
        let code = match field {
            Field::Absent => return self.required("code"),
            Field::Text(text) if text.is_empty() => return self.required("code"),
            Field::Text(text) => SubmittedCode::parse(text),
            Field::Integer(number) => SubmittedCode::from_number(number),
            Field::Boolean(_) | Field::Other => None,
        };
        code.or_else(|| self.refuse("code", "must be between 1 and 6 digits"))
    }

    /// `session_information` and `stay_logged_in`.
    pub fn session(&mut self, information: Field, stay_logged_in: &Field) -> Option<SessionRequest> {
        let information = self.session_information(information);
        let stay_logged_in = self.boolean("stay_logged_in", stay_logged_in)?.unwrap_or(false);
        Some(SessionRequest { stay_logged_in, information: information? })
    }

    /// A `session_information` that may be absent.
    pub fn session_information(&mut self, field: Field) -> Option<Option<SessionInformation>> {
        match field {
            Field::Absent => Some(None),
            Field::Text(text) => SessionInformation::parse(text).map(Some).or_else(|| {
                self.refuse(
                    "session_information",
                    &format!("must be between 1 and {MAX_IDENTIFIER_CHARS} characters"),
                )
            }),
            _ => self.refuse("session_information", "must be a string"),
        }
    }

    /// A `session_token`; `Some(None)` is a text that may stand there but is no session's token.
    pub fn session_token(&mut self, field: Field) -> Option<Option<SessionToken>> {
        let text = self.text("session_token", field)?;
        if text.chars().count() > MAX_IDENTIFIER_CHARS {
            return self.at_most("session_token", MAX_IDENTIFIER_CHARS);
        }
        Some(SessionToken::parse(text))
    }

    /// A truth value that may be absent.
    pub fn boolean(&mut self, name: &'static str, field: &Field) -> Option<Option<bool>> {
        match field {
            Field::Absent => Some(None),
            Field::Boolean(value) => Some(Some(*value)),
            _ => self.refuse(name, "field must be true or false"),
        }
    }

    /// Notes that a field breaks a constraint: "The `name` `constraint`."
    pub fn refuse<T>(&mut self, name: impl Into<Cow<'static, str>>, constraint: &str) -> Option<T> {
        let name = name.into();
        let message = format!("The {} {constraint}.", name.replace('_', " "));
        self.errors.add(name, message);
        None
    }

    /// `parsed`, unless a field failed.
    pub fn finish<T>(self, parsed: Option<T>) -> Result<T, FieldErrors> {
        parsed.filter(|_| self.errors.is_empty()).ok_or(self.errors)
    }

    /// The errors of a request whose only fault is a new password that is too common.
    #[must_use]
    pub fn too_common(name: &'static str) -> FieldErrors {
        let mut fields = Self::default();
        let _: Option<()> = fields.refuse(name, TOO_COMMON);
        fields.into_errors()
    }

    /// The fields that failed.
    #[must_use]
    pub fn into_errors(self) -> FieldErrors {
        self.errors
    }

    /// A string, which also must not be empty: an empty one counts as absent.
    pub fn text(&mut self, name: &'static str, field: Field) -> Option<String> {
        match field {
            Field::Absent => self.required(name),
            Field::Text(text) if text.is_empty() => self.required(name),
            Field::Text(text) => Some(text),
            Field::Boolean(_) | Field::Integer(_) | Field::Other => self.refuse(name, "must be a string"),
        }
    }

    fn required<T>(&mut self, name: &'static str) -> Option<T> {
        self.refuse(name, "field is required")
    }

    fn at_most<T>(&mut self, name: &'static str, chars: usize) -> Option<T> {
        self.refuse(name, &format!("may not be greater than {chars} characters"))
    }

    fn password_error<T>(&mut self, name: &'static str, error: PasswordError, min: usize) -> Option<T> {
        match error {
            PasswordError::Empty => self.required(name),
            PasswordError::TooShort => self.refuse(name, &format!("must be at least {min} characters")),
            PasswordError::TooLong => self.at_most(name, PasswordPolicy::MAX_CHARS),
            PasswordError::TooCommon => self.refuse(name, TOO_COMMON),
        }
    }
}
