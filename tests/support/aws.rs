//! The port of all AWS services, which finds the service that a request is for.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::CONTENT_SECURITY_POLICY;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use serde_json::json;

use crate::dynamodb;
use crate::faults::{self, Faults};
use crate::iam::{self, Iam};
use crate::lambda::{self, Functions};
use crate::openapi;
use crate::operations::{self, Operations};
use crate::rotation;
use crate::secrets_manager::SecretsManager;
use crate::ses::{self, Inbox};
use crate::template::Function;

/// The region of all resources.
pub(crate) const REGION: &str = "eu-central-1";
/// The account of all resources.
pub(crate) const ACCOUNT: &str = "000000000000";
/// The largest request body, in bytes: the limit of DynamoDB.
pub const BODY_LIMIT: usize = 16 * 1024 * 1024;

/// The environment variables with the location of AWS and the credentials of a function, as Lambda and `sam local` set
/// them.
pub(crate) fn variables(function: &Function, region: &str, url: &str) -> [(&'static str, String); 4] {
    [
        ("AWS_REGION", region.to_owned()),
        ("AWS_ACCESS_KEY_ID", function.function_name.clone()),
        ("AWS_SECRET_ACCESS_KEY", "local".to_owned()),
        ("AWS_ENDPOINT_URL", url.to_owned()),
    ]
}

/// The router for all services at `AWS_ENDPOINT_URL`.
pub(crate) fn router(
    dynamodb: dynamodb::Client,
    secrets: Arc<SecretsManager>,
    inbox: Inbox,
    functions: Arc<Functions>,
    iam: Arc<Iam>,
    faults: Arc<Faults>,
    api_url: String,
) -> Router {
    let inbox = Arc::new(inbox);
    let operations = Arc::new(Operations::new(api_url, Arc::clone(&inbox)));
    let by_target =
        by_target(dynamodb, Arc::clone(&secrets), Arc::clone(&functions), Arc::clone(&operations));
    let mail = Router::new()
        .route(ses::SEND_EMAIL, post(ses::send_email))
        .route("/_aws/ses", get(ses::show).delete(ses::clear))
        .route("/_aws/ses.html", get(ses::page))
        .with_state(inbox);
    Router::new()
        .route("/", by_target)
        .route("/_aws/codedeploy", get(operations::show).with_state(operations))
        .route(
            &format!("{}{{name}}/invocations", lambda::FUNCTIONS),
            post(lambda::invoke).with_state(functions),
        )
        .merge(mail)
        .merge(openapi::router())
        .layer(middleware::from_fn_with_state((faults, Arc::clone(&iam)), faults::inject))
        .layer(middleware::from_fn_with_state((iam, secrets), iam::authorize))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
}

/// Serves the services whose requests name the operation in a header. `functions` rotate secrets.
pub(crate) fn by_target(
    dynamodb: dynamodb::Client,
    secrets: Arc<SecretsManager>,
    functions: Arc<Functions>,
    operations: Arc<Operations>,
) -> MethodRouter {
    post(call_target).with_state((dynamodb, secrets, functions, operations))
}

type ByTarget = (dynamodb::Client, Arc<SecretsManager>, Arc<Functions>, Arc<Operations>);

async fn call_target(
    State((dynamodb, secrets, functions, operations)): State<ByTarget>,
    head: Parts,
    body: Bytes,
) -> Response {
    match target(&head.headers) {
        Some(("secretsmanager", "RotateSecret")) => {
            rotation::rotate_secret(&secrets, &functions, &body).await
        }
        Some(("secretsmanager", operation)) => secrets.call(operation, &body),
        Some((service, _)) if service.starts_with("DynamoDB") => dynamodb.call(head, body).await,
        target => operations.call(target.unwrap_or_default(), &body),
    }
}

/// The service and the operation that are named in the header.
pub(crate) fn target(headers: &HeaderMap) -> Option<(&str, &str)> {
    headers.get("x-amz-target")?.to_str().ok()?.split_once('.')
}

/// The ARN of a resource in the local account and region.
pub(crate) fn arn(service: &str, resource: &str) -> String {
    format!("arn:aws:{service}:{REGION}:{ACCOUNT}:{resource}")
}

/// A page for a browser. Its content security policy keeps the displayed content from running or loading anything.
pub(crate) fn page(html: &'static str) -> Response {
    let policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; \
                  connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    ([(CONTENT_SECURITY_POLICY, policy)], Html(html)).into_response()
}

/// An error response for the SDKs, with its code in a header for the REST protocols and in the body for the others.
pub(crate) fn refuse(status: StatusCode, code: &'static str, message: &str) -> Response {
    let header = (HeaderName::from_static("x-amzn-errortype"), HeaderValue::from_static(code));
    let body = json!({"__type": code, "message": message});
    (status, [header], axum::Json(body)).into_response()
}
