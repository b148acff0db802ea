//! Tokens that other services can verify: RS256 and ES256, the published keys, and moves between algorithms.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use functions::Started;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use lambda_http::Context;
use serde_json::{Value, json};
use shared::settings::Settings;
use support::{Options, Stack};
use uuid::Uuid;

use super::rotation::{STEPS, step};
use crate::documents::events::read;
use crate::helpers::{ApiResponse, CHANGE_PASSWORD_URL, KEY_SET, METADATA, PASSWORD, Service, User, claims};

const ALGORITHMS: [&str; 2] = ["RS256", "ES256"];
const ISSUER: &str = "https://auth.example.com";

/// A service with public keys that can be rotated at once.
async fn rotating(algorithm: &str) -> Service {
    let settings = [
        ("JWT_ALGORITHM", algorithm),
        ("JWT_ISSUER", ISSUER),
        ("JWT_ROTATION_MIN_INTERVAL_SECONDS", "0"),
        ("SECRETS_CACHE_SECONDS", "0"),
    ];
    Service::with_settings(settings).await
}

async fn rotate(service: &Service) {
    let version = Uuid::new_v4().to_string();
    for next in STEPS {
        step(service, next, &version).await.unwrap();
    }
}

fn header(token: &str) -> Header {
    jsonwebtoken::decode_header(token).unwrap()
}

fn kid(token: &str) -> String {
    header(token).kid.unwrap()
}

fn ids(keys: &JwkSet) -> Vec<String> {
    keys.keys.iter().map(|key| key.common.key_id.clone().unwrap()).collect()
}

/// Verifies a token as another service does: with the published key that it names.
fn is_verified_by(keys: &JwkSet, token: &str) -> bool {
    let Some(key) = keys.find(&kid(token)) else {
        return false;
    };
    let algorithm = key.common.key_algorithm.unwrap();
    let mut validation = Validation::new(algorithm.to_string().parse().unwrap());
    validation.set_issuer(&[ISSUER]);
    validation.validate_aud = false;
    jsonwebtoken::decode::<Value>(token, &DecodingKey::from_jwk(key).unwrap(), &validation).is_ok()
}

/// The key pair `current` or `next` of a service.
async fn key_pair(service: &Service, which: &str) -> EncodingKey {
    let pairs: Value = serde_json::from_str(&service.jwt_secret().await.value).unwrap();
    let pkcs8 = BASE64_STANDARD.decode(pairs[which].as_str().unwrap()).unwrap();
    if pairs["algorithm"] == "RS256" {
        EncodingKey::from_rsa_der(&pkcs8)
    } else {
        EncodingKey::from_ec_der(&pkcs8)
    }
}

#[tokio::test]
async fn tokens_are_verified_with_the_published_keys() {
    for algorithm in ALGORITHMS {
        let service = rotating(algorithm).await;
        let user = service.user().create().await;
        let token = service.token_of(&user).await;

        let answer = ApiResponse::to(service.request("GET", KEY_SET)).await;
        let keys = service.key_set().await;

        assert_eq!(answer.header("cache-control"), Some("public, max-age=300"));
        assert_eq!(keys.keys.len(), 2);
        assert_eq!(header(&token).alg, algorithm.parse().unwrap());
        assert_eq!(header(&token).typ.as_deref(), Some("JWT"));
        assert_eq!((kid(&token), &claims(&token)["iss"]), (ids(&keys)[0].clone(), &json!(ISSUER)));
        assert!(is_verified_by(&keys, &token));
        assert!(service.takes(&token).await);
    }
}

/// The thumbprint by RFC 7638 §3.1 of the example key there, with the members that the key set adds.
#[tokio::test]
async fn a_key_is_named_by_its_thumbprint() {
    let service = rotating("RS256").await;
    for key in service.key_set().await.keys {
        let AlgorithmParameters::RSA(rsa) = &key.algorithm else { panic!("{key:?}") };
        let members = format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, rsa.e, rsa.n);
        let thumbprint = <sha2::Sha256 as sha2::Digest>::digest(members);
        assert_eq!(key.common.key_id, Some(BASE64_URL_SAFE_NO_PAD.encode(thumbprint)));
    }
}

#[tokio::test]
async fn the_metadata_names_the_issuer_and_the_key_set() {
    let service = rotating("ES256").await;
    let answer = ApiResponse::to(service.request("GET", METADATA)).await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, Some("public, max-age=300")));
    let expected = json!({
        "issuer": ISSUER,
        "jwks_uri": format!("{ISSUER}{KEY_SET}"),
        "authorization_endpoint": format!("{ISSUER}/"),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    });
    assert_eq!(answer.json(), expected);
}

#[tokio::test]
async fn hs256_publishes_nothing() {
    let service = Service::with_settings([]).await;
    for path in [KEY_SET, METADATA] {
        let answer = ApiResponse::to(service.request("GET", path)).await;
        assert_eq!((answer.status, &*answer.body), (404, r#"{"message":"Not Found"}"#));
    }
}

#[tokio::test]
async fn the_well_known_url_leads_to_the_page_to_change_a_password() {
    let answer = ApiResponse::to(Service::new().request("GET", CHANGE_PASSWORD_URL)).await;
    assert_eq!((answer.status, answer.header("location")), (302, Some("/change-password")));
}

#[tokio::test]
async fn the_key_that_will_sign_next_is_published_before_it_does() {
    for algorithm in ALGORITHMS {
        let service = rotating(algorithm).await;
        let user = service.user().create().await;
        let first = service.token_of(&user).await;
        let before = service.key_set().await;

        rotate(&service).await;
        let second = service.token_of(&user).await;
        let after = service.key_set().await;

        assert_eq!(kid(&second), ids(&before)[1]);
        assert_eq!(ids(&after)[0], kid(&second));
        assert_eq!(ids(&after)[2], kid(&first));
        for token in [&first, &second] {
            assert!(is_verified_by(&before, token) && is_verified_by(&after, token));
            assert!(service.takes(token).await);
        }

        rotate(&service).await;
        assert!(!ids(&service.key_set().await).contains(&kid(&first)));
        assert!(!service.takes(&first).await);
        assert!(service.takes(&second).await);
    }
}

#[tokio::test]
async fn a_key_that_verifiers_may_not_have_yet_is_not_promoted() {
    for interval in ["7200", "1"] {
        let settings = [("JWT_ALGORITHM", "ES256"), ("JWT_ROTATION_MIN_INTERVAL_SECONDS", interval)];
        let service = Service::with_settings(settings).await;
        let (secret, keys) = (service.jwt_secret().await, service.key_set().await);

        assert!(step(&service, "createSecret", &Uuid::new_v4().to_string()).await.is_err());

        assert_eq!(service.jwt_secret().await.value, secret.value);
        assert_eq!(service.key_set().await, keys);
    }
}

#[tokio::test]
async fn an_audience_is_issued_and_verified() {
    for algorithm in ["HS256", "ES256"] {
        let settings = [("JWT_ALGORITHM", algorithm), ("JWT_AUDIENCE", "orders")];
        let service = Service::with_settings(settings).await;
        let user = service.user().create().await;
        let token = service.token_of(&user).await;
        assert_eq!(claims(&token)["aud"], "orders");
        assert!(service.takes(&token).await);

        for (audience, is_right) in [
            (json!("orders"), true),
            (json!(["billing", "orders"]), true),
            (json!(["billing"]), false),
            (json!("billing"), false),
            (json!([]), false),
            (json!(""), false),
            (Value::Null, false),
            (json!(["orders", 1]), false),
        ] {
            let mut claims = claims(&token);
            claims["aud"] = audience;
            assert_eq!(
                service.takes(&sign_like(&service, &token, &claims).await).await,
                is_right,
                "{claims}"
            );
        }
        let mut claims = claims(&token);
        claims.as_object_mut().unwrap().remove("aud");
        assert!(!service.takes(&sign_like(&service, &token, &claims).await).await);
    }
}

/// Signs claims with the service's own key, under the header of `token`.
async fn sign_like(service: &Service, token: &str, claims: &Value) -> String {
    let header = header(token);
    if header.alg == Algorithm::HS256 {
        service.jwt_secret().await.sign(&header, claims)
    } else {
        jsonwebtoken::encode(&header, claims, &key_pair(service, "current").await).unwrap()
    }
}

#[tokio::test]
async fn another_issuer_is_refused() {
    for algorithm in ALGORITHMS {
        let service = rotating(algorithm).await;
        let token = service.token_of(&service.user().create().await).await;
        for (issuer, is_right) in
            [(ISSUER, true), ("lumen-jwt", false), ("https://auth.example.com/", false), ("", false)]
        {
            let mut claims = claims(&token);
            claims["iss"] = json!(issuer);
            assert_eq!(
                service.takes(&sign_like(&service, &token, &claims).await).await,
                is_right,
                "{issuer}"
            );
        }
    }
}

/// RFC 8725 §2.1, §2.3, §3.1, §3.10; CVE-2022-21449 for the signature of zeros.
#[tokio::test]
async fn a_public_key_forges_no_token() {
    for (algorithm, alg) in [("RS256", Algorithm::RS256), ("ES256", Algorithm::ES256)] {
        let (service, attacker) = (rotating(algorithm).await, rotating(algorithm).await);
        let token = service.token_of(&service.user().create().await).await;
        let (header, claims) = (header(&token), claims(&token));
        let key = service.key_set().await.keys.remove(0);
        let own = key_pair(&attacker, "current").await;
        let own_key = attacker.key_set().await.keys.remove(0);
        let mut forged = Vec::new();

        // The public key as a secret of HMAC.
        let symmetric = |header: &Value, secret: Vec<u8>| {
            let [header, payload] =
                [header, &claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.to_string()));
            let message = format!("{header}.{payload}");
            let mac = jsonwebtoken::crypto::sign(
                message.as_bytes(),
                &EncodingKey::from_secret(&secret),
                Algorithm::HS256,
            );
            format!("{message}.{}", mac.unwrap())
        };
        for secret in as_bytes(&key) {
            for alg in ["HS256", algorithm] {
                forged.push(symmetric(&json!({"typ": "JWT", "alg": alg, "kid": header.kid}), secret.clone()));
            }
        }
        // Another key: by its own name, under the name of the right one, and brought along.
        let jwk = own_key.common.key_id.clone();
        for kid in [header.kid.clone(), jwk, None, Some("../../key".to_owned())] {
            let plain = Header { kid, ..Header::new(alg) };
            let by_value = Header { jwk: Some(own_key.clone()), ..plain.clone() };
            let by_url = Header { jku: Some(format!("{ISSUER}{KEY_SET}")), ..plain.clone() };
            for header in [plain, by_value, by_url] {
                forged.push(jsonwebtoken::encode(&header, &claims, &own).unwrap());
            }
        }
        // The key that will sign next.
        let next = service.key_set().await.keys.remove(1).common.key_id;
        let next = Header { kid: next, ..Header::new(alg) };
        forged.push(jsonwebtoken::encode(&next, &claims, &key_pair(&service, "next").await).unwrap());
        // No signature, or one of zeros.
        let message = token.rsplit_once('.').unwrap().0;
        forged.push(format!("{message}."));
        for length in [1, 64, 256] {
            forged.push(format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(vec![0; length])));
        }

        for forged in &forged {
            assert!(!service.takes(forged).await, "{forged}");
        }
        assert!(service.takes(&token).await);
    }
}

/// A public key as text and as bytes.
fn as_bytes(key: &Jwk) -> Vec<Vec<u8>> {
    let text = serde_json::to_string(key).unwrap().into_bytes();
    let (member, own) = match &key.algorithm {
        AlgorithmParameters::RSA(rsa) => (&rsa.n, Vec::new()),
        AlgorithmParameters::EllipticCurve(ec) => {
            let point = [&ec.x, &ec.y].map(|part| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).concat();
            (&ec.x, [&[4][..], &point].concat())
        }
        other => panic!("{other:?}"),
    };
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(member).unwrap();
    [text, member.clone().into_bytes(), bytes, own].into_iter().filter(|bytes| !bytes.is_empty()).collect()
}

#[tokio::test]
async fn revoked_keys_verify_nothing_at_once() {
    for algorithm in ["HS256", "ES256"] {
        let service = rotating(algorithm).await;
        let user = service.user().create().await;
        let before = service.token_of(&user).await;
        rotate(&service).await;
        let current = service.token_of(&user).await;
        let stolen = service.jwt_secret().await;

        let version = Uuid::new_v4().to_string();
        for _ in 0..2 {
            step(&service, "revokeKeys", &version).await.unwrap();
        }

        for token in [before, current.clone()] {
            assert!(!service.takes(&token).await);
        }
        assert_eq!(service.jwt_secret().await.version_id, version);
        assert!(service.takes(&service.token_of(&user).await).await);
        if algorithm == "HS256" {
            assert!(!service.takes(&stolen.sign(&header(&current), &claims(&current))).await);
        } else {
            let keys = ids(&service.key_set().await);
            assert!(keys.len() == 2 && !keys.contains(&kid(&current)));
            assert_ne!(kid(&service.token_of(&user).await), kid(&current));
        }
    }
}

#[tokio::test]
async fn a_secret_that_is_neither_a_string_nor_key_pairs_signs_nothing() {
    let service = rotating("ES256").await;
    let user = service.user().create().await;
    let good = service.jwt_secret().await.value;
    for bad in [
        "{}".to_owned(),
        format!("{{{}", "k".repeat(64)),
        good.replace("ES256", "RS256"),
        good.replace("ES256", "HS256"),
        good.replacen("\"current\":\"", "\"current\":\"AAAA", 1),
    ] {
        let put = json!({"SecretId": service.jwt_secret_id, "SecretString": bad});
        service.secrets_manager("PutSecretValue", &put).await;
        let answer = service.signin(&user.username, PASSWORD).await;
        assert_eq!((answer.status, &answer.json()["error_code"]), (500, &json!("internal_error")), "{bad}");
    }
    // It is not rotated, but replaced.
    let version = Uuid::new_v4().to_string();
    assert!(step(&service, "createSecret", &version).await.is_err());
    step(&service, "revokeKeys", &version).await.unwrap();
    service.token_of(&user).await;
}

/// A deployed version of the functions, beside those of the stack and with other settings.
struct Version {
    signin: Box<dyn Started>,
    sessions: Box<dyn Started>,
    rotate: Box<dyn Started>,
}

impl Version {
    fn new(service: &Service, settings: &[(&str, &str)]) -> Self {
        let stack = service.stack.as_ref().unwrap();
        let deployed = stack.template().functions().unwrap();
        let start = |name: &str| {
            let function = deployed.iter().find(|function| function.name == name).unwrap();
            let mut variables = function.variables.clone();
            let aws = [
                ("AWS_REGION", "eu-central-1"),
                ("AWS_ACCESS_KEY_ID", "test"),
                ("AWS_SECRET_ACCESS_KEY", "test"),
                ("AWS_ENDPOINT_URL", &stack.aws_url()),
            ];
            let own = settings.iter().chain(&aws).map(|&(name, value)| (name.to_owned(), value.to_owned()));
            variables.extend(own);
            let settings = Settings::new(move |name| variables.get(name).cloned());
            let aws = shared::aws::config(&settings).unwrap();
            functions::find(name).unwrap().start(&settings, &aws).unwrap()
        };
        Self { signin: start("signin"), sessions: start("sessions"), rotate: start("rotate_jwt_secret") }
    }

    async fn token_of(&self, user: &User) -> String {
        let mut event = read("signin/without_session");
        event["body"] = json!(json!({"username": user.username, "password": PASSWORD}).to_string());
        let answer = invoke(&*self.signin, &event).await;
        let body: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
        body["token"].as_str().unwrap_or_else(|| panic!("{body}")).to_owned()
    }

    async fn takes(&self, token: &str) -> bool {
        let mut event = read("sessions/list_with_header");
        event["headers"]["authorization"] = json!(format!("Bearer {token}"));
        invoke(&*self.sessions, &event).await["statusCode"] == 200
    }

    async fn rotate(&self, service: &Service) {
        let version = Uuid::new_v4().to_string();
        let rotation =
            json!({"Step": "createSecret", "SecretId": service.jwt_secret_id, "ClientRequestToken": version});
        invoke(&*self.rotate, &rotation).await;
    }
}

async fn invoke(function: &dyn Started, event: &Value) -> Value {
    let answer = function.invoke(event.to_string().as_bytes(), Context::default()).await;
    serde_json::from_slice(&answer.unwrap()).unwrap()
}

#[tokio::test]
async fn versions_with_two_algorithms_accept_the_tokens_of_each_other() {
    let service = Service::with_settings([]).await;
    let key_set = format!("{}/key-set", Uuid::new_v4());
    service.secrets_manager("CreateSecret", &json!({"Name": key_set})).await;
    let user = service.user().create().await;
    let common = [("JWT_ROTATION_MIN_INTERVAL_SECONDS", "0"), ("JWT_KEY_SET_ID", key_set.as_str())];
    let hs256 = [("SECRETS_CACHE_SECONDS", "0")];
    let es256 = [("SECRETS_CACHE_SECONDS", "0"), ("JWT_ALGORITHM", "ES256"), ("JWT_ISSUER", ISSUER)];
    let old = Version::new(&service, &[&common[..], &hs256].concat());
    let new = Version::new(&service, &[&common[..], &es256].concat());

    let mut tokens = vec![old.token_of(&user).await, new.token_of(&user).await];
    for token in &tokens {
        assert!(old.takes(token).await && new.takes(token).await);
    }

    new.rotate(&service).await;
    let of_new = [old.token_of(&user).await, new.token_of(&user).await];
    for token in &of_new {
        assert_eq!((header(token).alg, &claims(token)["iss"]), (Algorithm::ES256, &json!(ISSUER)));
    }
    tokens.extend(of_new.clone());
    for token in &tokens {
        assert!(old.takes(token).await && new.takes(token).await);
    }

    // And back.
    old.rotate(&service).await;
    let of_old = [old.token_of(&user).await, new.token_of(&user).await];
    for token in of_new.iter().chain(&of_old) {
        assert!(old.takes(token).await && new.takes(token).await);
    }
    assert_eq!(of_old.each_ref().map(|token| header(token).alg), [Algorithm::HS256; 2]);
}

#[tokio::test]
async fn a_local_stack_that_starts_with_another_algorithm_keeps_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let name = format!("postern-{}", Uuid::new_v4().simple());
    let start = async |algorithm: &str| {
        let options = Options {
            data_dir: Some(folder.path().to_owned()),
            settings: [("JWT_ALGORITHM".to_owned(), algorithm.to_owned())].into(),
            name: Some(name.clone()),
            ..Options::default()
        };
        let stack = Stack::start(options).await.unwrap();
        let (api, aws) = (stack.api_url(), stack.aws_url());
        Service::at(&api, &aws, Some(stack))
    };
    let service = start("HS256").await;
    let user = service.user().create().await;
    let mut before = service.token_of(&user).await;
    shut_down(service).await;

    for algorithm in ["RS256", "ES256", "HS256"] {
        let service = start(algorithm).await;
        let token = service.token_of(&user).await;
        assert_eq!(header(&token).alg, algorithm.parse().unwrap());
        for token in [&before, &token] {
            assert!(service.takes(token).await, "{algorithm}");
        }
        if algorithm != "HS256" {
            // The issuer is the API, unless told otherwise.
            let metadata = ApiResponse::to(service.request("GET", METADATA)).await.json();
            assert_eq!(claims(&token)["iss"], metadata["issuer"]);
            assert!(metadata["issuer"].as_str().unwrap().starts_with("http://127.0.0.1:"));
        }
        before = token;
        shut_down(service).await;
    }
}

async fn shut_down(mut service: Service) {
    let stack = service.stack.take().unwrap();
    std::sync::Arc::into_inner(stack).unwrap().shutdown().await;
}
