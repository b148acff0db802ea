//! Every interleaving of the calls of a few clients, with lost responses, run on the real functions.
//!
//! A scenario consists of initial tables, some clients, and assertions for the end of each run. The functions run in
//! this process with an embedded `DynamoDB`, one call at a time: each call waits until all clients wait, and is
//! applied and answered when the search chooses it (`explorer`). The search runs every order except those that differ
//! only in steps that commute. As long as a scenario's budget for lost responses lasts, a call is also applied without
//! its response, and the SDK retries it. A call that is refused or throttled before it is applied needs no case of its
//! own: its retry is like a later call. Time passes only when a client makes it pass.
//!
//! The search is exhaustive and uses no randomness. Each scenario prints how many orders it ran (`--nocapture`), and a
//! failure prints the order that led to it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
#![allow(clippy::print_stdout, reason = "a failure is shown with what was printed before")]

mod beginning;
mod clients;
mod explorer;
mod rule;
mod run;
mod scenarios;
mod sequence;
mod world;
