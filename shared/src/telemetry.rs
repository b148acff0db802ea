//! The log: lines of one JSON object each, with `timestamp` and `level`.
//!
//! Every request and every invocation writes one line, when it is answered. Metric filters in `template.yaml` count
//! from these lines, so a field that is renamed here is renamed there.
//!
//! | Field | Holds |
//! |---|---|
//! | `level` | `INFO`, or `ERROR` if this service failed |
//! | `event`, `action` | the function; the command of `manage_users`, the step of a rotation, or the form of an authorizer's event |
//! | `outcome`, `status` | the `error_code`, or the name of the act; the HTTP status |
//! | `request_id` | API Gateway's id of the request, as in the access log; of an invocation, Lambda's id |
//! | `source_ip` | the address that API Gateway saw, or that the edge saw if there is one |
//! | `user_id`, or `username_hash` | the user, or a keyed hash of the name of an unknown one |
//! | `new_network` | true if a right password came from a network that is not known yet, although others are |
//! | `ms`, `hash_ms` | the time to the answer, and the longest computation of a password hash in it, in milliseconds |
//! | `rehashed` | true if an outdated hash was replaced |
//! | `cold`, `init_ms` | on the first line of an execution environment: true, and the time that its start took |
//! | `rss_mb` | the most memory that the environment has used so far, in MB |
//! | `trace_id` | the id of the trace in X-Ray, if the request is sampled |
//! | `dynamodb_errors`, `ses_errors`, `secrets_manager_errors` | the operations of that service that failed after their retries, or were refused |
//! | `cause`, `version` | the reason why this service failed, and the version of the function that did |
//!
//! A failure that does not change the answer is a line of its own, of level `WARN`, with `message`, `cause`, `event`
//! and `request_id`; a panic is one with its `location`. No line holds a body, password, code, token, hash of a
//! password, secret or e-mail address.

use std::cell::RefCell;
use std::fmt::Display;
use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use lambda_runtime::{Config, Context};
use sha2::Sha256;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Subscriber};
use tracing_subscriber::util::SubscriberInitExt;

use crate::aws::Dependency;
use crate::domain::{UserId, Username};
use crate::failure::Failure;
use crate::random;

/// The time at which the process started its log.
static STARTED: OnceLock<Instant> = OnceLock::new();
/// The time that the process took to become ready for its first request.
static INITIALISED: OnceLock<Duration> = OnceLock::new();
/// True once the process has answered a request.
static HAS_ANSWERED: AtomicBool = AtomicBool::new(false);

tokio::task_local! {
    /// The request that the present task answers.
    static CURRENT: RefCell<Audit>;
}

/// Starts the log on standard output, as Lambda wants it.
pub fn init() {
    init_to(io::stdout);
}

/// Starts the log on the writer that `writer` returns.
pub fn init_to<W: Write + 'static>(writer: impl Fn() -> W + Send + Sync + 'static) {
    STARTED.get_or_init(Instant::now);
    subscriber(writer).init();
    // The default hook prints the payload, which could hold anything.
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string);
        let (event, request_id) = current().unzip();
        tracing::error!(event, request_id, location, "panicked");
    }));
}

/// The form of the lines.
fn subscriber<W: Write + 'static>(
    writer: impl Fn() -> W + Send + Sync + 'static,
) -> impl Subscriber + Send + Sync {
    // lambda_runtime's own subscriber writes no timestamp, without which Lambda takes every line for INFO. The
    // level is fixed because the SDK's finer ones show whole requests; Lambda itself can filter coarser ones.
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_target(false)
        .with_max_level(LevelFilter::INFO)
        .with_writer(writer)
        .finish()
}

/// Notes that the process is ready for its first request.
pub fn initialised() {
    if let Some(started) = STARTED.get() {
        INITIALISED.get_or_init(|| started.elapsed());
    }
}

/// A request or an invocation, from its arrival until its line is written.
#[derive(Debug)]
pub struct Audit {
    event: &'static str,
    request_id: String,
    source_ip: Option<IpAddr>,
    trace_id: Option<String>,
    /// The function, with the number of its version.
    function: Option<Arc<Config>>,
    arrived: Instant,
    user_id: Option<UserId>,
    username_hash: Option<String>,
    new_network: bool,
    hash_time: Option<Duration>,
    rehashed: bool,
    failed_operations: FailedOperations,
}

#[derive(Debug, Default)]
struct FailedOperations {
    dynamodb: u32,
    ses: u32,
    secrets_manager: u32,
}

/// The end of a request or an invocation, for its line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary<'a> {
    /// The `error_code` of the answer, or the name of the act.
    pub outcome: &'static str,
    /// The HTTP status, if the answer has one.
    pub status: Option<u16>,
    /// The command, step or form that the function distinguishes.
    pub action: Option<&'static str>,
    /// The failure of this service, if that is the outcome.
    pub failure: Option<&'a Failure>,
}

impl Audit {
    /// Begins an invocation that did not come by HTTP; `event` names the function.
    #[must_use]
    pub fn of_invocation(event: &'static str, context: &Context) -> Self {
        Self::new(event, &context.request_id, Some(context), None)
    }

    /// Begins a request to the API. `request_id` is API Gateway's, which is in the access log as well.
    #[must_use]
    pub fn of_request(
        event: &'static str,
        context: Option<&Context>,
        request_id: &str,
        source_ip: IpAddr,
    ) -> Self {
        Self::new(event, request_id, context, Some(source_ip))
    }

    fn new(
        event: &'static str,
        request_id: &str,
        context: Option<&Context>,
        source_ip: Option<IpAddr>,
    ) -> Self {
        Self {
            event,
            request_id: request_id.to_owned(),
            source_ip,
            trace_id: context.and_then(sampled_trace_id).map(str::to_owned),
            function: context.map(|context| Arc::clone(&context.env_config)),
            arrived: Instant::now(),
            user_id: None,
            username_hash: None,
            new_network: false,
            hash_time: None,
            rehashed: false,
            failed_operations: FailedOperations::default(),
        }
    }

    /// Awaits `work`, and writes the line that `summarise` makes of its result.
    pub async fn record<T>(
        self,
        work: impl Future<Output = T>,
        summarise: impl FnOnce(&T) -> Summary<'_>,
    ) -> T {
        // Boxed, or the types of all that a request awaits are nested too deeply for the compiler.
        let work = Box::pin(work);
        let recorded = async {
            let result = work.await;
            note(|audit| audit.write(&summarise(&result)));
            result
        };
        CURRENT.scope(RefCell::new(self), recorded).await
    }

    fn write(&self, summary: &Summary<'_>) {
        let cold = (!HAS_ANSWERED.swap(true, Ordering::Relaxed)).then_some(true);
        let init_ms = INITIALISED.get().filter(|_| cold.is_some()).copied().map(milliseconds);
        let some = |count: u32| Some(count).filter(|count| *count > 0);
        macro_rules! line {
            ($level:expr) => {
                tracing::event!(
                    $level,
                    event = self.event,
                    action = summary.action,
                    outcome = summary.outcome,
                    status = summary.status,
                    request_id = self.request_id,
                    source_ip = self.source_ip.map(tracing::field::display),
                    user_id = self.user_id.as_ref().map(UserId::as_str),
                    username_hash = self.username_hash,
                    new_network = self.new_network.then_some(true),
                    ms = milliseconds(self.arrived.elapsed()),
                    hash_ms = self.hash_time.map(milliseconds),
                    rehashed = self.rehashed.then_some(true),
                    cold,
                    init_ms,
                    rss_mb = peak_memory_mb(),
                    trace_id = self.trace_id,
                    dynamodb_errors = some(self.failed_operations.dynamodb),
                    ses_errors = some(self.failed_operations.ses),
                    secrets_manager_errors = some(self.failed_operations.secrets_manager),
                    cause = summary.failure.map(tracing::field::display),
                    version = summary.failure.and(self.function.as_ref()).map(|function| &*function.version),
                )
            };
        }
        if summary.failure.is_some() {
            line!(Level::ERROR);
        } else {
            line!(Level::INFO);
        }
    }
}

/// Corrects the address that the present request came from: its client's, which the edge saw.
pub fn came_from(source_ip: IpAddr) {
    note(|audit| audit.source_ip = Some(source_ip));
}

/// Names the user in the line of the present request.
pub fn identify(user_id: &UserId) {
    note(|audit| audit.user_id = Some(user_id.clone()));
}

/// Marks the line of the present request with a hash of the name of an unknown user: 16 hexadecimal digits, by which
/// lines with the same name are found.
///
/// Passwords are typed into the field of the username too, and a plain hash of one is guessed in no time. Hence the
/// key, which is random and never leaves the process: a name has another hash in each execution environment.
pub fn identify_unknown(username: &Username) {
    static KEY: LazyLock<String> = LazyLock::new(random::secret_key);
    // HMAC takes keys of every length (RFC 2104 §3).
    let Ok(mac) = Hmac::<Sha256>::new_from_slice(KEY.as_bytes()) else { return };
    let hash = mac.chain_update(username.normalised()).finalize().into_bytes();
    if let Some((first, _)) = hash.split_first_chunk() {
        let hash = format!("{:016x}", u64::from_be_bytes(*first));
        note(|audit| audit.username_hash = Some(hash));
    }
}

/// Notes that a right password came from a network that is not known yet.
pub fn from_new_network() {
    note(|audit| audit.new_network = true);
}

/// Notes the time that the computation of a password hash took, without the wait for a core.
pub fn hashed(time: Duration) {
    note(|audit| audit.hash_time = audit.hash_time.max(Some(time)));
}

/// Notes that an outdated hash was replaced.
pub fn rehashed() {
    note(|audit| audit.rehashed = true);
}

/// Counts an operation of `dependency` that failed.
pub fn operation_failed(dependency: Dependency) {
    note(|audit| {
        let failed = &mut audit.failed_operations;
        *match dependency {
            Dependency::DynamoDb => &mut failed.dynamodb,
            Dependency::Ses => &mut failed.ses,
            Dependency::SecretsManager => &mut failed.secrets_manager,
        } += 1;
    });
}

/// Logs a failure that does not change the answer: `message` names the thing that was left undone.
pub fn warn(message: &'static str, cause: impl Display) {
    let (event, request_id) = current().unzip();
    tracing::warn!(event, request_id, %cause, message);
}

/// Changes the present request's record, if there is one: before the first request there is none.
fn note(change: impl FnOnce(&mut Audit)) {
    let _ = CURRENT.try_with(|audit| audit.try_borrow_mut().map(|mut audit| change(&mut audit)));
}

/// The event and the id of the present request.
fn current() -> Option<(&'static str, String)> {
    let current = CURRENT.try_with(|audit| {
        let audit = audit.try_borrow().ok()?;
        Some((audit.event, audit.request_id.clone()))
    });
    current.ok().flatten()
}

/// X-Ray's id of the trace that an invocation belongs to, if it is sampled. The header that Lambda passes on has the
/// form `Root=…;Parent=…;Sampled=1`.
fn sampled_trace_id(context: &Context) -> Option<&str> {
    let parts = context.xray_trace_id.as_deref()?.split(';');
    let is_sampled = parts.clone().any(|part| part == "Sampled=1");
    parts.filter(|_| is_sampled).find_map(|part| part.strip_prefix("Root="))
}

/// `time` in milliseconds, to a tenth.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

/// The most memory that this process has had at one time, in MB; `None` if the kernel is not Linux.
fn peak_memory_mb() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = peak.strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib.div_ceil(1024))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use lambda_http::Request;
    use serde_json::Value;

    use super::*;
    use crate::endpoint::{Api, Endpoint, Error, Success};
    use crate::function::Function;
    use crate::settings::{ConfigError, Settings};

    /// An endpoint that logs a failure, and panics.
    #[derive(Debug)]
    struct Panics;

    impl Endpoint for Panics {
        const NAME: &'static str = "panics";

        fn new(_: &Settings, _: &aws_types::SdkConfig) -> Result<Self, ConfigError> {
            Ok(Self)
        }

        async fn connect(&self) {}

        async fn prefetch(&self) {}

        async fn handle(&self, _: &Request, _: IpAddr) -> Result<Success, Error> {
            warn("nothing done", "no reason");
            panic!("a secret");
        }
    }

    #[tokio::test]
    async fn a_panic_is_an_internal_error_in_the_line_of_its_request() {
        let (mut log, writer) = io::pipe().unwrap();
        let subscriber = subscriber(move || writer.try_clone().unwrap());
        let guard = tracing::subscriber::set_default(subscriber);
        let api =
            Api::<Panics>::new(&Settings::new(|_| None), &aws_types::SdkConfig::builder().build()).unwrap();
        assert_eq!(api.answer(&Request::default(), None).await.status(), 500);
        drop(guard);
        let mut text = String::new();
        log.read_to_string(&mut text).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [warning, line] = &lines[..] else { panic!("{text}") };
        let told = ["level", "event", "message", "cause"].map(|field| warning[field].as_str().unwrap());
        assert_eq!(told, ["WARN", "panics", "nothing done", "no reason"]);
        let told = ["level", "event", "outcome", "cause"].map(|field| line[field].as_str().unwrap());
        assert_eq!(told, ["ERROR", "panics", "internal_error", "panicked"]);
        assert_eq!(line["status"], 500);
        assert!(!text.contains("a secret"));
    }

    #[test]
    fn only_a_sampled_trace_has_an_id() {
        for (header, id) in [
            (
                Some("Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"),
                Some("1-5759e988-bd862e3fe1be46a994272793"),
            ),
            (Some("Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0"), None),
            (Some("Root=1-5759e988-bd862e3fe1be46a994272793"), None),
            (Some("Sampled=1"), None),
            (None, None),
        ] {
            let mut context = Context::default();
            context.xray_trace_id = header.map(str::to_owned);
            assert_eq!(sampled_trace_id(&context), id, "{header:?}");
        }
    }

    #[test]
    fn times_are_rounded_to_a_tenth_of_a_millisecond() {
        assert_eq!(milliseconds(Duration::from_micros(12_349)).to_string(), "12.3");
        assert_eq!(milliseconds(Duration::from_micros(12_350)).to_string(), "12.4");
        assert_eq!(milliseconds(Duration::from_secs(20)).to_string(), "20000");
    }
}
