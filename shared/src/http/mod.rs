//! API Gateway: what a request may contain, and how an outcome becomes an answer.

mod answer;
mod body;
mod endpoint;
mod payload;

pub use answer::{Envelope, Error, FieldErrors, PasswordChangeError, Success};
pub use body::{Field, Fields, Page, SessionRequest, parse};
pub use endpoint::{Endpoint, answer, route_key};
pub use payload::{NotAList, Payload};
