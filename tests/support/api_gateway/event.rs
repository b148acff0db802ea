//! The event that a function receives for a request, in payload format 2.0.

use std::collections::BTreeMap;
use std::net::IpAddr;

use axum::body::Bytes;
use axum::http::header::{COOKIE, USER_AGENT};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Version};
use lambda_http::aws_lambda_events::encodings::Base64Data;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::aws;

/// Facts about a request that are not part of the request itself.
pub(super) struct RequestContext<'a> {
    pub(super) domain: &'a str,
    pub(super) source_ip: IpAddr,
    pub(super) request_id: &'a str,
    pub(super) route_key: String,
}

/// Creates the event for a request, in payload format 2.0.
pub(super) fn event(
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

/// Returns the headers in lower case; values of repeated headers are joined with commas. As in API Gateway, the host is
/// always that of the API, and the address of the client is appended to `x-forwarded-for`.
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

/// Decodes the value of a header as UTF-8, or as Latin-1 if it is not valid UTF-8.
pub(super) fn text(value: &HeaderValue) -> String {
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => text.to_owned(),
        Err(_) => value.as_bytes().iter().copied().map(char::from).collect(),
    }
}

/// Decodes the query parameters; values of repeated parameters are joined with commas.
fn query_parameters(query: &str) -> BTreeMap<String, String> {
    let mut joined: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
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

fn protocol(version: Version) -> &'static str {
    if version == Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" }
}

/// Formats the time as in the Common Log Format: `21/Nov/2026:12:40:22 +0000`.
fn common_log_time(time: OffsetDateTime) -> String {
    let month = time.month().to_string();
    let (hour, minute, second) = time.to_hms();
    format!("{:02}/{:.3}/{}:{hour:02}:{minute:02}:{second:02} +0000", time.day(), month, time.year())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::tests::request;
    use super::*;

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
    fn repeated_headers_and_parameters_are_joined_and_cookies_are_separate() {
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
    fn the_source_is_the_peer_even_if_the_client_claims_another() {
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
}
