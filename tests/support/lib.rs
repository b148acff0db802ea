//! The whole service on this machine: the API as API Gateway would serve it, the functions as Lambda would run
//! them, and the AWS services that they use. `cargo run --bin local` keeps it running; the tests start it for
//! themselves.
//!
//! | Module | Stands in for |
//! |---|---|
//! | `api_gateway` | the HTTP API: routes, CORS, events in payload format 2.0 |
//! | `lambda`, `runtime_api` | Lambda: running the functions, in this process or as the deployed binaries |
//! | `template` | SAM: all of this is set up as `template.yaml` says |
//! | `aws` | one port for all that the AWS SDK and CLI talk to |
//! | `metric_filters` | CloudWatch Logs: the metrics that are counted from the functions' log |
//! | `iam` | IAM: a function may do what its role allows |
//! | `faults` | what can go wrong with all that |
//! | `dynamodb` | DynamoDB, by dynoxide or by another implementation |
//! | `secrets_manager` | Secrets Manager |
//! | `ses` | SES v2, and the inbox that shows what was sent |
//! | `openapi` | nothing: it shows the API's description |
//!
//! Everything listens on 127.0.0.1 only.

mod api_gateway;
mod aws;
mod dynamodb;
mod environments;
mod faults;
mod iam;
mod lambda;
pub mod metric_filters;
mod openapi;
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

/// Where the tests find the service.
#[derive(Debug)]
pub struct Endpoints {
    /// The API's base URL, without a slash at the end.
    pub api: String,
    /// The base URL of the AWS services, without a slash at the end.
    pub aws: String,
    /// What runs for as long as the process, if these are its endpoints.
    stack: Option<Stack>,
}

/// The service under test: the one at `API_URL` and `AWS_ENDPOINT_URL`, or else one that is started here, once for
/// the process, in memory, without the demo user.
///
/// # Panics
///
/// If only one of the variables is set, or if the service cannot start.
#[must_use]
#[expect(clippy::panic, reason = "only tests ask, and none of them could go on")]
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

/// Whether [`endpoints`] are of a stack in this process, started with the default settings.
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
