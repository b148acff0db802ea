//! The description of the API, `openapi.yaml`, served as YAML, as JSON and as a page for a browser. Its port is that of
//! the AWS services, because the API has only the routes that it has in AWS.

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::Value;

use crate::aws::page;

const DOCUMENT: &str = include_str!("../../openapi.yaml");

/// The routes of the description.
pub(crate) fn router() -> Router {
    Router::new()
        .route("/openapi", get(async || page(include_str!("openapi.html"))))
        .route("/openapi.yaml", get(async || ([(CONTENT_TYPE, "application/yaml")], DOCUMENT)))
        .route("/openapi.json", get(json))
}

async fn json() -> Response {
    match yaml_serde::from_str::<Value>(DOCUMENT) {
        Ok(document) => axum::Json(document).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
