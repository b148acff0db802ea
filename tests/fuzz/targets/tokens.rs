//! JSON Web Tokens: the service reads the store only for tokens with its own signature and the claims that it issues.
//!
//! An input is a token, or a header and claims on two lines, which the target signs with the service's key. The times
//! in such claims are relative to the present, because inputs with absolute times would expire.
#![no_main]

use fuzz::{SERVICE, VERSION, event, now, sign};
use lambda_http::http::HeaderValue;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// The tolerated clock skew in seconds.
const SKEW: i64 = 60;

fuzz_target!(|text: &str| {
    let Some((header, claims)) = text.split_once('\n') else {
        assert!(!is_accepted(text), "a forged token was accepted");
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
            // The result is uncertain near a limit, because a second can pass before the answer.
            if offset.abs_diff(limit) <= 5 {
                return;
            }
            *time = offset.saturating_add(now()).into();
        }
    }
    let accepted = is_accepted(&sign(&header, &claims));
    let expected = is_valid_header(&header) && are_valid_claims(&claims);
    assert!(expected || !accepted, "{header} {claims}");
    // A header with other parameters may be rejected, because their types may be wrong.
    let plain = header
        .as_object()
        .is_some_and(|header| header.keys().all(|name| ["alg", "kid", "typ"].contains(&&**name)));
    assert!(accepted || !(expected && plain), "{header} {claims}");
});

fn read(json: &str) -> serde_json::Result<Value> {
    serde_json::from_str(json)
}

/// Returns true if the service accepts a token.
fn is_accepted(token: &str) -> bool {
    let authorization = format!("Bearer {token}");
    if HeaderValue::from_str(&authorization).is_err() {
        return false;
    }
    let answer = SERVICE.answer("sessions", &event("", &authorization, b""));
    assert!(answer.called_dynamodb || answer.status == 401, "{}", answer.body);
    answer.called_dynamodb
}

fn is_valid_header(header: &Value) -> bool {
    let is_jwt = |typ: &str| typ.eq_ignore_ascii_case("JWT");
    header["alg"] == "HS256"
        && header["kid"] == VERSION
        && header["crit"].is_null()
        && (header["typ"].is_null() || header["typ"].as_str().is_some_and(is_jwt))
}

fn are_valid_claims(claims: &Value) -> bool {
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
