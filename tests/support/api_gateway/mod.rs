//! The stand-in for the HTTP API of API Gateway: sends each request to its function as an event in payload format 2.0,
//! and adds the headers of CORS.

mod cors;
mod event;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::http::header::{CONNECTION, CONTENT_LENGTH, HOST, SET_COOKIE, TRANSFER_ENCODING};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use lambda_http::aws_lambda_events::encodings::Base64Data;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use self::cors::Cors;
pub(crate) use self::cors::check_allowed_headers;
use self::event::{RequestContext, event};
use crate::lambda::Functions;
use crate::stack::StartError;
use crate::template;

/// The largest request body that API Gateway accepts, in bytes.
const BODY_LIMIT: usize = 10 * 1024 * 1024;

struct Gateway {
    /// The domain names of the API: its address, and the same by name.
    domains: [String; 2],
    routes: Vec<Route>,
    /// The CORS configuration, if there is one.
    cors: Option<Cors>,
    functions: Arc<Functions>,
}

/// A route and the function that handles its requests.
pub(crate) struct Route {
    method: String,
    /// A segment in braces is a parameter.
    path: String,
    function: String,
}

/// The response of a function, in payload format 2.0.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FunctionResponse {
    status_code: u16,
    #[serde(default)]
    headers: HashMap<String, String>,
    #[serde(default)]
    cookies: Vec<String>,
    body: Option<Value>,
    #[serde(default)]
    is_base64_encoded: bool,
}

/// The router for the API at `address`.
pub(crate) fn router(
    deployed: &[template::Function],
    cors: Option<&template::Cors>,
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
    let cors = cors.map(Cors::new).transpose()?;
    let domains = [address.to_string(), format!("localhost:{}", address.port())];
    let gateway = Gateway { domains, routes: routes.collect(), cors, functions };
    Ok(Router::new().fallback(answer).layer(DefaultBodyLimit::max(BODY_LIMIT)).with_state(Arc::new(gateway)))
}

async fn answer(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Parts,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    // API Gateway's ids look like this: JKJaXmPLvHcESHA=.
    let request_id = format!("{:.15}=", Uuid::new_v4().simple().to_string());
    let mut response = if gateway.cors.is_some() && request.method == Method::OPTIONS {
        StatusCode::NO_CONTENT.into_response()
    } else {
        gateway.route(&request, peer.ip(), &request_id, body).await
    };
    if let Some(cors) = &gateway.cors {
        cors.apply(&request, response.headers_mut());
    }
    if let Ok(id) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert("apigw-requestid", id);
    }
    response
}

impl Gateway {
    /// The domain name that a request was sent to. API Gateway serves no others than its own.
    fn domain(&self, request: &Parts) -> &str {
        let host = request.headers.get(HOST);
        let used =
            self.domains.iter().find(|domain| host.is_some_and(|host| host.as_bytes() == domain.as_bytes()));
        used.unwrap_or(&self.domains[0])
    }

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
            &RequestContext { domain: self.domain(request), source_ip, request_id, route_key },
        );
        let outcome = self.functions.invoke(function, event.to_string().into()).await;
        match outcome {
            Some(Ok(answer)) => {
                if let Some(response) =
                    serde_json::from_slice(&answer).ok().and_then(FunctionResponse::into_response)
                {
                    return response;
                }
                tracing::error!(function, "the function sent a response that API Gateway cannot read");
            }
            Some(Err(error)) => {
                tracing::error!(function, error = %String::from_utf8_lossy(&error.0), "the function failed");
            }
            None => tracing::error!(function, "there is no such function"),
        }
        message(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
    }
}

impl FunctionResponse {
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
            // These headers describe the connection to the client, which API Gateway manages itself.
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

/// Returns the parameters in `path` if it matches `pattern`.
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
    fn an_invalid_response_of_a_function_is_refused() {
        let read = |json: Value| {
            serde_json::from_value::<FunctionResponse>(json).ok().and_then(FunctionResponse::into_response)
        };
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
