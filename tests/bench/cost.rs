//! Computes the price of a request and of a month from the measurements, the template and the prices of AWS, and checks
//! that COSTS.md and README.md agree.

use shared::aws::WHOLE_CORE_MB;
use support::template::{AccessLog, Function, MonthlyResources, Template};

use crate::Result;
use crate::endpoint::Units;
use crate::report::Report;

const COSTS: &str = include_str!("../../COSTS.md");
const README: &str = include_str!("../../README.md");

/// List prices in us-east-1, in US dollars, without free tiers. COSTS.md has the sources.
mod price {
    const MILLION: f64 = 1e6;
    const GB: f64 = 1e9;

    pub(super) const WRITE_UNIT: f64 = 0.625 / MILLION;
    pub(super) const READ_UNIT: f64 = 0.125 / MILLION;
    pub(super) const API_REQUEST: f64 = 1.00 / MILLION;
    pub(super) const LAMBDA_REQUEST: f64 = 0.20 / MILLION;
    pub(super) const LAMBDA_GB_SECOND_ARM64: f64 = 13.33 / MILLION;
    pub(super) const LAMBDA_GB_SECOND_X86_64: f64 = 16.67 / MILLION;
    /// The share of a request in the traces: X-Ray samples one request in 20.
    pub(super) const TRACED_REQUEST: f64 = 5.00 / MILLION / 20.0;
    pub(super) const LOGGED_BYTE: f64 = 0.50 / GB;
    pub(super) const LOGGED_BYTE_INFREQUENT_ACCESS: f64 = 0.25 / GB;
    pub(super) const TRANSFERRED_BYTE: f64 = 0.09 / GB;
    /// For accounts that sent no mail before 2025-06.
    pub(super) const MAIL: f64 = 160.0 / MILLION;
    // Monthly prices:
    pub(super) const METRIC: f64 = 0.30;
    pub(super) const METRIC_IN_ALARM: f64 = 0.10;
    pub(super) const DASHBOARD: f64 = 3.00;
    pub(super) const SECRET: f64 = 0.40;
}

/// Times in milliseconds. The times of AWS are assumptions, because the bench has only stand-ins for its services.
mod time {
    /// An operation of DynamoDB that waits for the one before.
    pub(super) const OPERATION: f64 = 5.0;
    pub(super) const TRANSACTION: f64 = 10.0;
    pub(super) const MAIL: f64 = 100.0;
    pub(super) const HASH_ARM64: f64 = 12.0;
    pub(super) const HASH_X86_64: f64 = 10.0;
    /// Everything else, on a whole core and on the seventh of a core that 256 MB get.
    pub(super) const REST_WHOLE_CORE: f64 = 1.5;
    pub(super) const REST_LIGHT: f64 = 7.0;
}

/// The number of bytes that `CloudWatch` adds to each event
/// (<https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html>).
const BYTES_PER_EVENT: usize = 26;
/// The lengths of Lambda's own log lines for an invocation, `platform.start` and `platform.report`, at the default level
/// INFO. At WARN there are none if the invocation succeeds.
const PLATFORM_LINES: [usize; 2] = [230, 520];
/// The bytes of the status line and the headers that API Gateway adds to a response.
const GATEWAY_HEADERS: usize = 150;

/// The assumed uses of one active user in a month: sign-ins with a session, uses of the session, and resets.
const SIGNINS: f64 = 4.0;
const SESSION_SIGNINS: f64 = 60.0;
const RESETS: f64 = 1.0 / 50.0;

/// The rows of the table in COSTS.md: their first cells and the keys of their calls.
const ROWS: &[(&str, &str)] = &[
    ("**signin** with session²", "signin_session"),
    ("… without", "signin"),
    ("… wrong password", "signin_wrong"),
    ("… refused: user waits, or address used up", "refused"),
    ("changePasswordAfterSignin with session", "change_after_signin"),
    ("resetPassword", "reset"),
    ("`change_password`, changePassword", "change"),
    ("checkOldPassword", "check_my"),
    ("sendEmail", "send"),
    ("checkCode", "check"),
    ("`IamLoggedIn`", "session_signin"),
    ("sessions: list", "sessions"),
    ("sessions: end one", "session_end"),
    ("`authorizer`³", AUTHORIZER),
];

/// The key of the call that comes from a gateway of another service, which pays for its own requests.
const AUTHORIZER: &str = "authorizer";

/// The figures in dollars that have goals, and the keys of their calls.
const FIGURES: [(&str, &str); 4] = [
    ("usd_per_million_signin", "signin"),
    ("usd_per_million_signin_session", "signin_session"),
    ("usd_per_million_session_signin", "session_signin"),
    ("usd_per_million_refused", "refused"),
];

/// The measurements of a call.
pub(crate) struct MeasuredCall {
    pub(crate) key: &'static str,
    pub(crate) units: Units,
    pub(crate) memory_mb: u32,
    pub(crate) hashes: u8,
    /// The time of waiting for AWS, in milliseconds. Concurrent operations count once.
    pub(crate) waits_ms: f64,
    pub(crate) mails: usize,
}

/// The bytes that a sign-in logs and sends.
pub(crate) struct MeasuredSignin {
    /// The lengths of its log lines.
    pub(crate) log: Vec<usize>,
    /// The length of the response with its headers.
    pub(crate) answer: usize,
}

/// The price of a call, in dollars per million.
struct Price {
    dynamodb: f64,
    ms: [f64; 2],
    lambda: [f64; 2],
    mails: f64,
}

/// The wait for an operation of DynamoDB or SES, in milliseconds.
pub(crate) fn wait_ms(operation: &crate::endpoint::Operation) -> f64 {
    if operation.is_of_ses() {
        time::MAIL
    } else if operation.is_transaction() {
        time::TRANSACTION
    } else {
        time::OPERATION
    }
}

impl Price {
    fn of(call: &MeasuredCall) -> Self {
        let rest = if call.memory_mb < WHOLE_CORE_MB { time::REST_LIGHT } else { time::REST_WHOLE_CORE };
        let ms = [time::HASH_ARM64, time::HASH_X86_64]
            .map(|hash| call.waits_ms + f64::from(call.hashes) * hash + rest);
        let gb_seconds = ms.map(|ms| ms / 1e3 * f64::from(call.memory_mb) / 1024.0);
        let prices = [price::LAMBDA_GB_SECOND_ARM64, price::LAMBDA_GB_SECOND_X86_64];
        Self {
            dynamodb: 1e6 * (call.units.write * price::WRITE_UNIT + call.units.read * price::READ_UNIT),
            ms,
            lambda: [0, 1].map(|architecture| 1e6 * gb_seconds[architecture] * prices[architecture]),
            mails: 1e6 * call.mails as f64 * price::MAIL,
        }
    }

    /// The sum on arm64, without mails.
    fn sum(&self, rest: f64) -> f64 {
        self.dynamodb + self.lambda[0] + rest
    }
}

/// Adds the figures in dollars and bytes and the corrections for COSTS.md and README.md to `report`.
pub(crate) fn measure(
    calls: &[MeasuredCall],
    signin: &MeasuredSignin,
    template: &Template,
    report: &mut Report,
) -> Result<()> {
    let functions = template.functions()?;
    let function = functions.iter().find(|function| function.name == "signin").ok_or("no signin")?;
    let Rest { bytes, logs, all, invocation } = rest(signin, function, &template.access_log()?, report)?;
    let price = |key: &str| -> Result<(&MeasuredCall, Price)> {
        let call =
            calls.iter().find(|call| call.key == key).ok_or_else(|| format!("{key} was not measured"))?;
        Ok((call, Price::of(call)))
    };
    for (figure, key) in FIGURES {
        report.figure(figure, price(key)?.1.sum(all));
    }
    let mut lines = Vec::new();
    for (name, key) in ROWS {
        let (call, price) = price(key)?;
        lines.push(row(name, call, &price, if *key == AUTHORIZER { invocation } else { all }));
    }
    let fixed = fixed(&template.monthly_resources()?);
    let signins = SIGNINS * price("signin_session")?.1.sum(all) / 1e6;
    let uses = SESSION_SIGNINS * price("session_signin")?.1.sum(all) / 1e6;
    let mut resets = 0.0;
    for key in ["send", "check", "reset"] {
        let (_, price) = price(key)?;
        resets += RESETS * (price.sum(all) + price.mails) / 1e6;
    }
    for (users, text) in [(1e4, "10,000"), (1e5, "100,000"), (1e6, "1,000,000")] {
        let signins = fixed + users * signins;
        lines.push(format!("| {text} | {signins:.0} | {:.0} |", signins + users * (uses + resets)));
    }
    let resources = template.monthly_resources()?;
    let MonthlyResources { metrics, metrics_in_alarms, .. } = resources;
    let fixed_text = format!("{fixed:.0} ({metrics} metrics, {metrics_in_alarms} metrics in alarms,");
    lines.push(format!("Without any traffic, a month costs {fixed_text}"));
    lines.push(format!("logs {logs:.2} for {bytes} bytes"));
    for line in lines {
        if !agrees(COSTS, &line) {
            report.contradiction(format!("COSTS.md should say: {line}"));
        }
    }
    let million = price("signin_session")?.1.sum(all);
    let line = format!("[{fixed:.0} US dollars a month, and {million:.2} for a million sign-ins]");
    if !agrees(README, &line) {
        report.contradiction(format!("README.md should say: {line}"));
    }
    Ok(())
}

/// The price of a request without DynamoDB and compute time, in dollars per million.
struct Rest {
    /// The bytes of its logs.
    bytes: usize,
    logs: f64,
    /// The sum for API Gateway, Lambda requests, logs, traces and transfer.
    all: f64,
    /// The sum for a direct invocation: a Lambda request and the function's own log.
    invocation: f64,
}

fn rest(
    signin: &MeasuredSignin,
    function: &Function,
    access_log: &AccessLog,
    report: &mut Report,
) -> Result<Rest> {
    let access_line = filled(&access_log.format)?.len();
    let platform: &[usize] = match function.system_log_level.as_deref() {
        Some("WARN") => &[],
        None | Some("DEBUG" | "INFO") => &PLATFORM_LINES,
        Some(other) => return Err(format!("not understood: SystemLogLevel: {other}").into()),
    };
    let ours: usize = signin.log.iter().sum();
    let events = signin.log.len() + 1 + platform.len();
    let bytes = ours + access_line + platform.iter().sum::<usize>() + events * BYTES_PER_EVENT;
    let remark = format!("{ours} of ours in {} lines, {access_line} of API Gateway's", signin.log.len());
    report.figure_of("log_bytes_signin", bytes as f64, &remark);

    let billed = |lines: &[usize]| lines.iter().map(|line| line + BYTES_PER_EVENT).sum::<usize>() as f64;
    let access_log_byte = if access_log.is_infrequent_access {
        price::LOGGED_BYTE_INFREQUENT_ACCESS
    } else {
        price::LOGGED_BYTE
    };
    let own_logs = (billed(&signin.log) + billed(platform)) * price::LOGGED_BYTE;
    let logs = own_logs + billed(&[access_line]) * access_log_byte;
    let traces = if function.tracing == "Active" { price::TRACED_REQUEST } else { 0.0 };
    let transfer = (signin.answer + GATEWAY_HEADERS) as f64 * price::TRANSFERRED_BYTE;
    let all = price::API_REQUEST + price::LAMBDA_REQUEST + logs + traces + transfer;
    let invocation = price::LAMBDA_REQUEST + own_logs + traces;
    Ok(Rest { bytes, logs: 1e6 * logs, all: 1e6 * all, invocation: 1e6 * invocation })
}

/// Fills the access-log format of API Gateway with the values of a successful sign-in.
fn filled(format: &str) -> Result<String> {
    let mut parts = format.split("$context.");
    let mut line = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|character: char| !character.is_ascii_alphanumeric() && character != '.');
        let (variable, text) = part.split_at(end.unwrap_or(part.len()));
        let value = match variable {
            "requestTime" => "12/Mar/2026:09:49:54 +0000",
            "requestTimeEpoch" => "1773308994822",
            "requestId" | "extendedRequestId" => "CtnXJTzuZs0m5RU=",
            "identity.sourceIp" => "203.0.113.46",
            "routeKey" => "POST /api/auth/signin",
            "status" | "integration.status" | "integrationStatus" => "200",
            "responseLatency" | "integration.latency" | "integrationLatency" => "31",
            "error.message" | "error.responseType" | "integration.error" | "integrationErrorMessage" => "-",
            other => return Err(format!("not known: $context.{other} in the access log").into()),
        };
        line = line + value + text;
    }
    Ok(line)
}

/// The price of a month without requests.
fn fixed(resources: &MonthlyResources) -> f64 {
    resources.metrics as f64 * price::METRIC
        + resources.metrics_in_alarms as f64 * price::METRIC_IN_ALARM
        + resources.dashboards as f64 * price::DASHBOARD
        + resources.secrets as f64 * price::SECRET
}

/// A row of the table in COSTS.md.
fn row(name: &str, call: &MeasuredCall, price: &Price, rest: f64) -> String {
    let Units { write, read } = call.units;
    let ([arm64, x86_64], [arm64_price, x86_64_price]) = (price.ms, price.lambda);
    let mail = if call.mails > 0 { " + mail" } else { "" };
    let (dynamodb, memory, sum) = (price.dynamodb, call.memory_mb, price.sum(rest));
    let sum = if name.contains("**") { format!("**{sum:.2}**") } else { format!("{sum:.2}") };
    format!(
        "| {name} | {write}, {read} | {dynamodb:.2} | {memory} | {arm64}, {x86_64} \
         | {arm64_price:.2}, {x86_64_price:.2} | {rest:.2}{mail} | {sum}{mail} |"
    )
}

/// Returns whether `document` contains the text of `line`, regardless of line breaks, with numbers that differ no more than
/// figures of different runs.
fn agrees(document: &str, line: &str) -> bool {
    let (document, line) = (Numbered::new(document), Numbered::new(line));
    let same = |(one, other): (&f64, &f64)| (one - other).abs() <= f64::max(0.011, other * 0.005);
    document.text.match_indices(&line.text).any(|(start, _)| {
        let before = document.text.get(..start).unwrap_or_default().matches(NUMBER).count();
        document.numbers.iter().skip(before).zip(&line.numbers).all(same)
    })
}

/// A text in which [`NUMBER`] replaces each number and single spaces replace all white space.
struct Numbered {
    text: String,
    numbers: Vec<f64>,
}

const NUMBER: char = '#';

impl Numbered {
    fn new(text: &str) -> Self {
        let mut numbered = Self { text: String::new(), numbers: Vec::new() };
        let text = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        let mut rest = text.as_str();
        while let Some(character) = rest.chars().next() {
            if character.is_ascii_digit() {
                let length = number_length(rest.as_bytes());
                let number = rest.get(..length).unwrap_or_default().replace(',', "");
                numbered.numbers.push(number.parse().unwrap_or(f64::NAN));
                numbered.text.push(NUMBER);
                rest = rest.get(length..).unwrap_or_default();
            } else {
                // A `#` would be mistaken for a number.
                numbered.text.push(if character == NUMBER { ' ' } else { character });
                rest = rest.get(character.len_utf8()..).unwrap_or_default();
            }
        }
        numbered
    }
}

/// The length of the number at the start of `text`. Its commas and its point must be followed by digits.
fn number_length(text: &[u8]) -> usize {
    let digit = |at: usize| text.get(at).is_some_and(u8::is_ascii_digit);
    let mut length = 0;
    while digit(length) || matches!(text.get(length), Some(b',' | b'.')) && digit(length + 1) {
        length += 1;
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_agrees_if_its_numbers_do() {
        let document =
            "# Cost\n\n| a | 2, 2.5 | **3.69** |\n| a | 1, 2.5 | 2.94 |\n\nIt costs\n10,000 dollars, or 5.\n";
        for line in ["| a | 2, 2.5 | **3.70** |", "| a | 1, 2.5 | 2.94 |", "costs 10,040 dollars, or 5."] {
            assert!(agrees(document, line), "{line}");
        }
        for line in [
            "| a | 2, 2.5 | **3.72** |",
            "| a | 2, 3 | **3.69** |",
            "| a | 1, 2.5 | **2.94** |",
            "| b | 1, 2.5 | 2.94 |",
            "costs 1,000 dollars, or 5.",
            "costs 10,000 dollars, or 6.",
        ] {
            assert!(!agrees(document, line), "{line}");
        }
    }

    #[test]
    fn the_price_of_a_sign_in_is_the_one_computed_by_hand() {
        let call = MeasuredCall {
            key: "signin",
            units: Units { write: 1.0, read: 2.5 },
            memory_mb: 1769,
            hashes: 1,
            waits_ms: 10.0,
            mails: 0,
        };
        // 0.625 + 0.3125; 23.5 ms of 1.7275 GB at 13.33; and 1.20 with 0.06 for the transfer and 0.20 for the logs.
        assert_eq!(format!("{:.2}", Price::of(&call).sum(1.46)), "2.94");
        assert_eq!(
            row("x", &call, &Price::of(&call), 1.46),
            "| x | 1, 2.5 | 0.94 | 1769 | 23.5, 21.5 | 0.54, 0.62 | 1.46 | 2.94 |"
        );
    }

    #[test]
    fn an_access_line_has_a_value_for_each_variable() {
        let format = r#"{"route":"$context.routeKey","ms":$context.responseLatency}"#;
        assert_eq!(filled(format).unwrap(), r#"{"route":"POST /api/auth/signin","ms":31}"#);
        assert!(filled("$context.unknown").is_err());
    }
}
