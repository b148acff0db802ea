//! The contract of the API, tested over HTTP as a client sees it.
//!
//! The tests are written from the API's documents, not from the code. They run against the deployment at `API_URL` and
//! `AWS_ENDPOINT_URL`, or else against the embedded stack, in parallel and in any order: every test creates its own users
//! and sends from its own address. No test waits for time to pass: items are moved into the past in the store.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod answers;
mod helpers;

mod documents;
mod endpoints;
mod resilience;
mod rules;
