//! What the fuzz targets share: the functions, with an AWS that is a few lines in this process.

use std::cell::Cell;
use std::sync::{Arc, LazyLock};

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
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use lambda_http::{Body, Request, Response};
use serde_json::{Value, json};
use sha2::{Sha256, Sha384, Sha512};
use shared::config::Environment;
use tokio::runtime::Runtime;

/// The secret that signs tokens, and its only version.
const SECRET: &str = "0123456789abcdefghijklmnopqrstuv";
/// The `kid` of tokens.
pub const VERSION: &str = "1";
/// The id of the only user.
pub const USER_ID: &str = "33";

/// The functions that anybody can call.
pub static SERVICE: LazyLock<Service> = LazyLock::new(Service::new);

thread_local! {
    static DYNAMODB_ASKED: Cell<bool> = const { Cell::new(false) };
}

/// The functions that anybody can call.
pub struct Service {
    runtime: Runtime,
    change_my_password: change_my_password::Function,
    change_password: change_password::Function,
    change_password_after_signin: change_password_after_signin::Function,
    check_code: forgot_password_check_code::Function,
    reset_password: forgot_password_reset_password::Function,
    send_email: forgot_password_send_email::Function,
    session_signin: session_signin::Function,
    sessions: Arc<sessions::Function>,
    signin: signin::Function,
}

/// What was answered, and how far the request got.
pub struct Answer {
    /// The status.
    pub status: u64,
    /// The body, which is always an object.
    pub body: Value,
    /// Whether DynamoDB was asked for anything.
    pub asked_dynamodb: bool,
}

impl Service {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let aws = aws();
        let environment = Environment::new(|variable| match variable {
            "MAIL_FROM" => Some("no-reply@example.com".to_owned()),
            _ => None,
        });
        let environment = &environment;
        Self {
            change_my_password: change_my_password::Function::new(environment, &aws).unwrap(),
            change_password: change_password::Function::new(environment, &aws).unwrap(),
            change_password_after_signin: change_password_after_signin::Function::new(environment, &aws)
                .unwrap(),
            check_code: forgot_password_check_code::Function::new(environment, &aws).unwrap(),
            reset_password: forgot_password_reset_password::Function::new(environment, &aws).unwrap(),
            send_email: forgot_password_send_email::Function::new(environment, &aws).unwrap(),
            session_signin: session_signin::Function::new(environment, &aws).unwrap(),
            sessions: Arc::new(sessions::Function::new(environment, &aws).unwrap()),
            signin: signin::Function::new(environment, &aws).unwrap(),
            runtime,
        }
    }

    /// Runs a future to its end.
    pub fn run<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// The answer of `function` to a request.
    ///
    /// # Panics
    ///
    /// If there is no such function, or the answer is not a JSON object.
    pub fn answer(&self, function: &str, request: Request) -> Answer {
        DYNAMODB_ASKED.set(false);
        let response = self.run(self.handle(function, request));
        let Body::Text(body) = response.body() else { panic!("an answer is a text") };
        answer(response.status().as_u16().into(), body)
    }

    /// The answer of `sessions` to an event.
    ///
    /// # Panics
    ///
    /// If the answer is not a JSON object.
    pub fn answer_event(&self, event: lambda_http::request::LambdaRequest) -> Answer {
        DYNAMODB_ASKED.set(false);
        let sessions = Arc::clone(&self.sessions);
        let mut service = shared::http::service(move |request| {
            let sessions = Arc::clone(&sessions);
            async move { sessions.handle(request).await }
        });
        let event = lambda_http::LambdaEvent::new(event, lambda_http::Context::default());
        let Ok(response) = self.run(lambda_http::Service::call(&mut service, event));
        let response = serde_json::to_value(&response).unwrap();
        answer(response["statusCode"].as_u64().unwrap(), response["body"].as_str().unwrap())
    }

    async fn handle(&self, function: &str, request: Request) -> Response<Body> {
        match function {
            "change_my_password" => self.change_my_password.handle(request).await,
            "change_password" => self.change_password.handle(request).await,
            "change_password_after_signin" => self.change_password_after_signin.handle(request).await,
            "forgot_password_check_code" => self.check_code.handle(request).await,
            "forgot_password_reset_password" => self.reset_password.handle(request).await,
            "forgot_password_send_email" => self.send_email.handle(request).await,
            "session_signin" => self.session_signin.handle(request).await,
            "sessions" => self.sessions.handle(request).await,
            "signin" => self.signin.handle(request).await,
            _ => panic!("there is no {function}"),
        }
    }
}

fn answer(status: u64, body: &str) -> Answer {
    let body: Value = serde_json::from_str(body).unwrap();
    assert!(body.is_object(), "{body}");
    Answer { status, body, asked_dynamodb: DYNAMODB_ASKED.get() }
}

/// A token of the only user, good for the next hour.
///
/// # Panics
///
/// If the clock stands before 1970.
#[must_use]
pub fn good_token() -> String {
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

/// Seconds since 1970.
///
/// # Panics
///
/// If the clock stands before that.
#[must_use]
pub fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}

/// A token with the service's own signature, by the algorithm that its header names, or else by HS256.
#[must_use]
pub fn sign(header: &Value, claims: &Value) -> String {
    let encode = |part: &Value| BASE64_URL_SAFE_NO_PAD.encode(part.to_string());
    let message = format!("{}.{}", encode(header), encode(claims));
    let signature = match header["alg"].as_str() {
        Some("HS384") => mac::<Hmac<Sha384>>(&message),
        Some("HS512") => mac::<Hmac<Sha512>>(&message),
        _ => mac::<Hmac<Sha256>>(&message),
    };
    format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

fn mac<M: Mac + KeyInit>(message: &str) -> Vec<u8> {
    let mut mac = <M as KeyInit>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(message.as_bytes());
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

/// Has one secret and one user, and refuses everything else for good. A request that is taken is therefore answered
/// 500, once it goes beyond reading.
#[derive(Debug)]
struct Aws;

impl HttpConnector for Aws {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        DYNAMODB_ASKED.set(DYNAMODB_ASKED.get() || target.starts_with("DynamoDB"));
        let (status, body) = match target {
            "secretsmanager.GetSecretValue" => {
                (200, json!({"VersionId": VERSION, "SecretString": SECRET, "CreatedDate": 0}))
            }
            "DynamoDB_20120810.GetItem" => (200, json!({"Item": user()})),
            // For the user of a token. A sign-in, which asks for its attempts as well, would hash each time.
            "DynamoDB_20120810.BatchGetItem" if !asks_for_attempts(&request) => {
                (200, json!({"Responses": {"postern-users": [user()]}}))
            }
            _ => (400, json!({"__type": "AccessDeniedException"})),
        };
        let status = StatusCode::try_from(status).unwrap();
        HttpConnectorFuture::ready(Ok(HttpResponse::new(status, SdkBody::from(body.to_string()))))
    }
}

fn asks_for_attempts(request: &HttpRequest) -> bool {
    let body = String::from_utf8_lossy(request.body().bytes().unwrap_or_default());
    body.contains("postern-attempts")
}

/// The only user, and the reservation of the user's id.
fn user() -> Value {
    json!({
        "username": {"S": "st.huber"},
        "display_username": {"S": "st.huber"},
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
