//! Logs and metrics: lines of one JSON object each.
//!
//! A line of the log has a timestamp, a level and, within a request, its ids; `trace_id` is X-Ray's. A failure is
//! logged once, at the boundary, with its cause. Every outcome is one line `answered` with `event`, `outcome` and, over
//! HTTP, `status`, or the `action` of `manage_users`; in its `span` are the source IP and the user's id, or a keyed hash
//! of the name where the user is unknown. Nothing logs a body, a password, code, token, hash of a password, secret or
//! e-mail address.
//!
//! Metrics are lines in AWS's embedded metric format, in the namespace `METRICS_NAMESPACE`. They are written when a
//! request was answered, one line for each set of dimensions:
//!
//! | Metric | Unit | Dimensions | Measures |
//! |---|---|---|---|
//! | `Answers` | Count | `Event`, `Outcome` | answers, under the names of their lines `answered` |
//! | `DependencyErrors` | Count | `Dependency` | operations of an AWS service that failed after their retries, or were refused |
//! | `HashTime` | Milliseconds | | the computation of one password hash, without the wait for a core |
//! | `Rehashes` | Count | | sign-ins that replaced an outdated hash |
//! | `ColdStarts` | Count | | execution environments, at the first answer of each |
//!
//! Every combination of dimensions' values costs as much as a metric of its own: ids and addresses are for the log.

use std::io::{self, Write};
use std::sync::{LazyLock, OnceLock};

use hmac::{Hmac, KeyInit, Mac};
use lambda_runtime::Context;
use metrics::{Unit, counter, describe_counter, describe_histogram};
use metrics_cloudwatch_embedded::{Builder, Collector};
use sha2::Sha256;
use tracing::level_filters::LevelFilter;
use tracing::{Span, field};

use crate::config::Environment;
use crate::domain::{UserId, Username};
use crate::random;

/// Writes what was counted since it did so last. Empty where nothing was started, as in tests.
static WRITE_METRICS: OnceLock<Box<dyn Fn() -> io::Result<()> + Send + Sync>> = OnceLock::new();

/// Starts logs and metrics on standard output, as Lambda wants them.
pub fn init() {
    init_to(io::stdout);
}

/// Starts logs and metrics on what `writer` returns.
pub fn init_to<W: Write + 'static>(writer: impl Fn() -> W + Clone + Send + Sync + 'static) {
    // lambda_runtime's own subscriber writes no timestamp, without which Lambda takes every line for INFO. The
    // level is fixed because the SDK's finer ones show whole requests; Lambda itself can filter coarser ones.
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_target(false)
        .with_max_level(LevelFilter::INFO)
        .with_writer(writer.clone())
        .init();
    // The default hook prints the payload, which could hold anything.
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string);
        tracing::error!(location, "panicked");
    }));
    let namespace = Environment::from_process().text("METRICS_NAMESPACE", "Postern");
    // It fails only where metrics were started before, and then the subscriber has already panicked.
    if let Ok(collector) = Builder::new().cloudwatch_namespace(namespace).init() {
        for name in ["Answers", "DependencyErrors", "Rehashes", "ColdStarts"] {
            describe_counter!(name, Unit::Count, "");
        }
        describe_histogram!("HashTime", Unit::Milliseconds, "");
        counter!("ColdStarts").increment(1);
        WRITE_METRICS.get_or_init(|| Box::new(move || write_metrics(collector, writer())));
    }
}

fn write_metrics(collector: &Collector, mut writer: impl Write) -> io::Result<()> {
    let mut lines = Vec::new();
    collector.flush(&mut lines)?;
    // At once, so that no line of the log gets in between.
    writer.write_all(&lines)
}

/// Counts an answer under the names of its line `answered`, and writes all that was counted for its request. Where
/// requests overlap in one process, each number is written once, with whichever is answered first.
pub fn count_answer(event: &'static str, outcome: &'static str) {
    counter!("Answers", "Event" => event, "Outcome" => outcome).increment(1);
    if let Some(Err(error)) = WRITE_METRICS.get().map(|write| write()) {
        tracing::error!(%error, "metrics not written");
    }
}

/// The span of an invocation that did not come by HTTP: what its log lines have in common.
#[must_use]
pub fn invocation_span(context: &Context) -> Span {
    tracing::info_span!(
        "request",
        request_id = context.request_id,
        trace_id = trace_id(context),
        user_id = field::Empty,
    )
}

/// X-Ray's id of the trace that an invocation belongs to: of the header that Lambda passes on, the part that one
/// searches for.
#[must_use]
pub fn trace_id(context: &Context) -> Option<&str> {
    context.xray_trace_id.as_deref()?.split(';').find_map(|part| part.strip_prefix("Root="))
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
