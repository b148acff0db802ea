//! API Gateway: what a request may contain, and how an outcome becomes an answer.

mod answer;
mod body;
mod call;
mod payload;

use std::convert::Infallible;

pub use answer::{Envelope, Error, FieldErrors, PasswordChangeError, Success};
pub use body::{Field, Fields, Page, SessionRequest, parse};
pub use call::{Call, identify, identify_unknown, route_key};
use lambda_http::aws_lambda_events::query_map::QueryMap;
use lambda_http::http::header;
use lambda_http::request::LambdaRequest;
use lambda_http::{Adapter, Body, LambdaEvent, Request, Response, Service, service_fn};
pub use payload::{NotAList, Payload};
use serde::Serialize;

/// Serves `handle` until Lambda ends this environment: one request at a time, or on Managed Instances as many as
/// `AWS_LAMBDA_MAX_CONCURRENCY` says.
pub async fn serve<Handler, Answer>(handle: Handler) -> Result<(), lambda_http::Error>
where
    Handler: Fn(Request) -> Answer + Clone + Send + Sync + 'static,
    Answer: Future<Output = Response<Body>> + Send + 'static,
{
    lambda_runtime::run_concurrent(service(handle)).await
}

/// What Lambda calls with each event: reads the request in it, and has `handle` answer that.
pub fn service<Handler, Answer>(
    handle: Handler,
) -> impl Service<LambdaEvent<LambdaRequest>, Response: Serialize + Send, Error = Infallible, Future: Send> + Clone
where
    Handler: Fn(Request) -> Answer + Clone + Send + Sync + 'static,
    Answer: Future<Output = Response<Body>> + Send + 'static,
{
    service_fn(move |event| {
        let handle = handle.clone();
        let mut adapter = Adapter::from(service_fn(move |request| {
            let answer = handle(request);
            async move { Ok(answer.await) }
        }));
        adapter.call(without_uri(event))
    })
}

/// Leaves `lambda_http` no URI to build but `/`. It panics where a client wrote what no URI has, such as `<` in the
/// query, and API Gateway passes that on. Nobody misses the URI: API Gateway has matched the path, and the parameters
/// of the query are kept.
fn without_uri(mut event: LambdaEvent<LambdaRequest>) -> LambdaEvent<LambdaRequest> {
    if let LambdaRequest::ApiGatewayV2(request) = &mut event.payload {
        if let Some(query) = request.raw_query_string.take() {
            let Ok(parameters) = query.parse::<QueryMap>();
            request.query_string_parameters = parameters;
        }
        request.raw_path = None;
        request.request_context.domain_name = None;
        request.headers.remove(header::HOST);
    }
    event
}
