use std::net::{IpAddr, Ipv4Addr};
use std::panic::AssertUnwindSafe;
use std::sync::LazyLock;

use futures_util::FutureExt;
use hmac::{Hmac, KeyInit, Mac};
use lambda_http::aws_lambda_events::apigw::ApiGatewayV2httpRequestContext;
use lambda_http::request::RequestContext;
use lambda_http::{Body, Request, RequestExt, Response};
use sha2::Sha256;
use tracing::{Instrument, Span, field};

use super::answer::{Envelope, Error, Success, render};
use crate::domain::{UserId, Username};
use crate::error::Failure;
use crate::random;
use crate::telemetry::{count_answer, trace_id};

/// One request on its way through a function: who sent it, and under which ids it is logged.
#[derive(Debug)]
pub struct Call {
    event: &'static str,
    envelope: Envelope,
    source_ip: IpAddr,
    span: Span,
}

impl Call {
    /// Takes up `request`; `event` names the endpoint in the audit log.
    #[must_use]
    pub fn new(event: &'static str, envelope: Envelope, request: &Request) -> Self {
        let gateway = gateway(request);
        // Only what API Gateway saw itself counts: a forwarded header is whatever a client wrote. Were it ever
        // missing, all such requests would share one budget.
        let source_ip = gateway
            .and_then(|context| context.http.source_ip.as_deref()?.parse().ok())
            .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let lambda = request.lambda_context_ref();
        let span = tracing::info_span!(
            "request",
            request_id = lambda.map(|context| context.request_id.as_str()),
            api_request_id = gateway.and_then(|context| context.request_id.as_deref()),
            trace_id = lambda.and_then(trace_id),
            source_ip = %source_ip,
            user_id = field::Empty,
            username_hash = field::Empty,
        );
        Self { event, envelope, source_ip, span }
    }

    /// The address that the request came from, as API Gateway saw it.
    #[must_use]
    pub fn source_ip(&self) -> IpAddr {
        self.source_ip
    }

    /// Awaits the outcome, logs and counts it, and turns it into the answer. A panic becomes an internal error.
    pub async fn answer(
        self,
        outcome: impl Future<Output = Result<Success, Error>> + Send,
    ) -> Response<Body> {
        let Self { event, envelope, span, .. } = self;
        async move {
            let result = AssertUnwindSafe(outcome).catch_unwind().await.unwrap_or_else(|_| {
                // The panic hook has logged where; the payload could hold anything.
                Err(Failure::Defect("panicked".to_owned()).into())
            });
            if let Err(Error::Failure(failure)) = &result {
                tracing::error!(event, cause = %failure, "failed");
            }
            let (outcome, response) = render(&result, envelope);
            tracing::info!(event, outcome, status = response.status().as_u16(), "answered");
            count_answer(event, outcome);
            response
        }
        .instrument(span)
        .await
    }
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

/// Names the user in every later log line of the current request.
pub fn identify(user_id: &UserId) {
    Span::current().record("user_id", user_id.as_str());
}

/// Marks every later log line of the current request with a hash of the name of an unknown user: 16 hexadecimal digits,
/// by which lines with the same name are found.
///
/// Passwords are typed into the field of the username too, and a plain hash of one is guessed in no time. Hence the key,
/// which is random and never leaves the process: a name has another hash in each execution environment.
pub fn identify_unknown(username: &Username) {
    static KEY: LazyLock<String> = LazyLock::new(random::secret_key);
    // HMAC takes keys of every length (RFC 2104 §3).
    let Ok(mac) = Hmac::<Sha256>::new_from_slice(KEY.as_bytes()) else { return };
    let hash = mac.chain_update(username.normalised()).finalize().into_bytes();
    if let Some((first, _)) = hash.split_first_chunk() {
        Span::current().record("username_hash", format!("{:016x}", u64::from_be_bytes(*first)));
    }
}
