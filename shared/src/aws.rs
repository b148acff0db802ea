//! How the AWS SDK is used: short time-outs, because a person waits for the answer, and few retries; and what its
//! errors come to.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader, SdkConfig};
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};

use crate::error::Failure;

/// The SDK's configuration from this process's environment, as Lambda sets it. `AWS_ENDPOINT_URL` and its
/// per-service forms are honoured.
pub async fn load() -> SdkConfig {
    configure(aws_config::defaults(BehaviorVersion::latest())).load().await
}

/// Gives `loader` the time-outs and retries that every client here has. Three attempts of at most a second keep a
/// call within three seconds; the SDK itself would wait a second before its first retry and never give up.
#[must_use]
pub fn configure(loader: ConfigLoader) -> ConfigLoader {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(1))
        .operation_attempt_timeout(Duration::from_secs(1))
        .operation_timeout(Duration::from_secs(3))
        .build();
    let retries = RetryConfig::standard()
        .with_max_attempts(3)
        .with_initial_backoff(Duration::from_millis(50))
        .with_max_backoff(Duration::from_millis(100));
    loader.timeout_config(timeouts).retry_config(retries)
}

/// An AWS service that requests depend on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dependency {
    /// Where users, codes, sessions and counters are.
    DynamoDb,
    /// Which sends the mails.
    Ses,
    /// Where the keys are.
    SecretsManager,
}

impl Dependency {
    /// Counts one of its operations as failed, and says which `operation` and why. Only the service's error code and
    /// message are kept: the error's other parts can hold whole items, hashes among them.
    pub fn failure<E, R>(self, operation: &str, error: &SdkError<E, R>) -> Failure
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        R: std::fmt::Debug,
    {
        metrics::counter!("DependencyErrors", "Dependency" => self.name()).increment(1);
        let cause = match error {
            SdkError::ServiceError(service) => {
                let error = service.err();
                let code = error.code().unwrap_or("unknown code");
                match (self, code) {
                    // Its messages can name addresses.
                    (Self::Ses, _) => code.to_owned(),
                    // It will not be better next time: the request is wrong, or the function's rights are.
                    (_, "ValidationException" | "AccessDeniedException") => {
                        return Failure::Defect(format!("{operation}: {code}"));
                    }
                    _ => format!("{code}: {}", error.message().unwrap_or("no message")),
                }
            }
            SdkError::DispatchFailure(dispatch) => {
                let mut cause = "the request was not answered".to_owned();
                let mut source = dispatch.as_connector_error().and_then(std::error::Error::source);
                while let Some(error) = source {
                    cause = format!("{cause}: {error}");
                    source = error.source();
                }
                cause
            }
            // `TimeoutError`, `ConstructionFailure` and `ResponseError` say no more than their kind when displayed.
            other => other.to_string(),
        };
        Failure::Unavailable(format!("{operation}: {cause}"))
    }

    fn name(self) -> &'static str {
        match self {
            Self::DynamoDb => "DynamoDB",
            Self::Ses => "SES",
            Self::SecretsManager => "SecretsManager",
        }
    }
}
