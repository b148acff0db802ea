//! Faults of the AWS services: what a test plans happens to one operation of a function. Operations are told by what
//! they do, because those that run at the same time come in either order.

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

/// Longer than any function runs.
const FOREVER: Duration = Duration::from_mins(2);
/// What DynamoDB calls a transaction.
const TRANSACTION: &str = "TransactWriteItems";
/// What changes nothing.
const READS: [&str; 3] = ["Get", BATCH, "Query"];
/// What DynamoDB calls a read of several items.
const BATCH: &str = "BatchGetItem";
/// What meets others' transactions.
const WRITES: [&str; 4] = ["UpdateItem", "PutItem", "DeleteItem", TRANSACTION];
/// What SES calls a mail.
const MAIL: &str = "SendEmail";

/// What happens to an attempt of an operation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// It is answered 500.
    ServerError,
    /// It is answered 503.
    Unavailable,
    /// It is answered that there are too many requests.
    Throttled,
    /// It is answered that another transaction works on one of the items.
    TransactionConflict,
    /// It is answered that the same transaction, by its token, is not finished.
    TransactionInProgress,
    /// It is answered that none of the keys were read.
    Unprocessed,
    /// It is answered that the mail is not accepted, now or later.
    MessageRejected,
    /// The connection is cut before the operation is applied.
    CutBefore,
    /// The operation is applied, and the connection cut.
    CutAfter,
    /// Nothing happens.
    Hang,
    /// Nothing happens until the request is answered, and then the operation is applied.
    Late,
    /// What is read has no failures of a username in it, as if all of them had come after the reading.
    Stale,
}

/// What happens to one operation.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The operation, as [`Faults::end`] names it.
    pub operation: String,
    /// What happens.
    pub fault: Fault,
    /// To how many attempts it happens, from the first one on.
    pub attempts: usize,
}

/// The faults of one stack. The functions' operations are told apart for one request at a time.
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
    /// What is applied once the sender is dropped.
    late: Vec<(oneshot::Sender<()>, JoinHandle<()>)>,
}

#[derive(Debug)]
struct Operation {
    /// All attempts have it in common.
    invocation_id: String,
    name: String,
    attempts: usize,
}

impl Fault {
    /// Returns whether a service answers that it did not do what it was asked to, and will not.
    #[must_use]
    pub fn is_refusal(self) -> bool {
        matches!(self, Self::Throttled | Self::MessageRejected)
    }

    /// Whether the operation is applied, although its answer does not arrive.
    #[must_use]
    pub fn is_applied(self) -> bool {
        matches!(self, Self::CutAfter | Self::Late)
    }
}

impl Plan {
    /// Every attempt, however many there are.
    pub const EVERY_ATTEMPT: usize = usize::MAX;

    /// All that can happen to `operation`.
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
        // Whether something is read that nobody learns of makes no difference.
        let faults = faults.into_iter().filter(move |fault| !(is_read && fault.is_applied()));
        let faults = faults.chain(conflict).chain(in_progress);
        let plan = |fault, attempts| Self { operation: operation.to_owned(), fault, attempts };
        let unprocessed = is_of(&[BATCH]).then(|| plan(Fault::Unprocessed, 1));
        let every = move |fault| plan(fault, Self::EVERY_ATTEMPT);
        // A mail has only one attempt.
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

    /// Begins to note what the functions do, and lets happen what is planned.
    pub fn begin(&self, plan: Option<Plan>) {
        *self.run() = Some(Run { plan, ..Run::default() });
    }

    /// Ends what was begun, and has all that is late applied. Returns the functions' operations in the order of their
    /// first attempts: `UpdateItem attempts`, then `UpdateItem attempts 2` for the second such one, and so on.
    pub async fn end(&self) -> Vec<String> {
        let late = self.run().as_mut().map(|run| mem::take(&mut run.late)).unwrap_or_default();
        for (waiting, applied) in late {
            drop(waiting);
            // What it comes to is nobody's business any more.
            let _ = applied.await;
        }
        let operations = self.run().take().map(|run| run.operations).unwrap_or_default();
        operations.into_iter().map(|operation| operation.name).collect()
    }

    fn run(&self) -> MutexGuard<'_, Option<Run>> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happens to this attempt.
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

    /// The operation with the table or secret of the stack that it is done to, or the domain of the mail's recipient,
    /// and a number if the same was done before.
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

/// Lets happen what is planned for a function's call.
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

/// How the service says that there are too many requests.
fn throttling(headers: &HeaderMap) -> (StatusCode, &'static str) {
    match aws::target(headers) {
        None => (StatusCode::TOO_MANY_REQUESTS, "TooManyRequestsException"),
        Some(("secretsmanager", _)) => (StatusCode::BAD_REQUEST, "ThrottlingException"),
        Some(_) => (StatusCode::BAD_REQUEST, "ProvisionedThroughputExceededException"),
    }
}

/// What DynamoDB answers to a batch, but for the counters of failures.
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

/// That another transaction works on the item, or on the first one of a transaction's.
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

/// Ends the connection without an answer, by ending its task. Unlike a panic, this tells nobody.
fn cut() -> ! {
    resume_unwind(Box::new("the connection is cut"))
}

async fn hang() -> ! {
    sleep(FOREVER).await;
    cut()
}
