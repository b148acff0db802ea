//! Execution environments: the processes of a built function, each of which handles one invocation at a time, as in
//! Lambda.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::lambda::{self, FunctionError, Outcome};
use crate::runtime_api::{self, Request, RuntimeApi};
use crate::stack::StartError;
use crate::template::Function;

/// The number of processes of a function, and so of its concurrent invocations.
const ENVIRONMENTS: usize = 4;
/// The time limit from the start of a process to its first poll for an invocation, as in Lambda.
const INIT_LIMIT: Duration = Duration::from_secs(10);
/// The pause before a process that ended is replaced, so that one that always ends does not occupy a core.
const RESTART_PAUSE: Duration = Duration::from_millis(200);

/// The execution environments of one function.
pub(crate) struct Environments {
    binary: PathBuf,
    queue: mpsc::UnboundedSender<Queued>,
    /// The outcome of each first start, once it is known.
    starting: Vec<watch::Receiver<Option<Result<(), String>>>>,
}

/// An invocation that waits for an idle environment.
struct Queued {
    request_id: String,
    payload: Bytes,
    reply: oneshot::Sender<Outcome>,
}

/// One environment. Its process is replaced whenever it ends.
struct Environment {
    function: Function,
    api: RuntimeApi,
    /// The queue that all environments of the function share. An idle one takes the next invocation.
    queue: Arc<Mutex<mpsc::UnboundedReceiver<Queued>>>,
    /// The outcome of the first start, once it is known.
    started: watch::Sender<Option<Result<(), String>>>,
}

/// The invocation that a process is handling.
struct Running {
    request_id: String,
    reply: oneshot::Sender<Outcome>,
    deadline: Instant,
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
        let invocations = Arc::new(Mutex::new(invocations));
        let mut starting = Vec::new();
        for _ in 0..ENVIRONMENTS {
            let (started, start) = watch::channel(None);
            let api = RuntimeApi::start().await.map_err(failed)?;
            let command = runtime_api::command(function, &binary, aws_url, api.address()).map_err(failed)?;
            let environment =
                Environment { function: function.clone(), api, queue: Arc::clone(&invocations), started };
            tokio::spawn(environment.keep_running(command));
            starting.push(start);
        }
        Ok(Self { binary, queue, starting })
    }

    /// Waits until the processes are ready for invocations.
    pub(crate) async fn started(&self) -> Result<(), StartError> {
        for mut start in self.starting.iter().cloned() {
            let started = timeout(INIT_LIMIT, start.wait_for(Option::is_some)).await;
            match started.ok().and_then(Result::ok).and_then(|started| started.clone()) {
                Some(Ok(())) => {}
                Some(Err(problem)) => return Err(cannot_run(&self.binary, &problem)),
                None => return Err(cannot_run(&self.binary, &"it did not poll for an invocation in time")),
            }
        }
        Ok(())
    }

    /// Queues an invocation for the next idle environment, and waits for its outcome.
    pub(crate) async fn run(&self, request_id: String, payload: Bytes) -> Outcome {
        let (reply, outcome) = oneshot::channel();
        let queued = Queued { request_id: request_id.clone(), payload, reply };
        if self.queue.send(queued).is_ok()
            && let Ok(outcome) = outcome.await
        {
            return outcome;
        }
        let message = format!("RequestId: {request_id} Error: Runtime exited without providing a reason");
        Err(FunctionError::new("Runtime.ExitError", &message))
    }
}

fn cannot_run(binary: &Path, problem: &dyn Display) -> StartError {
    StartError::new(format_args!("cannot run {}", binary.display()), problem)
}

impl Environment {
    /// Starts the process, and another one whenever it ends.
    async fn keep_running(mut self, mut command: Command) {
        loop {
            let ended = match command.spawn() {
                Ok(mut process) => self.serve(&mut process).await,
                Err(error) => Err(error),
            };
            let ended = ended.unwrap_or_else(|error| error.to_string());
            tracing::warn!(function = self.function.name, ended, "an execution environment ended");
            self.note_start(Err(ended));
            sleep(RESTART_PAUSE).await;
        }
    }

    /// Serves the requests of a process until it ends or has to be killed, and returns how it ended. The caller of an
    /// unfinished invocation then gets an error, because the reply's channel is closed.
    async fn serve(&mut self, process: &mut Child) -> std::io::Result<String> {
        let mut poll: Option<oneshot::Sender<runtime_api::Invocation>> = None;
        let mut running: Option<Running> = None;
        loop {
            let deadline = running.as_ref().map(|running| running.deadline);
            tokio::select! {
                // Requests first, so that what a process sends before it ends is not lost.
                biased;
                (_, request) = self.api.request() => match request {
                    Request::Next(next) => {
                        self.note_start(Ok(()));
                        poll = Some(next);
                    }
                    Request::Response { request_id, body } => complete(&mut running, &request_id, Ok(body)),
                    Request::Error { request_id, body } => {
                        complete(&mut running, &request_id, Err(FunctionError(body)));
                    }
                    Request::InitError(error) => {
                        let error = String::from_utf8_lossy(&error);
                        tracing::error!(function = self.function.name, %error, "initialisation failed");
                    }
                },
                status = process.wait() => return Ok(status?.to_string()),
                Some(queued) = next_of(&self.queue), if poll.is_some() => {
                    if let Some(poll) = poll.take() {
                        running = self.send(queued, poll);
                    }
                }
                () = until(deadline) => {
                    if let Some(Running { request_id, reply, .. }) = running.take() {
                        let _ = reply.send(Err(FunctionError::timed_out(&request_id, self.function.timeout)));
                    }
                    process.kill().await?;
                    return Ok("killed".to_owned());
                }
            }
        }
    }

    /// Answers the poll of the process with an invocation, unless the process is gone.
    fn send(&self, queued: Queued, poll: oneshot::Sender<runtime_api::Invocation>) -> Option<Running> {
        let Queued { request_id, payload, reply } = queued;
        let limit = self.function.timeout;
        let invocation = runtime_api::Invocation {
            request_id: request_id.clone(),
            deadline_ms: lambda::deadline(limit),
            function_arn: lambda::arn(&self.function.function_name),
            trace_id: lambda::trace_id(),
            payload,
        };
        poll.send(invocation).ok()?;
        Some(Running { request_id, reply, deadline: Instant::now() + limit })
    }

    fn note_start(&self, outcome: Result<(), String>) {
        self.started.send_if_modified(|started| {
            let is_first = started.is_none();
            started.get_or_insert(outcome);
            is_first
        });
    }
}

/// Sends the outcome to the caller of the invocation, if it is the running one.
fn complete(running: &mut Option<Running>, request_id: &str, outcome: Outcome) {
    if let Some(Running { reply, .. }) = running.take_if(|running| running.request_id == request_id) {
        // The caller may be gone, which does not matter to the process.
        let _ = reply.send(outcome);
    }
}

async fn next_of(queue: &Mutex<mpsc::UnboundedReceiver<Queued>>) -> Option<Queued> {
    queue.lock().await.recv().await
}

/// Waits until the deadline; forever if there is none.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
