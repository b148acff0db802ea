//! A client of the service: requests to the API and direct invocations of functions.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_types::SdkConfig;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::header::{HeaderMap, HeaderName};
use serde_json::{Value, json};
use shared::settings::{ConfigError, Settings};
use shared::store::TableNames;
use support::{Options, Stack};
use uuid::Uuid;

use super::users::NewUser;
use super::{
    ApiResponse, CHANGE_MY_PASSWORD, CHANGE_PASSWORD, CHANGE_PASSWORD_AFTER_SIGNIN, CHECK_CODE,
    CHECK_OLD_PASSWORD, LOG_OUT, NEW_PASSWORD, PASSWORD, PASSWORD_HASH, RESET_PASSWORD, SEND_EMAIL,
    SESSION_INFORMATION, SESSION_SIGNIN, SESSIONS, SIGNIN, User, unknown_username,
};
use crate::answers::SENT;

/// The headers that the edge adds to requests.
pub(crate) const ORIGIN_SECRET: &str = "x-origin-secret";
pub(crate) const VIEWER_ADDRESS: &str = "cloudfront-viewer-address";

/// The service as seen by one client, and its operator's view. Each client has a source address of its own, so that no
/// test uses up another's budget of failures.
#[derive(Clone)]
pub(crate) struct Service {
    api: String,
    pub(super) aws: String,
    /// The source address of this client, or the one that the edge sees; `None` if the API runs on another machine.
    pub(crate) address: Option<IpAddr>,
    pub(super) http: reqwest::Client,
    /// The secret of the edge through which this client sends its requests, if it does.
    origin_secret: Option<String>,
    pub(super) store: aws_sdk_dynamodb::Client,
    pub(crate) tables: TableNames,
    /// The secret that signs tokens.
    pub(crate) jwt_secret_id: String,
    /// The secret that hashes codes.
    pub(crate) code_key_id: String,
    /// The secret of the edge.
    pub(crate) origin_secret_id: String,
    /// The stack of this test alone, which runs until the last clone is dropped.
    pub(crate) stack: Option<Arc<Stack>>,
}

impl Service {
    /// The service that all tests share.
    pub(crate) fn new() -> Self {
        let endpoints = support::endpoints();
        Self::at(&endpoints.api, &endpoints.aws, None)
    }

    /// A service of this test alone, with its own settings. Its tables have a unique prefix, because an external DynamoDB
    /// is shared by all tests.
    pub(crate) async fn with_settings<const N: usize>(settings: [(&str, &str); N]) -> Self {
        let name = Some(format!("postern-{}", Uuid::new_v4().simple()));
        let settings = settings.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let stack = Stack::start(Options { name, settings, ..Options::default() }).await.unwrap();
        let (api, aws) = (stack.api_url(), stack.aws_url());
        Self::at(&api, &aws, Some(stack))
    }

    pub(crate) fn at(api: &str, aws: &str, stack: Option<Stack>) -> Self {
        let (address, http) = client_of(api, None);
        // Tests may wait longer than requests.
        let store =
            aws_config(aws, None).unwrap().into_builder().timeout_config(TimeoutConfig::disabled()).build();
        let deployed = stack.as_ref().map(|stack| stack.template().functions().unwrap().remove(0).variables);
        let settings = Settings::new(move |name| match &deployed {
            Some(variables) => variables.get(name).cloned(),
            None => std::env::var(name).ok(),
        });
        Self {
            api: api.to_owned(),
            aws: aws.to_owned(),
            address,
            http,
            origin_secret: None,
            store: aws_sdk_dynamodb::Client::new(&store),
            tables: TableNames::from_settings(&settings),
            jwt_secret_id: settings.text("JWT_SECRET_ID", "postern/jwt-secret"),
            code_key_id: settings.text("CODE_KEY_SECRET_ID", "postern/code-key"),
            origin_secret_id: settings.text("ORIGIN_SECRET_ID", "postern/origin-secret"),
            stack: stack.map(Arc::new),
        }
    }

    /// The same service as seen by a client at another address.
    pub(crate) fn seen_from_elsewhere(&self) -> Self {
        let (address, http) = client_of(&self.api, self.origin_secret.as_deref());
        Self { address, http, ..self.clone() }
    }

    /// The same service as seen by a client at another address that uses the edge with this secret.
    pub(crate) fn through_edge(&self, origin_secret: &str) -> Self {
        Self { origin_secret: Some(origin_secret.to_owned()), ..self.clone() }.seen_from_elsewhere()
    }

    /// A user who signed in from this client's network, and a client in another one. `None` if all requests come from one
    /// network because the API is elsewhere.
    pub(crate) async fn owner_and_stranger(&self) -> Option<(User, Self)> {
        self.address?;
        let user = self.user().create().await;
        self.token_of(&user).await;
        Some((user, self.seen_from_elsewhere()))
    }

    /// Returns the content type and the text of a page that is served beside the AWS services.
    pub(crate) async fn page(&self, path: &str) -> (String, String) {
        let response = self.http.get(format!("{}{path}", self.aws)).send().await.unwrap();
        let kind = response.headers()[reqwest::header::CONTENT_TYPE].to_str().unwrap().to_owned();
        (kind, response.text().await.unwrap())
    }

    /// Builds a request to the API that [`Service::post`] cannot express.
    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method.parse().unwrap(), format!("{}{path}", self.api))
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> ApiResponse {
        ApiResponse::to(self.request("POST", path).body(body)).await
    }

    pub(crate) async fn post_json(&self, path: &str, body: &Value) -> ApiResponse {
        ApiResponse::to(self.request("POST", path).json(body)).await
    }

    pub(crate) async fn signin(&self, username: &str, password: &str) -> ApiResponse {
        self.post_json(SIGNIN, &json!({"username": username, "password": password})).await
    }

    pub(crate) async fn change_password_after_signin(
        &self,
        username: &str,
        old: &str,
        new: &str,
    ) -> ApiResponse {
        let body = json!({"username": username, "old_password": old, "new_password": new});
        self.post_json(CHANGE_PASSWORD_AFTER_SIGNIN, &body).await
    }

    pub(crate) async fn send_email(&self, username: &str) -> ApiResponse {
        self.post_json(SEND_EMAIL, &json!({"username": username})).await
    }

    pub(crate) async fn check_code(&self, username: &str, code: &str) -> ApiResponse {
        self.post_json(CHECK_CODE, &json!({"username": username, "code": code})).await
    }

    pub(crate) async fn reset_password(&self, username: &str, code: &str, new: &str) -> ApiResponse {
        let body = json!({"username": username, "code": code, "new_password": new});
        self.post_json(RESET_PASSWORD, &body).await
    }

    pub(crate) async fn change_password(&self, token: &str, old: &str, new: &str) -> ApiResponse {
        let body = json!({"old_password": old, "new_password": new, "new_password_check": new});
        self.change_password_as(&format!("Bearer {token}"), &body).await
    }

    pub(crate) async fn change_password_as(&self, authorization: &str, body: &Value) -> ApiResponse {
        ApiResponse::to(
            self.request("POST", CHANGE_PASSWORD).header("authorization", authorization).json(body),
        )
        .await
    }

    /// Checks a password of the token's user as the original clients do, with the token in the query.
    pub(crate) async fn check_old_password(&self, token: &str, password: &str) -> ApiResponse {
        let path = format!("{CHECK_OLD_PASSWORD}?token={token}");
        self.post_json(&path, &json!({"password": password})).await
    }

    /// Changes the password as the original clients do, with the token in the query.
    pub(crate) async fn change_my_password(&self, token: &str, old: &str, new: &str) -> ApiResponse {
        let path = format!("{CHANGE_MY_PASSWORD}?token={token}");
        self.post_json(&path, &json!({"old_password": old, "new_password": new})).await
    }

    /// Returns whether the service accepts a token. The empty request changes nothing and counts no failure.
    pub(crate) async fn takes(&self, token: &str) -> bool {
        let answer = self.change_password_as(&format!("Bearer {token}"), &json!({})).await;
        match answer.status {
            422 => true,
            401 => false,
            _ => panic!("{answer:?}"),
        }
    }

    /// Signs the user in with [`PASSWORD`].
    pub(crate) async fn token_of(&self, user: &User) -> String {
        self.signin(&user.username, PASSWORD).await.token()
    }

    /// Signs the user in with [`PASSWORD`] and `stay_logged_in`, and returns the token and the session token.
    pub(crate) async fn session_of(&self, user: &User) -> (String, String) {
        let body = json!({
            "username": user.username,
            "password": PASSWORD,
            "session_information": SESSION_INFORMATION,
            "stay_logged_in": true,
        });
        self.post_json(SIGNIN, &body).await.token_and_session_token()
    }

    /// Makes a forced change from [`PASSWORD`] to [`NEW_PASSWORD`] with `stay_logged_in`, and returns the token and the
    /// session token.
    pub(crate) async fn session_of_forced_change(&self, user: &User) -> (String, String) {
        let body = json!({
            "username": user.username,
            "old_password": PASSWORD,
            "new_password": NEW_PASSWORD,
            "session_information": SESSION_INFORMATION,
            "stay_logged_in": true,
        });
        self.post_json(CHANGE_PASSWORD_AFTER_SIGNIN, &body).await.token_and_session_token()
    }

    pub(crate) async fn session_signin(&self, session_token: &str) -> ApiResponse {
        self.post_json(SESSION_SIGNIN, &json!({"session_token": session_token})).await
    }

    pub(crate) async fn sessions(&self, token: &str) -> ApiResponse {
        ApiResponse::to(self.request("GET", SESSIONS).bearer_auth(token)).await
    }

    /// Returns the ids of the user's sessions in the order of the list, as used in a path.
    pub(crate) async fn session_ids(&self, token: &str) -> Vec<String> {
        let answer = self.sessions(token).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let sessions = answer.json()["sessions"].as_array().unwrap().clone();
        sessions.iter().map(|session| session["id"].as_u64().unwrap().to_string()).collect()
    }

    pub(crate) async fn delete_session(&self, token: &str, id: &str) -> ApiResponse {
        ApiResponse::to(self.request("DELETE", &format!("{SESSIONS}/{id}")).bearer_auth(token)).await
    }

    pub(crate) async fn log_out(&self, token: &str, session_token: &str) -> ApiResponse {
        let body = json!({"session_token": session_token});
        ApiResponse::to(self.request("POST", LOG_OUT).bearer_auth(token).json(&body)).await
    }

    /// Requests a code for the user and returns it from the mail.
    pub(crate) async fn code_for(&self, user: &User) -> String {
        self.send_email(&user.username).await.is(SENT);
        self.mails_to(&user.email).await.last().unwrap().code()
    }

    /// A new user: by default activated, with [`PASSWORD`] and one address.
    pub(crate) fn user(&self) -> NewUser<'_> {
        let username = unknown_username();
        let fields = json!({
            "action": "create",
            "username": username,
            "password_hash": PASSWORD_HASH,
            "email_addresses": [format!("{username}@example.com")],
            "activated": true,
        });
        NewUser { service: self, fields }
    }

    /// Invokes `manage_users` and returns its response.
    pub(crate) async fn manage(&self, payload: &Value) -> Value {
        self.invoke("manage_users", payload).await
    }

    /// Invokes an action of `manage_users` that needs only a username, and returns its response.
    pub(crate) async fn manage_user(&self, action: &str, user: &User) -> Value {
        self.manage(&json!({"action": action, "username": user.username})).await
    }

    /// Changes fields of a user.
    pub(crate) async fn update(&self, user: &User, fields: Value) {
        let mut update = fields;
        update["action"] = json!("update");
        update["username"] = json!(user.username);
        let answer = self.manage(&update).await;
        assert_eq!(answer["ok"], true, "{answer}");
    }

    /// Notifies users of sign-ins as `CloudWatch` Logs does, with these lines of the log and their times.
    pub(crate) async fn notify(&self, lines: &[(i64, String)]) -> Result<Value, Value> {
        self.notify_by("DATA_MESSAGE", lines).await
    }

    /// Invokes `notify_sign_in` with a message of this type.
    pub(crate) async fn notify_by(&self, kind: &str, lines: &[(i64, String)]) -> Result<Value, Value> {
        let events = lines.iter().enumerate().map(|(number, (timestamp, message))| {
            json!({"id": format!("{timestamp}-{number}"), "timestamp": timestamp, "message": message})
        });
        let events: Value = events.collect();
        let batch = json!({"messageType": kind, "logEvents": events}).to_string();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(batch.as_bytes()).unwrap();
        let data = BASE64_STANDARD.encode(encoder.finish().unwrap());
        self.try_invoke("notify_sign_in", &json!({"awslogs": {"data": data}})).await
    }

    /// Asks the authorizer about a token as an HTTP API does, and returns its response, or the error that it fails with.
    pub(crate) async fn authorize(&self, token: &str) -> Result<Value, Value> {
        let event =
            json!({"version": "2.0", "type": "REQUEST", "identitySource": [format!("Bearer {token}")]});
        self.try_invoke("authorizer", &event).await
    }

    /// Invokes a Lambda function and returns its response.
    pub(crate) async fn invoke(&self, function: &str, payload: &Value) -> Value {
        self.try_invoke(function, payload).await.unwrap()
    }

    /// Invokes a Lambda function and returns its response, or the error that it fails with.
    pub(crate) async fn try_invoke(&self, function: &str, payload: &Value) -> Result<Value, Value> {
        self.invoke_raw(function, payload.to_string()).await
    }

    /// Invokes a function with a raw payload, for JSON that [`Value`] cannot represent.
    pub(crate) async fn invoke_raw(&self, function: &str, payload: String) -> Result<Value, Value> {
        let url = format!("{}/2015-03-31/functions/{function}/invocations", self.aws);
        let response = self.http.post(url).body(payload).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let failed = response.headers().contains_key("x-amz-function-error");
        let answer = response.json().await.unwrap();
        if failed { Err(answer) } else { Ok(answer) }
    }
}

/// A client, with a unique source address if the API runs on this machine or the client uses the edge with this secret.
fn client_of(api: &str, origin_secret: Option<&str>) -> (Option<IpAddr>, reqwest::Client) {
    let random = Uuid::new_v4().as_fields().0;
    if let Some(secret) = origin_secret {
        let address = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + random % 0x0100_0000));
        let headers = [(ORIGIN_SECRET, secret.to_owned()), (VIEWER_ADDRESS, format!("{address}:46532"))];
        let headers = headers.map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        let client = http_client().default_headers(HeaderMap::from_iter(headers));
        return (Some(address), client.build().unwrap());
    }
    let address = api
        .starts_with("http://127.")
        .then(|| IpAddr::V4(Ipv4Addr::from_bits(0x7f01_0000 + random % 0x00fe_0000)));
    (address, http_client().local_address(address).build().unwrap())
}

/// An HTTP client that shows redirects instead of following them.
fn http_client() -> reqwest::ClientBuilder {
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none())
}

/// The SDK's configuration for the AWS services at `url`, as a function has it, with this `AWS_CA_BUNDLE`.
pub(crate) fn aws_config(url: &str, ca_bundle: Option<&str>) -> Result<SdkConfig, ConfigError> {
    aws_config_as("test", url, ca_bundle)
}

/// The same with the access key of a function, whose rights the calls then have.
pub(crate) fn aws_config_as(
    access_key: &str,
    url: &str,
    ca_bundle: Option<&str>,
) -> Result<SdkConfig, ConfigError> {
    let (access_key, url, ca_bundle) = (access_key.to_owned(), url.to_owned(), ca_bundle.map(str::to_owned));
    shared::aws::config(&Settings::new(move |name| match name {
        "AWS_REGION" => Some("eu-central-1".to_owned()),
        "AWS_ACCESS_KEY_ID" => Some(access_key.clone()),
        "AWS_SECRET_ACCESS_KEY" => Some("test".to_owned()),
        "AWS_ENDPOINT_URL" => Some(url.clone()),
        "AWS_CA_BUNDLE" => ca_bundle.clone(),
        _ => None,
    }))
}
