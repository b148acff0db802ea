//! The rotation of the secrets, with no redeployment.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use futures_util::future::{join, join_all};
use jsonwebtoken::Header;
use serde_json::{Value, json};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::answers::{CODE_CORRECT, TOKEN_INCORRECT};
use crate::helpers::{PASSWORD, Secret, Service, User, claims, micros_now};

/// The steps of a rotation, in their order.
pub(crate) const STEPS: [&str; 4] = ["createSecret", "setSecret", "testSecret", "finishSecret"];
/// Settings that allow rotations without a pause, and without a cache that still signs with a replaced version.
const ROTATING: [(&str, &str); 2] =
    [("JWT_ROTATION_MIN_INTERVAL_SECONDS", "0"), ("SECRETS_CACHE_SECONDS", "0")];

#[tokio::test]
async fn tokens_survive_one_rotation_and_new_ones_name_the_new_version() {
    let service = Service::with_settings([("SECRETS_CACHE_SECONDS", "0")]).await;
    let user = service.user().create().await;
    let first = service.token_of(&user).await;

    service.rotate(&service.jwt_secret_id).await;
    let second = service.token_of(&user).await;

    let kid = |token: &str| jsonwebtoken::decode_header(token).unwrap().kid.unwrap();
    assert_ne!(kid(&first), kid(&second));
    assert_eq!(kid(&second), service.jwt_secret().await.version_id);
    assert!(service.takes(&first).await);
    assert!(service.takes(&second).await);

    service.rotate(&service.jwt_secret_id).await;
    assert!(!service.takes(&first).await);
    assert!(service.takes(&second).await);
}

#[tokio::test]
async fn a_version_missing_from_the_cache_is_fetched() {
    let service = Service::with_settings([]).await;
    let user = service.user().create().await;
    let first = service.token_of(&user).await;
    assert!(service.takes(&first).await);

    service.rotate(&service.jwt_secret_id).await;
    let secret = service.jwt_secret().await;
    let mut header = jsonwebtoken::decode_header(&first).unwrap();
    header.kid = Some(secret.version_id.clone());
    let second = secret.sign(&header, &claims(&first));

    assert!(service.takes(&second).await);
    assert!(service.takes(&first).await);
}

/// A token like `token` that claims to be issued at `iat`, signed with a key that was stolen.
fn forged(stolen: &Secret, token: &str, iat: i64) -> String {
    let mut claims = claims(token);
    claims["iat"] = json!(iat);
    claims["exp"] = json!(iat + 3600);
    stolen.sign(&jsonwebtoken::decode_header(token).unwrap(), &claims)
}

#[tokio::test]
async fn a_replaced_key_verifies_no_token_issued_later() {
    for by_function in [false, true] {
        let service = Service::with_settings(ROTATING).await;
        let user = service.user().create().await;
        let token = service.token_of(&user).await;
        let stolen = service.jwt_secret().await;
        let later = || forged(&stolen, &token, micros_now() / 1_000_000 + 30);
        assert!(service.takes(&later()).await);

        if by_function {
            let version = Uuid::new_v4().to_string();
            for next in STEPS {
                step(&service, next, &version).await.unwrap();
            }
        } else {
            service.rotate(&service.jwt_secret_id).await;
        }

        assert!(service.takes(&token).await);
        assert!(!service.takes(&later()).await);
        assert!(service.takes(&service.token_of(&user).await).await);
    }
}

/// Functions continue to sign with a replaced key while it is cached.
#[tokio::test]
async fn a_replaced_key_verifies_tokens_issued_within_the_cache_time() {
    let service = Service::with_settings([("SECRETS_CACHE_SECONDS", "3600")]).await;
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    let replaced = service.jwt_secret().await;

    service.rotate(&service.jwt_secret_id).await;
    let secret = service.jwt_secret().await;
    let header = Header { kid: Some(secret.version_id.clone()), ..Header::default() };
    // From here on the function knows that the first key is replaced.
    assert!(service.takes(&secret.sign(&header, &claims(&token))).await);

    assert!(service.takes(&forged(&replaced, &token, micros_now() / 1_000_000 + 30)).await);
}

#[tokio::test]
async fn a_code_survives_a_rotation_of_its_key() {
    let service = Service::with_settings([("SECRETS_CACHE_SECONDS", "0")]).await;
    let user = service.user().create().await;
    let code = service.code_for(&user).await;

    service.rotate(&service.code_key_id).await;

    service.check_code(&user.username, &code).await.is(CODE_CORRECT);
    let newer = service.code_for(&user).await;
    service.check_code(&user.username, &newer).await.is(CODE_CORRECT);
}

/// RFC 7518 §3.2: a key of HS256 has 256 bits at least.
#[tokio::test]
async fn a_key_that_is_too_short_signs_and_verifies_nothing() {
    let service = Service::with_settings([("SECRETS_CACHE_SECONDS", "0")]).await;
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    let replace = async |key: &str| {
        let put = json!({"SecretId": service.jwt_secret_id, "SecretString": key});
        service.secrets_manager("PutSecretValue", &put).await
    };

    replace(&"k".repeat(31)).await;
    for answer in [service.signin(&user.username, PASSWORD).await, service.sessions(&token).await] {
        assert_eq!((answer.status, &answer.json()["error_code"]), (500, &json!("internal_error")));
    }

    replace(&"k".repeat(32)).await;
    service.token_of(&user).await;
}

#[tokio::test]
async fn the_issuer_is_configured() {
    let service = Service::with_settings([("JWT_ISSUER", "postern.example.com")]).await;
    let user = service.user().create().await;

    let token = service.token_of(&user).await;

    assert_eq!(claims(&token)["iss"], json!("postern.example.com"));
    assert!(service.takes(&token).await);
    let mut claims = claims(&token);
    claims["iss"] = json!("lumen-jwt");
    let header = jsonwebtoken::decode_header(&token).unwrap();
    assert!(!service.takes(&service.jwt_secret().await.sign(&header, &claims)).await);
}

/// One step of a rotation, as Secrets Manager asks for it.
pub(crate) async fn step(service: &Service, step: &str, version: &str) -> Result<Value, Value> {
    let event = json!({"Step": step, "SecretId": service.jwt_secret_id, "ClientRequestToken": version});
    service.try_invoke("rotate_jwt_secret", &event).await
}

/// Everything about the secret that a rotation could change.
async fn state(service: &Service) -> (Value, Secret) {
    let description =
        service.secrets_manager("DescribeSecret", &json!({"SecretId": service.jwt_secret_id})).await;
    (description["VersionIdsToStages"].clone(), service.jwt_secret().await)
}

#[tokio::test]
async fn every_step_of_a_rotation_is_idempotent() {
    let service = Service::with_settings(ROTATING).await;
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    let (_, before) = state(&service).await;
    let version = Uuid::new_v4().to_string();

    step(&service, "createSecret", &version).await.unwrap();
    let (stages, made) = state(&service).await;
    assert_eq!(made.version_id, version);
    let key = &made.value;
    assert!(key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{}", key.len());
    assert_ne!(*key, before.value);
    // Secrets Manager takes a rotation to be under way while AWSPENDING is on another version than AWSCURRENT.
    let expected = json!({&before.version_id: ["AWSPREVIOUS"], &version: ["AWSCURRENT", "AWSPENDING"]});
    assert_eq!(stages, expected);

    for again in STEPS.into_iter().chain(STEPS) {
        step(&service, again, &version).await.unwrap();
        let (stages, current) = state(&service).await;
        assert_eq!((&stages, &current.value), (&expected, key), "{again}");
    }
    assert!(service.takes(&token).await);
}

#[tokio::test]
async fn steps_for_an_unknown_version_fail() {
    let service = Service::with_settings(ROTATING).await;
    let (stages, before) = state(&service).await;
    let version = Uuid::new_v4().to_string();

    for refused in ["finishSecret", "deleteSecret"] {
        assert!(step(&service, refused, &version).await.is_err(), "{refused}");
    }

    let (stages_after, after) = state(&service).await;
    assert_eq!((stages_after, after.value), (stages, before.value));
}

/// Secrets Manager does that when a deployment sets up the rotation, or changes its schedule.
#[tokio::test]
async fn a_test_of_the_rotation_succeeds_without_one() {
    let service = Service::with_settings([("JWT_ALGORITHM", "ES256")]).await;
    let (stages, before) = state(&service).await;
    step(&service, "testSecret", &Uuid::new_v4().to_string()).await.unwrap();
    let (stages_after, after) = state(&service).await;
    assert_eq!((stages_after, after.value), (stages, before.value));

    let damaged = json!({"SecretId": service.jwt_secret_id, "SecretString": "{"});
    service.secrets_manager("PutSecretValue", &damaged).await;
    assert!(step(&service, "testSecret", &Uuid::new_v4().to_string()).await.is_err());
}

#[tokio::test]
async fn a_replaced_version_does_not_become_current_again() {
    let service = Service::with_settings(ROTATING).await;
    let [first, second, third] = [(); 3].map(|()| Uuid::new_v4().to_string());
    for version in [&first, &second, &third] {
        for next in STEPS {
            step(&service, next, version).await.unwrap();
        }
    }
    let (stages, current) = state(&service).await;
    assert_eq!(current.version_id, third);

    // A step that Secrets Manager repeats too late pushes no version out that tokens still need.
    for too_late in [&first, &second] {
        for again in ["createSecret", "finishSecret"] {
            assert!(step(&service, again, too_late).await.is_err(), "{again}");
            let (stages_after, after) = state(&service).await;
            assert_eq!((&stages_after, &after.value), (&stages, &current.value), "{again}");
        }
    }
}

/// Verifiers elsewhere know the keys by the key set alone.
#[tokio::test]
async fn a_step_that_comes_too_late_unpublishes_no_key() {
    let service = Service::with_settings([ROTATING[0], ROTATING[1], ("JWT_ALGORITHM", "ES256")]).await;
    let user = service.user().create().await;
    let [first, second] = [(); 2].map(|()| Uuid::new_v4().to_string());
    for version in [&first, &second] {
        step(&service, "createSecret", version).await.unwrap();
    }
    let before = service.key_set().await;
    let functions = service.stack.as_ref().unwrap().template().functions().unwrap();
    let key_set_id = functions[0].variables["JWT_KEY_SET_ID"].clone();

    for too_late in ["createSecret", "revokeKeys"] {
        assert!(step(&service, too_late, &first).await.is_err(), "{too_late}");

        let after = service.secrets_manager("GetSecretValue", &json!({"SecretId": key_set_id})).await;
        let after: Value = serde_json::from_str(after["SecretString"].as_str().unwrap()).unwrap();
        for key in &before.keys[..2] {
            let kid = key.common.key_id.as_deref().unwrap();
            let mut kept = after["keys"].as_array().unwrap().iter().filter(|key| key["until"].is_null());
            assert!(kept.any(|key| key["key"]["kid"] == kid), "{too_late}: {kid} of {after}");
        }
        let kid = jsonwebtoken::decode_header(service.token_of(&user).await).unwrap().kid.unwrap();
        assert!(service.key_set().await.find(&kid).is_some());
    }
}

#[tokio::test]
async fn a_version_is_not_replaced_before_its_minimum_age() {
    let service = Service::with_settings([]).await;
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    let (stages, before) = state(&service).await;
    let version = Uuid::new_v4().to_string();

    for refused in ["createSecret", "createSecret", "finishSecret"] {
        assert!(step(&service, refused, &version).await.is_err(), "{refused}");
    }

    let (stages_after, after) = state(&service).await;
    assert_eq!((stages_after, after.value), (stages, before.value));
    assert!(service.takes(&token).await);
    assert_eq!(
        jsonwebtoken::decode_header(service.token_of(&user).await).unwrap().kid,
        Some(before.version_id)
    );
}

/// Signs in by password and by session, and uses the new tokens and the earlier ones.
async fn use_everything(service: &Service, user: &User, session_token: &str, before: &[String]) {
    let issued =
        [service.token_of(user).await, service.session_signin(session_token).await.token_of_session()];
    for token in before.iter().chain(&issued) {
        assert_eq!(service.session_ids(token).await.len(), 1);
        assert!(service.takes(token).await);
    }
}

/// Rotates the secret under load. No request fails, and no token issued since the last rotation is refused. Returns a
/// token from before the rotation.
async fn rotate_under_load(service: &Service) -> String {
    let progress = Notify::new();
    let rotated = AtomicBool::new(false);
    let version = Uuid::new_v4().to_string();

    let load = join_all((0..3).map(async |_| {
        let user = service.user().create().await;
        let (token, session_token) = service.session_of(&user).await;
        let before = [token, service.session_signin(&session_token).await.token_of_session()];
        while !rotated.load(Relaxed) {
            use_everything(service, &user, &session_token, &before).await;
            progress.notify_one();
        }
        use_everything(service, &user, &session_token, &before).await;
        before
    }));
    let rotation = async {
        for next in STEPS {
            for _ in 0..3 {
                progress.notified().await;
            }
            step(service, next, &version).await.unwrap();
        }
        progress.notified().await;
        rotated.store(true, Relaxed);
    };
    let (tokens, ()) = join(load, rotation).await;

    assert_eq!(service.jwt_secret().await.version_id, version);
    tokens.into_iter().flatten().next().unwrap()
}

#[tokio::test]
async fn two_rotations_under_load_refuse_no_request() {
    let service = Service::with_settings(ROTATING).await;

    let first = rotate_under_load(&service).await;
    assert!(service.takes(&first).await);
    let second = rotate_under_load(&service).await;

    assert!(service.takes(&second).await);
    assert!(!service.takes(&first).await);
    service.sessions(&first).await.is(TOKEN_INCORRECT);
}

#[tokio::test]
async fn a_rotation_unknown_to_the_caches_refuses_no_request() {
    let service = Service::with_settings([("JWT_ROTATION_MIN_INTERVAL_SECONDS", "0")]).await;

    let token = rotate_under_load(&service).await;

    assert!(service.takes(&token).await);
}
