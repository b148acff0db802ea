//! The rotation of the secrets, with no redeployment.

use serde_json::json;

use crate::answers::CODE_CORRECT;
use crate::helpers::{Service, claims};

const JWT_SECRET: &str = "postern/jwt-secret";

#[tokio::test]
async fn tokens_outlive_one_rotation_of_the_secret_and_new_ones_name_the_new_version() {
    let service = Service::with_settings([("SECRETS_CACHE_SECONDS", "0")]).await;
    let user = service.user().create().await;
    let first = service.token_of(&user).await;

    service.rotate(JWT_SECRET).await;
    let second = service.token_of(&user).await;

    let kid = |token: &str| jsonwebtoken::decode_header(token).unwrap().kid.unwrap();
    assert_ne!(kid(&first), kid(&second));
    assert_eq!(kid(&second), service.jwt_secret().await.version_id);
    assert!(service.takes(&first).await);
    assert!(service.takes(&second).await);

    service.rotate(JWT_SECRET).await;
    assert!(!service.takes(&first).await);
    assert!(service.takes(&second).await);
}

#[tokio::test]
async fn a_version_that_the_cache_does_not_know_is_fetched() {
    let service = Service::with_settings([]).await;
    let user = service.user().create().await;
    let first = service.token_of(&user).await;
    assert!(service.takes(&first).await);

    service.rotate(JWT_SECRET).await;
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

    service.rotate("postern/code-key").await;

    service.check_code(&user.username, &code).await.is(CODE_CORRECT);
    let newer = service.code_for(&user).await;
    service.check_code(&user.username, &newer).await.is(CODE_CORRECT);
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
    assert!(
        !service
            .takes(&service.jwt_secret().await.sign(&header, &claims))
            .await
    );
}
