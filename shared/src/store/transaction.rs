use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::TransactWriteItem;

use super::Store;
use crate::aws::Dependency::DynamoDb;
use crate::failure::Failure;

impl Store {
    /// Writes all `items` or none. Returns false if one of their conditions does not hold. A retry after a lost
    /// response is harmless, because the SDK gives each transaction a token.
    pub(super) async fn transact(&self, name: &str, items: Vec<TransactWriteItem>) -> Result<bool, Failure> {
        match self.client.transact_write_items().set_transact_items(Some(items)).send().await {
            Ok(_) => Ok(true),
            Err(error) if has_failed_condition(&error) => Ok(false),
            Err(error) => Err(DynamoDb.record_failure(&format!("TransactWriteItems {name}"), &error)),
        }
    }
}

/// The failure to build a request.
pub(super) fn defect(error: impl std::fmt::Display) -> Failure {
    Failure::Defect(format!("building a transaction: {error}"))
}

/// For each item of a transaction, in their order, whether its condition did not hold. Empty if the transaction failed
/// for another reason.
pub(super) fn failed_conditions(error: &TransactWriteItemsError) -> Vec<bool> {
    let TransactWriteItemsError::TransactionCanceledException(cancelled) = error else {
        return Vec::new();
    };
    cancelled
        .cancellation_reasons()
        .iter()
        .map(|reason| reason.code() == Some("ConditionalCheckFailed"))
        .collect()
}

/// Returns whether a transaction was cancelled because a condition did not hold.
fn has_failed_condition<R>(error: &SdkError<TransactWriteItemsError, R>) -> bool {
    error.as_service_error().is_some_and(|error| failed_conditions(error).contains(&true))
}
