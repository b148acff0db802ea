//! Logs: one JSON object per line, with timestamp, level and, within a request, its ids.
//!
//! A failure is logged once, at the boundary, with its cause. Every outcome is one line `answered` with `event`,
//! `outcome` and `status`; the source IP and, where known, the user's id are in its `span`. Nothing logs a body, a
//! password, code, token, hash, secret or e-mail address.

use lambda_runtime::Context;
use tracing::level_filters::LevelFilter;
use tracing::{Span, field};
use tracing_subscriber::fmt::MakeWriter;

/// Starts logging to standard output, as Lambda wants it.
pub fn init() {
    init_to(std::io::stdout);
}

/// Starts logging to `writer`.
pub fn init_to<W>(writer: W)
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    // lambda_runtime's own subscriber writes no timestamp, without which Lambda takes every line for INFO. The
    // level is fixed because the SDK's finer ones show whole requests; Lambda itself can filter coarser ones.
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_target(false)
        .with_max_level(LevelFilter::INFO)
        .with_writer(writer)
        .init();
    // The default hook prints the payload, which could hold anything.
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string);
        tracing::error!(location, "panicked");
    }));
}

/// The span of an invocation that did not come by HTTP: what its log lines have in common.
#[must_use]
pub fn invocation_span(context: &Context) -> Span {
    tracing::info_span!(
        "request",
        request_id = context.request_id,
        trace_id = context.xray_trace_id,
        user_id = field::Empty,
    )
}
