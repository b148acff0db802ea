//! Lambda: runs the functions, and answers `Invoke`.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use axum::body::Bytes;
use axum::extract::{Path as PathParameter, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use lambda_http::request::LambdaRequest;
use lambda_http::{Adapter, Body, Request, service_fn};
use lambda_runtime::{Context, LambdaEvent, Service};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use shared::config::{ConfigError, Environment};
use tokio::sync::{RwLock, Semaphore};
use tokio::time::timeout;
use uuid::Uuid;

use crate::aws;
use crate::runtime_api::Environments;
use crate::stack::StartError;

/// How long an invocation may take, as `template.yaml` has it.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(15);
/// How many invocations run at the same time in this process. More would only compete for its cores, until the
/// functions took the delay for a slow dependency. The others wait, as they do for an account's concurrency.
const CONCURRENCY: usize = 32;
/// The largest payload of a call.
const MAX_PAYLOAD: usize = 6 * 1024 * 1024;

/// The deployed functions by their names.
pub(crate) struct Functions {
    functions: HashMap<&'static str, Arc<Function>>,
    /// Read by every invocation for as long as it runs.
    running: Arc<RwLock<()>>,
}

enum Function {
    InProcess { handler: Handler, concurrency: Arc<Semaphore> },
    Binary(Environments),
}

type Handler = Box<dyn Fn(Bytes, Context) -> Pin<Box<dyn Future<Output = Outcome> + Send>> + Send + Sync>;

/// What an invocation came to: the function's answer, or its error.
pub(crate) type Outcome = Result<Bytes, FunctionError>;

/// What a function failed with, as JSON.
#[derive(Debug)]
pub(crate) struct FunctionError(pub(crate) Bytes);

impl FunctionError {
    pub(crate) fn new(error_type: &str, message: &str) -> Self {
        Self(json!({"errorType": error_type, "errorMessage": message}).to_string().into())
    }

    pub(crate) fn timed_out(request_id: &str) -> Self {
        let message = format!(
            "RequestId: {request_id} Error: Task timed out after {:.2} seconds",
            TIMEOUT.as_secs_f32()
        );
        Self::new("Sandbox.Timedout", &message)
    }
}

impl Functions {
    /// The functions in this process, talking to the AWS services at `aws_url`.
    pub(crate) async fn in_process(environment: &Environment, aws_url: &str) -> Result<Self, ConfigError> {
        // Nothing of this machine's own AWS configuration counts: neither its variables nor the files that they name.
        let loader = aws_config::defaults(BehaviorVersion::latest())
            .empty_test_environment()
            .test_credentials()
            .region(Region::new(aws::REGION))
            .endpoint_url(aws_url);
        let aws = shared::aws::configure(loader).load().await;
        let concurrency = Arc::new(Semaphore::new(CONCURRENCY));
        let functions = handlers(environment, &aws)?.into_iter().map(|(name, handler)| {
            (name, Arc::new(Function::InProcess { handler, concurrency: Arc::clone(&concurrency) }))
        });
        Ok(Self { functions: functions.collect(), running: Arc::default() })
    }

    /// The functions as the binaries in a folder, talking to the AWS services at `aws_url`.
    pub(crate) async fn as_binaries(
        folder: &Path,
        settings: &HashMap<String, String>,
        aws_url: &str,
    ) -> Result<Self, StartError> {
        let mut functions = HashMap::new();
        for name in NAMES {
            let environments = Environments::start(name, &folder.join(name), settings, aws_url).await?;
            functions.insert(name, Arc::new(Function::Binary(environments)));
        }
        Ok(Self { functions, running: Arc::default() })
    }

    /// Runs a function, if there is one of this name. It runs to its end, even if nobody waits for it any more.
    pub(crate) async fn invoke(&self, name: &str, payload: Bytes) -> Option<Outcome> {
        let (&name, function) = self.functions.get_key_value(name)?;
        let function = Arc::clone(function);
        let running = Arc::clone(&self.running).read_owned().await;
        let task = tokio::spawn(async move {
            let _running = running;
            function.run(name, payload).await
        });
        Some(task.await.unwrap_or_else(|error| Err(FunctionError::new("Runtime.Panic", &error.to_string()))))
    }

    /// Waits for the invocations that are running.
    pub(crate) async fn finish(&self) {
        drop(self.running.write().await);
    }
}

impl Function {
    async fn run(&self, name: &str, payload: Bytes) -> Outcome {
        let request_id = Uuid::new_v4().to_string();
        match self {
            Self::InProcess { handler, concurrency } => {
                let Ok(_slot) = concurrency.acquire().await else {
                    return Err(FunctionError::new("Runtime.Stopped", "stopped"));
                };
                let handled = timeout(TIMEOUT, handler(payload, context(name, &request_id)));
                handled.await.unwrap_or_else(|_| Err(FunctionError::timed_out(&request_id)))
            }
            Self::Binary(environments) => environments.run(request_id, payload).await,
        }
    }
}

/// When an invocation that starts now has to be done, in milliseconds since the epoch.
pub(crate) fn deadline() -> u64 {
    let deadline = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + TIMEOUT;
    u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX)
}

fn context(name: &str, request_id: &str) -> Context {
    let mut context = Context::default();
    request_id.clone_into(&mut context.request_id);
    context.deadline = deadline();
    context.invoked_function_arn = arn(name);
    context.xray_trace_id = Some(trace_id());
    context
}

/// An X-Ray trace id of a trace that is not sampled.
pub(crate) fn trace_id() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (trace, segment) = (Uuid::new_v4().simple().to_string(), Uuid::new_v4().simple().to_string());
    format!("Root=1-{seconds:08x}-{trace:.24};Parent={segment:.16};Sampled=0")
}

/// Every function's name, which is also its crate's and its binary's.
const NAMES: [&str; 11] = [
    "signin",
    "change_password_after_signin",
    "forgot_password_send_email",
    "forgot_password_check_code",
    "forgot_password_reset_password",
    "change_password",
    "session_signin",
    "sessions",
    "manage_users",
    "export_users",
    "rotate_jwt_secret",
];

fn handlers(environment: &Environment, aws: &SdkConfig) -> Result<Vec<(&'static str, Handler)>, ConfigError> {
    macro_rules! http {
        ($name:ident) => {{
            let function = Arc::new($name::Function::new(environment, aws)?);
            let handler = http_handler(move |request| {
                let function = Arc::clone(&function);
                async move { function.handle(request).await }
            });
            (stringify!($name), handler)
        }};
    }
    macro_rules! event {
        ($name:ident, $answer:expr) => {{
            let function = Arc::new($name::Function::new(environment, aws)?);
            let handler = event_handler(move |event| {
                let function = Arc::clone(&function);
                async move { $answer(function.handle(event).await) }
            });
            (stringify!($name), handler)
        }};
    }
    Ok(vec![
        http!(signin),
        http!(change_password_after_signin),
        http!(forgot_password_send_email),
        http!(forgot_password_check_code),
        http!(forgot_password_reset_password),
        http!(change_password),
        http!(session_signin),
        http!(sessions),
        event!(manage_users, Ok),
        event!(export_users, Ok),
        event!(rotate_jwt_secret, std::convert::identity),
    ])
}

/// A function that takes events of its own.
fn event_handler<E, R, F, A>(answer: F) -> Handler
where
    E: DeserializeOwned + Send,
    R: Serialize,
    F: Fn(LambdaEvent<E>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Result<R, lambda_runtime::Error>> + Send + 'static,
{
    Box::new(move |payload, context| {
        let answer = answer.clone();
        Box::pin(async move {
            let event = serde_json::from_slice(&payload).map_err(|error| unreadable(&error))?;
            let answer = answer(LambdaEvent::new(event, context)).await;
            let answer = answer.map_err(|error| FunctionError::new("Error", &error.to_string()))?;
            Ok(serde_json::to_vec(&answer).map_err(|error| unreadable(&error))?.into())
        })
    })
}

/// A function that takes HTTP requests, behind the same translation from and to events as in Lambda.
fn http_handler<F, A>(answer: F) -> Handler
where
    F: Fn(Request) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = lambda_http::Response<Body>> + Send + 'static,
{
    Box::new(move |payload, context| {
        let answer = answer.clone();
        Box::pin(async move {
            let event: LambdaRequest =
                serde_json::from_slice(&payload).map_err(|error| unreadable(&error))?;
            let mut service = Adapter::from(service_fn(move |request| {
                let answer = answer(request);
                async { Ok::<_, Infallible>(answer.await) }
            }));
            let response = match service.call(LambdaEvent::new(event, context)).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            Ok(serde_json::to_vec(&response).map_err(|error| unreadable(&error))?.into())
        })
    })
}

fn unreadable(error: &serde_json::Error) -> FunctionError {
    FunctionError::new("Runtime.UnmarshalError", &error.to_string())
}

/// `Invoke`
pub(crate) async fn invoke(
    State(functions): State<Arc<Functions>>,
    PathParameter(name): PathParameter<String>,
    headers: HeaderMap,
    payload: Bytes,
) -> Response {
    let refuse = |status: StatusCode, code: &'static str, message: &str| {
        let body = json!({"Type": "User", "Message": message});
        (status, [("x-amzn-errortype", code)], axum::Json(body)).into_response()
    };
    let name = function_name(&name).to_owned();
    if !functions.functions.contains_key(name.as_str()) {
        let message = format!("Function not found: {}", arn(&name));
        return refuse(StatusCode::NOT_FOUND, "ResourceNotFoundException", &message);
    }
    if payload.len() > MAX_PAYLOAD {
        let message = format!("Request must be smaller than {MAX_PAYLOAD} bytes for the Invoke operation");
        return refuse(StatusCode::PAYLOAD_TOO_LARGE, "RequestTooLargeException", &message);
    }
    let payload = if payload.is_empty() { Bytes::from_static(b"{}") } else { payload };
    if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(&payload) {
        let message = format!("Could not parse request body into json: {error}");
        return refuse(StatusCode::BAD_REQUEST, "InvalidRequestContentException", &message);
    }
    let version = (HeaderName::from_static("x-amz-executed-version"), "$LATEST");
    match headers.get("x-amz-invocation-type").map(HeaderValue::as_bytes) {
        None | Some(b"RequestResponse") => match functions.invoke(&name, payload).await {
            Some(Err(FunctionError(error))) => {
                let failed = (HeaderName::from_static("x-amz-function-error"), "Unhandled");
                ([version, failed], json_content(error)).into_response()
            }
            Some(Ok(answer)) => ([version], json_content(answer)).into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        },
        Some(b"Event") => {
            tokio::spawn(async move { functions.invoke(&name, payload).await });
            StatusCode::ACCEPTED.into_response()
        }
        Some(b"DryRun") => StatusCode::NO_CONTENT.into_response(),
        Some(_) => refuse(
            StatusCode::BAD_REQUEST,
            "InvalidParameterValueException",
            "There is no such invocation type",
        ),
    }
}

fn json_content(json: Bytes) -> impl IntoResponse {
    ([("content-type", "application/json")], json)
}

/// A function's name from its name or ARN, full or partial, with or without a version.
fn function_name(id: &str) -> &str {
    let mut parts = id.split(':');
    match parts.clone().position(|part| part == "function") {
        Some(position) => parts.nth(position + 1),
        None => parts.next(),
    }
    .unwrap_or_default()
}

pub(crate) fn arn(name: &str) -> String {
    format!("arn:aws:lambda:{}:{}:function:{name}", aws::REGION, aws::ACCOUNT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_named_by_its_name_or_arn() {
        for id in [
            "signin",
            "signin:$LATEST",
            "000000000000:function:signin",
            "arn:aws:lambda:eu-central-1:000000000000:function:signin",
            "arn:aws:lambda:eu-central-1:000000000000:function:signin:live",
        ] {
            assert_eq!(function_name(id), "signin", "{id}");
        }
    }
}
