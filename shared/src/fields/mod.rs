//! The fields of requests: their types in JSON, their constraints and their messages. Fields of HTTP bodies and of
//! payloads of functions that are invoked directly have the same rules.

mod errors;
mod field;
mod json;
mod page;
mod payload;
mod validator;

pub use errors::FieldErrors;
pub use field::Field;
pub use json::{BodyError, parse};
pub use page::Page;
pub use payload::{NotAList, Payload};
pub use validator::{SessionRequest, Validator};
