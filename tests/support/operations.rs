//! The stand-ins for what the smoke test uses besides Lambda: the URL of the API in Systems Manager, the events of mails
//! in `CloudWatch` Logs, and `CodeDeploy`, which waits for the results of tests.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::aws;
use crate::ses::Inbox;

/// The services.
pub(crate) struct Operations {
    api_url: String,
    inbox: Arc<Inbox>,
    /// The results that `CodeDeploy` was told, in their order.
    results: Mutex<Vec<Value>>,
}

impl Operations {
    pub(crate) fn new(api_url: String, inbox: Arc<Inbox>) -> Self {
        Self { api_url, inbox, results: Mutex::default() }
    }

    /// Serves an operation, whose name follows that of its service.
    pub(crate) fn call(&self, target: (&str, &str), body: &[u8]) -> Response {
        let Ok(request) = serde_json::from_slice::<Value>(body) else {
            return aws::refuse(StatusCode::BAD_REQUEST, "SerializationException", "The request is not JSON");
        };
        match target {
            ("AmazonSSM", "GetParameter") => self.parameter(&request),
            ("Logs_20140328", "FilterLogEvents") => self.events_of_mails(&request),
            ("CodeDeploy_20141006", "PutLifecycleEventHookExecutionStatus") => self.finish_test(request),
            _ => {
                let message = "this operation is not supported here";
                aws::refuse(StatusCode::BAD_REQUEST, "UnknownOperationException", message)
            }
        }
    }

    fn parameter(&self, request: &Value) -> Response {
        match request["Name"].as_str() {
            Some(name) if name.ends_with("/api-url") => {
                Json(json!({"Parameter": {"Name": name, "Type": "String", "Value": self.api_url}}))
                    .into_response()
            }
            _ => aws::refuse(StatusCode::BAD_REQUEST, "ParameterNotFound", ""),
        }
    }

    /// The log that the rule `MailEventsToLog` writes: all mails are delivered at once, but for those to the addresses
    /// of SES's simulator that bounce.
    fn events_of_mails(&self, request: &Value) -> Response {
        let address = request["filterPattern"].as_str().unwrap_or_default().trim_matches('"');
        let what = if address.starts_with("bounce") { "Email Bounced" } else { "Email Delivered" };
        let events = self.inbox.ids_of_mails_to(address).into_iter().map(|id| {
            let mail = json!({"messageId": id, "destination": [address]});
            let event = json!({"detail-type": what, "source": "aws.ses", "detail": {"mail": mail}});
            json!({"message": event.to_string()})
        });
        Json(json!({"events": events.collect::<Vec<_>>()})).into_response()
    }

    fn finish_test(&self, request: Value) -> Response {
        let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        let id = "lifecycleEventHookExecutionId";
        if results.iter().any(|result| result[id] == request[id]) {
            let message = "The lifecycle event has already been completed.";
            return aws::refuse(StatusCode::BAD_REQUEST, "LifecycleEventAlreadyCompletedException", message);
        }
        let answer = json!({id: request[id]});
        results.push(request);
        Json(answer).into_response()
    }
}

/// Shows the results of tests that `CodeDeploy` was told.
pub(crate) async fn show(State(operations): State<Arc<Operations>>) -> Response {
    let results = operations.results.lock().unwrap_or_else(PoisonError::into_inner);
    Json(json!({"results": *results})).into_response()
}
