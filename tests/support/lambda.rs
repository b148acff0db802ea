//! The stand-in for Lambda: runs the functions, and serves `Invoke`.

use std::collections::HashMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use axum::extract::{Path as PathParameter, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use functions::Started;
use lambda_runtime::{Config, Context};
use serde_json::json;
use shared::settings::Settings;
use tokio::sync::{RwLock, Semaphore};
use tokio::time::timeout;
use uuid::Uuid;

use crate::aws;
use crate::environments::Environments;
use crate::runtime_api;
use crate::stack::StartError;
use crate::template;

/// The number of concurrent invocations in this process. More would only compete for its cores, until the functions
/// mistook the delay for a slow dependency. The others wait, as they do for the concurrency limit of an account.
const CONCURRENCY: usize = 16;
/// The beginning of the path of `Invoke`.
pub(crate) const FUNCTIONS: &str = "/2015-03-31/functions/";
/// The version of every function.
pub(crate) const LATEST: &str = "$LATEST";
/// The largest payload of a call, in bytes.
const MAX_PAYLOAD: usize = 6 * 1024 * 1024;

/// The deployed functions by their names.
pub(crate) struct Functions {
    functions: HashMap<String, Arc<Function>>,
    /// Read-locked by every running invocation.
    running: Arc<RwLock<()>>,
}

struct Function {
    deployed: template::Function,
    runner: Runner,
}

enum Runner {
    InProcess { handler: Handler, concurrency: Arc<Semaphore> },
    Binary(Environments),
}

type Handler = Box<dyn Fn(Bytes, Context) -> Pin<Box<dyn Future<Output = Outcome> + Send>> + Send + Sync>;

/// The outcome of an invocation: the response of the function, or its error.
pub(crate) type Outcome = Result<Bytes, FunctionError>;

/// The error of a function, as JSON.
#[derive(Debug)]
pub(crate) struct FunctionError(pub(crate) Bytes);

impl FunctionError {
    pub(crate) fn new(error_type: &str, message: &str) -> Self {
        Self(json!({"errorType": error_type, "errorMessage": message}).to_string().into())
    }

    pub(crate) fn timed_out(request_id: &str, limit: Duration) -> Self {
        let message =
            format!("RequestId: {request_id} Error: Task timed out after {:.2} seconds", limit.as_secs_f32());
        Self::new("Sandbox.Timedout", &message)
    }
}

impl Functions {
    /// Starts the functions in this process, with the AWS services at `aws_url`.
    pub(crate) fn in_process(deployed: &[template::Function], aws_url: &str) -> Result<Self, StartError> {
        // The SDK has one retry quota for each process and region. Each stack gets its own region, and so its own quota.
        let region = format!("{}-{}", aws::REGION, Uuid::new_v4().simple());
        let concurrency = Arc::new(Semaphore::new(CONCURRENCY));
        let mut functions = Vec::new();
        for deployed in deployed {
            let handler = handler(deployed, &region, aws_url)?;
            let runner = Runner::InProcess { handler, concurrency: Arc::clone(&concurrency) };
            functions.push(Function { deployed: deployed.clone(), runner });
        }
        Ok(Self::new(functions))
    }

    /// Starts the binaries of the functions in a folder, with the AWS services at `aws_url`.
    pub(crate) async fn as_binaries(
        deployed: &[template::Function],
        folder: &Path,
        aws_url: &str,
    ) -> Result<Self, StartError> {
        let mut functions = Vec::new();
        for deployed in deployed {
            let binary = runtime_api::binary(deployed, folder);
            let environments = Environments::start(deployed, binary, aws_url).await?;
            functions.push(Function { deployed: deployed.clone(), runner: Runner::Binary(environments) });
        }
        Ok(Self::new(functions))
    }

    /// Waits until all functions are ready for invocations.
    pub(crate) async fn started(&self) -> Result<(), StartError> {
        for function in self.functions.values() {
            if let Runner::Binary(environments) = &function.runner {
                environments.started().await?;
            }
        }
        Ok(())
    }

    fn new(functions: Vec<Function>) -> Self {
        let functions =
            functions.into_iter().map(|function| (function.deployed.name.clone(), Arc::new(function)));
        Self { functions: functions.collect(), running: Arc::default() }
    }

    /// Finds a function by the name of its crate or by its name in Lambda.
    fn get(&self, name: &str) -> Option<&Arc<Function>> {
        self.functions
            .get(name)
            .or_else(|| self.functions.values().find(|function| function.deployed.function_name == name))
    }

    /// Runs the function of this name, if there is one. It runs to its end even if the future is dropped.
    pub(crate) async fn invoke(&self, name: &str, payload: Bytes) -> Option<Outcome> {
        let function = Arc::clone(self.get(name)?);
        let running = Arc::clone(&self.running).read_owned().await;
        let task = tokio::spawn(async move {
            let _running = running;
            function.run(payload).await
        });
        Some(task.await.unwrap_or_else(|error| Err(FunctionError::new("Runtime.Panic", &error.to_string()))))
    }

    /// Waits until no invocation is running.
    pub(crate) async fn finish(&self) {
        drop(self.running.write().await);
    }
}

impl Function {
    async fn run(&self, payload: Bytes) -> Outcome {
        let request_id = Uuid::new_v4().to_string();
        match &self.runner {
            Runner::InProcess { handler, concurrency } => {
                let Ok(_slot) = concurrency.acquire().await else {
                    return Err(FunctionError::new("Runtime.Stopped", "stopped"));
                };
                let limit = self.deployed.timeout;
                let handled = timeout(limit, handler(payload, context(&self.deployed, &request_id)));
                handled.await.unwrap_or_else(|_| Err(FunctionError::timed_out(&request_id, limit)))
            }
            Runner::Binary(environments) => environments.run(request_id, payload).await,
        }
    }
}

/// Returns the time-out of an invocation that starts now, in milliseconds since the Unix epoch.
pub(crate) fn deadline(limit: Duration) -> u64 {
    let deadline = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + limit;
    u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX)
}

fn context(function: &template::Function, request_id: &str) -> Context {
    let mut context = Context::default();
    request_id.clone_into(&mut context.request_id);
    context.deadline = deadline(function.timeout);
    context.invoked_function_arn = arn(&function.function_name);
    context.xray_trace_id = Some(trace_id());
    context.env_config = Arc::new(Config { version: LATEST.to_owned(), ..Config::default() });
    context
}

/// Returns the X-Ray trace header of a new trace that is not sampled.
pub(crate) fn trace_id() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (trace, segment) = (Uuid::new_v4().simple().to_string(), Uuid::new_v4().simple().to_string());
    format!("Root=1-{seconds:08x}-{trace:.24};Parent={segment:.16};Sampled=0")
}

/// Starts a function with its own environment variables and its own identity.
fn handler(deployed: &template::Function, region: &str, aws_url: &str) -> Result<Handler, StartError> {
    let mut variables = deployed.variables.clone();
    let of_aws = aws::variables(deployed, region, aws_url);
    variables.extend(of_aws.map(|(variable, value)| (variable.to_owned(), value)));
    variables.insert("AWS_LAMBDA_MAX_CONCURRENCY".to_owned(), CONCURRENCY.to_string());
    let settings = &Settings::new(move |variable| variables.get(variable).cloned());
    let aws = &shared::aws::config(settings)?;
    let function = functions::find(&deployed.name)
        .ok_or_else(|| StartError::new(&deployed.name, "there is no such function"))?;
    let function: Arc<dyn Started> = function.start(settings, aws)?.into();
    Ok(Box::new(move |payload, context| {
        let function = Arc::clone(&function);
        Box::pin(async move {
            match function.invoke(&payload, context).await {
                Ok(response) => Ok(response.into()),
                Err(functions::Error::Json(error)) => Err(unreadable(&error)),
                Err(functions::Error::Function(error)) => {
                    Err(FunctionError::new("Error", &error.to_string()))
                }
            }
        })
    }))
}

fn unreadable(error: &serde_json::Error) -> FunctionError {
    FunctionError::new("Runtime.UnmarshalError", &error.to_string())
}

/// Serves `Invoke`.
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
    if functions.get(&name).is_none() {
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
    let version = (HeaderName::from_static("x-amz-executed-version"), LATEST);
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

/// Extracts the name of a function from its name or its full or partial ARN, with or without a version.
fn function_name(id: &str) -> &str {
    let mut parts = id.split(':');
    match parts.clone().position(|part| part == "function") {
        Some(position) => parts.nth(position + 1),
        None => parts.next(),
    }
    .unwrap_or_default()
}

pub(crate) fn arn(function_name: &str) -> String {
    aws::arn("lambda", &format!("function:{function_name}"))
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
