//! Lambda: the functions that it runs.

use std::fmt::Debug;
use std::sync::Once;

use aws_types::SdkConfig;
pub use lambda_runtime::Error;
use lambda_runtime::{LambdaEvent, run_concurrent, service_fn};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::aws::WHOLE_CORE_MB;
use crate::settings::{ConfigError, Settings};
use crate::{aws, telemetry};

/// A Lambda function. Those that answer HTTP requests implement [`Endpoint`](crate::endpoint::Endpoint) instead, which
/// [`Api`](crate::endpoint::Api) makes a function.
pub trait Function: Debug + Sized + Send + Sync + 'static {
    /// The function's name in the log, the metrics and the template.
    const NAME: &'static str;

    /// The payload of its invocations.
    type Event: DeserializeOwned + Send + 'static;

    /// Creates the function with the deployment's settings. Fails if one is missing or out of bounds.
    fn new(settings: &Settings, aws: &SdkConfig) -> Result<Self, ConfigError>;

    /// Opens the connections that invocations need.
    fn connect(&self) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Fetches the keys that invocations need.
    fn prefetch(&self) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Handles one invocation. An error makes the invocation fail.
    fn invoke(
        &self,
        event: LambdaEvent<Self::Event>,
    ) -> impl Future<Output = Result<impl Serialize + Send, Error>> + Send;
}

/// Runs `F` until Lambda ends this execution environment: one invocation at a time, or on Managed Instances as many as
/// `AWS_LAMBDA_MAX_CONCURRENCY` says.
///
/// Connections are opened and keys are fetched before the first invocation if there is time for it. Otherwise the first
/// invocation opens its connection to `DynamoDB` itself, and the keys are fetched meanwhile.
pub async fn run<F: Function>() -> Result<(), Error> {
    start::<F>(aws::config).await
}

/// The same as [`run`], for a function that calls no AWS service: its binary has no client.
pub async fn run_without_aws<F: Function>() -> Result<(), Error> {
    start::<F>(|_| Ok(SdkConfig::builder().build())).await
}

async fn start<F: Function>(aws: fn(&Settings) -> Result<SdkConfig, ConfigError>) -> Result<(), Error> {
    static FIRST_INVOCATION: Once = Once::new();
    telemetry::init();
    let settings = Settings::from_environment();
    // It lives as long as the process.
    let function: &'static F = Box::leak(Box::new(F::new(&settings, &aws(&settings)?)?));
    if has_time_before_invocations(&settings) {
        tokio::join!(function.connect(), function.prefetch());
    }
    telemetry::initialised();
    let handle = |event| {
        // A second connection to DynamoDB would only compete with the one that this invocation opens.
        FIRST_INVOCATION.call_once(|| drop(tokio::spawn(function.prefetch())));
        // Boxed, because the runtime nests a future deeply, and each function's is deep by itself.
        Box::pin(function.invoke(event))
    };
    run_concurrent(service_fn(handle)).await
}

/// Returns whether work is better done before the first invocation: Lambda starts an environment with a whole core, but
/// gives an invocation only as much of one as it has memory; and an environment that was started ahead of its
/// invocations has the time. If an invocation has a whole core too, it would have to wait for that work.
fn has_time_before_invocations(settings: &Settings) -> bool {
    let memory = settings.number("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", WHOLE_CORE_MB, 0..=u32::MAX);
    let on_demand = settings.text("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand") == "on-demand";
    !on_demand || memory.is_ok_and(|memory| memory < WHOLE_CORE_MB)
}
