//! JSON Web Tokens: only what the service itself signed, with the claims that it makes, gets as far as the store.
//!
//! An input is a token; or, on two lines, the header and the claims of one that is then signed with the service's key.
#![no_main]

use fuzz::{SERVICE, VERSION, now, sign};
use lambda_http::http::{HeaderValue, header};
use lambda_http::{Body, Request};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|text: &str| {
    let Some((header, claims)) = text.split_once('\n') else {
        assert!(!counts(text), "nobody but the service can sign");
        return;
    };
    let (Ok(header), Ok(claims)) = (read(header), read(claims)) else {
        return;
    };
    let soon = claims["exp"].as_i64().is_some_and(|expiry| (now()..now() + 5).contains(&expiry));
    if soon {
        return;
    }
    let counted = counts(&sign(&header, &claims));
    let expected = header_counts(&header) && claims_count(&claims);
    assert!(expected || !counted, "{header} {claims}");
    // What else a header has may be of the wrong type.
    let plain = header.as_object().is_some_and(|header| header.len() == 2);
    assert!(counted || !(expected && plain), "{header} {claims}");
});

fn read(json: &str) -> serde_json::Result<Value> {
    serde_json::from_str(json)
}

/// Whether the service takes a token for one of its own.
fn counts(token: &str) -> bool {
    let Ok(authorization) = HeaderValue::try_from(format!("Bearer {token}")) else {
        return false;
    };
    let mut request = Request::new(Body::Empty);
    request.headers_mut().insert(header::AUTHORIZATION, authorization);
    let answer = SERVICE.answer("sessions", request);
    assert!(answer.asked_dynamodb || answer.status == 401, "{}", answer.body);
    answer.asked_dynamodb
}

fn header_counts(header: &Value) -> bool {
    header["alg"] == "HS256" && header["kid"] == VERSION && header["crit"].is_null()
}

fn claims_count(claims: &Value) -> bool {
    let user_id = claims["sub"].as_str().unwrap_or_default();
    claims["iss"] == "lumen-jwt"
        && (1..=190).contains(&user_id.len())
        && user_id.bytes().all(|byte| (b'!'..=b'~').contains(&byte))
        && claims["exp"].as_i64().is_some_and(|expiry| expiry > now())
        && claims["iat"].is_i64()
        && claims["jti"].is_string()
        && claims["stamp"].is_string()
}
