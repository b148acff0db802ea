//! The stored keys: for every value of their secrets, no function panics, accepts a token that is not signed with it,
//! publishes more than public keys, or tells the value.
//!
//! An input is the value of both secrets.
#![no_main]

use std::sync::LazyLock;

use fuzz::{STORED, STORED_ID, Service, event, valid_token};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

static SERVICE: LazyLock<Service> = LazyLock::new(|| {
    Service::new(&[
        ("JWT_ALGORITHM", "ES256"),
        ("JWT_ISSUER", "https://auth.example.com"),
        ("JWT_SECRET_ID", STORED_ID),
        ("JWT_KEY_SET_ID", STORED_ID),
        ("JWT_ROTATION_MIN_INTERVAL_SECONDS", "0"),
        ("SECRETS_CACHE_SECONDS", "0"),
    ])
});

/// The members of public keys of RSA and on elliptic curves (RFC 7517 §4, RFC 7518 §6.2.1, §6.3.1).
const PUBLIC: [&str; 14] =
    ["alg", "crv", "e", "key_ops", "kid", "kty", "n", "use", "x", "x5c", "x5t", "x5t#S256", "x5u", "y"];

fuzz_target!(|value: &str| {
    STORED.set(value.to_owned());

    let answer = SERVICE.answer("sessions", &event("", &format!("Bearer {}", valid_token()), b""));
    assert!(!answer.called_dynamodb, "a token was accepted that is signed with another key");
    if value.starts_with('{') {
        assert!([401, 500].contains(&answer.status), "{}", answer.status);
    } else {
        assert_eq!(answer.status, if value.len() < 32 { 500 } else { 401 });
    }

    let answer = SERVICE.answer("well_known", &event("GET /.well-known/jwks.json", "", b""));
    assert!([200, 500].contains(&answer.status), "{}", answer.status);
    for key in answer.body["keys"].as_array().into_iter().flatten() {
        assert!(["EC", "RSA"].iter().any(|kind| key["kty"] == *kind), "{key}");
        let members = key.as_object().unwrap().keys();
        assert!(members.into_iter().all(|member| PUBLIC.contains(&&**member)), "{key}");
    }

    // Otherwise it is a key of HS256, which the rotation does not read.
    if !value.starts_with('{') {
        return;
    }
    let rotation = json!({"Step": "createSecret", "SecretId": STORED_ID, "ClientRequestToken": "2"});
    let error = SERVICE.invoke("rotate_jwt_secret", &rotation).map_err(|error| match error {
        functions::Error::Function(error) => error.to_string(),
        functions::Error::Json(error) => panic!("{error}"),
    });
    assert_tells_nothing(&error.unwrap_err());
});

/// Asserts that an error has no part of the value: the reasons why a key is unreadable are single words of the library.
fn assert_tells_nothing(error: &str) {
    let reason = error.strip_prefix("reading a key pair: ").unwrap_or_default();
    let reason = reason.strip_prefix("RSA key invalid: ").unwrap_or(reason);
    let is_word = (1..=30).contains(&reason.len()) && reason.bytes().all(|byte| byte.is_ascii_alphabetic());
    let known = ["the current version is not the JSON of key pairs", "PutSecretValue: AccessDeniedException"];
    assert!(is_word || known.contains(&error), "{error}");
}
