//! Lambda: the functions that it runs.

use std::fmt::Debug;

use aws_types::SdkConfig;
pub use lambda_runtime::Error;
use lambda_runtime::{LambdaEvent, run_concurrent, service_fn};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::{ConfigError, Environment};
use crate::{aws, telemetry};

/// A Lambda function. Those that answer HTTP requests implement [`Endpoint`](crate::endpoint::Endpoint) instead, which
/// makes each of them a function.
pub trait Function: Debug + Sized + Send + Sync + 'static {
    /// The function's name in the log, the metrics and the template.
    const NAME: &'static str;

    /// The payload of its invocations.
    type Event: DeserializeOwned + Send + 'static;

    /// Creates the function with the deployment's settings. Fails if one is missing or out of bounds.
    fn new(environment: &Environment, aws: &SdkConfig) -> Result<Self, ConfigError>;

    /// Opens the connections and fetches the keys that invocations need.
    fn warm_up(&self) -> impl Future<Output = ()> + Send {
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
pub async fn run<F: Function>() -> Result<(), Error> {
    telemetry::init();
    let environment = Environment::from_process();
    // It lives as long as the process.
    let function: &'static F = Box::leak(Box::new(F::new(&environment, &aws::config(&environment)?)?));
    aws::before_invocations(&environment, function.warm_up()).await;
    telemetry::initialised();
    // Boxed, because the runtime nests a future deeply, and each function's is deep by itself.
    run_concurrent(service_fn(|event| Box::pin(function.invoke(event)))).await
}
