//! Runs a built function as Lambda does: as processes that fetch their invocations from the Runtime API, one at a
//! time each.

use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path as PathParameter, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

use crate::aws;
use crate::lambda::{self, FunctionError, Outcome};
use crate::stack::StartError;
use crate::template::Function;

/// How many processes a function has, that is how many invocations of it run at the same time.
const ENVIRONMENTS: usize = 4;
/// How long a process may take from its start to asking for its first invocation, as in Lambda.
const INIT_LIMIT: Duration = Duration::from_secs(10);
/// A pause before a process that ended is replaced, so that one that always ends does not take up a core.
const RESTART_PAUSE: Duration = Duration::from_millis(200);

/// The execution environments of one function.
pub(crate) struct Environments {
    binary: PathBuf,
    queue: mpsc::UnboundedSender<Invocation>,
    /// Whether each first process came up, once this is known.
    starting: Vec<watch::Receiver<Option<Result<(), String>>>>,
}

struct Invocation {
    request_id: String,
    payload: Bytes,
    reply: oneshot::Sender<Outcome>,
}

/// One process's view of the Runtime API.
struct Environment {
    function: Function,
    /// Shared by all environments of a function: whichever is idle takes the next.
    queue: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Invocation>>>,
    /// The invocation being processed.
    current: Mutex<Option<(String, oneshot::Sender<Outcome>)>>,
    /// Asks for the process to be killed.
    kill: Notify,
    /// Whether the first process came up, once this is known.
    started: watch::Sender<Option<Result<(), String>>>,
}

impl Environments {
    /// Starts the processes.
    pub(crate) async fn start(
        function: &Function,
        binary: PathBuf,
        aws_url: &str,
    ) -> Result<Self, StartError> {
        let failed = |error| cannot_run(&binary, &error);
        let (queue, invocations) = mpsc::unbounded_channel();
        let invocations = Arc::new(tokio::sync::Mutex::new(invocations));
        let mut starting = Vec::new();
        for _ in 0..ENVIRONMENTS {
            let (started, start) = watch::channel(None);
            let environment = Arc::new(Environment {
                function: function.clone(),
                queue: Arc::clone(&invocations),
                current: Mutex::default(),
                kill: Notify::new(),
                started,
            });
            let address = environment.serve().await.map_err(failed)?;
            let command = command(function, &binary, aws_url, address).map_err(failed)?;
            tokio::spawn(environment.keep_running(command));
            starting.push(start);
        }
        Ok(Self { binary, queue, starting })
    }

    /// Returns once the processes are ready for invocations.
    pub(crate) async fn started(&self) -> Result<(), StartError> {
        for mut start in self.starting.iter().cloned() {
            let started = timeout(INIT_LIMIT, start.wait_for(Option::is_some)).await;
            match started.ok().and_then(Result::ok).and_then(|started| started.clone()) {
                Some(Ok(())) => {}
                Some(Err(problem)) => return Err(cannot_run(&self.binary, &problem)),
                None => return Err(cannot_run(&self.binary, &"it asked for no invocation in time")),
            }
        }
        Ok(())
    }

    /// Has the next idle environment process an invocation.
    pub(crate) async fn run(&self, request_id: String, payload: Bytes) -> Outcome {
        let stopped = |request_id| {
            let message = format!("RequestId: {request_id} Error: Runtime exited without providing a reason");
            FunctionError::new("Runtime.ExitError", &message)
        };
        let (reply, outcome) = oneshot::channel();
        let queued = self.queue.send(Invocation { request_id: request_id.clone(), payload, reply });
        match queued {
            Ok(()) => outcome.await.unwrap_or_else(|_| Err(stopped(request_id))),
            Err(_) => Err(stopped(request_id)),
        }
    }
}

fn cannot_run(binary: &Path, problem: &dyn Display) -> StartError {
    StartError::new(format_args!("cannot run {}", binary.display()), problem)
}

impl Environment {
    /// Serves the Runtime API to this environment's process.
    async fn serve(self: &Arc<Self>) -> std::io::Result<SocketAddr> {
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{request_id}/response", post(response))
            .route("/2018-06-01/runtime/invocation/{request_id}/error", post(error))
            .route("/2018-06-01/runtime/init/error", post(init_error))
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(self));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        tokio::spawn(async { axum::serve(listener, router).await });
        Ok(address)
    }

    /// Starts the process, and another one whenever it ends.
    async fn keep_running(self: Arc<Self>, mut command: Command) {
        loop {
            let ended = match command.spawn() {
                Ok(mut process) => tokio::select! {
                    status = process.wait() => status.map_or_else(|error| error.to_string(), |status| status.to_string()),
                    () = self.kill.notified() => {
                        let killed = process.kill().await;
                        killed.map_or_else(|error| error.to_string(), |()| "killed".to_owned())
                    }
                },
                Err(error) => error.to_string(),
            };
            let function = &self.function.name;
            tracing::warn!(function, ended, "an execution environment ended");
            self.started.send_if_modified(|started| {
                let first = started.is_none();
                started.get_or_insert(Err(ended));
                first
            });
            // Whoever waits for its answer learns that there will be none.
            drop(self.current().take());
            sleep(RESTART_PAUSE).await;
        }
    }

    /// Answers the invocation if it is the one being processed.
    fn complete(&self, request_id: &str, outcome: Outcome) -> Response {
        let mut current = self.current();
        if let Some((_, reply)) = current.take_if(|(current, _)| current == request_id) {
            // The client may have gone away; that is no concern of the process.
            let _ = reply.send(outcome);
            (StatusCode::ACCEPTED, Json(json!({"status": "OK"}))).into_response()
        } else {
            let body = json!({"errorMessage": "Invalid request ID", "errorType": "InvalidRequestID"});
            (StatusCode::BAD_REQUEST, Json(body)).into_response()
        }
    }

    fn current(&self) -> std::sync::MutexGuard<'_, Option<(String, oneshot::Sender<Outcome>)>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn next(State(environment): State<Arc<Environment>>) -> Response {
    environment.started.send_if_modified(|started| {
        let first = started.is_none();
        started.get_or_insert(Ok(()));
        first
    });
    let Some(Invocation { request_id, payload, reply }) = environment.queue.lock().await.recv().await else {
        // Everything is about to stop, this process included.
        return std::future::pending().await;
    };
    let limit = environment.function.timeout;
    let headers = [
        ("lambda-runtime-aws-request-id", request_id.clone()),
        ("lambda-runtime-deadline-ms", lambda::deadline(limit).to_string()),
        ("lambda-runtime-invoked-function-arn", lambda::arn(&environment.function.function_name)),
        ("lambda-runtime-trace-id", lambda::trace_id()),
        ("content-type", "application/json".to_owned()),
    ];
    *environment.current() = Some((request_id.clone(), reply));
    tokio::spawn(async move {
        sleep(limit).await;
        let outcome = Err(FunctionError::timed_out(&request_id, limit));
        if environment.complete(&request_id, outcome).status() == StatusCode::ACCEPTED {
            environment.kill.notify_one();
        }
    });
    (headers, payload).into_response()
}

async fn response(
    State(environment): State<Arc<Environment>>,
    PathParameter(request_id): PathParameter<String>,
    answer: Bytes,
) -> Response {
    environment.complete(&request_id, Ok(answer))
}

async fn error(
    State(environment): State<Arc<Environment>>,
    PathParameter(request_id): PathParameter<String>,
    error: Bytes,
) -> Response {
    environment.complete(&request_id, Err(FunctionError(error)))
}

async fn init_error(State(environment): State<Arc<Environment>>, error: Bytes) -> Response {
    let function = &environment.function.name;
    tracing::error!(function, error = %String::from_utf8_lossy(&error), "initialisation failed");
    StatusCode::ACCEPTED.into_response()
}

/// The binary of a function in a folder that `sam build`, `cargo lambda` or cargo has filled.
#[must_use]
pub fn binary(function: &Function, folder: &Path) -> PathBuf {
    let packed = [&function.id, &function.name].map(|name| folder.join(name).join("bootstrap"));
    packed.into_iter().find(|binary| binary.exists()).unwrap_or_else(|| folder.join(&function.name))
}

/// The process as Lambda would start it: its environment holds what Lambda sets and what the template sets, and
/// nothing of this machine's own.
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
        .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", function.memory_size.to_string())
        .envs(aws::variables(function, aws::REGION, aws_url))
        .stdin(Stdio::null())
        // Lambda collects the logs; here they are joined with this process's own.
        .stdout(std::io::stderr().as_fd().try_clone_to_owned()?)
        .kill_on_drop(true)
        // A Ctrl-C at the terminal is for this process, which stops them once they are done.
        .process_group(0);
    Ok(command)
}
