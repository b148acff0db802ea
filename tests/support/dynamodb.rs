//! DynamoDB: dynoxide, in memory or in a file.

use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::thread;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use dynoxide::{Database, DynoxideError};
use serde_json::{Value, json};
use shared::store::TableNames;
use tokio::sync::oneshot;
use tracing::subscriber::NoSubscriber;

use crate::aws;
use crate::stack::StartError;

/// How often expired items are removed. DynamoDB itself takes up to days.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// A running DynamoDB.
pub(crate) struct DynamoDb {
    client: Client,
    fresh: bool,
    stop: oneshot::Sender<()>,
    /// Closed once it has stopped.
    stopped: oneshot::Receiver<()>,
}

/// Passes calls on to DynamoDB.
#[derive(Clone)]
pub(crate) struct Client {
    url: String,
    http: reqwest::Client,
}

impl DynamoDb {
    /// Opens the database, and creates the tables that are missing.
    pub(crate) fn start(data_dir: Option<&Path>, tables: &TableNames) -> Result<Self, StartError> {
        let failed = |error: &dyn Display| StartError::new("DynamoDB", error);
        let database = match data_dir {
            None => Database::memory(),
            Some(folder) => Database::new(&folder.join("dynamodb.sqlite").to_string_lossy()),
        }
        .map_err(|error| failed(&error))?;
        let mut fresh = false;
        for (name, definition, expires) in definitions(tables) {
            let created =
                create_table(&database, name, definition, expires).map_err(|error| failed(&error))?;
            fresh |= created && *name == tables.users;
        }

        let (stop, stopping) = oneshot::channel();
        let (done, stopped) = oneshot::channel();
        let address = serve(database.clone(), stopping, done).map_err(|error| failed(&error))?;
        tokio::spawn(sweep(database));
        let http = reqwest::Client::builder().no_proxy().build().map_err(|error| failed(&error))?;
        let client = Client { url: format!("http://{address}"), http };
        Ok(Self { client, fresh, stop, stopped })
    }

    /// Whether there was no users' table before.
    pub(crate) fn is_fresh(&self) -> bool {
        self.fresh
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Stops, and returns once the file is closed.
    pub(crate) async fn stop(self) {
        drop(self.stop);
        let _ = self.stopped.await;
    }
}

impl Client {
    /// Passes a call on and its answer back.
    pub(crate) async fn call(&self, mut headers: HeaderMap, body: Bytes) -> Response {
        for name in [HOST, CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION] {
            headers.remove(name);
        }
        match self.http.post(&self.url).headers(headers).body(body).send().await {
            Ok(answer) => {
                let (status, headers) = (answer.status(), answer.headers().clone());
                let mut response = Response::new(Body::from(answer.bytes().await.unwrap_or_default()));
                *response.status_mut() = status;
                *response.headers_mut() = headers;
                response
            }
            Err(error) => {
                tracing::error!(%error, "DynamoDB did not answer");
                aws::refuse(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "InternalServerError",
                    "DynamoDB did not answer",
                )
            }
        }
    }
}

/// Serves on a thread of its own: the database works one call at a time and blocks meanwhile, which would starve
/// whatever shared its runtime.
fn serve(
    database: Database,
    stopping: oneshot::Receiver<()>,
    done: oneshot::Sender<()>,
) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::spawn(move || {
        let served = {
            // It logs every condition that is not met as a warning, which here is the normal course of things.
            let _silent = tracing::subscriber::set_default(NoSubscriber::default());
            runtime.block_on(async {
                let listener =
                    tokio::net::TcpListener::from_std(listener).map_err(|error| error.to_string())?;
                let stopped = async {
                    let _ = stopping.await;
                };
                dynoxide::server::serve_with_shutdown(listener, database, stopped).await
            })
        };
        if let Err(error) = served {
            tracing::error!(error, "DynamoDB failed");
        }
        drop((runtime, done));
    });
    Ok(address)
}

async fn sweep(database: Database) {
    let mut interval = tokio::time::interval(SWEEP_INTERVAL);
    loop {
        interval.tick().await;
        let database = database.clone();
        match tokio::task::spawn_blocking(move || database.sweep_ttl()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::error!(%error, "could not remove expired items"),
            Err(error) => tracing::error!(%error, "could not remove expired items"),
        }
    }
}

/// Every table with its keys and indexes, and whether its items expire.
fn definitions(tables: &TableNames) -> [(&String, Value, bool); 5] {
    let keyed_by = |key: &str| {
        json!({
            "AttributeDefinitions": [{"AttributeName": key, "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": key, "KeyType": "HASH"}],
        })
    };
    let sessions = json!({
        "AttributeDefinitions": [
            {"AttributeName": "session_id", "AttributeType": "S"},
            {"AttributeName": "user_id", "AttributeType": "S"},
            {"AttributeName": "created_at", "AttributeType": "N"},
        ],
        "KeySchema": [{"AttributeName": "session_id", "KeyType": "HASH"}],
        "GlobalSecondaryIndexes": [{
            "IndexName": "by_user",
            "KeySchema": [
                {"AttributeName": "user_id", "KeyType": "HASH"},
                {"AttributeName": "created_at", "KeyType": "RANGE"},
            ],
            "Projection": {"ProjectionType": "ALL"},
        }],
    });
    [
        (&tables.users, keyed_by("username"), false),
        (&tables.user_ids, keyed_by("user_id"), false),
        (&tables.reset_codes, keyed_by("username"), true),
        (&tables.sessions, sessions, true),
        (&tables.attempts, keyed_by("subject"), true),
    ]
}

/// Creates a table unless it is there, and says whether it was created.
fn create_table(
    database: &Database,
    name: &str,
    mut definition: Value,
    expires: bool,
) -> Result<bool, DynoxideError> {
    let unreadable = |error: serde_json::Error| DynoxideError::SerializationException(error.to_string());
    definition["TableName"] = name.into();
    definition["BillingMode"] = "PAY_PER_REQUEST".into();
    match database.create_table(serde_json::from_value(definition).map_err(unreadable)?) {
        Ok(_) => {}
        Err(DynoxideError::ResourceInUseException(_)) => return Ok(false),
        Err(error) => return Err(error),
    }
    if expires {
        let request = json!({
            "TableName": name,
            "TimeToLiveSpecification": {"AttributeName": "ttl", "Enabled": true},
        });
        database.update_time_to_live(serde_json::from_value(request).map_err(unreadable)?)?;
    }
    Ok(true)
}
