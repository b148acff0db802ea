//! The responses of endpoints: the two forms of bodies that the API documents have, and the headers.

use lambda_http::http::{HeaderValue, StatusCode, header};
use lambda_http::{Body, Response};
use serde::Serialize;

use super::error::{Error, NumberedError};
use crate::domain::SessionToken;
use crate::failure::Failure;
use crate::fields::FieldErrors;
use crate::tokens::Token;

/// The form of the bodies of errors: the two that the API documents have, and API Gateway's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Envelope {
    /// `{"msg": …, "error_code": …}`, of the routes under `/api/auth`.
    Auth,
    /// `{"success": …, "code": …, "message": …}`, of `/api/v1/profile`.
    Profile,
    /// `{"message": …}`, as API Gateway itself answers: of what is not under `/api`.
    Gateway,
}

/// A request that was granted.
#[derive(Debug)]
pub struct Success {
    outcome: &'static str,
    response: Response<Body>,
}

/// The lifetime of public answers in caches.
const PUBLIC: HeaderValue = HeaderValue::from_static("public, max-age=300");

impl Success {
    /// Answers 200 with `body` as JSON; `outcome` is its name in the audit log.
    pub fn new(outcome: &'static str, body: &impl Serialize) -> Result<Self, Error> {
        let body = serde_json::to_string(body).map_err(|error| Failure::Defect(error.to_string()))?;
        Ok(Self { outcome, response: json(StatusCode::OK, body) })
    }

    /// The same as [`Self::new`], with an answer that caches may keep for five minutes.
    pub fn public(outcome: &'static str, body: &impl Serialize) -> Result<Self, Error> {
        let mut success = Self::new(outcome, body)?;
        success.response.headers_mut().insert(header::CACHE_CONTROL, PUBLIC);
        Ok(success)
    }

    /// Answers 302 with the path of another page of the API.
    #[must_use]
    pub fn redirect(outcome: &'static str, location: &'static str) -> Self {
        let mut response = json(StatusCode::FOUND, String::new());
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, PUBLIC);
        headers.insert(header::LOCATION, HeaderValue::from_static(location));
        headers.remove(header::CONTENT_TYPE);
        Self { outcome, response }
    }

    /// Answers with a response of another kind, which the endpoint made with [`response`].
    #[must_use]
    pub fn of(outcome: &'static str, response: Response<Body>) -> Self {
        Self { outcome, response }
    }

    /// The same answer with the status 202.
    #[must_use]
    pub fn accepted(mut self) -> Self {
        *self.response.status_mut() = StatusCode::ACCEPTED;
        self
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
    errors: Option<&'a [NumberedError]>,
}

#[derive(Serialize)]
struct GatewayError {
    message: &'static str,
}

impl Error {
    fn to_response(&self, envelope: Envelope) -> Response<Body> {
        let (status, body) = match envelope {
            Envelope::Auth => {
                let (status, msg) = self.status_and_msg();
                let errors = if let Self::Validation(errors) = self { Some(errors) } else { None };
                (status, serde_json::to_string(&AuthError { msg, error_code: self.error_code(), errors }))
            }
            Envelope::Profile => {
                let (status, message) = self.profile_status_and_message();
                let errors = if let Self::Numbered { errors, .. } = self { Some(&**errors) } else { None };
                let error = ProfileError { success: false, code: status.as_u16(), message, errors };
                (status, serde_json::to_string(&error))
            }
            Envelope::Gateway => {
                let (status, message) = self.status_and_msg();
                (status, serde_json::to_string(&GatewayError { message }))
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

/// The answer to a request, with the name of its outcome and the failure of this service, if that is the outcome.
pub(super) struct Rendered {
    pub(super) outcome: &'static str,
    pub(super) response: Response<Body>,
    pub(super) failure: Option<Failure>,
}

/// Renders the result of a request.
pub(super) fn render(result: Result<Success, Error>, envelope: Envelope) -> Rendered {
    match result {
        Ok(Success { outcome, response }) => Rendered { outcome, response, failure: None },
        Err(error) => {
            let (outcome, response) = (error.outcome(), error.to_response(envelope));
            let failure = if let Error::Failure(failure) = error { Some(failure) } else { None };
            Rendered { outcome, response, failure }
        }
    }
}

/// A JSON response under `/api`. A browser that shows it as a page runs, frames and fetches nothing.
fn json(status: StatusCode, body: String) -> Response<Body> {
    let mut response = response(status, "application/json", "no-store", body);
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    );
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// A response with the headers that every response of the service has: `X-Content-Type-Options`, and
/// `Strict-Transport-Security` (RFC 6797) for a year.
pub fn response(
    status: StatusCode,
    content_type: &'static str,
    cache_control: &'static str,
    body: impl Into<Body>,
) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    for (name, value) in [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, cache_control),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000; includeSubDomains"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn answer(error: Error, envelope: Envelope) -> (u16, String, Option<String>) {
        let Rendered { response, .. } = render(Err(error), envelope);
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
    fn an_error_code_is_the_outcome_with_two_exceptions() {
        let no_code = r#"{"msg":"There was no code for a password reset requested"}"#;
        let wrong = r#"{"msg":"Password incorrect","error_code":"password_incorrect"}"#;
        for (error, outcome, expected) in [
            (Error::NoCodeRequested, "no_code_requested", no_code),
            (Error::PasswordIncorrect, "old_password_incorrect", wrong),
        ] {
            assert_eq!(error.outcome(), outcome);
            assert_eq!(answer(error, Envelope::Auth), (400, expected.to_owned(), None));
        }
    }

    #[test]
    fn the_other_envelope_has_messages_of_its_own() {
        for (error, status, message) in [
            (Error::OriginNotAllowed, 403, "Origin not allowed"),
            (Error::MalformedJson, 400, "Please, check data you send and try again"),
            (Error::PayloadTooLarge, 413, "The request body is too large"),
            (Error::TokenNotProvided, 401, "Unauthorized"),
            (Error::RateLimitExceeded(None), 429, "Too many attempts, try again later"),
            (Failure::Unavailable(String::new()).into(), 503, "Service unavailable, try again later"),
            (Failure::Defect(String::new()).into(), 500, "Internal error"),
        ] {
            let body = format!(r#"{{"success":false,"code":{status},"message":"{message}"}}"#);
            let (seen_status, seen_body, retry_after) = answer(error, Envelope::Profile);
            assert_eq!((seen_status, seen_body), (status, body));
            assert_eq!(retry_after.as_deref(), (status == 503).then_some("5"));
        }
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
                let Rendered { response, .. } = render(Err(error), envelope);
                let seen = response.headers().get(header::WWW_AUTHENTICATE);
                assert_eq!(
                    (response.status().as_u16(), seen.map(|seen| seen.to_str().unwrap())),
                    (status, challenge)
                );
            }
        }
    }

    #[test]
    fn invalid_fields_are_told_by_name_or_by_number() {
        let mut errors = FieldErrors::default();
        errors.add("username", "a".to_owned());
        errors.add("code", "b".to_owned());
        let error = Error::Validation(errors);
        assert_eq!(error.outcome(), "validation_failed");
        let (status, body, _) = answer(error, Envelope::Auth);
        let expected = r#"{"msg":"The given data was invalid","error_code":"validation_failed","errors":{"username":["a"],"code":["b"]}}"#;
        assert_eq!((status, &*body), (422, expected));

        let error = NumberedError { code: 1, message: "c".into(), param: "old_password" };
        let error = Error::Numbered { outcome: "validation_failed", errors: vec![error] };
        let (status, body, _) = answer(error, Envelope::Profile);
        let expected = r#"{"success":false,"code":422,"message":"There are validation errors found.","errors":[{"code":1,"message":"c","param":"old_password"}]}"#;
        assert_eq!((status, &*body), (422, expected));
    }

    #[test]
    fn a_success_is_its_body_and_is_not_to_be_kept() {
        let token = serde_json::json!({"token": "a"});
        let success = Success::new("signed_in", &token).unwrap();
        let Rendered { outcome, response, .. } = render(Ok(success), Envelope::Auth);
        assert_eq!((outcome, response.status().as_u16()), ("signed_in", 200));
        assert_eq!(response.body(), &Body::Text(token.to_string()));
        for (name, value) in [
            ("content-type", "application/json"),
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("strict-transport-security", "max-age=31536000; includeSubDomains"),
            ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
            ("referrer-policy", "no-referrer"),
        ] {
            assert_eq!(response.headers()[name], value);
        }
        let accepted = Success::new("session_signed_in", &token).unwrap().accepted();
        assert_eq!(render(Ok(accepted), Envelope::Auth).response.status().as_u16(), 202);
    }
}
