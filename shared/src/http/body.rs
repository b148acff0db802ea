use std::borrow::Cow;

use lambda_http::Request;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error as _};
use serde_json::value::RawValue;

use super::{Error, FieldErrors, Payload};
use crate::domain::{
    MAX_NAME_CHARS, NewPassword, NewUsernameError, Password, PasswordError, PasswordPolicy,
    SessionInformation, SessionToken, SubmittedCode, Username, UsernameError,
};

/// The largest body, in bytes.
const MAX_BODY_BYTES: usize = 16 * 1024;

/// The deepest nesting of a body: the object itself is the first level.
const MAX_NESTING: usize = 128;

/// Reads a body as `T`, a struct of [`Field`]s. Whatever the content type says, the body has to be one JSON object.
pub fn parse<T: DeserializeOwned>(request: &Request) -> Result<T, Error> {
    let body = request.body().as_ref();
    if body.len() > MAX_BODY_BYTES {
        return Err(Error::PayloadTooLarge);
    }
    let text = std::str::from_utf8(body).map_err(|_| Error::MalformedJson)?;
    // serde would also read a struct from an array, and skips unknown fields however deep they are.
    let is_object = text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{');
    if !is_object || nesting(text) > MAX_NESTING {
        return Err(Error::MalformedJson);
    }
    serde_json::from_str(text).map_err(|_| Error::MalformedJson)
}

/// How deep the brackets of a JSON text nest.
fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// A field of a body before its constraints are checked. A value of an unexpected type is a failed constraint and
/// not a malformed body, hence no stricter type.
#[derive(Default)]
pub enum Field {
    /// Not there, or null.
    #[default]
    Absent,
    /// A string.
    Text(String),
    /// `true` or `false`.
    Boolean(bool),
    /// A number without sign, fraction and exponent.
    Integer(u64),
    /// Anything else.
    Other,
}

impl Field {
    /// Reads a JSON value. A string that is no text, for a lone surrogate in it, is none of a known type.
    #[must_use]
    pub fn parse(json: &RawValue) -> Self {
        Self::read(json).unwrap_or(Self::Other)
    }

    fn read(json: &RawValue) -> serde_json::Result<Self> {
        let json = json.get();
        match json.as_bytes().first() {
            Some(b'"') => serde_json::from_str(json).map(Self::Text),
            Some(b'0'..=b'9') => Ok(json.parse().map_or(Self::Other, Self::Integer)),
            Some(b't') => Ok(Self::Boolean(true)),
            Some(b'f') => Ok(Self::Boolean(false)),
            Some(b'n') => Ok(Self::Absent),
            _ => Ok(Self::Other),
        }
    }
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(&Box::<RawValue>::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// What a client asks for about its session.
#[derive(Debug)]
pub struct SessionRequest {
    /// Whether it wants a session token.
    pub stay_logged_in: bool,
    /// What it says about itself.
    pub information: Option<SessionInformation>,
}

/// Which of all users are asked for.
#[derive(Debug)]
pub struct Page {
    /// How many at most.
    pub limit: i32,
    /// The name after which they begin.
    pub cursor: Option<String>,
}

/// The most users of one page. DynamoDB ends a page after 1 MiB in any case.
const MAX_LIMIT: u16 = 1000;

/// The users of one page when no limit is given.
const DEFAULT_LIMIT: u16 = 100;

/// Turns [`Field`]s into what they stand for and collects all that fail, so that one answer names them all.
#[derive(Default)]
pub struct Fields {
    errors: FieldErrors,
}

impl Fields {
    /// A `username`.
    pub fn username(&mut self, field: Field) -> Option<Username> {
        let text = self.text("username", field)?;
        match Username::parse(&text) {
            Ok(username) => Some(username),
            Err(UsernameError::Blank) => self.required("username"),
            Err(UsernameError::TooLong) => self.at_most("username", MAX_NAME_CHARS),
        }
    }

    /// A username that is about to be given to a user.
    pub fn new_username(&mut self, name: &'static str, field: Field) -> Option<Username> {
        let text = self.text(name, field)?;
        match Username::parse_new(&text) {
            Ok(username) => Some(username),
            Err(NewUsernameError::Username(UsernameError::Blank)) => self.required(name),
            Err(NewUsernameError::Username(UsernameError::TooLong)) => self.at_most(name, MAX_NAME_CHARS),
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

    /// A password that somebody chooses.
    pub fn new_password(
        &mut self,
        name: &'static str,
        field: Field,
        policy: PasswordPolicy,
    ) -> Option<NewPassword> {
        let text = self.text(name, field)?;
        policy.parse(text).map_or_else(|error| self.password_error(name, error, policy.min_chars()), Some)
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
                    &format!("must be between 1 and {MAX_NAME_CHARS} characters"),
                )
            }),
            _ => self.refuse("session_information", "must be a string"),
        }
    }

    /// A `session_token`; `Some(None)` is a text that may stand there but is no session's token.
    pub fn session_token(&mut self, field: Field) -> Option<Option<SessionToken>> {
        let text = self.text("session_token", field)?;
        if text.chars().count() > MAX_NAME_CHARS {
            return self.at_most("session_token", MAX_NAME_CHARS);
        }
        Some(SessionToken::parse(text))
    }

    /// The `limit` and `cursor` of a request for some of all users.
    pub fn page(&mut self, payload: &mut Payload) -> Option<Page> {
        let limit = match &payload.field("limit") {
            Field::Absent => Some(DEFAULT_LIMIT),
            Field::Integer(limit) => {
                u16::try_from(*limit).ok().filter(|limit| (1..=MAX_LIMIT).contains(limit))
            }
            _ => None,
        };
        let limit = limit.or_else(|| self.refuse("limit", &format!("must be between 1 and {MAX_LIMIT}")));
        let cursor = match payload.field("cursor") {
            Field::Absent => Some(None),
            // A cursor is the last username of its page; what cannot be one was never handed out.
            cursor => match self.text("cursor", cursor).map(|text| (Username::parse(&text), text)) {
                Some((Ok(username), text)) if username.normalised() == text => Some(Some(text)),
                Some(_) => self.refuse("cursor", "is not one of a previous answer"),
                None => None,
            },
        };
        Some(Page { limit: i32::from(limit?), cursor: cursor? })
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

    /// The fields that failed, as the answer to the request.
    #[must_use]
    pub fn into_error(self) -> Error {
        Error::Validation(self.errors)
    }

    /// `parsed`, unless a field failed.
    pub fn finish<T>(self, parsed: Option<T>) -> Result<T, FieldErrors> {
        parsed.filter(|_| self.errors.is_empty()).ok_or(self.errors)
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
        }
    }
}

#[cfg(test)]
mod tests {
    use lambda_http::Body;
    use proptest::prelude::*;
    use serde::Deserialize as Derive;

    use super::*;

    #[derive(Default, Derive)]
    #[serde(default)]
    struct Known {
        username: Field,
    }

    fn parsed(body: impl Into<Vec<u8>>) -> Result<Known, Error> {
        parse(&Request::new(Body::Binary(body.into())))
    }

    #[test]
    fn nesting_ignores_brackets_in_strings() {
        assert_eq!(nesting(r#"{"a":"[[[\"[["}"#), 1);
        assert_eq!(nesting(r#"{"a":[{"b":[]}]}"#), 4);
    }

    #[test]
    fn a_known_field_may_nest_as_deeply_as_an_unknown_one() {
        for name in ["username", "unknown"] {
            for (levels, fits) in [(127, true), (128, false)] {
                let body = format!(r#"{{"{name}":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
                assert_eq!(parsed(body).is_ok(), fits, "{name} {levels}");
            }
        }
    }

    #[test]
    fn a_number_too_large_for_any_type_is_not_malformed() {
        for number in ["1e999", "123456789012345678901234567890", "-1", "1.5", "1e2"] {
            let known = parsed(format!(r#"{{"username":{number}}}"#)).unwrap_or_default();
            assert!(matches!(known.username, Field::Other), "{number}");
        }
    }

    proptest! {
        #[test]
        fn no_body_panics(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parsed(body);
        }

        #[test]
        fn every_json_object_is_read(username in any::<String>()) {
            let body = serde_json::json!({ "username": username, "other": [username] }).to_string();
            let known = parsed(body).unwrap_or_default();
            prop_assert!(matches!(known.username, Field::Text(text) if text == username));
        }
    }
}
