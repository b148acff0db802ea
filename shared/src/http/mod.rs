//! API Gateway: what a request may contain, and how an outcome becomes an answer.

mod answer;
mod body;
mod call;

pub use answer::{Envelope, Error, FieldErrors, PasswordChangeError, Success};
pub use body::{Field, Fields, Page, SessionRequest, parse};
pub use call::{Call, identify};
use lambda_http::{Body, Request, Response, service_fn};

/// Serves `handle` until Lambda ends this environment.
pub async fn serve<Handler, Answer>(handle: Handler) -> Result<(), lambda_http::Error>
where
    Handler: Fn(Request) -> Answer + Send + Sync,
    Answer: Future<Output = Response<Body>> + Send,
{
    lambda_http::run(service_fn(|request| {
        let answer = handle(request);
        async move { Ok::<_, std::convert::Infallible>(answer.await) }
    }))
    .await
}
