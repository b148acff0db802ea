//! The reasons for refusing a request, and the one table of their responses.

use std::borrow::Cow;
use std::time::Duration;

use lambda_http::http::StatusCode;
use serde::Serialize;

use crate::authentication::AuthenticationError;
use crate::code_verification::CodeError;
use crate::domain::{TooCommon, TooManyChanges};
use crate::failure::{Failure, Refused};
use crate::fields::{BodyError, FieldErrors, Validator};
use crate::tokens::TokenError;

/// How long a client should wait after a failure of ours before it tries again.
const RETRY_UNAVAILABLE: Duration = Duration::from_secs(5);

/// The reason why a request was refused.
#[derive(Debug)]
pub enum Error {
    /// The request did not come through the edge, but has to.
    EdgeBypassed,
    /// A page of an origin that is not allowed sent the request.
    OriginNotAllowed,
    /// The body is not a JSON object, gives a known field twice, or nests too deeply.
    MalformedJson,
    /// The body is larger than 16 KiB.
    PayloadTooLarge,
    /// Fields break their constraints.
    Validation(FieldErrors),
    /// Fields of `change_password` break their constraints.
    Numbered {
        /// The name of the outcome in the audit log.
        outcome: &'static str,
        /// All of them, in the order of their codes.
        errors: Vec<NumberedError>,
    },
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
    /// Unknown user or wrong password; clients must not learn which.
    UsernameOrPasswordIncorrect,
    /// The password that a signed-in user gave as the present one is wrong.
    PasswordIncorrect,
    /// The password is right, and an administrator has not let the user in yet.
    NotActivated,
    /// The password is right, and has to be changed first.
    ChangePassword,
    /// The user asked for a forced change, but none is due.
    NoPasswordChangeNeeded,
    /// There is nothing at this path.
    NotFound,
    /// No user has this username.
    UnknownUsername,
    /// There is no address to send a code to.
    NoEmailAddresses,
    /// There is no code, or it is used, expired or revoked.
    NoCodeRequested,
    /// The code is wrong.
    CodeIncorrect,
    /// Too many attempts; after the given time one will be let through, if it is known.
    RateLimitExceeded(Option<Duration>),
    /// Our side failed.
    Failure(Failure),
}

/// One of the numbered errors of the document of `change_password`.
#[derive(Clone, Debug, Serialize)]
pub struct NumberedError {
    /// The document's number.
    pub code: u8,
    /// The document's text.
    pub message: Cow<'static, str>,
    /// The field that it is about.
    pub param: &'static str,
}

impl Error {
    /// The table: the status, the name in the audit log, and the message. The name is the body's `error_code` as well,
    /// except for the two of [`Self::error_code`]. The messages are the API documents'; those of errors that the
    /// documents do not have follow their form.
    fn row(&self) -> (StatusCode, &'static str, &'static str) {
        const BAD_REQUEST: StatusCode = StatusCode::BAD_REQUEST;
        const UNAUTHORIZED: StatusCode = StatusCode::UNAUTHORIZED;
        const FORBIDDEN: StatusCode = StatusCode::FORBIDDEN;
        const NOT_FOUND: StatusCode = StatusCode::NOT_FOUND;
        const TOO_LARGE: StatusCode = StatusCode::PAYLOAD_TOO_LARGE;
        const UNPROCESSABLE: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;
        const UNAVAILABLE: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
        const INTERNAL: StatusCode = StatusCode::INTERNAL_SERVER_ERROR;
        match self {
            Self::EdgeBypassed => (FORBIDDEN, "edge_bypassed", "Forbidden"),
            Self::OriginNotAllowed => (FORBIDDEN, "origin_not_allowed", "Origin not allowed"),
            Self::MalformedJson => (BAD_REQUEST, "malformed_json", "The request body is not valid JSON"),
            Self::PayloadTooLarge => (TOO_LARGE, "payload_too_large", "The request body is too large"),
            Self::Validation(_) => (UNPROCESSABLE, "validation_failed", "The given data was invalid"),
            Self::Numbered { outcome, .. } => (UNPROCESSABLE, outcome, "There are validation errors found."),
            Self::TokenNotProvided => (UNAUTHORIZED, "token_not_provided", "Token not provided."),
            Self::TokenExpired => (UNAUTHORIZED, "token_expired", "Provided token is expired."),
            Self::TokenIncorrect => (UNAUTHORIZED, "token_incorrect", "Your token is incorrect!"),
            Self::SessionTokenIncorrect => {
                (BAD_REQUEST, "session_token_incorrect", "Session token is incorrect")
            }
            Self::SessionTokenUnknown => (NOT_FOUND, "session_token_incorrect", "Session token is incorrect"),
            Self::SessionNotFound => (NOT_FOUND, "session_token_not_found", "Session not found"),
            Self::UsernameOrPasswordIncorrect => {
                (BAD_REQUEST, "username_or_password_incorrect", "Username or password is wrong")
            }
            Self::PasswordIncorrect => (BAD_REQUEST, "old_password_incorrect", "Password incorrect"),
            Self::NotActivated => (BAD_REQUEST, "not_activated", "Account is not activated"),
            Self::ChangePassword => (BAD_REQUEST, "change_password", "You have to change your password"),
            Self::NoPasswordChangeNeeded => (
                BAD_REQUEST,
                "no_password_change_needed_for_user",
                "User does not need to change his password",
            ),
            Self::NotFound => (NOT_FOUND, "not_found", "Not Found"),
            Self::UnknownUsername => (NOT_FOUND, "unknown_username", "Unknown username"),
            Self::NoEmailAddresses => {
                (BAD_REQUEST, "no_email_addresses", "There are no email addresses for this account")
            }
            Self::NoCodeRequested => {
                (BAD_REQUEST, "no_code_requested", "There was no code for a password reset requested")
            }
            Self::CodeIncorrect => (BAD_REQUEST, "code_incorrect", "The code is incorrect"),
            Self::RateLimitExceeded(_) => (BAD_REQUEST, "rate_limit_exceeded", "Rate limit exceeded"),
            Self::Failure(failure @ Failure::Unavailable(_)) => {
                (UNAVAILABLE, failure.error_code(), failure.msg())
            }
            Self::Failure(failure @ Failure::Defect(_)) => (INTERNAL, failure.error_code(), failure.msg()),
        }
    }

    /// The name of this outcome in the audit log.
    #[must_use]
    pub fn outcome(&self) -> &'static str {
        self.row().1
    }

    /// The status and the message under `/api/auth` and `/api/v1/user`.
    pub(super) fn status_and_msg(&self) -> (StatusCode, &'static str) {
        let (status, _, msg) = self.row();
        (status, msg)
    }

    /// The `error_code` under `/api/auth` and `/api/v1/user`.
    pub(super) fn error_code(&self) -> Option<&'static str> {
        match self {
            // The document of this one answer has no error code.
            Self::NoCodeRequested => None,
            Self::PasswordIncorrect => Some("password_incorrect"),
            _ => Some(self.outcome()),
        }
    }

    /// The status and the message of `change_password`: the table's, with these exceptions.
    pub(super) fn profile_status_and_message(&self) -> (StatusCode, &'static str) {
        match self {
            Self::TokenNotProvided | Self::TokenExpired | Self::TokenIncorrect => {
                (StatusCode::UNAUTHORIZED, "Unauthorized")
            }
            Self::MalformedJson => (StatusCode::BAD_REQUEST, "Please, check data you send and try again"),
            Self::RateLimitExceeded(_) => {
                (StatusCode::TOO_MANY_REQUESTS, "Too many attempts, try again later")
            }
            _ => self.status_and_msg(),
        }
    }

    /// The time after which the client may try again, if it is known.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimitExceeded(wait) => *wait,
            Self::Failure(Failure::Unavailable(_)) => Some(RETRY_UNAVAILABLE),
            _ => None,
        }
    }

    /// The challenge of a 401 (RFC 9110 §15.5.2), which says if a token was sent (RFC 6750 §3).
    pub(super) fn challenge(&self) -> Option<&'static str> {
        match self {
            Self::TokenNotProvided => Some("Bearer"),
            Self::TokenExpired | Self::TokenIncorrect => Some(r#"Bearer error="invalid_token""#),
            _ => None,
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Wait(wait) => Self::RateLimitExceeded(Some(wait)),
            Refused::Failure(failure) => Self::Failure(failure),
        }
    }
}

impl From<AuthenticationError> for Error {
    fn from(error: AuthenticationError) -> Self {
        match error {
            AuthenticationError::Incorrect => Self::UsernameOrPasswordIncorrect,
            AuthenticationError::Refused(refused) => refused.into(),
        }
    }
}

impl From<CodeError> for Error {
    fn from(error: CodeError) -> Self {
        match error {
            CodeError::UnknownUsername => Self::UnknownUsername,
            CodeError::NoCodeRequested => Self::NoCodeRequested,
            CodeError::TriesUsedUp => Self::RateLimitExceeded(None),
            CodeError::Incorrect => Self::CodeIncorrect,
            CodeError::Refused(refused) => refused.into(),
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

impl From<BodyError> for Error {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => Self::PayloadTooLarge,
            BodyError::Malformed => Self::MalformedJson,
        }
    }
}

impl From<TooCommon> for Error {
    /// The refusal of a `new_password`, which is the field of all endpoints that set one.
    fn from(TooCommon: TooCommon) -> Self {
        Self::Validation(Validator::too_common("new_password"))
    }
}

impl From<FieldErrors> for Error {
    fn from(errors: FieldErrors) -> Self {
        Self::Validation(errors)
    }
}
