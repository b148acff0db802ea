//! Injects one fault into one operation of a function. Operations are identified by what they do, because concurrent ones
//! arrive in any order.

use std::fmt::{self, Display};
use std::mem;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::aws;
use crate::iam::Iam;

/// A time longer than the time-out of any function.
const FOREVER: Duration = Duration::from_mins(2);
/// The operation of DynamoDB that runs a transaction.
const TRANSACTION: &str = "TransactWriteItems";
/// The beginnings of the names of operations that only read.
const READS: [&str; 3] = ["Get", BATCH, "Query"];
/// The operation of DynamoDB that reads several items.
const BATCH: &str = "BatchGetItem";
/// The operations that can conflict with transactions.
const WRITES: [&str; 4] = ["UpdateItem", "PutItem", "DeleteItem", TRANSACTION];
/// The operation of SES that sends a mail.
const MAIL: &str = "SendEmail";

/// A fault that happens to an attempt of an operation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The response is 500.
    ServerError,
    /// The response is 503.
    Unavailable,
    /// The response is the throttling error of the service.
    Throttled,
    /// The response reports a conflict with another transaction on one of the items.
    TransactionConflict,
    /// The response says that a transaction with the same token is still in progress.
    TransactionInProgress,
    /// The response of a batch says that no key was processed.
    Unprocessed,
    /// The response rejects the mail permanently.
    MessageRejected,
    /// The connection is closed before the operation is applied.
    CutBefore,
    /// The operation is applied, and then the connection is closed without a response.
    CutAfter,
    /// There is no response, and the operation is not applied.
    Hang,
    /// There is no response, and the operation is applied after the request to the function is answered.
    Late,
    /// The read items lack the failures of a username, as if all of them had happened after the read.
    Stale,
}

/// A plan for the fault of one operation.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The operation, as [`Faults::end`] names it.
    pub operation: String,
    /// The fault.
    pub fault: Fault,
    /// The number of attempts to which it happens, from the first one.
    pub attempts: usize,
}

/// The faults of one stack. They are planned for one request to a function at a time.
#[derive(Debug)]
pub struct Faults {
    stack_name: String,
    run: Mutex<Option<Run>>,
}

#[derive(Debug, Default)]
struct Run {
    plan: Option<Plan>,
    /// The operations so far.
    operations: Vec<Operation>,
    /// The operations that are applied when their senders are dropped.
    late: Vec<(oneshot::Sender<()>, JoinHandle<()>)>,
}

#[derive(Debug)]
struct Operation {
    /// The id that all attempts have in common.
    invocation_id: String,
    name: String,
    attempts: usize,
}

impl Fault {
    /// Returns whether the response of the service rules out that the operation was or will be applied.
    #[must_use]
    pub fn is_refusal(self) -> bool {
        matches!(self, Self::Throttled | Self::MessageRejected)
    }

    /// Returns whether the operation is applied although its response is lost.
    #[must_use]
    pub fn is_applied(self) -> bool {
        matches!(self, Self::CutAfter | Self::Late)
    }
}

impl Plan {
    /// The value of `attempts` for every attempt.
    pub const EVERY_ATTEMPT: usize = usize::MAX;

    /// Returns all plans for `operation`.
    pub fn all_for(operation: &str) -> impl Iterator<Item = Self> {
        let is_of = |kinds: &[&str]| kinds.iter().any(|kind| operation.starts_with(kind));
        let conflict = is_of(&WRITES).then_some(Fault::TransactionConflict);
        let is_read = is_of(&READS);
        let in_progress = is_of(&[TRANSACTION]).then_some(Fault::TransactionInProgress);
        let faults = [
            Fault::ServerError,
            Fault::Unavailable,
            Fault::Throttled,
            Fault::CutBefore,
            Fault::CutAfter,
            Fault::Hang,
            Fault::Late,
        ];
        // A read whose response is lost has no effect, so applying it makes no difference.
        let faults = faults.into_iter().filter(move |fault| !(is_read && fault.is_applied()));
        let faults = faults.chain(conflict).chain(in_progress);
        let plan = |fault, attempts| Self { operation: operation.to_owned(), fault, attempts };
        let unprocessed = is_of(&[BATCH]).then(|| plan(Fault::Unprocessed, 1));
        let every = move |fault| plan(fault, Self::EVERY_ATTEMPT);
        // The functions do not retry mails.
        let is_mail = is_of(&[MAIL]);
        let first = move |fault| (!is_mail).then(|| plan(fault, 1));
        let rejected = is_mail.then(|| every(Fault::MessageRejected));
        let faults = faults.flat_map(move |fault| first(fault).into_iter().chain([every(fault)]));
        faults.chain(rejected).chain(unprocessed)
    }
}

impl Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?} at ", self.fault)?;
        match self.attempts {
            Self::EVERY_ATTEMPT => formatter.write_str("every attempt")?,
            attempts => write!(formatter, "the first {attempts} attempts")?,
        }
        write!(formatter, " of {}", self.operation)
    }
}

impl Faults {
    pub(crate) fn new(stack_name: String) -> Self {
        Self { stack_name, run: Mutex::default() }
    }

    /// Starts to record the operations of the functions, and to inject the planned fault.
    pub fn begin(&self, plan: Option<Plan>) {
        *self.run() = Some(Run { plan, ..Run::default() });
    }

    /// Ends the run, and applies the late operations. Returns the operations of the functions in the order of their first
    /// attempts: `UpdateItem attempts`, then `UpdateItem attempts 2` for the second such one, and so on.
    pub async fn end(&self) -> Vec<String> {
        let late = self.run().as_mut().map(|run| mem::take(&mut run.late)).unwrap_or_default();
        for (waiting, applied) in late {
            drop(waiting);
            // The response is discarded.
            let _ = applied.await;
        }
        let operations = self.run().take().map(|run| run.operations).unwrap_or_default();
        operations.into_iter().map(|operation| operation.name).collect()
    }

    fn run(&self) -> MutexGuard<'_, Option<Run>> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an attempt, and returns the fault that happens to it.
    fn strike(&self, headers: &HeaderMap, request: &Value) -> Option<Fault> {
        let mut run = self.run();
        let run = run.as_mut()?;
        let id = headers.get("amz-sdk-invocation-id")?.to_str().ok()?;
        let known = run.operations.iter().position(|operation| operation.invocation_id == id);
        let index = known.unwrap_or_else(|| {
            let name = self.name(headers, request, &run.operations);
            run.operations.push(Operation { invocation_id: id.to_owned(), name, attempts: 0 });
            run.operations.len() - 1
        });
        let operation = run.operations.get_mut(index)?;
        operation.attempts += 1;
        let plan = run.plan.as_ref().filter(|plan| plan.operation == operation.name)?;
        (operation.attempts <= plan.attempts).then_some(plan.fault)
    }

    /// Names an operation: with the table or secret, or the domain of the recipient of a mail, and with a number if it is
    /// not the first of this name.
    fn name(&self, headers: &HeaderMap, request: &Value, earlier: &[Operation]) -> String {
        let operation = aws::target(headers).map_or(MAIL, |(_, operation)| operation);
        let resource = ["TableName", "SecretId"].iter().find_map(|name| request[name].as_str());
        let recipient = request["Destination"]["ToAddresses"][0].as_str();
        let name = match resource.map(|resource| resource.split_once(&self.stack_name)) {
            _ if recipient.is_some() => {
                recipient.and_then(|to| to.split('@').next_back()).unwrap_or_default()
            }
            // An ARN of a secret ends with six random characters.
            Some(Some((arn, name))) if arn.contains(":secret:") => &name[1..name.len() - 7],
            Some(Some((_, name))) => &name[1..],
            _ => "",
        };
        let name = format!("{operation} {name}");
        let name = name.trim_end();
        match earlier.iter().filter(|earlier| earlier.name.starts_with(name)).count() {
            0 => name.to_owned(),
            before => format!("{name} {}", before + 1),
        }
    }
}

/// Injects the planned fault into the call of a function.
pub(crate) async fn inject(
    State((faults, iam)): State<(Arc<Faults>, Arc<Iam>)>,
    request: Request,
    next: Next,
) -> Response {
    if faults.run().is_none() || iam.function(request.headers()).is_none() {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, aws::BODY_LIMIT).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let json = serde_json::from_slice(&body).unwrap_or_default();
    let fault = faults.strike(&parts.headers, &json);
    let (throttling, throttled) = throttling(&parts.headers);
    let pass_on = || next.run(Request::from_parts(parts, Body::from(body)));
    let refuse = |status, code| aws::refuse(status, code, "a fault");
    match fault {
        None => pass_on().await,
        Some(Fault::ServerError) => refuse(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError"),
        Some(Fault::Unavailable) => refuse(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
        Some(Fault::Throttled) => refuse(throttling, throttled),
        Some(Fault::TransactionConflict) => conflict(&json),
        Some(Fault::TransactionInProgress) => {
            refuse(StatusCode::BAD_REQUEST, "TransactionInProgressException")
        }
        Some(Fault::Unprocessed) => {
            let answer = json!({"Responses": {}, "UnprocessedKeys": json["RequestItems"]});
            axum::Json(answer).into_response()
        }
        Some(Fault::MessageRejected) => refuse(StatusCode::BAD_REQUEST, "MessageRejected"),
        Some(Fault::CutBefore) => cut(),
        Some(Fault::CutAfter) => {
            pass_on().await;
            cut()
        }
        Some(Fault::Hang) => hang().await,
        Some(Fault::Stale) => without_failures(pass_on().await).await,
        Some(Fault::Late) => {
            let (waiting, answered) = oneshot::channel();
            let passed_on = pass_on();
            let applied = tokio::spawn(async {
                let _ = answered.await;
                passed_on.await;
            });
            if let Some(run) = &mut *faults.run() {
                run.late.push((waiting, applied));
            }
            hang().await
        }
    }
}

/// Returns the throttling error of the service.
fn throttling(headers: &HeaderMap) -> (StatusCode, &'static str) {
    match aws::target(headers) {
        None => (StatusCode::TOO_MANY_REQUESTS, "TooManyRequestsException"),
        Some(("secretsmanager", _)) => (StatusCode::BAD_REQUEST, "ThrottlingException"),
        Some(_) => (StatusCode::BAD_REQUEST, "ProvisionedThroughputExceededException"),
    }
}

/// Removes the counters of failures from the response to a batch.
async fn without_failures(response: Response) -> Response {
    let body = to_bytes(response.into_body(), aws::BODY_LIMIT).await.unwrap_or_default();
    let mut answer: Value = serde_json::from_slice(&body).unwrap_or_default();
    let tables = answer["Responses"].as_object_mut().into_iter().flatten();
    let items = tables.filter_map(|(_, items)| items.as_array_mut()).flatten();
    for item in items.filter_map(Value::as_object_mut) {
        item.retain(|name, _| !["known_", "other_"].iter().any(|budget| name.starts_with(budget)));
    }
    axum::Json(answer).into_response()
}

/// The response that reports a conflict with another transaction, on the first item if there are several.
fn conflict(request: &Value) -> Response {
    let Some(items) = request["TransactItems"].as_array() else {
        return aws::refuse(StatusCode::BAD_REQUEST, "TransactionConflictException", "a fault");
    };
    let mut reasons =
        vec![json!({"Code": "TransactionConflict", "Message": "Transaction is ongoing for the item"})];
    reasons.resize(items.len(), json!({"Code": "None"}));
    let body = json!({
        "__type": "TransactionCanceledException",
        "Message": "Transaction cancelled, please refer cancellation reasons for specific reasons",
        "CancellationReasons": reasons,
    });
    (StatusCode::BAD_REQUEST, axum::Json(body)).into_response()
}

/// Closes the connection without a response, by ending its task. Unlike a panic, this logs nothing.
fn cut() -> ! {
    resume_unwind(Box::new("the connection is closed"))
}

async fn hang() -> ! {
    sleep(FOREVER).await;
    cut()
}
