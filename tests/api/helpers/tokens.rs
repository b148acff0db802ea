//! The secret that signs tokens, and tokens signed with it.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, Header};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Sha256, Sha384, Sha512};
use uuid::Uuid;

use super::{ApiResponse, KEY_SET, Service};

impl Service {
    /// Calls Secrets Manager and returns its response.
    pub(crate) async fn secrets_manager(&self, operation: &str, parameters: &Value) -> Value {
        let response = self
            .http
            .post(&self.aws)
            .header("x-amz-target", format!("secretsmanager.{operation}"))
            .header("content-type", "application/x-amz-json-1.1")
            .body(parameters.to_string())
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
        response.json().await.unwrap()
    }

    /// The current version of a secret.
    pub(crate) async fn secret(&self, id: &str) -> Secret {
        let answer = self.secrets_manager("GetSecretValue", &json!({"SecretId": id})).await;
        serde_json::from_value(answer).unwrap()
    }

    /// The current secret that signs tokens.
    pub(crate) async fn jwt_secret(&self) -> Secret {
        self.secret(&self.jwt_secret_id).await
    }

    /// Makes a new version of a secret current. The version before it becomes the previous one.
    pub(crate) async fn rotate(&self, secret_id: &str) {
        let new = Uuid::new_v4();
        let secret = format!("{}{}", new.simple(), new.simple());
        self.secrets_manager(
            "PutSecretValue",
            &json!({"SecretId": secret_id, "SecretString": secret, "ClientRequestToken": new.to_string()}),
        )
        .await;
    }
}

/// Calls of `/.well-known`.
impl Service {
    /// The public keys that are published, by their ids.
    pub(crate) async fn key_set(&self) -> JwkSet {
        let answer = ApiResponse::to(self.request("GET", KEY_SET)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        serde_json::from_value(answer.json()).unwrap()
    }
}

/// One version of a secret.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Secret {
    pub(crate) version_id: String,
    #[serde(rename = "SecretString")]
    pub(crate) value: String,
}

impl Secret {
    /// Signs claims as the service would.
    pub(crate) fn sign(&self, header: &Header, claims: &Value) -> String {
        self.sign_bytes(header, claims.to_string().as_bytes())
    }

    /// Signs a payload that need not be JSON.
    pub(crate) fn sign_bytes(&self, header: &Header, payload: &[u8]) -> String {
        self.sign_parts(header.alg, &serde_json::to_vec(header).unwrap(), payload)
    }

    /// Signs (RFC 7515 §5.1) a header and a payload that need not be JSON, by any of HMAC's algorithms.
    pub(crate) fn sign_parts(&self, algorithm: Algorithm, header: &[u8], payload: &[u8]) -> String {
        let [header, payload] = [header, payload].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
        let message = format!("{header}.{payload}");
        let (key, bytes) = (self.value.as_bytes(), message.as_bytes());
        let signature = match algorithm {
            Algorithm::HS256 => mac::<Hmac<Sha256>>(key, bytes),
            Algorithm::HS384 => mac::<Hmac<Sha384>>(key, bytes),
            Algorithm::HS512 => mac::<Hmac<Sha512>>(key, bytes),
            other => panic!("{other:?}"),
        };
        format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}

fn mac<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Vec<u8> {
    M::new_from_slice(key).unwrap().chain_update(message).finalize().into_bytes().to_vec()
}

/// Returns the claims of a token without verifying its signature.
pub(crate) fn claims(token: &str) -> Value {
    jsonwebtoken::dangerous::insecure_decode::<Value>(token).unwrap().claims
}
