//! Look-ups of the secret for key ids that tokens name.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use jsonwebtoken::{Algorithm, Header};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::helpers::{Secret, Service, claims};

/// A time far longer than the pause between look-ups of unknown key ids.
const HALF_A_MINUTE: Duration = Duration::from_secs(30);

/// Counts the calls that fetch secrets in one environment while `requests` run, and returns the allowed maximum too:
/// one look-up per second, of two calls each.
pub(in crate::rules) async fn look_ups(
    service: &Service,
    requests: impl Future<Output = ()>,
) -> (usize, u64) {
    let faults = service.stack.as_ref().unwrap().faults();
    let started = Instant::now();
    faults.begin(None);
    requests.await;
    let operations = faults.end().await;
    let most = 2 * (started.elapsed().as_secs() + 1);
    (operations.iter().filter(|operation| operation.starts_with("GetSecretValue")).count(), most)
}

#[tokio::test]
async fn unknown_key_ids_cost_one_lookup_a_second() {
    let service = Service::with_settings([]).await;
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    assert!(service.takes(&token).await);
    let (header, claims) = (jsonwebtoken::decode_header(&token).unwrap(), claims(&token));
    let secret = service.jwt_secret().await;
    let made_up =
        || secret.sign(&Header { kid: Some(Uuid::new_v4().to_string()), ..header.clone() }, &claims);

    let (calls, most) = look_ups(&service, async {
        for _ in 0..20 {
            assert!(!service.takes(&made_up()).await);
            assert!(service.takes(&token).await);
        }
    })
    .await;
    assert!((1..=most).contains(&(calls as u64)), "{calls} of {most}");

    let (calls, most) = look_ups(&service, async {
        let requests = join_all((0..20).map(async |_| service.takes(&made_up()).await));
        assert!(requests.await.iter().all(|taken| !taken));
    })
    .await;
    assert!(calls as u64 <= most, "{calls} of {most}");
}

#[tokio::test]
async fn invalid_tokens_cost_no_lookup() {
    let service = Service::with_settings([]).await;
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    assert!(service.takes(&token).await);
    let (header, claims) = (jsonwebtoken::decode_header(&token).unwrap(), claims(&token));
    let secret = service.jwt_secret().await;
    let forger = Secret { value: "f".repeat(64), version_id: secret.version_id.clone() };
    let with = |claim: &str, value: Value| {
        let mut claims = claims.clone();
        claims[claim] = value;
        claims
    };
    let issued = claims["iat"].as_i64().unwrap();
    let expired = {
        let mut claims = with("iat", json!(issued - 3601));
        claims["exp"] = json!(issued - 1);
        claims
    };

    let (calls, _) = look_ups(&service, async {
        for _ in 0..20 {
            assert!(!service.takes(&forger.sign(&header, &claims)).await);
        }
        let made_up = Header { kid: Some(Uuid::new_v4().to_string()), ..header.clone() };
        for (header, claims) in [
            (Header { alg: Algorithm::HS512, ..made_up.clone() }, claims.clone()),
            (Header { typ: Some("at+jwt".to_owned()), ..made_up.clone() }, claims.clone()),
            (Header { crit: Some(vec!["b64".to_owned()]), ..made_up.clone() }, claims.clone()),
            (Header { kid: None, ..made_up.clone() }, claims.clone()),
            (made_up.clone(), with("exp", json!(issued + 3601))),
            (made_up.clone(), with("exp", json!("1"))),
            (made_up.clone(), with("nbf", json!(issued + 7200))),
            (made_up.clone(), with("sub", json!(1))),
            (made_up.clone(), json!("claims")),
            (made_up, expired),
        ] {
            assert!(!service.takes(&forger.sign(&header, &claims)).await, "{header:?} {claims}");
        }
    })
    .await;
    assert_eq!(calls, 0);
}

#[tokio::test]
async fn a_new_key_is_accepted_soon_after_unknown_key_ids() {
    let service = Service::with_settings([]).await;
    let user = service.user().create().await;
    let first = service.token_of(&user).await;
    let (mut header, claims) = (jsonwebtoken::decode_header(&first).unwrap(), claims(&first));
    let old = service.jwt_secret().await;
    header.kid = Some(Uuid::new_v4().to_string());
    assert!(!service.takes(&old.sign(&header, &claims)).await);

    service.rotate(&service.jwt_secret_id).await;
    let secret = service.jwt_secret().await;
    header.kid = Some(secret.version_id.clone());
    let second = secret.sign(&header, &claims);

    let asked = Instant::now();
    while !service.takes(&second).await {
        assert!(asked.elapsed() < HALF_A_MINUTE, "still refused");
    }
    assert!(service.takes(&first).await);
}
