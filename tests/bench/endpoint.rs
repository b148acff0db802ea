//! An HTTPS proxy in front of the AWS services of the local stack: TLS 1.3, as in production, with a certificate authority
//! of its own. It records all operations, and can replay responses from memory, delay them, and read the capacity units
//! that an operation consumes.

use std::collections::HashMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use serde::Deserialize;
use serde_json::{Map, Value};
use support::BODY_LIMIT;
use support::upstream::Upstream;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::Result;

/// The way in which operations are answered.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mode {
    /// The stack answers.
    PassOn,
    /// The stack answers the first time. Repetitions get the same response from memory, so that no figure contains the
    /// time of the store.
    Replay,
    /// The stack answers, but except for mails not before this time has passed. DynamoDB is asked for the capacity units
    /// that operations consume, which are hidden from the functions.
    Hold(Duration),
}

/// The endpoint of all AWS services. It runs as long as the runtime in which it was started.
pub(crate) struct Endpoint {
    pub(crate) url: String,
    /// The PEM file with its certificate authority.
    pub(crate) ca_bundle: PathBuf,
    front: Arc<Front>,
}

/// An operation that was answered.
pub(crate) struct Operation {
    /// The name, for example `DynamoDB_20120810.GetItem`, or the path for SES.
    pub(crate) name: String,
    pub(crate) began: Instant,
    pub(crate) answered: Instant,
    /// The consumed capacity units; zero unless the response was delayed.
    pub(crate) units: Units,
}

/// The request units that an operation consumes, as DynamoDB reports them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Units {
    pub(crate) write: f64,
    pub(crate) read: f64,
}

impl Operation {
    /// Returns whether it is an operation of DynamoDB.
    pub(crate) fn is_of_dynamodb(&self) -> bool {
        self.name.starts_with("DynamoDB")
    }

    /// Returns the name without the service, for example `GetItem`.
    pub(crate) fn short_name(&self) -> &str {
        self.name.rsplit(['.', '/']).next().unwrap_or_default()
    }

    /// Returns whether it is a transaction, which takes longer and consumes twice the units.
    pub(crate) fn is_transaction(&self) -> bool {
        self.short_name().starts_with("Transact")
    }

    /// Returns whether it sends a mail.
    pub(crate) fn is_of_ses(&self) -> bool {
        self.name.ends_with("/outbound-emails")
    }
}

struct Front {
    stack: Upstream,
    state: Mutex<Status>,
}

struct Status {
    mode: Mode,
    answers: HashMap<String, Answer>,
    operations: Vec<Operation>,
    passed_on: usize,
}

#[derive(Clone)]
struct Answer {
    status: StatusCode,
    content_type: Option<HeaderValue>,
    body: Bytes,
}

/// The members of a request that distinguish it from other operations with the same name. Other members may change when
/// it is repeated.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Kind {
    table_name: Option<String>,
    index_name: Option<String>,
    key: Value,
    request_items: Value,
    update_expression: Option<String>,
    transact_items: Vec<HashMap<String, Kind>>,
    secret_id: Option<String>,
    version_stage: Option<String>,
    version_id: Option<String>,
}

impl Endpoint {
    /// Starts to serve in front of the AWS services at `stack`, and writes the certificate authority to `folder`.
    pub(crate) async fn start(stack: &str, folder: &Path) -> Result<Self> {
        let (acceptor, root) = tls::acceptor()?;
        let ca_bundle = folder.join("ca.pem");
        fs::write(&ca_bundle, root)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let listener = TlsListener::new(listener, acceptor, address);
        let front = Arc::new(Front {
            stack: Upstream::new(stack),
            state: Mutex::new(Status {
                mode: Mode::PassOn,
                answers: HashMap::new(),
                operations: Vec::new(),
                passed_on: 0,
            }),
        });
        let router = Router::new()
            .fallback(answer)
            .layer(DefaultBodyLimit::max(BODY_LIMIT))
            .with_state(Arc::clone(&front));
        tokio::spawn(async { axum::serve(listener, router).await });
        Ok(Self { url: format!("https://localhost:{}", address.port()), ca_bundle, front })
    }

    /// Sets the mode.
    pub(crate) fn answer(&self, mode: Mode) {
        self.front.state().mode = mode;
    }

    /// Takes the operations that were recorded since the last call.
    pub(crate) fn operations(&self) -> Vec<Operation> {
        std::mem::take(&mut self.front.state().operations)
    }

    /// Returns the number of operations that the stack has answered.
    pub(crate) fn passed_on(&self) -> usize {
        self.front.state().passed_on
    }
}

impl Front {
    fn state(&self) -> MutexGuard<'_, Status> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes an operation on to the stack, and remembers the response if it is a success. A failure may depend on a state
    /// of the store that will not recur.
    async fn pass_on(&self, name: &str, head: Parts, body: Bytes) -> Result<Answer, axum::Error> {
        let kind = kind(name, &head.headers, &body);
        let (head, body) = self.stack.send(head, body).await?.into_parts();
        let status = head.status;
        let answer = Answer { status, content_type: head.headers.get(CONTENT_TYPE).cloned(), body };
        let mut state = self.state();
        state.passed_on += 1;
        if status.is_success() {
            state.answers.insert(kind, answer.clone());
        }
        Ok(answer)
    }
}

async fn answer(State(front): State<Arc<Front>>, request: Request<Body>) -> Response {
    let began = Instant::now();
    let (head, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, BODY_LIMIT).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let target = head.headers.get("x-amz-target").and_then(|target| target.to_str().ok());
    let name = target.unwrap_or(head.uri.path()).to_owned();
    let mode = front.state().mode;
    let kept = match mode {
        Mode::Replay => front.state().answers.get(&kind(&name, &head.headers, &body)).cloned(),
        Mode::PassOn | Mode::Hold(_) => None,
    };
    let mut operation = Operation { name, began, answered: began, units: Units::default() };
    let delay = match mode {
        Mode::Hold(time) if !operation.is_of_ses() => Some(time),
        _ => None,
    };
    let body = if delay.is_some() && operation.is_of_dynamodb() {
        asking_for_units(&body).unwrap_or(body)
    } else {
        body
    };
    let mut answer = match kept {
        Some(answer) => Ok(answer),
        None => front.pass_on(&operation.name, head, body).await,
    };
    if let (Some(time), Ok(answer)) = (delay, &mut answer) {
        operation.units = take_units(operation.short_name(), &mut answer.body);
        sleep(time.saturating_sub(began.elapsed())).await;
    }
    operation.answered = Instant::now();
    front.state().operations.push(operation);
    match answer {
        Ok(answer) => {
            let mut response = Response::new(Body::from(answer.body));
            *response.status_mut() = answer.status;
            if let Some(content_type) = answer.content_type {
                response.headers_mut().insert(CONTENT_TYPE, content_type);
            }
            response
        }
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

/// Adds to the body of a request to DynamoDB that the response must report the consumed units.
fn asking_for_units(body: &[u8]) -> Option<Bytes> {
    let mut request: Map<String, Value> = serde_json::from_slice(body).ok()?;
    request.insert("ReturnConsumedCapacity".to_owned(), "TOTAL".into());
    Some(serde_json::to_vec(&request).ok()?.into())
}

/// Removes the consumed units from the body of a response, and returns them.
fn take_units(operation: &str, body: &mut Bytes) -> Units {
    let Ok(mut answer) = serde_json::from_slice::<Map<String, Value>>(body) else { return Units::default() };
    // There is one report for each table if an operation can have several tables.
    let consumed = match answer.remove("ConsumedCapacity") {
        Some(Value::Array(tables)) => tables,
        Some(table) => vec![table],
        None => return Units::default(),
    };
    if let Ok(rest) = serde_json::to_vec(&answer) {
        *body = rest.into();
    }
    let units = consumed.iter().filter_map(|table| table["CapacityUnits"].as_f64()).sum();
    match operation {
        "BatchGetItem" | "GetItem" | "Query" => Units { read: units, ..Units::default() },
        _ => Units { write: units, ..Units::default() },
    }
}

/// The key of a remembered response: the caller, the name of the operation and the members that distinguish it.
fn kind(name: &str, headers: &HeaderMap, body: &[u8]) -> String {
    let authorization = headers.get(AUTHORIZATION).and_then(|header| header.to_str().ok());
    let caller = authorization.and_then(|header| header.split('/').next()).unwrap_or_default();
    let kind = serde_json::from_slice::<Kind>(body).unwrap_or_default();
    format!("{caller} {name} {kind:?}")
}

/// A listener that yields connections after their TLS handshakes, which run concurrently.
struct TlsListener {
    connections: mpsc::UnboundedReceiver<(TlsStream<TcpStream>, SocketAddr)>,
    address: SocketAddr,
}

impl TlsListener {
    fn new(listener: TcpListener, acceptor: TlsAcceptor, address: SocketAddr) -> Self {
        let (up, connections) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((connection, peer)) = listener.accept().await {
                let (acceptor, up) = (acceptor.clone(), up.clone());
                tokio::spawn(async move {
                    // If a handshake fails, the client reports it.
                    if connection.set_nodelay(true).is_ok()
                        && let Ok(connection) = acceptor.accept(connection).await
                    {
                        let _ = up.send((connection, peer));
                    }
                });
            }
        });
        Self { connections, address }
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.connections.recv().await {
            Some(connection) => connection,
            // The port is closed, so there will be no other connection.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        Ok(self.address)
    }
}
