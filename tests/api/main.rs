//! The contract of the API, tested over HTTP as a client sees it.
//!
//! The tests are written from the API's documents, not from the code. They run against whatever is up at
//! `API_URL` and `AWS_ENDPOINT_URL`, or else against the embedded stack, in parallel and in any order: every
//! test makes its own users and sends from its own address. Time is never waited for: what has to grow old
//! is aged in the store.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod answers;
mod helpers;

mod documents;
mod endpoints;
mod resilience;
mod rules;
