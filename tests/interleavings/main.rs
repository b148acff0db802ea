//! Every interleaving of a few clients, and of the answers that get lost, on the real functions.
//!
//! A scenario is a beginning, some clients, and what has to hold at each end. The functions run in this process; their
//! calls of `DynamoDB` go to an embedded one, but one at a time: each call waits until all clients wait, and is then
//! applied and answered when the search chooses it (`explorer`). It goes on until every order was run, but for those that
//! differ only in steps that commute. Where the budget for losses allows it, a call is also applied without its answer
//! coming back, which makes the SDK repeat it. A call that is refused or throttled before it is applied, and repeated, is
//! no case of its own: it is one that comes later. Time passes when a client lets it.
//!
//! No order is drawn at random: what is printed at the end of a scenario (`--nocapture`) is all there is, and a failure
//! is shown with the order that leads to it.
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
