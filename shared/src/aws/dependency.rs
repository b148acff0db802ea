use std::error::Error;
use std::fmt::Debug;

use aws_sdk_dynamodb::error::{ConnectorError, ProvideErrorMetadata, SdkError};

use crate::failure::Failure;
use crate::telemetry;

/// An AWS service that requests depend on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dependency {
    /// Holds users, codes, sessions and counters.
    DynamoDb,
    /// Sends the mails.
    Ses,
    /// Holds the keys.
    SecretsManager,
}

impl Dependency {
    /// Counts a failed operation in the log, and returns the failure, which names `operation` and the cause. Only the
    /// service's error code and message are kept: the error's other parts can hold whole items, hashes among them.
    pub fn record_failure<E, R>(self, operation: &str, error: &SdkError<E, R>) -> Failure
    where
        E: ProvideErrorMetadata + Error + 'static,
        R: Debug,
    {
        telemetry::operation_failed(self);
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
                let mut source = dispatch.as_connector_error().and_then(Error::source);
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
}

/// Returns whether the only attempt of an operation certainly had no effect: the service refused it with a status of
/// 4xx, or there was no connection to send it on. After a time-out, a lost response or a status of 5xx it may have had
/// one.
pub fn had_no_effect<E>(error: &SdkError<E>) -> bool {
    match error {
        SdkError::ConstructionFailure(_) => true,
        SdkError::ServiceError(service) => service.raw().status().is_client_error(),
        SdkError::DispatchFailure(dispatch) => {
            dispatch.is_user() || dispatch.as_connector_error().is_some_and(never_connected)
        }
        _ => false,
    }
}

fn never_connected(error: &ConnectorError) -> bool {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<hyper_util::client::legacy::Error>() {
            return error.is_connect();
        }
        source = error.source();
    }
    false
}
