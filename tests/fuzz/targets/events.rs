//! Events: every event of API Gateway is parsed without a panic. The token comes from the header, or from the last
//! `token` parameter of the query if there is none in the header.
//!
//! An input is an event. `TOKEN` in it is replaced with a valid token.
#![no_main]

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use fuzz::{SERVICE, valid_token};
use lambda_http::http::{HeaderMap, header};
use lambda_http::request::LambdaRequest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let valid = valid_token();
    let Ok(mut event) = serde_json::from_str(&text.replace("TOKEN", &valid)) else {
        return;
    };
    let LambdaRequest::ApiGatewayV2(request) = &mut event else {
        return;
    };
    if request.is_base64_encoded {
        // API Gateway always sends valid Base64.
        request.body = request.body.take().map(|body| BASE64_STANDARD.encode(body));
    }
    let query = request.raw_query_string.as_deref().unwrap_or_default();
    let token = of_header(&request.headers).or_else(|| of_query(query));
    let raw_query_is_there = request.raw_query_string.is_some();

    let answer = SERVICE.answer("sessions", request);

    if raw_query_is_there {
        assert_eq!(answer.body["error_code"] == "token_not_provided", token.is_none(), "{token:?}");
        assert_eq!(answer.called_dynamodb, token.as_deref() == Some(&*valid), "{token:?}");
    }
});

/// The token of a header `Authorization: Bearer …`. A colon may follow the scheme.
fn of_header(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?.trim();
    if !value.get(..6)?.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let rest = value[6..].trim_start_matches(':');
    let token = rest.trim();
    (rest.starts_with([' ', '\t']) && !token.is_empty()).then(|| token.to_owned())
}

fn of_query(query: &str) -> Option<String> {
    let tokens = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "token");
    tokens.last().map(|(_, token)| token.into_owned()).filter(|token| !token.is_empty())
}
