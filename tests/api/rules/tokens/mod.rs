//! JSON Web Tokens: their claims, verification and revocation.

pub(super) mod key_lookups;
mod revocation;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, Header};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::answers::TOKEN_NOT_PROVIDED;
use crate::helpers::{
    ApiResponse, CHANGE_MY_PASSWORD, CHECK_OLD_PASSWORD, LOG_OUT, SESSIONS, Secret, Service, claims,
    micros_now,
};

/// An hour in seconds.
const HOUR: i64 = 3600;

#[tokio::test]
async fn a_token_has_the_documented_claims() {
    let service = Service::new();
    let user = service.user().create().await;

    let before = micros_now() / 1_000_000;
    let token = service.token_of(&user).await;
    let after = micros_now() / 1_000_000;

    let header = jsonwebtoken::decode_header(&token).unwrap();
    assert_eq!(header.alg, Algorithm::HS256);
    assert_eq!(header.typ.as_deref(), Some("JWT"));
    assert_eq!(header.kid, Some(service.jwt_secret().await.version_id));

    let claims = claims(&token);
    let issued = claims["iat"].as_i64().unwrap();
    assert!((before..=after).contains(&issued));
    assert_eq!(claims["exp"], issued + 3600);
    assert_eq!(claims["iss"], "lumen-jwt");
    assert_eq!(claims["sub"], user.id.as_str());
    let another = crate::helpers::claims(&service.token_of(&user).await);
    assert!(claims["jti"].is_string());
    assert_ne!(claims["jti"], another["jti"]);
}

#[tokio::test]
async fn tokens_in_the_query_can_be_turned_off() {
    let service = Service::with_settings([("ALLOW_TOKEN_IN_QUERY", "false")]).await;
    let user = service.user().create().await;
    service.session_of(&user).await;
    // Issued without a session, so that it outlives the one that is deleted.
    let token = service.token_of(&user).await;
    let session = format!("{SESSIONS}/{}", service.session_ids(&token).await[0]);
    for (method, path) in [
        ("GET", SESSIONS),
        ("DELETE", &*session),
        ("POST", LOG_OUT),
        ("POST", CHECK_OLD_PASSWORD),
        ("POST", CHANGE_MY_PASSWORD),
    ] {
        let request = service.request(method, &format!("{path}?token={token}"));
        ApiResponse::to(request.body("{}")).await.is(TOKEN_NOT_PROVIDED);
        let request = service.request(method, &format!("{path}?token=x")).bearer_auth(&token);
        assert_ne!(ApiResponse::to(request.body("{}")).await.status, 401, "{method} {path}");
    }
}

#[tokio::test]
async fn the_subject_is_the_given_user_id() {
    let service = Service::new();
    let user_id = Uuid::new_v4().as_u128().to_string();
    let user = service.user().with("user_id", user_id.clone()).create().await;

    let token = service.token_of(&user).await;

    assert_eq!(claims(&token)["sub"], json!(user_id));
    assert!(service.takes(&token).await);
}

#[tokio::test]
async fn a_tampered_token_is_refused() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    let [header, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!("{token}") };
    let of_another = service.token_of(&service.user().create().await).await;
    let [_, payload_of_another, signature_of_another] = of_another.split('.').collect::<Vec<_>>()[..] else {
        panic!("{of_another}")
    };
    let none = |alg: &str| {
        let kid = jsonwebtoken::decode_header(&token).unwrap().kid;
        BASE64_URL_SAFE_NO_PAD.encode(json!({"typ": "JWT", "alg": alg, "kid": kid}).to_string())
    };

    for tampered in [
        format!("{header}.{payload_of_another}.{signature}"),
        format!("{header}.{payload}.{signature_of_another}"),
        format!("{header}.{payload}."),
        format!("{header}.{payload}"),
        format!("{header}.{payload}.{signature}.{signature}"),
        format!("{}.{payload}.", none("none")),
        format!("{}.{payload}.{signature}", none("none")),
        format!("{}.{payload}.{signature}", none("None")),
        format!("{}.{payload}.{signature}", none("RS256")),
        format!("{}.{payload}.{signature}", none("HS256 ")),
        format!(".{payload}.{signature}"),
        "..".to_owned(),
        "null".to_owned(),
    ] {
        assert!(!service.takes(&tampered).await, "{tampered}");
    }
    assert!(service.takes(&token).await);
}

#[tokio::test]
async fn only_the_services_own_signature_is_accepted() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    let (header, claims) = (jsonwebtoken::decode_header(&token).unwrap(), claims(&token));
    let secret = service.jwt_secret().await;

    assert!(service.takes(&secret.sign(&header, &claims)).await);

    let forger = Secret { value: secret.version_id.clone(), version_id: secret.version_id.clone() };
    assert!(!service.takes(&forger.sign(&header, &claims)).await);
    for alg in [Algorithm::HS384, Algorithm::HS512] {
        assert!(!service.takes(&secret.sign(&Header { alg, ..header.clone() }, &claims)).await, "{alg:?}");
    }
    for kid in [None, Some(String::new()), Some(Uuid::new_v4().to_string())] {
        assert!(
            !service.takes(&secret.sign(&Header { kid: kid.clone(), ..header.clone() }, &claims)).await,
            "{kid:?}"
        );
    }
}

#[tokio::test]
async fn keys_that_a_token_contains_or_references_are_not_used() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    let (header, claims) = (jsonwebtoken::decode_header(&token).unwrap(), claims(&token));
    let (secret, forger) = (service.jwt_secret().await, "f".repeat(64));
    let key = BASE64_URL_SAFE_NO_PAD.encode(&forger);
    let forger = Secret { version_id: secret.version_id.clone(), value: forger };

    let jwk = serde_json::from_value(json!({"kty": "oct", "alg": "HS256", "k": key})).unwrap();
    let elsewhere = Some("http://127.0.0.1:9/keys".to_owned());
    for header in [
        Header { jwk: Some(jwk), ..header.clone() },
        Header { jku: elsewhere.clone(), ..header.clone() },
        Header { x5u: elsewhere, ..header.clone() },
        Header { x5c: Some(vec![key]), ..header },
    ] {
        assert!(!service.takes(&forger.sign(&header, &claims)).await, "{header:?}");
        assert!(service.takes(&secret.sign(&header, &claims)).await, "{header:?}");
    }
}

/// RFC 7515 §4.1.11: a token with an unknown critical extension must be refused.
#[tokio::test]
async fn a_token_with_critical_extensions_is_refused() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    let (header, claims) = (jsonwebtoken::decode_header(&token).unwrap(), claims(&token));
    let secret = service.jwt_secret().await;

    for crit in [vec!["exp".to_owned()], vec!["b64".to_owned()]] {
        let header = Header { crit: Some(crit), ..header.clone() };
        assert!(!service.takes(&secret.sign(&header, &claims)).await, "{header:?}");
    }
}

/// RFC 8725 §3.7.
#[tokio::test]
async fn claims_that_are_not_utf_8_are_refused() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    let header = jsonwebtoken::decode_header(&token).unwrap();
    let secret = service.jwt_secret().await;

    let mut claims = claims(&token);
    claims["jti"] = json!("?");
    let good = claims.to_string().into_bytes();
    assert!(service.takes(&secret.sign_bytes(&header, &good)).await);
    let bad: Vec<_> = good.iter().map(|&byte| if byte == b'?' { 0xff } else { byte }).collect();
    assert!(!service.takes(&secret.sign_bytes(&header, &bad)).await);
}

#[tokio::test]
async fn every_claim_is_verified() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    let (header, claims) = (jsonwebtoken::decode_header(&token).unwrap(), claims(&token));
    let secret = service.jwt_secret().await;
    let now = micros_now() / 1_000_000;

    let with = |claim: &str, value: Value| {
        let mut claims = claims.clone();
        claims[claim] = value;
        claims
    };
    let without = |claim: &str| {
        let mut claims = claims.clone();
        claims.as_object_mut().unwrap().remove(claim);
        claims
    };
    let issued = claims["iat"].as_i64().unwrap();
    for taken in [
        with("exp", json!(now + 600)),
        with("iat", json!(now + 30)),
        with("nbf", json!(now + 30)),
        with("nbf", json!(issued)),
        with("nbf", json!(0)),
        with("aud", json!("elsewhere")),
    ] {
        assert!(service.takes(&secret.sign(&header, &taken)).await, "{taken}");
    }
    for refused in [
        with("exp", json!(now)),
        with("exp", json!(now - 1)),
        with("exp", json!(0)),
        with("exp", json!(i64::MIN)),
        with("exp", json!((now + 600).to_string())),
        with("exp", json!(null)),
        with("exp", json!([now + 600])),
        without("exp"),
        // A life of more than an hour.
        with("exp", json!(issued + 3601)),
        with("exp", json!(i64::MAX)),
        with("exp", json!(u64::MAX)),
        with("exp", json!(1e300)),
        with("iat", json!(issued - 1)),
        with("iat", json!(0)),
        with("iat", json!(i64::MIN)),
        // From the future.
        with("iat", json!(now + HOUR)),
        with("nbf", json!(now + HOUR)),
        with("nbf", json!(i64::MAX)),
        with("iat", json!(issued.to_string())),
        with("iat", json!(null)),
        without("iat"),
        with("nbf", json!(issued.to_string())),
        with("nbf", json!("")),
        with("nbf", json!(null)),
        with("nbf", json!(false)),
        with("iss", json!("lumen")),
        with("iss", json!(null)),
        without("iss"),
        with("sub", json!(Uuid::new_v4().to_string())),
        with("sub", json!("")),
        with("sub", json!(33)),
        with("sub", json!(null)),
        without("sub"),
        with("jti", json!(1)),
        without("jti"),
        with("stamp", json!("")),
        without("stamp"),
        json!([]),
        json!(null),
    ] {
        assert!(!service.takes(&secret.sign(&header, &refused)).await, "{refused}");
    }
}

/// RFC 7519 §5.1, RFC 8725 §3.11.
#[tokio::test]
async fn tokens_of_another_type_are_refused() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    let (header, claims) = (jsonwebtoken::decode_header(&token).unwrap(), claims(&token));
    let secret = service.jwt_secret().await;
    let typed =
        |typ: Option<&str>| secret.sign(&Header { typ: typ.map(str::to_owned), ..header.clone() }, &claims);

    for typ in [None, Some("JWT"), Some("jwt"), Some("Jwt")] {
        assert!(service.takes(&typed(typ)).await, "{typ:?}");
    }
    for typ in ["", "JWT ", "at+jwt", "application/at+jwt", "dpop+jwt", "JOSE", "JWE", "ＪＷＴ"] {
        assert!(!service.takes(&typed(Some(typ))).await, "{typ}");
    }
}

/// RFC 7515 §4 and §5.2, RFC 8725 §3.10: a header is parsed strictly, even if the signature is right.
#[tokio::test]
async fn a_header_with_unexpected_values_is_refused() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    let payload = claims(&token).to_string();
    let secret = service.jwt_secret().await;
    let signed = |header: &str| secret.sign_parts(Algorithm::HS256, header.as_bytes(), payload.as_bytes());
    let kid = &secret.version_id;

    assert!(service.takes(&signed(&format!(r#"{{"alg":"HS256","kid":"{kid}"}}"#))).await);
    for odd in [
        format!(r#"{{"alg":"HS256","kid":["{kid}"]}}"#),
        format!(r#"{{"alg":"HS256","kid":{{"kid":"{kid}"}}}}"#),
        format!(r#"{{"alg":"HS256","kid":" {kid}"}}"#),
        format!(r#"{{"alg":"HS256","kid":"{kid}\u0000"}}"#),
        format!(r#"{{"alg":"HS256","kid":"{}"}}"#, kid.to_uppercase()),
        r#"{"alg":"HS256","kid":1}"#.to_owned(),
        r#"{"alg":"HS256","kid":null}"#.to_owned(),
        r#"{"alg":"HS256","kid":true}"#.to_owned(),
        r#"{"alg":"HS256","kid":""}"#.to_owned(),
        r#"{"alg":"HS256","kid":"AWSCURRENT"}"#.to_owned(),
        r#"{"alg":"HS256","kid":"../../etc/passwd"}"#.to_owned(),
        r#"{"alg":"HS256","kid":"' OR 1=1 --"}"#.to_owned(),
        format!(r#"{{"alg":"HS256","kid":"{}"}}"#, "k".repeat(2000)),
        format!(r#"{{"alg":"HS256","kid":"{kid}","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"HS256","alg":"HS256","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"none","alg":"HS256","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"hs256","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"","kid":"{kid}"}}"#),
        format!(r#"{{"alg":null,"kid":"{kid}"}}"#),
        format!(r#"{{"alg":["HS256"],"kid":"{kid}"}}"#),
        format!(r#"{{"kid":"{kid}"}}"#),
        format!(r#"{{"typ":1,"alg":"HS256","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"HS256","kid":"{kid}"}}x"#),
        format!(r#"[{{"alg":"HS256","kid":"{kid}"}}]"#),
        "null".to_owned(),
        String::new(),
    ] {
        assert!(!service.takes(&signed(&odd)).await, "{odd}");
    }
}

#[tokio::test]
async fn a_duplicate_claim_is_refused() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    let (header, claims) = (jsonwebtoken::decode_header(&token).unwrap(), claims(&token));
    let secret = service.jwt_secret().await;
    let json = claims.to_string();
    let rest = json.strip_prefix('{').unwrap();

    for name in ["iss", "sub", "iat", "exp", "jti", "stamp"] {
        let twice = format!("{{{:?}:{},{rest}", name, claims[name]);
        assert!(!service.takes(&secret.sign_bytes(&header, twice.as_bytes())).await, "{twice}");
    }
    let twice = format!(r#"{{"nbf":0,"nbf":0,{rest}"#);
    assert!(!service.takes(&secret.sign_bytes(&header, twice.as_bytes())).await, "{twice}");
    let unknown = format!(r#"{{"name":1,"name":2,{rest}"#);
    assert!(service.takes(&secret.sign_bytes(&header, unknown.as_bytes())).await, "{unknown}");
}

/// RFC 7515 §2: base64url without padding, line breaks or white space, and in one form only.
#[tokio::test]
async fn a_token_has_only_one_encoding() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    let (header, mut claims) = (jsonwebtoken::decode_header(&token).unwrap(), claims(&token));
    let secret = service.jwt_secret().await;
    // Makes the payload contain the two characters that base64url does not share with base64.
    claims["name"] = json!("???>>>~~~");
    let token = secret.sign(&header, &claims);
    assert!(service.takes(&token).await && token.contains(['-', '_']));
    let [header, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!("{token}") };
    // The last character of a signature carries four bits; the other two have to be zero.
    let (start, last) = signature.split_at(signature.len() - 1);
    let last = last.as_bytes()[0];
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let value = alphabet.iter().position(|&character| character == last).unwrap();
    let same_bits = |bits: usize| format!("{start}{}", char::from(alphabet[value + bits]));

    for spelling in [
        format!("{header}.{payload}.{signature}="),
        format!("{header}.{payload}.{signature}=="),
        format!("{header}=.{payload}.{signature}"),
        format!("{header}.{payload}=.{signature}"),
        format!("{header}.{payload}.{}", same_bits(1)),
        format!("{header}.{payload}.{}", same_bits(2)),
        format!("{header}.{payload}.{}", same_bits(3)),
        token.replace('-', "+").replace('_', "/"),
        format!("{header} .{payload}.{signature}"),
        format!("{header}.\t{payload}.{signature}"),
        format!("{header}.{payload}..{signature}"),
        format!(".{token}"),
        format!("{token}."),
        format!("{header}.{payload}.{signature}.{signature}"),
        format!("{header}.{payload}.{signature}.."),
        "...".to_owned(),
        "..".to_owned(),
        ".".to_owned(),
    ] {
        assert!(!service.takes(&spelling).await, "{spelling}");
    }
}

#[tokio::test]
async fn a_huge_token_is_refused_like_any_other() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    let (header, mut claims) = (jsonwebtoken::decode_header(&token).unwrap(), claims(&token));
    let secret = service.jwt_secret().await;

    claims["name"] = json!("x".repeat(5000));
    let long = secret.sign(&header, &claims);
    assert!(service.takes(&long).await);
    assert!(!service.takes(&format!("{long}A")).await);
    let nested = format!("{}{}", "[".repeat(3000), "]".repeat(3000));
    assert!(!service.takes(&secret.sign_bytes(&header, nested.as_bytes())).await);
    assert!(!service.takes(&".".repeat(7000)).await);
    assert!(!service.takes(&"a".repeat(7000)).await);
}
