//! The rotation of the secrets, with no redeployment.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use futures_util::future::{join, join_all};
use serde_json::{Value, json};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::answers::{CODE_CORRECT, TOKEN_INCORRECT};
use crate::helpers::{PASSWORD, Secret, Service, User, claims};

/// The steps of a rotation, in their order.
pub(crate) const STEPS: [&str; 4] = ["createSecret", "setSecret", "testSecret", "finishSecret"];
/// With these, rotations may follow one another at once, and nothing goes on signing with a replaced version.
const ROTATING: [(&str, &str); 2] =
    [("JWT_ROTATION_MIN_INTERVAL_SECONDS", "0"), ("SECRETS_CACHE_SECONDS", "0")];

#[tokio::test]
async fn tokens_outlive_one_rotation_of_the_secret_and_new_ones_name_the_new_version() {
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
async fn a_version_that_the_cache_does_not_know_is_fetched() {
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

#[tokio::test]
async fn a_code_outlives_a_rotation_of_its_key() {
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
async fn every_step_of_a_rotation_can_be_repeated() {
    let service = Service::with_settings(ROTATING).await;
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    let (_, before) = state(&service).await;
    let version = Uuid::new_v4().to_string();
    let pending = async || {
        let get = json!({"SecretId": service.jwt_secret_id, "VersionId": version});
        service.secrets_manager("GetSecretValue", &get).await["SecretString"].clone()
    };

    step(&service, "createSecret", &version).await.unwrap();
    let made = pending().await;
    let key = made.as_str().unwrap();
    assert!(key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{}", key.len());
    assert_ne!(key, before.value);
    step(&service, "createSecret", &version).await.unwrap();
    assert_eq!(pending().await, made);
    for _ in 0..2 {
        step(&service, "setSecret", &version).await.unwrap();
        step(&service, "testSecret", &version).await.unwrap();
    }
    let (stages, current) = state(&service).await;
    assert_eq!(stages, json!({&before.version_id: ["AWSCURRENT"], &version: ["AWSPENDING"]}));
    assert_eq!(current.value, before.value);

    for _ in 0..2 {
        step(&service, "finishSecret", &version).await.unwrap();
        let (stages, current) = state(&service).await;
        assert_eq!((&current.version_id, current.value.as_str()), (&version, key));
        assert_eq!(stages[&before.version_id], json!(["AWSPREVIOUS"]));
    }
    // Nor does the whole of it change anything once it is done.
    for again in STEPS {
        step(&service, again, &version).await.unwrap();
    }
    assert_eq!(state(&service).await.1.value, key);
    assert!(service.takes(&token).await);
    assert_eq!(pending().await, made);
}

#[tokio::test]
async fn a_version_that_was_not_made_does_not_become_current() {
    let service = Service::with_settings(ROTATING).await;
    let (stages, before) = state(&service).await;
    let version = Uuid::new_v4().to_string();

    for too_early in ["testSecret", "finishSecret"] {
        assert!(step(&service, too_early, &version).await.is_err(), "{too_early}");
    }
    assert!(step(&service, "deleteSecret", &version).await.is_err());

    let (stages_after, after) = state(&service).await;
    assert_eq!((stages_after, after.value), (stages, before.value));
}

#[tokio::test]
async fn only_the_pending_version_becomes_current() {
    let service = Service::with_settings(ROTATING).await;
    let [first, abandoned, second] = [(); 3].map(|()| Uuid::new_v4().to_string());
    for next in STEPS {
        step(&service, next, &first).await.unwrap();
    }
    step(&service, "createSecret", &abandoned).await.unwrap();
    for next in STEPS {
        step(&service, next, &second).await.unwrap();
    }
    let (stages, current) = state(&service).await;
    assert_eq!(current.version_id, second);

    // What Secrets Manager repeats too late undoes nothing, and pushes no version out that tokens still need.
    for too_late in [&first, &abandoned] {
        assert!(step(&service, "finishSecret", too_late).await.is_err());
        let (stages_after, after) = state(&service).await;
        assert_eq!((&stages_after, &after.value), (&stages, &current.value));
    }
}

#[tokio::test]
async fn a_version_that_is_too_young_is_not_replaced() {
    let service = Service::with_settings([]).await;
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    let (stages, before) = state(&service).await;
    let version = Uuid::new_v4().to_string();

    for refused in ["createSecret", "createSecret", "testSecret", "finishSecret"] {
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

/// Signs in by the password and by the session, and uses what that gives and what there was before.
async fn use_everything(service: &Service, user: &User, session_token: &str, before: &[String]) {
    let issued =
        [service.token_of(user).await, service.session_signin(session_token).await.token_of_session()];
    for token in before.iter().chain(&issued) {
        assert_eq!(service.session_ids(token).await.len(), 1);
        assert!(service.takes(token).await);
    }
}

/// Rotates the secret while users come and go. No request fails, and no token is refused that was issued since the
/// rotation before. Returns a token of before.
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
async fn two_rotations_under_load_refuse_nobody() {
    let service = Service::with_settings(ROTATING).await;

    let first = rotate_under_load(&service).await;
    assert!(service.takes(&first).await);
    let second = rotate_under_load(&service).await;

    assert!(service.takes(&second).await);
    assert!(!service.takes(&first).await);
    service.sessions(&first).await.is(TOKEN_INCORRECT);
}

#[tokio::test]
async fn a_rotation_that_the_caches_do_not_know_of_refuses_nobody() {
    let service = Service::with_settings([("JWT_ROTATION_MIN_INTERVAL_SECONDS", "0")]).await;

    let token = rotate_under_load(&service).await;

    assert!(service.takes(&token).await);
}
