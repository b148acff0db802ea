//! The one place that maps an outcome to a status and a body. The bodies are the API documents'; what is not in
//! them (`validation_failed`, `malformed_json`, …) follows their form.

use std::borrow::Cow;
use std::time::Duration;

use lambda_http::http::{HeaderValue, StatusCode, header};
use lambda_http::{Body, Response};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::authentication::AuthenticationError;
use crate::domain::{SessionToken, TooManyChanges};
use crate::error::Failure;
use crate::tokens::{Token, TokenError};

/// How long a client should wait after a failure of ours before it tries again.
const RETRY_UNAVAILABLE: Duration = Duration::from_secs(5);

/// The two forms of answers that the API documents have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Envelope {
    /// `{"msg": …, "error_code": …}`, of the routes under `/api/auth`.
    Auth,
    /// `{"success": …, "code": …, "message": …}`, of `/api/v1/profile`.
    Profile,
}

/// A request that was granted.
#[derive(Debug)]
pub struct Success {
    outcome: &'static str,
    status: StatusCode,
    body: String,
}

impl Success {
    /// Answers 200 with `body`; `outcome` names what happened in the audit log.
    pub fn new(outcome: &'static str, body: &impl Serialize) -> Result<Self, Error> {
        let body = serde_json::to_string(body).map_err(|error| Failure::Defect(error.to_string()))?;
        Ok(Self { outcome, status: StatusCode::OK, body })
    }

    /// The same answer with the status 202.
    #[must_use]
    pub fn accepted(self) -> Self {
        Self { status: StatusCode::ACCEPTED, ..self }
    }

    /// Answers with the tokens of a user who signed in.
    pub fn tokens(
        outcome: &'static str,
        token: &Token,
        session: Option<&SessionToken>,
    ) -> Result<Self, Error> {
        let body = Tokens { token: token.expose(), session_token: session.map(SessionToken::expose) };
        Self::new(outcome, &body)
    }
}

/// A request that was not granted, and why.
#[derive(Debug)]
pub enum Error {
    /// The body is not a JSON object, gives a known field twice, or nests too deeply.
    MalformedJson,
    /// The body is larger than 16 KiB.
    PayloadTooLarge,
    /// Fields break their constraints.
    Validation(FieldErrors),
    /// A signed-in user's password change cannot be done as asked for.
    PasswordChange(Vec<PasswordChangeError>),
    /// There is no JSON Web Token.
    TokenNotProvided,
    /// The JSON Web Token was good once.
    TokenExpired,
    /// The JSON Web Token was never good, or was revoked.
    TokenIncorrect,
    /// A session token does not count: unknown, expired, revoked, or of a user who may not sign in.
    SessionTokenIncorrect,
    /// There is no session of this user to log out that a session token belongs to.
    SessionTokenUnknown,
    /// There is no session of this user with this id.
    SessionNotFound,
    /// The user is unknown or the password wrong; which of the two is nobody's business.
    UsernameOrPasswordIncorrect,
    /// The password that a signed-in user gave as the present one is wrong.
    PasswordIncorrect,
    /// The password is right, and an administrator has not let the user in yet.
    NotActivated,
    /// The password is right, and has to be changed first.
    ChangePassword,
    /// A forced change was asked for where none is due.
    NoPasswordChangeNeeded,
    /// Nobody has this username.
    UnknownUsername,
    /// There is no address to send a code to.
    NoEmailAddresses,
    /// There is no code, or it is used, expired or revoked.
    NoCodeRequested,
    /// The code is wrong.
    CodeIncorrect,
    /// Too many attempts; after the given time one will be let through, where that is known.
    RateLimitExceeded(Option<Duration>),
    /// Our side failed.
    Failure(Failure),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<AuthenticationError> for Error {
    fn from(error: AuthenticationError) -> Self {
        match error {
            AuthenticationError::RateLimited(wait) => Self::RateLimitExceeded(Some(wait)),
            AuthenticationError::Incorrect => Self::UsernameOrPasswordIncorrect,
            AuthenticationError::Failure(failure) => Self::Failure(failure),
        }
    }
}

impl From<TooManyChanges> for Error {
    fn from(TooManyChanges(wait): TooManyChanges) -> Self {
        Self::RateLimitExceeded(Some(wait))
    }
}

impl From<TokenError> for Error {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Expired => Self::TokenExpired,
            TokenError::Incorrect => Self::TokenIncorrect,
            TokenError::Failure(failure) => Self::Failure(failure),
        }
    }
}

/// The failing fields of a body, in the order of the documents, each with its messages.
#[derive(Debug, Default)]
pub struct FieldErrors(Vec<(Cow<'static, str>, Vec<String>)>);

impl FieldErrors {
    /// Adds a field that failed.
    pub fn add(&mut self, field: impl Into<Cow<'static, str>>, message: String) {
        let field = field.into();
        match self.0.iter_mut().find(|(failed, _)| *failed == field) {
            Some((_, messages)) if messages.contains(&message) => {}
            Some((_, messages)) => messages.push(message),
            None => self.0.push((field, vec![message])),
        }
    }

    /// Returns whether no field failed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for FieldErrors {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (field, messages) in &self.0 {
            map.serialize_entry(field, messages)?;
        }
        map.end()
    }
}

/// The numbered errors of the document of `change_password`, in the order of their numbers; those from 6 on are of this
/// service.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum PasswordChangeError {
    /// 1: no old password.
    OldPasswordMissing,
    /// 2: no new password.
    NewPasswordMissing,
    /// 3: no repetition of the new password.
    NewPasswordCheckMissing,
    /// 4: the old password is wrong.
    OldPasswordIncorrect,
    /// 5: the new password and its repetition differ.
    NewPasswordCheckUnequal,
    /// 6: the new password is not within these numbers of characters.
    NewPasswordLength {
        /// The shortest one.
        min: usize,
        /// The longest one.
        max: usize,
    },
    /// 8: the new password is the old one.
    NewPasswordUnchanged,
}

impl PasswordChangeError {
    fn code_param_and_message(self) -> (u8, &'static str, Cow<'static, str>) {
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
            Self::NewPasswordUnchanged => {
                (8, "new_password", "New password must differ from the old one".into())
            }
        }
    }
}

impl Serialize for PasswordChangeError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (code, param, message) = self.code_param_and_message();
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("code", &code)?;
        map.serialize_entry("message", &message)?;
        map.serialize_entry("param", param)?;
        map.end()
    }
}

#[derive(Serialize)]
struct Tokens<'a> {
    token: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_token: Option<&'a str>,
}

#[derive(Serialize)]
struct AuthError<'a> {
    msg: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<&'a FieldErrors>,
}

#[derive(Serialize)]
struct ProfileError<'a> {
    success: bool,
    code: u16,
    message: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<&'a [PasswordChangeError]>,
}

impl Error {
    /// The name of this outcome in the audit log.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::MalformedJson => "malformed_json",
            Self::PayloadTooLarge => "payload_too_large",
            // A wrong old password is a failed attempt, which a mistake in a form is not.
            Self::PasswordChange(errors) if errors.contains(&PasswordChangeError::OldPasswordIncorrect) => {
                "old_password_incorrect"
            }
            Self::Validation(_) | Self::PasswordChange(_) => "validation_failed",
            Self::TokenNotProvided => "token_not_provided",
            Self::TokenExpired => "token_expired",
            Self::TokenIncorrect => "token_incorrect",
            Self::SessionTokenIncorrect | Self::SessionTokenUnknown => "session_token_incorrect",
            Self::SessionNotFound => "session_token_not_found",
            Self::UsernameOrPasswordIncorrect => "username_or_password_incorrect",
            Self::PasswordIncorrect => "old_password_incorrect",
            Self::NotActivated => "not_activated",
            Self::ChangePassword => "change_password",
            Self::NoPasswordChangeNeeded => "no_password_change_needed_for_user",
            Self::UnknownUsername => "unknown_username",
            Self::NoEmailAddresses => "no_email_addresses",
            Self::NoCodeRequested => "no_code_requested",
            Self::CodeIncorrect => "code_incorrect",
            Self::RateLimitExceeded(_) => "rate_limit_exceeded",
            Self::Failure(failure) => failure.error_code(),
        }
    }

    /// The `error_code` of the body: the [outcome](Self::outcome) almost everywhere.
    fn error_code(&self) -> Option<&'static str> {
        match self {
            // The document of this one answer has no error code.
            Self::NoCodeRequested => None,
            Self::PasswordIncorrect => Some("password_incorrect"),
            _ => Some(self.outcome()),
        }
    }

    fn auth_status_and_message(&self) -> (StatusCode, &'static str) {
        match self {
            Self::MalformedJson => (StatusCode::BAD_REQUEST, "The request body is not valid JSON"),
            Self::PayloadTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "The request body is too large"),
            Self::Validation(_) | Self::PasswordChange(_) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "The given data was invalid")
            }
            Self::TokenNotProvided => (StatusCode::UNAUTHORIZED, "Token not provided."),
            Self::TokenExpired => (StatusCode::UNAUTHORIZED, "Provided token is expired."),
            Self::TokenIncorrect => (StatusCode::UNAUTHORIZED, "Your token is incorrect!"),
            Self::SessionTokenIncorrect => (StatusCode::BAD_REQUEST, "Session token is incorrect"),
            Self::SessionTokenUnknown => (StatusCode::NOT_FOUND, "Session token is incorrect"),
            Self::SessionNotFound => (StatusCode::NOT_FOUND, "Session not found"),
            Self::UsernameOrPasswordIncorrect => (StatusCode::BAD_REQUEST, "Username or password is wrong"),
            Self::PasswordIncorrect => (StatusCode::BAD_REQUEST, "Password incorrect"),
            Self::NotActivated => (StatusCode::BAD_REQUEST, "Account is not activated"),
            Self::ChangePassword => (StatusCode::BAD_REQUEST, "You have to change your password"),
            Self::NoPasswordChangeNeeded => {
                (StatusCode::BAD_REQUEST, "User does not need to change his password")
            }
            Self::UnknownUsername => (StatusCode::NOT_FOUND, "Unknown username"),
            Self::NoEmailAddresses => {
                (StatusCode::BAD_REQUEST, "There are no email addresses for this account")
            }
            Self::NoCodeRequested => {
                (StatusCode::BAD_REQUEST, "There was no code for a password reset requested")
            }
            Self::CodeIncorrect => (StatusCode::BAD_REQUEST, "The code is incorrect"),
            Self::RateLimitExceeded(_) => (StatusCode::BAD_REQUEST, "Rate limit exceeded"),
            Self::Failure(failure @ Failure::Unavailable(_)) => {
                (StatusCode::SERVICE_UNAVAILABLE, failure.msg())
            }
            Self::Failure(failure @ Failure::Defect(_)) => (StatusCode::INTERNAL_SERVER_ERROR, failure.msg()),
        }
    }

    fn profile_status_and_message(&self) -> (StatusCode, &'static str) {
        match self {
            Self::TokenNotProvided | Self::TokenExpired | Self::TokenIncorrect => {
                (StatusCode::UNAUTHORIZED, "Unauthorized")
            }
            Self::MalformedJson => (StatusCode::BAD_REQUEST, "Please, check data you send and try again"),
            Self::Validation(_) | Self::PasswordChange(_) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "There are validation errors found.")
            }
            Self::RateLimitExceeded(_) => {
                (StatusCode::TOO_MANY_REQUESTS, "Too many attempts, try again later")
            }
            _ => self.auth_status_and_message(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimitExceeded(wait) => *wait,
            Self::Failure(Failure::Unavailable(_)) => Some(RETRY_UNAVAILABLE),
            _ => None,
        }
    }

    /// The challenge of a 401 (RFC 9110 §15.5.2), which says if a token was sent (RFC 6750 §3).
    fn challenge(&self) -> Option<&'static str> {
        match self {
            Self::TokenNotProvided => Some("Bearer"),
            Self::TokenExpired | Self::TokenIncorrect => Some(r#"Bearer error="invalid_token""#),
            _ => None,
        }
    }

    fn to_response(&self, envelope: Envelope) -> Response<Body> {
        let (status, body) = match envelope {
            Envelope::Auth => {
                let (status, msg) = self.auth_status_and_message();
                let errors = if let Self::Validation(errors) = self { Some(errors) } else { None };
                (status, serde_json::to_string(&AuthError { msg, error_code: self.error_code(), errors }))
            }
            Envelope::Profile => {
                let (status, message) = self.profile_status_and_message();
                let errors = if let Self::PasswordChange(errors) = self { Some(&**errors) } else { None };
                let error = ProfileError { success: false, code: status.as_u16(), message, errors };
                (status, serde_json::to_string(&error))
            }
        };
        let mut response = json(status, body.unwrap_or_default());
        if let Some(wait) = self.retry_after() {
            // RFC 9110 §10.2.3 has whole seconds: rounded up, so that an attempt made then is let through.
            let seconds = u64::try_from(wait.as_micros().div_ceil(1_000_000)).unwrap_or(u64::MAX);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if let Some(challenge) = self.challenge() {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}

/// The answer to a call, and the name of its outcome.
pub(super) fn render(result: &Result<Success, Error>, envelope: Envelope) -> (&'static str, Response<Body>) {
    match result {
        Ok(success) => (success.outcome, json(success.status, success.body.clone())),
        Err(error) => (error.outcome(), error.to_response(envelope)),
    }
}

fn json(status: StatusCode, body: String) -> Response<Body> {
    let mut response = Response::new(Body::Text(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(error: Error, envelope: Envelope) -> (u16, String, Option<String>) {
        let (_, response) = render(&Err(error), envelope);
        let retry_after =
            response.headers().get(header::RETRY_AFTER).map(|value| value.to_str().unwrap().to_owned());
        let Body::Text(body) = response.body() else { panic!("a text") };
        (response.status().as_u16(), body.clone(), retry_after)
    }

    #[test]
    fn a_failure_shows_no_internal_text() {
        for envelope in [Envelope::Auth, Envelope::Profile] {
            for failure in [Failure::Unavailable("table x".to_owned()), Failure::Defect("row y".to_owned())] {
                let (status, body, _) = answer(failure.into(), envelope);
                assert!(status >= 500);
                assert!(!body.contains("table x") && !body.contains("row y"), "{body}");
            }
        }
    }

    #[test]
    fn the_wait_is_given_in_whole_seconds_rounded_up() {
        for (micros, seconds) in [(1, "1"), (1_000_000, "1"), (1_000_001, "2"), (900_000_000, "900")] {
            let error = Error::RateLimitExceeded(Some(Duration::from_micros(micros)));
            let (status, body, retry_after) = answer(error, Envelope::Auth);
            assert_eq!((status, retry_after.as_deref()), (400, Some(seconds)));
            assert_eq!(body, r#"{"msg":"Rate limit exceeded","error_code":"rate_limit_exceeded"}"#);
        }
        assert_eq!(answer(Error::RateLimitExceeded(None), Envelope::Auth).2, None);
    }

    #[test]
    fn every_error_has_its_answer_in_both_envelopes() {
        let unavailable = || Error::Failure(Failure::Unavailable(String::new()));
        let defect = || Error::Failure(Failure::Defect(String::new()));
        for (error, status, error_code, msg) in [
            (Error::MalformedJson, 400, "malformed_json", "The request body is not valid JSON"),
            (Error::PayloadTooLarge, 413, "payload_too_large", "The request body is too large"),
            (Error::TokenNotProvided, 401, "token_not_provided", "Token not provided."),
            (Error::TokenExpired, 401, "token_expired", "Provided token is expired."),
            (Error::TokenIncorrect, 401, "token_incorrect", "Your token is incorrect!"),
            (Error::SessionTokenIncorrect, 400, "session_token_incorrect", "Session token is incorrect"),
            (Error::SessionTokenUnknown, 404, "session_token_incorrect", "Session token is incorrect"),
            (Error::SessionNotFound, 404, "session_token_not_found", "Session not found"),
            (
                Error::UsernameOrPasswordIncorrect,
                400,
                "username_or_password_incorrect",
                "Username or password is wrong",
            ),
            (Error::NotActivated, 400, "not_activated", "Account is not activated"),
            (Error::ChangePassword, 400, "change_password", "You have to change your password"),
            (
                Error::NoPasswordChangeNeeded,
                400,
                "no_password_change_needed_for_user",
                "User does not need to change his password",
            ),
            (Error::UnknownUsername, 404, "unknown_username", "Unknown username"),
            (
                Error::NoEmailAddresses,
                400,
                "no_email_addresses",
                "There are no email addresses for this account",
            ),
            (Error::CodeIncorrect, 400, "code_incorrect", "The code is incorrect"),
            (Error::RateLimitExceeded(None), 400, "rate_limit_exceeded", "Rate limit exceeded"),
            (unavailable(), 503, "service_unavailable", "Service unavailable, try again later"),
            (defect(), 500, "internal_error", "Internal error"),
        ] {
            assert_eq!(error.outcome(), error_code);
            let body = format!(r#"{{"msg":"{msg}","error_code":"{error_code}"}}"#);
            let (seen_status, seen_body, _) = answer(error, Envelope::Auth);
            assert_eq!((seen_status, seen_body), (status, body));
        }
        assert_eq!(Error::NoCodeRequested.outcome(), "no_code_requested");
        let without_a_code = r#"{"msg":"There was no code for a password reset requested"}"#;
        assert_eq!(answer(Error::NoCodeRequested, Envelope::Auth), (400, without_a_code.to_owned(), None));

        assert_eq!(Error::PasswordIncorrect.outcome(), "old_password_incorrect");
        let incorrect = r#"{"msg":"Password incorrect","error_code":"password_incorrect"}"#;
        assert_eq!(answer(Error::PasswordIncorrect, Envelope::Auth), (400, incorrect.to_owned(), None));

        for (error, status, message) in [
            (Error::MalformedJson, 400, "Please, check data you send and try again"),
            (Error::PayloadTooLarge, 413, "The request body is too large"),
            (Error::TokenNotProvided, 401, "Unauthorized"),
            (Error::TokenExpired, 401, "Unauthorized"),
            (Error::TokenIncorrect, 401, "Unauthorized"),
            (Error::RateLimitExceeded(None), 429, "Too many attempts, try again later"),
            (unavailable(), 503, "Service unavailable, try again later"),
            (defect(), 500, "Internal error"),
        ] {
            let body = format!(r#"{{"success":false,"code":{status},"message":"{message}"}}"#);
            let (seen_status, seen_body, _) = answer(error, Envelope::Profile);
            assert_eq!((seen_status, seen_body), (status, body));
        }
        assert_eq!(answer(unavailable(), Envelope::Auth).2.as_deref(), Some("5"));
        assert_eq!(answer(defect(), Envelope::Auth).2, None);
    }

    #[test]
    fn every_401_has_a_challenge_and_no_other_answer_has_one() {
        let sent = r#"Bearer error="invalid_token""#;
        for envelope in [Envelope::Auth, Envelope::Profile] {
            for (error, status, challenge) in [
                (Error::TokenNotProvided, 401, Some("Bearer")),
                (Error::TokenExpired, 401, Some(sent)),
                (Error::TokenIncorrect, 401, Some(sent)),
                (Error::SessionTokenIncorrect, 400, None),
                (Error::UsernameOrPasswordIncorrect, 400, None),
            ] {
                let (_, response) = render(&Err(error), envelope);
                let seen = response.headers().get(header::WWW_AUTHENTICATE);
                assert_eq!(
                    (response.status().as_u16(), seen.map(|seen| seen.to_str().unwrap())),
                    (status, challenge)
                );
            }
        }
    }

    #[test]
    fn what_is_invalid_is_told_field_by_field_or_by_number() {
        let mut errors = FieldErrors::default();
        errors.add("username", "a".to_owned());
        errors.add("code", "b".to_owned());
        let error = Error::Validation(errors);
        assert_eq!(error.outcome(), "validation_failed");
        let (status, body, _) = answer(error, Envelope::Auth);
        let expected = r#"{"msg":"The given data was invalid","error_code":"validation_failed","errors":{"username":["a"],"code":["b"]}}"#;
        assert_eq!((status, &*body), (422, expected));

        let mut all = vec![
            PasswordChangeError::NewPasswordUnchanged,
            PasswordChangeError::NewPasswordLength { min: 8, max: 256 },
            PasswordChangeError::NewPasswordCheckUnequal,
            PasswordChangeError::OldPasswordIncorrect,
            PasswordChangeError::NewPasswordCheckMissing,
            PasswordChangeError::NewPasswordMissing,
            PasswordChangeError::OldPasswordMissing,
        ];
        all.sort();
        let others = all.iter().copied().filter(|error| *error != PasswordChangeError::OldPasswordIncorrect);
        assert_eq!(Error::PasswordChange(others.collect()).outcome(), "validation_failed");
        let error = Error::PasswordChange(all);
        assert_eq!(error.outcome(), "old_password_incorrect");
        let (status, body, _) = answer(error, Envelope::Profile);
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &body["message"]), (422, &"There are validation errors found.".into()));
        let errors = body["errors"].as_array().unwrap().iter();
        let seen: Vec<_> =
            errors.map(|error| (error["code"].as_u64().unwrap(), error["param"].as_str().unwrap())).collect();
        let expected = [
            (1, "old_password"),
            (2, "new_password"),
            (3, "new_password_check"),
            (4, "old_password"),
            (5, "new_password_check"),
            (6, "new_password"),
            (8, "new_password"),
        ];
        assert_eq!(seen, expected);
        assert_eq!(body["errors"][5]["message"], "New password must be between 8 and 256 characters long");
        assert_eq!(body["errors"][6]["message"], "New password must differ from the old one");
    }

    #[test]
    fn a_success_is_its_body_and_is_not_to_be_kept() {
        let token = serde_json::json!({"token": "a"});
        let success = Success::new("signed_in", &token).unwrap();
        let (outcome, response) = render(&Ok(success), Envelope::Auth);
        assert_eq!((outcome, response.status().as_u16()), ("signed_in", 200));
        assert_eq!(response.body(), &Body::Text(token.to_string()));
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
        let accepted = Success::new("session_signed_in", &token).unwrap().accepted();
        assert_eq!(render(&Ok(accepted), Envelope::Auth).1.status().as_u16(), 202);
    }
}
