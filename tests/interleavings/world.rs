//! AWS in memory, as seen by one run. Calls of DynamoDB wait until the search chooses them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use aws_sdk_dynamodb::config::http::{HttpRequest, HttpResponse};
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::{
    AsyncSleep, BehaviorVersion, Credentials, Region, SharedCredentialsProvider, Sleep,
    StalledStreamProtectionConfig,
};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_types::SdkConfig;
use dynoxide::Database;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::clients::{Answer, Client};
use crate::explorer::Step;

pub(crate) const USERS: &str = "postern-users";
const USER_IDS: &str = "postern-user-ids";
pub(crate) const RESET_CODES: &str = "postern-reset-codes";
pub(crate) const SESSIONS: &str = "postern-sessions";
pub(crate) const ATTEMPTS: &str = "postern-attempts";
pub(crate) const SOURCE_IPS: &str = "postern-source-ips";
/// The sort key, a number. Only the table of sessions has one.
pub(crate) const SESSION_ID: &str = "session_id";
/// The tables and their partition keys.
pub(crate) const TABLES: [(&str, &str); 6] = [
    (USERS, "username"),
    (USER_IDS, "user_id"),
    (RESET_CODES, "username_hash"),
    (SESSIONS, "session_owner"),
    (ATTEMPTS, "subject"),
    (SOURCE_IPS, "subject"),
];

/// The secret that signs tokens and keys hashes.
const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A call that was applied to the tables.
pub(crate) struct Applied {
    pub(crate) client: usize,
    pub(crate) call: String,
    /// True if it succeeded.
    pub(crate) done: bool,
    /// True if its response was lost.
    pub(crate) lost: bool,
}

/// The AWS services that the clients of one run share.
#[derive(Clone)]
pub(crate) struct World(Arc<Mutex<State>>);

pub(crate) struct State {
    database: Database,
    pub(crate) waiting: Vec<Waiting>,
    pub(crate) applied: Vec<Applied>,
    pub(crate) mails: Vec<Value>,
    /// True if SES refuses all mails.
    pub(crate) refuses_mails: bool,
}

pub(crate) struct Waiting {
    pub(crate) step: Step,
    pub(crate) operation: String,
    pub(crate) body: Vec<u8>,
    pub(crate) answer: oneshot::Sender<Result<HttpResponse, ConnectorError>>,
}

/// A connection to AWS. Calls wait to be chosen if it belongs to a client, and are answered immediately if not.
#[derive(Clone)]
struct Connection {
    world: World,
    client: Option<usize>,
}

/// The time to live of the first item.
pub(crate) fn end_of_life(items: &[Value]) -> Option<i64> {
    items.first().map(|item| item["ttl"]["N"].as_str().unwrap().parse().unwrap())
}

/// The number of failures in a budget of the first item.
pub(crate) fn failures_of(items: &[Value], budget: &str) -> usize {
    let count = items.first().map(|item| &item[format!("{budget}_failures")]["N"]);
    count.and_then(Value::as_str).map_or(0, |count| count.parse().unwrap())
}

pub(crate) fn tries_of(codes: &[Value], budget: &str) -> usize {
    let tries = codes.first().map(|code| &code[format!("{budget}_tries")]["SS"]);
    tries.and_then(Value::as_array).map_or(0, Vec::len)
}

pub(crate) fn sends_of(codes: &[Value], budget: &str) -> usize {
    let Some(code) = codes.first() else { return 0 };
    let sent = |place: &usize| code[format!("{budget}_{place}")]["N"].as_str().is_some_and(|at| at != "0");
    (0..10).filter(sent).count()
}

impl World {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(State::new())))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Runs one client alone, and returns its answer.
    pub(crate) fn answer(&self, client: &Client, runtime: &Runtime) -> Answer {
        let _context = runtime.enter();
        let act = (client.connect)(&self.connect(None));
        runtime.block_on(act())
    }

    /// Replaces all state with a copy of the tables of `other`.
    pub(crate) fn fill(&self, other: &Self) {
        let mut state = State::new();
        for (table, items) in other.tables() {
            for item in items {
                state.apply("PutItem", &json!({"TableName": table, "Item": item})).unwrap();
            }
        }
        state.refuses_mails = other.state().refuses_mails;
        *self.state() = state;
    }

    pub(crate) fn tables(&self) -> BTreeMap<&'static str, Vec<Value>> {
        TABLES.map(|(table, _)| (table, self.items(table))).into()
    }

    pub(crate) fn items(&self, table: &str) -> Vec<Value> {
        let scan = self.state().apply("Scan", &json!({"TableName": table})).unwrap();
        scan["Items"].as_array().unwrap().clone()
    }

    /// Configures the SDK for the functions. Backoffs end immediately, and timeouts never expire.
    pub(crate) fn connect(&self, client: Option<usize>) -> SdkConfig {
        let connector = SharedHttpConnector::new(Connection { world: self.clone(), client });
        let http = http_client_fn(move |_, _| connector.clone());
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-central-1"))
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
                "test", "test", None, None, "test",
            )))
            .endpoint_url("http://aws")
            .http_client(http)
            .sleep_impl(BackOff)
            .retry_config(RetryConfig::standard().with_max_backoff(MAX_BACK_OFF))
            // It would poll its clock while a call waits.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .build()
    }
}

/// The longest backoff, which is shorter than any timeout.
const MAX_BACK_OFF: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct BackOff;

impl AsyncSleep for BackOff {
    fn sleep(&self, duration: Duration) -> Sleep {
        if duration > MAX_BACK_OFF {
            Sleep::new(std::future::pending())
        } else {
            Sleep::new(std::future::ready(()))
        }
    }
}

impl State {
    fn new() -> Self {
        let database = Database::memory().unwrap();
        for (table, key) in TABLES {
            let mut attributes = vec![json!({"AttributeName": key, "AttributeType": "S"})];
            let mut keys = vec![json!({"AttributeName": key, "KeyType": "HASH"})];
            if table == SESSIONS {
                attributes.push(json!({"AttributeName": SESSION_ID, "AttributeType": "N"}));
                keys.push(json!({"AttributeName": SESSION_ID, "KeyType": "RANGE"}));
            }
            let definition = json!({
                "TableName": table,
                "BillingMode": "PAY_PER_REQUEST",
                "AttributeDefinitions": attributes,
                "KeySchema": keys,
            });
            database.create_table(serde_json::from_value(definition).unwrap()).unwrap();
        }
        Self { database, waiting: Vec::new(), applied: Vec::new(), mails: Vec::new(), refuses_mails: false }
    }

    /// Calls DynamoDB, and returns its response, or the status and the body of its error.
    pub(crate) fn apply(&mut self, operation: &str, body: &Value) -> Result<Value, (u16, String)> {
        macro_rules! call {
            ($method:ident) => {{
                let request = serde_json::from_value(body.clone()).unwrap();
                match self.database.$method(request) {
                    Ok(answer) => Ok(serde_json::to_value(answer).unwrap()),
                    Err(error) => Err((error.status_code(), error.to_json())),
                }
            }};
        }
        match operation {
            "BatchGetItem" => call!(batch_get_item),
            "DeleteItem" => call!(delete_item),
            "GetItem" => call!(get_item),
            "PutItem" => call!(put_item),
            "Query" => call!(query),
            "Scan" => call!(scan),
            "TransactWriteItems" => call!(transact_write_items),
            "UpdateItem" => call!(update_item),
            _ => panic!("unexpected operation {operation}"),
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Connection")
    }
}

impl HttpConnector for Connection {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let body = request.body().bytes().unwrap().to_vec();
        let target = request.headers().get("x-amz-target").and_then(|target| target.split_once('.'));
        let mut state = self.world.state();
        let answer = match (target, self.client) {
            (None, _) if state.refuses_mails => Err((400, json!({"message": "refused"}).to_string())),
            (None, _) => {
                state.mails.push(serde_json::from_slice(&body).unwrap());
                Ok(json!({"MessageId": "1"}))
            }
            (Some(("secretsmanager", _)), _) => {
                Ok(json!({"VersionId": "1", "SecretString": SECRET, "CreatedDate": 0}))
            }
            (Some((_, operation)), None) => state.apply(operation, &serde_json::from_slice(&body).unwrap()),
            (Some((_, operation)), Some(client)) => {
                let (answer, answered) = oneshot::channel();
                let step = step(client, operation, &serde_json::from_slice(&body).unwrap());
                state.waiting.push(Waiting { step, operation: operation.to_owned(), body, answer });
                return HttpConnectorFuture::new(async { answered.await.expect("the run goes on") });
            }
        };
        HttpConnectorFuture::ready(Ok(response(answer)))
    }
}

pub(crate) fn response(outcome: Result<Value, (u16, String)>) -> HttpResponse {
    let (status, body) = match outcome {
        Ok(answer) => (200, answer.to_string()),
        Err(refusal) => refusal,
    };
    HttpResponse::new(status.try_into().unwrap(), body.into())
}

/// The step in which a call is applied and answered.
fn step(client: usize, operation: &str, body: &Value) -> Step {
    let item = |request: &Value| {
        let table = request["TableName"].as_str().unwrap();
        let (_, key) = TABLES.into_iter().find(|(name, _)| *name == table).unwrap();
        // The sessions of a user count as one item: their ids differ between runs, and queries read them all.
        let values = ["Key", "Item"].map(|name| &request[name][key]["S"]);
        let of_query = &request["ExpressionAttributeValues"][":owner"]["S"];
        let [value, ..] =
            values.into_iter().chain([of_query]).filter(|value| !value.is_null()).collect::<Vec<_>>()[..]
        else {
            panic!("no key in {request}");
        };
        format!("{table} {value}")
    };
    let keys =
        |(table, request): (&String, &Value)| item(&json!({"TableName": table, "Key": request["Keys"][0]}));
    let (call, items) = if let Some(tables) = body["RequestItems"].as_object() {
        (operation.to_owned(), tables.iter().map(|table| (keys(table), false)).collect())
    } else if let Some(writes) = body["TransactItems"].as_array() {
        let requests = writes.iter().flat_map(|write| write.as_object().unwrap().values());
        (operation.to_owned(), requests.map(|request| (item(request), true)).collect())
    } else {
        let call = format!("{operation} {}", body["TableName"].as_str().unwrap());
        (call, vec![(item(body), !["GetItem", "Query"].contains(&operation))])
    };
    Step { client, call, lost: false, items }
}
