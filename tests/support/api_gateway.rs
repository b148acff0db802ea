//! API Gateway's HTTP API: routes a request to its function as an event in payload format 2.0, and answers CORS.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, CONNECTION,
    CONTENT_LENGTH, COOKIE, ORIGIN, SET_COOKIE, TRANSFER_ENCODING, USER_AGENT, VARY,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use axum::response::{IntoResponse, Response};
use lambda_http::aws_lambda_events::encodings::Base64Data;
use serde::Deserialize;
use serde_json::{Value, json};
use shared::domain::AllowedOrigins;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::aws;
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

/// Which origins may read answers, and what they are told.
struct Cors {
    origins: AllowedOrigins,
    allowed_methods: HeaderValue,
    allowed_headers: HeaderValue,
    exposed_headers: HeaderValue,
    max_age: HeaderValue,
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

impl Cors {
    fn new(cors: &template::Cors) -> Result<Self, StartError> {
        let header = |names: &[String]| {
            names.join(",").parse().map_err(|error| StartError::new("CorsConfiguration", error))
        };
        Ok(Self {
            origins: (cors.allow_origins.join(","))
                .parse()
                .map_err(|error| StartError::new("AllowOrigins", error))?,
            allowed_methods: header(&cors.allow_methods)?,
            allowed_headers: header(&cors.allow_headers)?,
            exposed_headers: header(&cors.expose_headers)?,
            max_age: cors.max_age.into(),
        })
    }

    /// Replaces whatever a function says about CORS, as API Gateway does once it has a configuration of its own.
    fn apply(&self, request: &Parts, response: &mut HeaderMap) {
        for name in [
            ACCESS_CONTROL_ALLOW_ORIGIN,
            ACCESS_CONTROL_ALLOW_METHODS,
            ACCESS_CONTROL_ALLOW_HEADERS,
            ACCESS_CONTROL_EXPOSE_HEADERS,
            ACCESS_CONTROL_MAX_AGE,
        ] {
            response.remove(name);
        }
        let Some(origin) = request.headers.get(ORIGIN) else {
            return;
        };
        let allowed = if self.origins == AllowedOrigins::Any {
            HeaderValue::from_static("*")
        } else {
            response.append(VARY, HeaderValue::from_static("origin"));
            if !origin.to_str().is_ok_and(|origin| self.origins.allows(origin)) {
                return;
            }
            origin.clone()
        };
        response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if request.method != Method::OPTIONS {
            response.insert(ACCESS_CONTROL_EXPOSE_HEADERS, self.exposed_headers.clone());
        } else if request.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
            response.insert(ACCESS_CONTROL_ALLOW_METHODS, self.allowed_methods.clone());
            response.insert(ACCESS_CONTROL_ALLOW_HEADERS, self.allowed_headers.clone());
            response.insert(ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        }
    }
}

/// What API Gateway knows of a request beside the request itself.
struct RequestContext<'a> {
    domain: &'a str,
    source_ip: IpAddr,
    request_id: &'a str,
    route_key: String,
}

/// The event that a function gets, in payload format 2.0.
fn event(
    request: &Parts,
    body: &Bytes,
    parameters: &BTreeMap<&str, &str>,
    context: &RequestContext,
) -> Value {
    let RequestContext { domain, source_ip, request_id, route_key } = context;
    let path = request.uri.path();
    let now = OffsetDateTime::now_utc();
    let mut event = json!({
        "version": "2.0",
        "routeKey": route_key,
        "rawPath": path,
        "rawQueryString": request.uri.query().unwrap_or_default(),
        "headers": headers(&request.headers, context),
        "requestContext": {
            "accountId": aws::ACCOUNT,
            "apiId": "local",
            "domainName": domain,
            "domainPrefix": "local",
            "http": {
                "method": request.method.as_str(),
                "path": path,
                "protocol": protocol(request.version),
                "sourceIp": source_ip,
                "userAgent": request.headers.get(USER_AGENT).map(text).unwrap_or_default(),
            },
            "requestId": request_id,
            "routeKey": route_key,
            "stage": "$default",
            "time": common_log_time(now),
            "timeEpoch": now.unix_timestamp() * 1000 + i64::from(now.millisecond()),
        },
        "isBase64Encoded": false,
    });
    let cookies: Vec<String> = request.headers.get_all(COOKIE).iter().map(text).collect();
    if !cookies.is_empty() {
        event["cookies"] = cookies.iter().flat_map(|cookies| cookies.split(';')).map(str::trim).collect();
    }
    let query = query_parameters(request.uri.query().unwrap_or_default());
    if !query.is_empty() {
        event["queryStringParameters"] = json!(query);
    }
    if !parameters.is_empty() {
        event["pathParameters"] = json!(parameters);
    }
    if let Ok(text) = std::str::from_utf8(body) {
        if !text.is_empty() {
            event["body"] = text.into();
        }
    } else {
        let mut bytes = Base64Data::default();
        bytes.0 = body.to_vec();
        event["body"] = json!(bytes);
        event["isBase64Encoded"] = true.into();
    }
    event
}

/// The headers in lower case, those given twice joined with a comma. What a client says of its own way here is not
/// believed: the host is always this one, and its address is appended to whatever it forwards.
fn headers(headers: &HeaderMap, context: &RequestContext) -> BTreeMap<String, String> {
    let mut joined: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in headers {
        if name == COOKIE {
            continue;
        }
        joined
            .entry(name.as_str().to_owned())
            .and_modify(|joined| {
                joined.push(',');
                joined.push_str(&text(value));
            })
            .or_insert_with(|| text(value));
    }
    let port = context.domain.rsplit_once(':').map_or("80", |(_, port)| port);
    joined.insert("host".to_owned(), context.domain.to_owned());
    joined.insert("x-forwarded-port".to_owned(), port.to_owned());
    joined.insert("x-forwarded-proto".to_owned(), "http".to_owned());
    let source_ip = context.source_ip.to_string();
    joined
        .entry("x-forwarded-for".to_owned())
        .and_modify(|forwarded| {
            forwarded.push_str(", ");
            forwarded.push_str(&source_ip);
        })
        .or_insert(source_ip.clone());
    joined
}

/// A header's value as UTF-8 if it is that, and otherwise as Latin-1, which anything is.
fn text(value: &HeaderValue) -> String {
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => text.to_owned(),
        Err(_) => value.as_bytes().iter().copied().map(char::from).collect(),
    }
}

/// The decoded parameters, those given twice joined with a comma.
fn query_parameters(query: &str) -> BTreeMap<String, String> {
    let mut joined: BTreeMap<String, String> = BTreeMap::new();
    let Ok(url) = reqwest::Url::parse(&format!("http://localhost/?{query}")) else {
        return joined;
    };
    for (name, value) in url.query_pairs() {
        joined
            .entry(name.into_owned())
            .and_modify(|joined| {
                joined.push(',');
                joined.push_str(&value);
            })
            .or_insert_with(|| value.into_owned());
    }
    joined
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

fn protocol(version: Version) -> &'static str {
    if version == Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" }
}

/// The time as in the Common Log Format: `21/Nov/2026:12:40:22 +0000`.
fn common_log_time(time: OffsetDateTime) -> String {
    let month = time.month().to_string();
    let (hour, minute, second) = time.to_hms();
    format!("{:02}/{:.3}/{}:{hour:02}:{minute:02}:{second:02} +0000", time.day(), month, time.year())
}

fn message(status: StatusCode, text: &str) -> Response {
    (status, axum::Json(json!({"message": text}))).into_response()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::http::Request;

    use super::*;

    fn request(method: &str, uri: &str, headers: &[(&str, &[u8])]) -> Parts {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, HeaderValue::from_bytes(value).unwrap());
        }
        request.body(()).unwrap().into_parts().0
    }

    fn event_of(request: &Parts, body: &'static [u8]) -> Value {
        let context = RequestContext {
            domain: "127.0.0.1:3000",
            source_ip: Ipv4Addr::new(127, 9, 8, 7).into(),
            request_id: "id",
            route_key: "POST /".to_owned(),
        };
        event(request, &Bytes::from_static(body), &BTreeMap::new(), &context)
    }

    #[test]
    fn headers_and_parameters_given_twice_are_joined_and_cookies_are_apart() {
        let event = event_of(
            &request(
                "POST",
                "/p?token=OLD&token=N%C3%A9W&a=1+2",
                &[("X-Twice", b"1"), ("x-twice", b"2"), ("cookie", b"a=1; b=2"), ("x-latin", b"\xe9")],
            ),
            b"{}",
        );
        assert_eq!(event["headers"]["x-twice"], "1,2");
        assert_eq!(event["headers"]["x-latin"], "é");
        assert_eq!(event["headers"]["cookie"], Value::Null);
        assert_eq!(event["cookies"], json!(["a=1", "b=2"]));
        assert_eq!(event["rawQueryString"], "token=OLD&token=N%C3%A9W&a=1+2");
        assert_eq!(event["queryStringParameters"], json!({"token": "OLD,NéW", "a": "1 2"}));
        assert_eq!((&event["body"], &event["isBase64Encoded"]), (&json!("{}"), &json!(false)));
    }

    #[test]
    fn the_source_is_the_peer_whatever_the_client_forwards() {
        let hostile: [(&str, &[u8]); 3] =
            [("host", b"[::"), ("x-forwarded-for", b"203.0.113.1"), ("x-forwarded-proto", b"a b")];
        let event = event_of(&request("POST", "/", &hostile), b"");
        assert_eq!(event["requestContext"]["http"]["sourceIp"], "127.9.8.7");
        assert_eq!(event["headers"]["host"], "127.0.0.1:3000");
        assert_eq!(event["headers"]["x-forwarded-for"], "203.0.113.1, 127.9.8.7");
        assert_eq!(event["headers"]["x-forwarded-proto"], "http");
    }

    #[test]
    fn bytes_that_are_not_text_are_encoded() {
        let event = event_of(&request("POST", "/", &[]), b"\xff\xfe");
        assert_eq!((&event["body"], &event["isBase64Encoded"]), (&json!("//4="), &json!(true)));
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

    /// The CORS headers with which a request of this method and origin is answered.
    fn cors(origins: &str, method: &str, origin: Option<&str>) -> Vec<String> {
        let mut headers: Vec<(&str, &[u8])> = vec![("access-control-request-method", b"POST")];
        headers.extend(origin.map(|origin| ("origin", origin.as_bytes())));
        let mut response = HeaderMap::new();
        response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("of the function"));
        let texts = |texts: &str| texts.split(',').map(str::to_owned).collect();
        let cors = Cors::new(&template::Cors {
            allow_origins: texts(origins),
            allow_methods: texts("GET,POST,DELETE"),
            allow_headers: texts("authorization,content-type"),
            expose_headers: texts("retry-after"),
            max_age: 3600,
        });
        cors.unwrap().apply(&request(method, "/", &headers), &mut response);
        let mut headers: Vec<String> =
            response.iter().map(|(name, value)| format!("{name}: {}", text(value))).collect();
        headers.sort();
        headers
    }

    #[test]
    fn cors_headers_are_sent_to_allowed_origins_only() {
        let here = "https://here.example";
        assert_eq!(cors("*", "POST", None), [""; 0]);
        assert_eq!(
            cors("*", "POST", Some(here)),
            ["access-control-allow-origin: *", "access-control-expose-headers: retry-after"]
        );
        let list = "https://here.example,https://there.example";
        assert_eq!(
            cors(list, "OPTIONS", Some(here)),
            [
                "access-control-allow-headers: authorization,content-type",
                "access-control-allow-methods: GET,POST,DELETE",
                "access-control-allow-origin: https://here.example",
                "access-control-max-age: 3600",
                "vary: origin",
            ]
        );
        assert_eq!(cors(list, "POST", Some("https://elsewhere.example")), ["vary: origin"]);
    }
}
