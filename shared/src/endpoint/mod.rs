//! The HTTP API: the trait of an endpoint, and the way from its outcome to a response.

mod bearer;
mod error;
mod response;

use std::convert::Infallible;
use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr};
use std::panic::AssertUnwindSafe;

use aws_types::SdkConfig;
use futures_util::FutureExt;
use lambda_http::aws_lambda_events::apigw::ApiGatewayV2httpRequestContext;
use lambda_http::aws_lambda_events::query_map::QueryMap;
use lambda_http::http::header;
use lambda_http::request::{LambdaRequest, RequestContext};
use lambda_http::{Adapter, Body, LambdaEvent, Request, RequestExt, Response, Service, service_fn};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::bearer::{bearer_token, token_of};
pub use self::error::{Error, NumberedError};
use self::response::render;
pub use self::response::{Envelope, Success};
use crate::failure::Failure;
use crate::fields;
use crate::function::Function;
use crate::settings::{ConfigError, Settings};
use crate::telemetry::{Audit, Summary};

/// An endpoint of the HTTP API: the Lambda function that answers one or several of its routes.
pub trait Endpoint: Debug + Sized + Send + Sync + 'static {
    /// The function's name in the log, the metrics and the template.
    const NAME: &'static str;

    /// The form of its answers.
    const ENVELOPE: Envelope = Envelope::Auth;

    /// Creates the endpoint with the deployment's settings. Fails if one is missing or out of bounds.
    fn new(settings: &Settings, aws: &SdkConfig) -> Result<Self, ConfigError>;

    /// Opens the connections that requests need. Requests work without this as well, but the first one takes longer.
    fn connect(&self) -> impl Future<Output = ()> + Send;

    /// Fetches the keys that requests need, if they are not in memory. Requests do without this as well.
    fn prefetch(&self) -> impl Future<Output = ()> + Send;

    /// Handles a request that came from `source_ip`, the address that API Gateway saw.
    fn handle(
        &self,
        request: &Request,
        source_ip: IpAddr,
    ) -> impl Future<Output = Result<Success, Error>> + Send;
}

impl<E: Endpoint> Function for E {
    const NAME: &'static str = E::NAME;

    type Event = LambdaRequest;

    fn new(settings: &Settings, aws: &SdkConfig) -> Result<Self, ConfigError> {
        E::new(settings, aws)
    }

    fn connect(&self) -> impl Future<Output = ()> + Send {
        E::connect(self)
    }

    fn prefetch(&self) -> impl Future<Output = ()> + Send {
        E::prefetch(self)
    }

    async fn invoke(
        &self,
        event: LambdaEvent<LambdaRequest>,
    ) -> Result<impl Serialize + Send, lambda_runtime::Error> {
        let answer = |request| async move { Ok::<_, Infallible>(answer(self, &request).await) };
        let Ok(response) = Adapter::from(service_fn(answer)).call(without_uri(event)).await;
        Ok(response)
    }
}

/// Answers `request`, and logs its outcome. A panic becomes an internal error.
pub async fn answer<E: Endpoint>(endpoint: &E, request: &Request) -> Response<Body> {
    let gateway = gateway(request);
    // Only the address that API Gateway saw counts: a client can make up a forwarded header. If it were ever
    // missing, all such requests would share one budget.
    let source_ip = gateway
        .and_then(|context| context.http.source_ip.as_deref()?.parse().ok())
        .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let request_id = gateway.and_then(|context| context.request_id.as_deref()).unwrap_or_default();
    let audit = Audit::of_request(E::NAME, request.lambda_context_ref(), request_id, source_ip);
    let rendered = async move {
        let handled = AssertUnwindSafe(endpoint.handle(request, source_ip)).catch_unwind().await;
        // The panic hook has logged where; the payload could hold anything.
        let result = handled.unwrap_or_else(|_| Err(Failure::Defect("panicked".to_owned()).into()));
        let (outcome, response) = render(&result, E::ENVELOPE);
        (result, outcome, response)
    };
    let answered = audit.record(rendered, |(result, outcome, response)| {
        let failure = match result {
            Err(Error::Failure(failure)) => Some(failure),
            _ => None,
        };
        Summary { outcome, status: Some(response.status().as_u16()), failure, ..Summary::default() }
    });
    answered.await.2
}

/// Reads the body of a request. Its content type does not matter.
pub fn parse<T: DeserializeOwned>(request: &Request) -> Result<T, Error> {
    Ok(fields::parse(request.body().as_ref())?)
}

/// The route that API Gateway matched, as the template has it: `POST /api/auth/signin`.
#[must_use]
pub fn route_key(request: &Request) -> Option<&str> {
    gateway(request)?.route_key.as_deref()
}

/// API Gateway's own account of the request.
fn gateway(request: &Request) -> Option<&ApiGatewayV2httpRequestContext> {
    match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV2(context)) => Some(context),
        _ => None,
    }
}

/// Leaves `lambda_http` only the URI `/` to build. It panics on characters that no URI has, such as `<` in the
/// query, and API Gateway passes these on. The URI is not needed: API Gateway has matched the path, and the parameters
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
