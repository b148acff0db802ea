//! The contract of the API, tested over HTTP as a client sees it.
//!
//! The tests are written from the API's documents, not from the code. They run against whatever is up at
//! `API_URL` and `AWS_ENDPOINT_URL`, or else against the embedded stack, in parallel and in any order: every
//! test makes its own users and sends from its own address. Time is never waited for: what has to grow old
//! is aged in the store.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod addresses;
mod answers;
mod helpers;

mod change_my_password;
mod change_password;
mod change_password_after_signin;
mod clients;
mod document;
mod events;
mod failures;
mod faults;
mod fields;
mod forgot_password;
mod hostile;
mod http;
mod links;
mod mails;
mod manage_users;
mod metrics;
mod migration;
mod own_changes;
mod passwords;
mod races;
mod request_bodies;
mod reset_codes;
mod revoked_codes;
mod rotation;
mod safe_mode;
mod security;
mod session_lifetimes;
mod sessions;
mod settings;
mod sign_in_failures;
mod signin;
mod soak;
mod storms;
mod template;
mod timing;
mod tokens;
mod trust;
