//! API Gateway's HTTP API: routes a request to its function as an event in payload format 2.0, and answers CORS.

mod cors;
mod event;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::http::header::{CONNECTION, CONTENT_LENGTH, SET_COOKIE, TRANSFER_ENCODING};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use lambda_http::aws_lambda_events::encodings::Base64Data;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use self::cors::Cors;
use self::event::{RequestContext, event};
use crate::lambda::Functions;
use crate::stack::StartError;
use crate::template;

/// The largest body that API Gateway takes.
const BODY_LIMIT: usize = 10 * 1024 * 1024;

struct Gateway {
    /// The API's own address, the only host that API Gateway would answer for.
    domain: String,
    routes: Vec<Route>,
    cors: Cors,
    functions: Arc<Functions>,
}

/// Which requests go to which function.
pub(crate) struct Route {
    method: String,
    /// A segment in braces is a parameter.
    path: String,
    function: String,
}

/// What a function answers, in payload format 2.0.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    status_code: u16,
    #[serde(default)]
    headers: HashMap<String, String>,
    #[serde(default)]
    cookies: Vec<String>,
    body: Option<Value>,
    #[serde(default)]
    is_base64_encoded: bool,
}

/// The API, to be served at `address`.
pub(crate) fn router(
    deployed: &[template::Function],
    cors: &template::Cors,
    address: SocketAddr,
    functions: Arc<Functions>,
) -> Result<Router, StartError> {
    let routes = deployed.iter().flat_map(|function| {
        function.routes.iter().map(|template::Route { method, path }| Route {
            method: method.clone(),
            path: path.clone(),
            function: function.name.clone(),
        })
    });
    let cors = Cors::new(cors)?;
    let gateway = Gateway { domain: address.to_string(), routes: routes.collect(), cors, functions };
    Ok(Router::new().fallback(answer).layer(DefaultBodyLimit::max(BODY_LIMIT)).with_state(Arc::new(gateway)))
}

async fn answer(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Parts,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    // Of the form of API Gateway's own, such as JKJaXmPLvHcESHA=.
    let request_id = format!("{:.15}=", Uuid::new_v4().simple().to_string());
    let mut response = if request.method == Method::OPTIONS {
        StatusCode::NO_CONTENT.into_response()
    } else {
        gateway.route(&request, peer.ip(), &request_id, body).await
    };
    gateway.cors.apply(&request, response.headers_mut());
    if let Ok(id) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert("apigw-requestid", id);
    }
    response
}

impl Gateway {
    async fn route(
        &self,
        request: &Parts,
        source_ip: IpAddr,
        request_id: &str,
        body: Result<Bytes, BytesRejection>,
    ) -> Response {
        let route = self.routes.iter().find_map(|Route { method, path, function }| {
            let parameters = (request.method == **method).then(|| match_path(path, request.uri.path()))??;
            Some((format!("{method} {path}"), parameters, function))
        });
        let Some((route_key, parameters, function)) = route else {
            return message(StatusCode::NOT_FOUND, "Not Found");
        };
        let body = match body {
            Ok(body) => body,
            Err(error) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                return message(StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large");
            }
            Err(_) => return message(StatusCode::BAD_REQUEST, "Bad Request"),
        };
        let event = event(
            request,
            &body,
            &parameters,
            &RequestContext { domain: &self.domain, source_ip, request_id, route_key },
        );
        let outcome = self.functions.invoke(function, event.to_string().into()).await;
        match outcome {
            Some(Ok(answer)) => {
                if let Some(response) = serde_json::from_slice(&answer).ok().and_then(Answer::into_response) {
                    return response;
                }
                tracing::error!(function, "answered what API Gateway cannot read");
            }
            Some(Err(error)) => {
                tracing::error!(function, error = %String::from_utf8_lossy(&error.0), "function failed");
            }
            None => tracing::error!(function, "there is no such function"),
        }
        message(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
    }
}

impl Answer {
    fn into_response(self) -> Option<Response> {
        let body = match self.body {
            None | Some(Value::Null) => Vec::new(),
            Some(encoded) if self.is_base64_encoded => serde_json::from_value::<Base64Data>(encoded).ok()?.0,
            Some(Value::String(text)) => text.into_bytes(),
            Some(_) => return None,
        };
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = StatusCode::from_u16(self.status_code).ok()?;
        for (name, value) in self.headers {
            let name: HeaderName = name.parse().ok()?;
            // These describe the connection to the client, which is not the function's.
            if ![CONTENT_LENGTH, CONNECTION, TRANSFER_ENCODING].contains(&name) {
                response.headers_mut().insert(name, value.parse().ok()?);
            }
        }
        for cookie in self.cookies {
            response.headers_mut().append(SET_COOKIE, cookie.parse().ok()?);
        }
        Some(response)
    }
}

/// The parameters in `path`, if it has the form of `pattern`.
fn match_path<'a>(pattern: &'a str, path: &'a str) -> Option<BTreeMap<&'a str, &'a str>> {
    let mut parameters = BTreeMap::new();
    let (mut expected, mut given) = (pattern.split('/'), path.split('/'));
    loop {
        match (expected.next(), given.next()) {
            (None, None) => return Some(parameters),
            (Some(expected), Some(given)) => {
                match expected.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
                    Some(name) if !given.is_empty() => drop(parameters.insert(name, given)),
                    None if expected == given => {}
                    _ => return None,
                }
            }
            _ => return None,
        }
    }
}

fn message(status: StatusCode, text: &str) -> Response {
    (status, axum::Json(json!({"message": text}))).into_response()
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    pub(super) fn request(method: &str, uri: &str, headers: &[(&str, &[u8])]) -> Parts {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, HeaderValue::from_bytes(value).unwrap());
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_path_has_to_match_in_every_segment() {
        let pattern = "/session/{id}";
        assert_eq!(match_path(pattern, "/session/7"), Some(BTreeMap::from([("id", "7")])));
        for path in ["/session", "/session/", "/session/7/", "/session/7/8", "/Session/7", "session/7"] {
            assert_eq!(match_path(pattern, path), None, "{path}");
        }
    }

    #[test]
    fn an_answer_that_is_no_response_is_refused() {
        let read = |json: Value| serde_json::from_value::<Answer>(json).ok().and_then(Answer::into_response);
        assert!(read(json!({"statusCode": 200, "body": "//4=", "isBase64Encoded": true})).is_some());
        for json in [
            json!({"statusCode": 99}),
            json!({"statusCode": 200, "body": "?", "isBase64Encoded": true}),
            json!({"statusCode": 200, "headers": {"a b": "c"}}),
            json!({"statusCode": 200, "headers": {"a": "b\n"}}),
            json!({"body": ""}),
        ] {
            assert!(read(json.clone()).is_none(), "{json}");
        }
    }
}
