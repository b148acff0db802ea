//! The local stack: the whole service on this machine, with the API as API Gateway serves it, the functions as Lambda
//! runs them, and stand-ins for the AWS services that they use. `cargo run --bin local` keeps it running. The tests
//! start their own.
//!
//! | Module | Purpose |
//! |---|---|
//! | `api_gateway` | stands in for the HTTP API: routes, CORS, events in payload format 2.0 |
//! | `lambda` | stands in for Lambda: runs the functions in this process or as binaries, and serves `Invoke` |
//! | `environments`, `runtime_api` | run binaries as Lambda does, with its Runtime API |
//! | `template` | stands in for SAM: reads from `template.yaml` how to set up the stack |
//! | `aws` | serves all AWS services on one port |
//! | `metric_filters` | stands in for CloudWatch Logs: counts metrics in the log of the functions |
//! | `iam` | stands in for IAM: lets functions do only what their roles allow |
//! | `faults` | injects faults into the AWS services |
//! | `dynamodb` | stands in for DynamoDB, with dynoxide or another implementation |
//! | `secrets_manager` | stands in for Secrets Manager |
//! | `rotation` | rotates the key that signs tokens, as Secrets Manager would |
//! | `ses` | stands in for SES v2, with an inbox that shows the sent mail |
//! | `operations` | stands in for what the smoke test uses: Systems Manager, CloudWatch Logs, `CodeDeploy` |
//! | `openapi` | shows the description of the API |
//! | `upstream` | passes HTTP requests on to another server |
//!
//! All servers listen on 127.0.0.1 only.

mod api_gateway;
mod aws;
mod dynamodb;
mod environments;
mod faults;
mod iam;
mod lambda;
pub mod metric_filters;
mod openapi;
mod operations;
mod rotation;
pub mod runtime_api;
mod secrets_manager;
mod ses;
mod stack;
pub mod template;
pub mod upstream;

use std::sync::OnceLock;
use std::thread;

pub use aws::BODY_LIMIT;
pub use faults::{Fault, Faults, Plan};
pub use iam::Permission;
pub use stack::{Options, Stack, StartError};

/// The base URLs of the service under test.
#[derive(Debug)]
pub struct Endpoints {
    /// The API's base URL, without a slash at the end.
    pub api: String,
    /// The base URL of the AWS services, without a slash at the end.
    pub aws: String,
    /// The stack at these URLs, if it runs in this process.
    stack: Option<Stack>,
}

/// Returns the service under test: the one at `API_URL` and `AWS_ENDPOINT_URL`, or else a stack that is started once
/// for the process, in memory and without the demo user.
///
/// # Panics
///
/// Panics if only one of the variables is set, or if the stack cannot start.
#[must_use]
#[expect(clippy::panic, reason = "only tests call it, and no test could continue")]
pub fn endpoints() -> &'static Endpoints {
    static ENDPOINTS: OnceLock<Endpoints> = OnceLock::new();
    ENDPOINTS.get_or_init(|| match (url("API_URL"), url("AWS_ENDPOINT_URL")) {
        (Some(api), Some(aws)) => Endpoints { api, aws, stack: None },
        // On a thread of its own, because the caller may already be inside a runtime.
        (None, None) => match thread::spawn(start_embedded).join() {
            Ok(Ok(stack)) => Endpoints { api: stack.api_url(), aws: stack.aws_url(), stack: Some(stack) },
            Ok(Err(error)) => panic!("the embedded stack did not start: {error}"),
            Err(panicked) => std::panic::resume_unwind(panicked),
        },
        _ => panic!("set both API_URL and AWS_ENDPOINT_URL, or neither"),
    })
}

/// Returns whether [`endpoints`] belong to a stack in this process, which then has the default settings.
#[must_use]
pub fn embedded() -> bool {
    endpoints().stack.is_some()
}

fn url(variable: &str) -> Option<String> {
    let url = std::env::var(variable).ok()?;
    let url = url.trim_end_matches('/');
    (!url.is_empty()).then(|| url.to_owned())
}

fn start_embedded() -> Result<Stack, StartError> {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|error| StartError::new("no runtime", error))?
        .block_on(Stack::start(Options::default()))
}
