//! JSON Web Tokens: only what the service itself signed, with the claims that it makes, gets as far as the store.
//!
//! An input is a token; or, on two lines, the header and the claims of one that is then signed with the service's key.
//! The times of such claims count from now, or no input would stay good.
#![no_main]

use fuzz::{SERVICE, VERSION, event, now, sign};
use lambda_http::http::HeaderValue;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// How many seconds a token may be ahead.
const SKEW: i64 = 60;

fuzz_target!(|text: &str| {
    let Some((header, claims)) = text.split_once('\n') else {
        assert!(!counts(text), "nobody but the service can sign");
        return;
    };
    let (Ok(header), Ok(mut claims)) = (read(header), read(claims)) else {
        return;
    };
    for name in ["iat", "nbf", "exp"] {
        if let Some(time) = claims.get_mut(name)
            && let Some(offset) = time.as_i64()
        {
            let limit = if name == "exp" { 0 } else { SKEW };
            // A second can pass before the answer is there.
            if offset.abs_diff(limit) <= 5 {
                return;
            }
            *time = offset.saturating_add(now()).into();
        }
    }
    let counted = counts(&sign(&header, &claims));
    let expected = header_counts(&header) && claims_count(&claims);
    assert!(expected || !counted, "{header} {claims}");
    // What else a header has may be of the wrong type.
    let plain = header
        .as_object()
        .is_some_and(|header| header.keys().all(|name| ["alg", "kid", "typ"].contains(&&**name)));
    assert!(counted || !(expected && plain), "{header} {claims}");
});

fn read(json: &str) -> serde_json::Result<Value> {
    serde_json::from_str(json)
}

/// Whether the service takes a token for one of its own.
fn counts(token: &str) -> bool {
    let authorization = format!("Bearer {token}");
    if HeaderValue::from_str(&authorization).is_err() {
        return false;
    }
    let answer = SERVICE.answer("sessions", &event("", &authorization, b""));
    assert!(answer.asked_dynamodb || answer.status == 401, "{}", answer.body);
    answer.asked_dynamodb
}

fn header_counts(header: &Value) -> bool {
    let is_jwt = |typ: &str| typ.eq_ignore_ascii_case("JWT");
    header["alg"] == "HS256"
        && header["kid"] == VERSION
        && header["crit"].is_null()
        && (header["typ"].is_null() || header["typ"].as_str().is_some_and(is_jwt))
}

fn claims_count(claims: &Value) -> bool {
    let user_id = claims["sub"].as_str().unwrap_or_default();
    let time = |name: &str| claims[name].as_i64();
    let latest = now() + SKEW;
    claims["iss"] == "lumen-jwt"
        && (1..=190).contains(&user_id.len())
        && user_id.bytes().all(|byte| (b'!'..=b'~').contains(&byte))
        && time("exp").is_some_and(|expiry| expiry > now())
        && time("iat").is_some_and(|issued| issued <= latest)
        && (claims.get("nbf").is_none() || time("nbf").is_some_and(|not_before| not_before <= latest))
        && time("exp")
            .zip(time("iat"))
            .and_then(|(expiry, issued)| expiry.checked_sub(issued))
            .is_some_and(|life| (0..=3600).contains(&life))
        && claims["jti"].is_string()
        && claims["stamp"].is_string()
}
