//! The HTTP API: the trait of an endpoint, and the way from its outcome to a response.

mod bearer;
mod edge;
mod error;
mod response;

use std::convert::Infallible;
use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr};
use std::panic::AssertUnwindSafe;

use aws_types::SdkConfig;
use futures_util::FutureExt;
use futures_util::future::OptionFuture;
use lambda_http::aws_lambda_events::apigw::ApiGatewayV2httpRequestContext;
use lambda_http::aws_lambda_events::query_map::QueryMap;
use lambda_http::http::header;
use lambda_http::request::{LambdaRequest, RequestContext};
use lambda_http::{Adapter, Body, LambdaEvent, Request, RequestExt, Response, Service, service_fn};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::bearer::{bearer_token, token_in, token_of};
use self::edge::Edge;
pub use self::error::{Error, NumberedError};
pub use self::response::{Envelope, Success, response};
use self::response::{Rendered, render};
use crate::domain::{AllowedOrigins, is_own_origin};
use crate::failure::Failure;
use crate::fields;
use crate::function::Function;
use crate::settings::{ConfigError, Settings};
use crate::telemetry::{self, Audit, Summary};

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

    /// Handles a request that came from `source_ip`, the address that API Gateway saw, or that the edge saw if there is
    /// one.
    fn handle(
        &self,
        request: &Request,
        source_ip: IpAddr,
    ) -> impl Future<Output = Result<Success, Error>> + Send;
}

/// The function of an endpoint: refuses requests that bypass the edge, and those of pages whose origin is not allowed, and
/// passes on all others.
#[derive(Debug)]
pub struct Api<E> {
    endpoint: E,
    edge: Option<Edge>,
    allowed_origins: AllowedOrigins,
}

impl<E: Endpoint> Function for Api<E> {
    const NAME: &'static str = E::NAME;

    type Event = LambdaRequest;

    fn new(settings: &Settings, aws: &SdkConfig) -> Result<Self, ConfigError> {
        Ok(Self {
            endpoint: E::new(settings, aws)?,
            edge: if Self::IS_PUBLIC { None } else { Edge::new(settings, aws)? },
            allowed_origins: settings.allowed_origins()?,
        })
    }

    fn connect(&self) -> impl Future<Output = ()> + Send {
        self.endpoint.connect()
    }

    async fn prefetch(&self) {
        let of_edge = self.edge().map(|edge| edge.prefetch().boxed());
        tokio::join!(OptionFuture::from(of_edge), self.endpoint.prefetch());
    }

    async fn invoke(
        &self,
        mut event: LambdaEvent<LambdaRequest>,
    ) -> Result<impl Serialize + Send, lambda_runtime::Error> {
        let domain = take_uri(&mut event.payload);
        let domain = domain.as_deref();
        let answer = |request| async move { Ok::<_, Infallible>(self.answer(&request, domain).await) };
        let Ok(response) = Adapter::from(service_fn(answer)).call(event).await;
        Ok(response)
    }
}

impl<E: Endpoint> Api<E> {
    /// True for paths outside `/api`, whose answers are the same for everyone and count for no budget.
    const IS_PUBLIC: bool = matches!(E::ENVELOPE, Envelope::Gateway);

    /// Answers `request`, which API Gateway received at `domain`, and logs its outcome. A panic becomes an internal
    /// error.
    pub(crate) async fn answer(&self, request: &Request, domain: Option<&str>) -> Response<Body> {
        let gateway = gateway(request);
        // A client can make up a forwarded header, so only the address that API Gateway saw counts, unless the edge sent
        // the request. If it were ever missing, all such requests would share one budget.
        let peer = gateway
            .and_then(|context| context.http.source_ip.as_deref()?.parse().ok())
            .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let request_id = gateway.and_then(|context| context.request_id.as_deref()).unwrap_or_default();
        let audit = Audit::of_request(E::NAME, request.lambda_context_ref(), request_id, peer);
        let rendered = async move {
            let handled = async {
                let viewer = self.edge().map(|edge| edge.viewer(request.headers()).boxed());
                let viewer = OptionFuture::from(viewer).await.transpose()?.flatten();
                viewer.inspect(|viewer| telemetry::came_from(*viewer));
                let source_ip = viewer.unwrap_or(peer);
                if !self.allows_origin(request, domain) {
                    return Err(Error::OriginNotAllowed);
                }
                self.endpoint.handle(request, source_ip).await
            };
            let handled = AssertUnwindSafe(handled).catch_unwind().await;
            // The panic hook has logged where; the payload could hold anything.
            let result = handled.unwrap_or_else(|_| Err(Failure::Defect("panicked".to_owned()).into()));
            render(result, E::ENVELOPE)
        };
        let answered = audit.record(rendered, |Rendered { outcome, response, failure }| Summary {
            outcome,
            status: Some(response.status().as_u16()),
            failure: failure.as_ref(),
            ..Summary::default()
        });
        answered.await.response
    }

    /// The edge, if there is one and its requests matter. The futures of its methods are boxed: as a part of another
    /// future, they would be linked into functions of public paths as well, with the client of Secrets Manager.
    fn edge(&self) -> Option<&Edge> {
        if Self::IS_PUBLIC { None } else { self.edge.as_ref() }
    }

    /// Returns whether the page that sent the request may do so. A page cannot forge its origin; only browsers send
    /// one, with every request to another origin and with every POST and DELETE.
    fn allows_origin(&self, request: &Request, domain: Option<&str>) -> bool {
        let is_allowed = |origin: &str| {
            self.allowed_origins.allows(origin) || domain.is_some_and(|domain| is_own_origin(origin, domain))
        };
        let mut origins = request.headers().get_all(header::ORIGIN).iter();
        Self::IS_PUBLIC
            || self.allowed_origins == AllowedOrigins::Any
            || origins.all(|origin| origin.to_str().is_ok_and(is_allowed))
    }
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

/// Leaves `lambda_http` only the URI `/` to build, and returns the domain name that API Gateway saw. `lambda_http` panics
/// on characters that no URI has, such as `<` in the query, and API Gateway passes these on. The URI is not needed: API
/// Gateway has matched the path, and the parameters of the query are kept.
fn take_uri(event: &mut LambdaRequest) -> Option<String> {
    let LambdaRequest::ApiGatewayV2(request) = event else { return None };
    if let Some(query) = request.raw_query_string.take() {
        let Ok(parameters) = query.parse::<QueryMap>();
        request.query_string_parameters = parameters;
    }
    request.raw_path = None;
    request.headers.remove(header::HOST);
    request.request_context.domain_name.take()
}
