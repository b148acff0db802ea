//! The rotation of the key that signs tokens, as Secrets Manager starts it.

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use shared::settings::Settings;
use shared::tokens::{KeyPairs, TokenSettings};
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::aws;
use crate::dynamodb;
use crate::lambda::{FunctionError, Functions};
use crate::operations::Operations;
use crate::secrets_manager::SecretsManager;
use crate::ses::Inbox;
use crate::stack::{Server, StartError};
use crate::template;

/// The function that rotates.
const FUNCTION: &str = "rotate_jwt_secret";
/// The steps of a rotation, in their order.
const STEPS: [&str; 4] = ["createSecret", "setSecret", "testSecret", "finishSecret"];

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RotateSecret {
    secret_id: String,
    client_request_token: Option<String>,
}

/// Serves `RotateSecret`. The rotation is over when the response is sent, while AWS starts it then. As there, its
/// failure shows in the log only.
pub(crate) async fn rotate_secret(secrets: &SecretsManager, functions: &Functions, body: &[u8]) -> Response {
    let Ok(request) = serde_json::from_slice::<RotateSecret>(body) else {
        return aws::refuse(StatusCode::BAD_REQUEST, "SerializationException", "The request is not JSON");
    };
    let Some(arn) = secrets.arn(&request.secret_id) else {
        let message = "Secrets Manager can't find the specified secret.";
        return aws::refuse(StatusCode::BAD_REQUEST, "ResourceNotFoundException", message);
    };
    let version = request.client_request_token.unwrap_or_else(|| Uuid::new_v4().to_string());
    if let Err(FunctionError(error)) = rotate(functions, &arn, &version).await {
        tracing::warn!(error = %String::from_utf8_lossy(&error), "the secret was not rotated");
    }
    axum::Json(json!({"ARN": arn, "Name": request.secret_id, "VersionId": version})).into_response()
}

async fn rotate(functions: &Functions, secret_id: &str, version: &str) -> Result<(), FunctionError> {
    for step in STEPS {
        let event = json!({"Step": step, "SecretId": secret_id, "ClientRequestToken": version});
        let missing = || FunctionError::new("ResourceNotFoundException", "there is no such function");
        functions.invoke(FUNCTION, event.to_string().into()).await.ok_or_else(missing)??;
    }
    Ok(())
}

/// Replaces the key that signs tokens unless it is one for the settings, as the rotation does with which a deployment
/// ends, but without its minimum interval. No other function may be running: it would have the replaced key in memory.
pub(crate) async fn make_keys(
    deployed: &[template::Function],
    dynamodb: dynamodb::Client,
    secrets: &Arc<SecretsManager>,
) -> Result<(), StartError> {
    let Some(mut function) = deployed.iter().find(|function| function.name == FUNCTION).cloned() else {
        return Ok(());
    };
    function.variables.insert("JWT_ROTATION_MIN_INTERVAL_SECONDS".to_owned(), "0".to_owned());
    let variables = function.variables.clone();
    let settings = Settings::new(move |variable| variables.get(variable).cloned());
    let tokens = TokenSettings::new(&settings)?;
    let secret_id = settings.required("JWT_SECRET_ID")?;
    let is_for_settings = match KeyPairs::parse(&secrets.current_value(&secret_id).unwrap_or_default()) {
        Some(pairs) => pairs.is_ok_and(|pairs| pairs.are_for(&tokens)),
        None => tokens.algorithm.is_none(),
    };
    if is_for_settings {
        return Ok(());
    }
    let failed = |error: String| StartError::new("the key that signs tokens could not be made", error);
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| failed(error.to_string()))?;
    let aws_url = format!("http://{}", listener.local_addr().map_err(|error| failed(error.to_string()))?);
    let functions = Arc::new(Functions::in_process(&[function], &aws_url)?);
    let operations = Arc::new(Operations::new(String::new(), Arc::new(Inbox::open(None)?)));
    let services = aws::by_target(dynamodb, Arc::clone(secrets), Arc::clone(&functions), operations);
    let server = Server::start(listener, Router::new().route("/", services))?;
    let rotated = rotate(&functions, &secret_id, &Uuid::new_v4().to_string()).await;
    server.stop().await;
    rotated.map_err(|FunctionError(error)| failed(String::from_utf8_lossy(&error).into_owned()))
}
