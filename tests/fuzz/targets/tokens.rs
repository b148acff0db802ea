//! JSON Web Tokens: the service reads the store only for tokens with its own signature and the claims that it issues.
//!
//! An input is a token, or a header and claims on two lines, which the target signs with the service's key. A third line
//! is for the service with public keys: `current`, `next` or `public`, the key that signs instead. The times in such
//! claims are relative to the present, because inputs with absolute times would expire.
#![no_main]

use fuzz::es256::{self, Key};
use fuzz::{SERVICE, Service, VERSION, event, now, sign};
use lambda_http::http::HeaderValue;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// The tolerated clock skew in seconds.
const SKEW: i64 = 60;

fuzz_target!(|text: &str| {
    let mut lines = text.splitn(3, '\n');
    let (Some(header), Some(claims)) = (lines.next(), lines.next()) else {
        for service in [&SERVICE, &es256::SERVICE] {
            assert!(!is_accepted(service, text), "a forged token was accepted");
        }
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
    let key = match lines.next() {
        None => None,
        Some("current") => Some(Key::Current),
        Some("next") => Some(Key::Next),
        Some("public") => Some(Key::Public),
        Some(_) => return,
    };
    let (accepted, expected) = match key {
        None => (
            is_accepted(&SERVICE, &sign(&header, &claims)),
            is_valid_header(&header, "HS256", VERSION) && are_valid_claims(&claims, "lumen-jwt"),
        ),
        Some(key) => (
            is_accepted(&es256::SERVICE, &es256::sign(key, &header, &claims)),
            key == Key::Current
                && is_valid_header(&header, "ES256", es256::KID)
                && are_valid_claims(&claims, es256::ISSUER)
                && is_valid_audience(&claims["aud"]),
        ),
    };
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

/// Returns true if a service accepts a token.
fn is_accepted(service: &Service, token: &str) -> bool {
    let authorization = format!("Bearer {token}");
    if HeaderValue::from_str(&authorization).is_err() {
        return false;
    }
    let answer = service.answer("sessions", &event("", &authorization, b""));
    assert!(answer.called_dynamodb || answer.status == 401, "{}", answer.body);
    answer.called_dynamodb
}

fn is_valid_header(header: &Value, algorithm: &str, kid: &str) -> bool {
    let is_jwt = |typ: &str| typ.eq_ignore_ascii_case("JWT");
    header["alg"] == algorithm
        && header["kid"] == kid
        && header["crit"].is_null()
        && (header["typ"].is_null() || header["typ"].as_str().is_some_and(is_jwt))
}

fn is_valid_audience(audience: &Value) -> bool {
    match audience {
        Value::Array(audiences) => {
            audiences.iter().all(Value::is_string)
                && audiences.iter().any(|audience| audience == es256::AUDIENCE)
        }
        audience => audience == es256::AUDIENCE,
    }
}

fn are_valid_claims(claims: &Value, issuer: &str) -> bool {
    let user_id = claims["sub"].as_str().unwrap_or_default();
    let time = |name: &str| claims[name].as_i64();
    let latest = now() + SKEW;
    claims["iss"] == issuer
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
