//! The stand-in for DynamoDB: dynoxide, in memory or in a file, or another implementation that is already running.

use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::thread;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Request, StatusCode};
use axum::response::Response;
use dynoxide::Database;
use serde_json::Value;
use tokio::sync::oneshot;
use tracing::subscriber::NoSubscriber;

use crate::aws;
use crate::stack::StartError;
use crate::template::Table;
use crate::upstream::Upstream;

/// The interval at which expired items are removed. In AWS this takes up to a few days.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// The header that makes a call look signed. The signature is not verified.
const SIGNATURE: &str = "AWS4-HMAC-SHA256 Credential=local/20000101/eu-central-1/dynamodb/aws4_request, \
                         SignedHeaders=host, Signature=local";

/// A running DynamoDB.
pub(crate) struct DynamoDb {
    client: Client,
    fresh: bool,
    /// The embedded database, unless another one is used.
    embedded: Option<Embedded>,
}

struct Embedded {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    /// Closed when it has stopped.
    stopped: oneshot::Receiver<()>,
}

/// A client that passes calls on to DynamoDB.
#[derive(Clone)]
pub(crate) struct Client(Upstream);

impl DynamoDb {
    /// Opens the embedded database or connects to the one at `url`, and creates the missing tables.
    pub(crate) async fn start(
        data_dir: Option<&Path>,
        url: Option<String>,
        tables: &[Table],
    ) -> Result<Self, StartError> {
        let failed = |error: &dyn Display| StartError::new("DynamoDB", error);
        let (url, embedded) = if let Some(url) = url {
            (url, None)
        } else {
            let embedded = Embedded::start(data_dir).map_err(|error| failed(&error))?;
            (format!("http://{}", embedded.address), Some(embedded))
        };
        let client = Client(Upstream::new(&url));
        let mut fresh = true;
        for table in tables {
            fresh &= client.create(table).await.map_err(|error| failed(&error))?;
        }
        Ok(Self { client, fresh, embedded })
    }

    /// Returns whether all tables were missing before.
    pub(crate) fn is_fresh(&self) -> bool {
        self.fresh
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Stops the embedded database, and returns when its file is closed.
    pub(crate) async fn stop(self) {
        if let Some(Embedded { stop, stopped, .. }) = self.embedded {
            drop(stop);
            let _ = stopped.await;
        }
    }
}

impl Embedded {
    fn start(data_dir: Option<&Path>) -> Result<Self, Box<dyn std::error::Error>> {
        let database = match data_dir {
            None => Database::memory()?,
            Some(folder) => Database::new(&folder.join("dynamodb.sqlite").to_string_lossy())?,
        };
        let (stop, stopping) = oneshot::channel();
        let (done, stopped) = oneshot::channel();
        let address = serve(database.clone(), stopping, done)?;
        tokio::spawn(sweep(database));
        Ok(Self { address, stop, stopped })
    }
}

impl Client {
    /// Creates a table if it is missing, and returns whether it was.
    async fn create(&self, table: &Table) -> Result<bool, String> {
        match self.request("CreateTable", &table.definition).await {
            Ok(()) => {}
            Err(error) if error.contains("ResourceInUseException") => return Ok(false),
            Err(error) => return Err(error),
        }
        if let Some(time_to_live) = &table.time_to_live {
            self.request("UpdateTimeToLive", time_to_live).await?;
        }
        Ok(true)
    }

    async fn request(&self, operation: &str, request: &Value) -> Result<(), String> {
        let request = Request::post("/")
            .header("x-amz-date", "20000101T000000Z")
            .header("x-amz-target", format!("DynamoDB_20120810.{operation}"))
            .header(CONTENT_TYPE, "application/x-amz-json-1.0")
            .body(Bytes::from(request.to_string()));
        let (head, body) = request.map_err(|error| error.to_string())?.into_parts();
        let response = self.send(head, body).await.map_err(|error| error.to_string())?;
        if response.status().is_success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(response.body()).into_owned())
    }

    /// Passes a call on, and returns the response.
    pub(crate) async fn call(&self, head: Parts, body: Bytes) -> Response {
        match self.send(head, body).await {
            Ok(response) => response.map(Body::from),
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

    /// Sends a call with the same credentials and region for all callers, because DynamoDB Local keeps separate tables
    /// for each of them.
    async fn send(&self, mut head: Parts, body: Bytes) -> Result<Response<Bytes>, axum::Error> {
        head.headers.insert(AUTHORIZATION, HeaderValue::from_static(SIGNATURE));
        self.0.send(head, body).await
    }
}

/// Serves the database on its own thread, because its calls block and would starve other tasks of the same runtime.
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
            // It logs a warning for every condition that is not met, which is normal here.
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
