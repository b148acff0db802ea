//! The Runtime API, from which the process of an execution environment fetches its invocations, and the command that
//! starts such a process.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path as PathParameter, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::aws;
use crate::lambda::LATEST;
use crate::template::Function;

/// The Runtime API of one execution environment. It is served until it is dropped.
#[derive(Debug)]
pub struct RuntimeApi {
    address: SocketAddr,
    requests: mpsc::UnboundedReceiver<(Instant, Request)>,
    serving: JoinHandle<()>,
}

/// A request of the process to its Runtime API.
#[derive(Debug)]
pub enum Request {
    /// A poll for the next invocation, which waits until one is sent.
    Next(oneshot::Sender<Invocation>),
    /// The response to an invocation.
    Response {
        /// The invocation's id.
        request_id: String,
        /// The response, as JSON.
        body: Bytes,
    },
    /// The error that an invocation failed with.
    Error {
        /// The invocation's id.
        request_id: String,
        /// The error, as JSON.
        body: Bytes,
    },
    /// The error, as JSON, that kept the process from starting.
    InitError(Bytes),
}

/// An invocation as a process receives it.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The invocation's id.
    pub request_id: String,
    /// The time of its time-out, in milliseconds since the Unix epoch.
    pub deadline_ms: u64,
    /// The ARN of the function.
    pub function_arn: String,
    /// The `X-Amzn-Trace-Id` header for X-Ray.
    pub trace_id: String,
    /// The event, as JSON.
    pub payload: Bytes,
}

type Requests = State<mpsc::UnboundedSender<(Instant, Request)>>;

impl RuntimeApi {
    /// Starts to serve on a free port.
    pub async fn start() -> std::io::Result<Self> {
        let (sender, requests) = mpsc::unbounded_channel();
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{request_id}/response", post(response))
            .route("/2018-06-01/runtime/invocation/{request_id}/error", post(error))
            .route("/2018-06-01/runtime/init/error", post(init_error))
            .layer(DefaultBodyLimit::disable())
            .with_state(sender);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let listener = listener.tap_io(|connection| {
            // If this fails, the connection is slower and works all the same.
            let _ = connection.set_nodelay(true);
        });
        let serving = tokio::spawn(async { drop(axum::serve(listener, router).await) });
        Ok(Self { address, requests, serving })
    }

    /// The address to pass to [`command`].
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for the next request, and returns it with the time at which it arrived. Dropping the future loses no
    /// request.
    pub async fn request(&mut self) -> (Instant, Request) {
        match self.requests.recv().await {
            Some(request) => request,
            // The server has ended, which only happens together with the runtime.
            None => std::future::pending().await,
        }
    }
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn next(State(requests): Requests) -> Response {
    let (next, invocation) = oneshot::channel();
    let _ = requests.send((Instant::now(), Request::Next(next)));
    let Ok(invocation) = invocation.await else {
        // No invocation will follow, because the process is about to be killed.
        return std::future::pending().await;
    };
    let headers = [
        ("lambda-runtime-aws-request-id", invocation.request_id),
        ("lambda-runtime-deadline-ms", invocation.deadline_ms.to_string()),
        ("lambda-runtime-invoked-function-arn", invocation.function_arn),
        ("lambda-runtime-trace-id", invocation.trace_id),
        ("content-type", "application/json".to_owned()),
    ];
    (headers, invocation.payload).into_response()
}

async fn response(
    State(requests): Requests,
    PathParameter(request_id): PathParameter<String>,
    body: Bytes,
) -> (StatusCode, Json<Value>) {
    let _ = requests.send((Instant::now(), Request::Response { request_id, body }));
    accepted()
}

async fn error(
    State(requests): Requests,
    PathParameter(request_id): PathParameter<String>,
    body: Bytes,
) -> (StatusCode, Json<Value>) {
    let _ = requests.send((Instant::now(), Request::Error { request_id, body }));
    accepted()
}

async fn init_error(State(requests): Requests, error: Bytes) -> (StatusCode, Json<Value>) {
    let _ = requests.send((Instant::now(), Request::InitError(error)));
    accepted()
}

fn accepted() -> (StatusCode, Json<Value>) {
    (StatusCode::ACCEPTED, Json(json!({"status": "OK"})))
}

/// Finds the binary of a function in a folder that `sam build`, `cargo lambda` or cargo has filled.
#[must_use]
pub fn binary(function: &Function, folder: &Path) -> PathBuf {
    let packed = [&function.id, &function.name].map(|name| folder.join(name).join("bootstrap"));
    packed.into_iter().find(|binary| binary.exists()).unwrap_or_else(|| folder.join(&function.name))
}

/// The command that starts a process as Lambda would: its environment holds the variables that Lambda and the template
/// set, and none of this machine's own.
pub fn command(
    function: &Function,
    binary: &Path,
    aws_url: &str,
    runtime_api: SocketAddr,
) -> std::io::Result<Command> {
    let mut command = Command::new(binary);
    command
        .env_clear()
        .envs(&function.variables)
        .env("_HANDLER", "bootstrap")
        .env("AWS_LAMBDA_RUNTIME_API", runtime_api.to_string())
        .env("AWS_LAMBDA_FUNCTION_NAME", &function.function_name)
        .env("AWS_LAMBDA_FUNCTION_VERSION", LATEST)
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", function.memory_size.to_string())
        .envs(aws::variables(function, aws::REGION, aws_url))
        .stdin(Stdio::null())
        // Lambda collects the logs. Here they are added to this process's own.
        .stdout(std::io::stderr().as_fd().try_clone_to_owned()?)
        .kill_on_drop(true)
        // Ctrl-C in the terminal is meant for this process, which stops the others when they are done.
        .process_group(0);
    Ok(command)
}
