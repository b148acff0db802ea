//! The description of the API, `openapi.yaml`: as it is, as JSON, and as a page for a browser. It is served beside the
//! AWS services, because the API answers 404 wherever API Gateway would.

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::Value;

use crate::aws::page;

const DOCUMENT: &str = include_str!("../../openapi.yaml");

/// The routes that show it.
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
