//! JSON Web Tokens: what they claim, which are taken, and when they are revoked.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, Header};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::answers::{CHANGED_PASSWORD, NEW_PASSWORD_SET, UNAUTHORIZED};
use crate::helpers::{NEW_PASSWORD, PASSWORD, Secret, Service, claims, micros_now};

#[tokio::test]
async fn a_token_claims_what_the_documents_say() {
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
async fn the_subject_is_the_user_id_that_was_given() {
    let service = Service::new();
    let user_id = Uuid::new_v4().as_u128().to_string();
    let user = service.user().with("user_id", user_id.clone()).create().await;

    let token = service.token_of(&user).await;

    assert_eq!(claims(&token)["sub"], json!(user_id));
    assert!(service.takes(&token).await);
}

#[tokio::test]
async fn a_token_that_was_tampered_with_is_refused() {
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
async fn only_the_services_own_signature_counts() {
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
async fn keys_that_a_token_brings_or_names_are_not_used() {
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

/// RFC 7515 §4.1.11: who does not understand what a token calls critical has to refuse it.
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
    assert!(service.takes(&secret.sign(&header, &with("exp", json!(now + 600)))).await);
    for refused in [
        with("exp", json!(now - 1)),
        with("exp", json!(0)),
        with("exp", json!((now + 600).to_string())),
        with("exp", json!(null)),
        without("exp"),
        with("iss", json!("lumen")),
        with("iss", json!(null)),
        without("iss"),
        with("sub", json!(Uuid::new_v4().to_string())),
        with("sub", json!("")),
        with("sub", json!(33)),
        with("sub", json!(null)),
        without("sub"),
        json!([]),
    ] {
        assert!(!service.takes(&secret.sign(&header, &refused)).await, "{refused}");
    }
}

#[tokio::test]
async fn a_change_revokes_every_token_but_the_one_that_made_it() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    let other = service.token_of(&user).await;

    service.change_password(&token, PASSWORD, NEW_PASSWORD).await.is(NEW_PASSWORD_SET);

    assert!(service.takes(&token).await);
    service.change_password(&other, NEW_PASSWORD, PASSWORD).await.is(UNAUTHORIZED);
    let new = service.signin(&user.username, NEW_PASSWORD).await.token();

    // The token goes on being used, and the next change revokes what was issued since.
    service.change_password(&token, NEW_PASSWORD, PASSWORD).await.is(NEW_PASSWORD_SET);
    assert!(service.takes(&token).await);
    assert!(!service.takes(&new).await);
    assert!(!service.takes(&other).await);

    // A change by another token revokes the one that was kept before.
    let last = service.token_of(&user).await;
    service.change_password(&last, PASSWORD, NEW_PASSWORD).await.is(NEW_PASSWORD_SET);
    assert!(service.takes(&last).await);
    assert!(!service.takes(&token).await);
}

#[tokio::test]
async fn a_forced_change_revokes_every_token_but_its_own() {
    let service = Service::new();
    let user = service.user().create().await;
    let old = service.token_of(&user).await;
    let due = json!({"action": "update", "username": user.username, "must_change_password": true});
    service.manage(&due).await;

    let new = service.change_password_after_signin(&user.username, PASSWORD, NEW_PASSWORD).await.token();

    assert!(service.takes(&new).await);
    assert!(!service.takes(&old).await);
}

#[tokio::test]
async fn a_reset_revokes_every_token() {
    let service = Service::new();
    let user = service.user().create().await;
    let kept = service.token_of(&user).await;
    service.change_password(&kept, PASSWORD, NEW_PASSWORD).await.is(NEW_PASSWORD_SET);
    let other = service.signin(&user.username, NEW_PASSWORD).await.token();

    let code = service.code_for(&user).await;
    assert!(service.takes(&kept).await);
    service.reset_password(&user.username, &code, PASSWORD).await.is(CHANGED_PASSWORD);

    assert!(!service.takes(&kept).await);
    assert!(!service.takes(&other).await);
    assert!(service.takes(&service.token_of(&user).await).await);
}

#[tokio::test]
async fn an_operators_new_password_revokes_every_token() {
    let service = Service::new();
    let user = service.user().create().await;
    let kept = service.token_of(&user).await;
    service.change_password(&kept, PASSWORD, NEW_PASSWORD).await.is(NEW_PASSWORD_SET);

    let set = json!({"action": "set_password", "username": user.username, "password": PASSWORD});
    assert_eq!(service.manage(&set).await["ok"], true);

    assert!(!service.takes(&kept).await);
    assert!(service.takes(&service.token_of(&user).await).await);
}

#[tokio::test]
async fn a_deactivated_users_tokens_are_refused_at_once_and_for_good() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;

    let activated =
        |activated: bool| json!({"action": "update", "username": user.username, "activated": activated});
    service.manage(&activated(false)).await;
    service.change_password(&token, PASSWORD, NEW_PASSWORD).await.is(UNAUTHORIZED);

    service.manage(&activated(true)).await;
    assert!(!service.takes(&token).await);
    assert!(service.takes(&service.token_of(&user).await).await);
}

#[tokio::test]
async fn other_updates_revoke_nothing() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;

    for update in [
        json!({"email_addresses": ["elsewhere@example.com"]}),
        json!({"must_change_password": true}),
        json!({"activated": true}),
    ] {
        let mut update = update;
        update["action"] = json!("update");
        update["username"] = json!(user.username);
        assert_eq!(service.manage(&update).await["ok"], true);
        assert!(service.takes(&token).await, "{update}");
    }
    // The token's owner may end the pending change with it.
    service.change_password(&token, PASSWORD, NEW_PASSWORD).await.is(NEW_PASSWORD_SET);
    service.signin(&user.username, NEW_PASSWORD).await.token();
}
