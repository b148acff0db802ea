//! The functions and a minimal stand-in for AWS in one process, shared by the fuzz targets.

pub mod es256;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::LazyLock;

use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use aws_types::SdkConfig;
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use functions::{Entry, FUNCTIONS, Started};
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use lambda_runtime::Context;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Sha256, Sha384, Sha512};
use shared::settings::Settings;
use tokio::runtime::Runtime;

/// The secret that signs tokens by HS256, and its only version.
const SECRET: &str = "0123456789abcdefghijklmnopqrstuv";
/// The `kid` of tokens by HS256.
pub const VERSION: &str = "1";
/// The name of the only user.
pub const USERNAME: &str = "st.huber";
/// The id of the only user.
pub const USER_ID: &str = "33";

/// The service, started on first use.
pub static SERVICE: LazyLock<Service> = LazyLock::new(|| Service::new(&[]));

/// The id of the secret whose value is [`STORED`].
pub const STORED_ID: &str = "stored";

thread_local! {
    /// The value of one secret.
    pub static STORED: RefCell<String> = const { RefCell::new(String::new()) };
    static DYNAMODB_CALLED: Cell<bool> = const { Cell::new(false) };
}

static EVENT: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../../events/signin/without_session.json")).unwrap()
});

/// All functions in this process.
pub struct Service {
    runtime: Runtime,
    functions: HashMap<&'static str, Box<dyn Started>>,
}

/// The answer to a request, with a sign of how far the request got.
pub struct Answer {
    /// The status.
    pub status: u64,
    /// The body, always an object.
    pub body: Value,
    /// True if the request called DynamoDB.
    pub called_dynamodb: bool,
}

impl Service {
    /// Starts all functions with these settings.
    ///
    /// # Panics
    ///
    /// Panics if the settings are wrong.
    #[must_use]
    pub fn new(settings: &'static [(&'static str, &'static str)]) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let settings = Settings::new(|variable| {
            let common = [
                ("MAIL_FROM", "no-reply@example.com"),
                ("CORS_ALLOW_ORIGINS", "*"),
                // The smoke test signs requests itself.
                ("AWS_REGION", "us-east-1"),
                ("AWS_ACCESS_KEY_ID", "local"),
                ("AWS_SECRET_ACCESS_KEY", "local"),
            ];
            let mut all = settings.iter().chain(&common);
            let value = all.find(|(name, _)| *name == variable).map(|(_, value)| (*value).to_owned());
            // The versions that the smoke test invokes, which no target does.
            value.or_else(|| variable.starts_with("SMOKE_TEST_").then(|| "version".to_owned()))
        });
        let aws = aws();
        let start = |function: &Entry| (function.name, function.start(&settings, &aws).unwrap());
        Self { runtime, functions: FUNCTIONS.iter().map(start).collect() }
    }

    /// Runs a future to completion.
    pub fn run<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Sends an event to a function.
    ///
    /// # Panics
    ///
    /// Panics if there is no such function, or if its answer is not a JSON object.
    pub fn answer(&self, function: &str, event: &impl Serialize) -> Answer {
        let response = self.invoke(function, event).unwrap();
        let body = response["body"].as_str().unwrap();
        let body: Value = serde_json::from_str(body).unwrap();
        assert!(body.is_object(), "{body}");
        let status = response["statusCode"].as_u64().unwrap();
        Answer { status, body, called_dynamodb: DYNAMODB_CALLED.get() }
    }

    /// Sends an event to a function, and returns its response.
    ///
    /// # Errors
    ///
    /// Returns the error that the function fails with.
    ///
    /// # Panics
    ///
    /// Panics if there is no such function, or if its response is not JSON.
    pub fn invoke(&self, function: &str, event: &impl Serialize) -> Result<Value, functions::Error> {
        DYNAMODB_CALLED.set(false);
        let event = serde_json::to_vec(event).unwrap();
        let response = self.run(self.functions[function].invoke(&event, Context::default()))?;
        Ok(serde_json::from_slice(&response).unwrap())
    }
}

/// A POST request to a route with this body and `Authorization` header, in the form that API Gateway sends.
#[must_use]
pub fn event(route: &str, authorization: &str, body: &[u8]) -> Value {
    let mut event = EVENT.clone();
    event["requestContext"]["routeKey"] = route.into();
    event["headers"]["authorization"] = authorization.into();
    event["body"] = BASE64_STANDARD.encode(body).into();
    event["isBase64Encoded"] = true.into();
    event
}

/// A token of the only user that is valid for the next hour.
///
/// # Panics
///
/// Panics if the clock is set to a time before 1970.
#[must_use]
pub fn valid_token() -> String {
    let claims = json!({
        "iss": "lumen-jwt",
        "sub": USER_ID,
        "iat": now(),
        "exp": now() + 3600,
        "jti": "a",
        "stamp": "b",
    });
    sign(&json!({"alg": "HS256", "kid": VERSION}), &claims)
}

/// The time in seconds since 1970.
///
/// # Panics
///
/// Panics if the clock is set to an earlier time.
#[must_use]
pub fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}

/// A token that is signed with the service's key. The algorithm is HS384 or HS512 if the header names it,
/// and HS256 otherwise.
#[must_use]
pub fn sign(header: &Value, claims: &Value) -> String {
    token(header, claims, |message| match header["alg"].as_str() {
        Some("HS384") => mac::<Hmac<Sha384>>(SECRET.as_bytes(), message),
        Some("HS512") => mac::<Hmac<Sha512>>(SECRET.as_bytes(), message),
        _ => mac::<Hmac<Sha256>>(SECRET.as_bytes(), message),
    })
}

fn token(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let [header, claims] = [header, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.to_string()));
    let message = format!("{header}.{claims}");
    let signature = sign(message.as_bytes());
    format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

fn mac<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac = <M as KeyInit>::new_from_slice(key).unwrap();
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

fn aws() -> SdkConfig {
    let client = http_client_fn(|_, _| SharedHttpConnector::new(Aws));
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
            "fuzz", "fuzz", None, None, "fuzz",
        )))
        .region(Region::new("eu-central-1"))
        .endpoint_url("http://localhost")
        .retry_config(RetryConfig::disabled())
        .http_client(client)
        .build()
}

/// A stand-in for AWS with a few secrets and one user. It refuses every other call with an error that is not retried, so a
/// valid request is answered with 500 when it makes such a call.
#[derive(Debug)]
struct Aws;

impl HttpConnector for Aws {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        DYNAMODB_CALLED.set(DYNAMODB_CALLED.get() || target.starts_with("DynamoDB"));
        let (status, body) = match target {
            "secretsmanager.GetSecretValue" => {
                (200, json!({"VersionId": VERSION, "SecretString": secret(&request), "CreatedDate": 0}))
            }
            "DynamoDB_20120810.GetItem" => (200, json!({"Item": user()})),
            // Answers reads of a token's user, but not those of a sign-in, which would compute a password hash.
            "DynamoDB_20120810.BatchGetItem" if !reads_attempts(&request) => {
                (200, json!({"Responses": {"postern-users": [user()]}}))
            }
            _ => (400, json!({"__type": "AccessDeniedException"})),
        };
        let status = StatusCode::try_from(status).unwrap();
        HttpConnectorFuture::ready(Ok(HttpResponse::new(status, SdkBody::from(body.to_string()))))
    }
}

/// The value of the secret that a request is for.
fn secret(request: &HttpRequest) -> String {
    let body = serde_json::from_slice::<Value>(request.body().bytes().unwrap_or_default()).unwrap();
    match body["SecretId"].as_str() {
        Some(STORED_ID) => STORED.with_borrow(Clone::clone),
        Some(es256::SECRET_ID) => es256::secret(),
        _ => SECRET.to_owned(),
    }
}

fn reads_attempts(request: &HttpRequest) -> bool {
    let body = String::from_utf8_lossy(request.body().bytes().unwrap_or_default());
    body.contains("postern-attempts")
}

/// The item of the only user, which also serves as the reservation of the user's id.
fn user() -> Value {
    json!({
        "username": {"S": USERNAME},
        "display_username": {"S": USERNAME},
        "user_id": {"S": USER_ID},
        "password_hash": {"S": "$2b$04$......................w74bL5gU7LSJClZClCa.Pkz14aTv/XO"},
        "security_stamp": {"S": "b"},
        "recovery_stamp": {"S": "c"},
        "session_owner": {"S": "0123456789abcdefghijkl"},
        "sessions_opened": {"N": "0"},
        "email_addresses": {"L": [{"S": "st.huber@example.com"}]},
        "activated": {"BOOL": true},
        "must_change_password": {"BOOL": false},
        "created_at": {"N": "0"},
        "own_changes": {"L": []},
    })
}
