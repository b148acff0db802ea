//! The figures, their goals, and the report.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io::Write as _;

use serde_json::{Map, Value};

use crate::Result;

/// The bounds of a figure.
struct Goal {
    key: &'static str,
    at_least: f64,
    at_most: f64,
    /// The factor by which `at_most` may be exceeded without an error; `None` if the figure depends on machine noise.
    allowance: Option<f64>,
}

const fn steady(key: &'static str, at_most: f64) -> Goal {
    Goal { key, at_least: 0.0, at_most, allowance: Some(1.0) }
}

/// A figure that depends slightly on the C library and on the huge-page settings.
const fn nearly_steady(key: &'static str, at_most: f64) -> Goal {
    Goal { key, at_least: 0.0, at_most, allowance: Some(1.1) }
}

/// A figure that must have exactly this value.
const fn exactly(key: &'static str, value: f64) -> Goal {
    Goal { key, at_least: value, at_most: value, allowance: Some(1.0) }
}

const fn varying(key: &'static str, at_most: f64) -> Goal {
    Goal { key, at_least: 0.0, at_most, allowance: None }
}

impl Goal {
    fn is_met(&self, value: f64) -> bool {
        self.is_met_within(value, 1.0)
    }

    fn is_met_within(&self, value: f64, allowance: f64) -> bool {
        (self.at_least..=self.at_most * allowance).contains(&value)
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.at_least < self.at_most { "<=" } else { "=" };
        write!(formatter, "{sign} {}", rounded(self.at_most))
    }
}

/// The goals, in the order of the report.
const GOALS: &[Goal] = &[
    steady("init_instructions_vs_hello", 2.5),
    varying("start_vs_hello", 1.1),
    // A request that computes no hash.
    nearly_steady("instructions_session_signin", 1_350_000.0),
    varying("first_signin_vs_verify", 1.7),
    varying("warm_signin_vs_verify", 1.05),
    steady("faults_per_warm_signin", 10.0),
    nearly_steady("rss_mb_signin", 27.0),
    nearly_steady("rss_mb_light", 7.5),
    // The largest functions change passwords: they hash, verify imported hashes, know the common passwords, use three AWS
    // services and write mails.
    steady("zip_mb_max", 2.9),
    varying("verify_vs_c_avx2", 1.05),
    varying("verify_vs_libargon2", 0.5),
    varying("start_vs_node", 1.0 / 30.0),
    varying("warm_vs_node", 0.65),
    varying("rss_vs_node", 1.0 / 3.0),
    // One call reads everything that decides the attempt, and another one charges or clears it.
    exactly("ops_signin", 2.0),
    exactly("ops_signin_in_a_row", 2.0),
    // In a new environment, the key is fetched concurrently.
    exactly("first_signin_in_a_row", 2.0),
    exactly("ops_signin_session", 3.0),
    exactly("ops_signin_session_in_a_row", 3.0),
    // The address is charged too.
    exactly("ops_signin_wrong", 3.0),
    exactly("ops_signin_wrong_in_a_row", 3.0),
    exactly("ops_refused", 1.0),
    exactly("ops_refused_in_a_row", 1.0),
    // As a sign-in, and the change.
    exactly("ops_change_after_signin", 3.0),
    exactly("ops_change_after_signin_in_a_row", 3.0),
    // The budget of the address and the user are read concurrently. Then the try is counted, and released if the code is
    // correct.
    exactly("ops_check", 4.0),
    exactly("ops_check_in_a_row", 3.0),
    // Here the change deletes the tries.
    exactly("ops_reset", 4.0),
    exactly("ops_reset_in_a_row", 3.0),
    // The address is charged, the user is read, and a code is created.
    exactly("ops_send", 3.0),
    exactly("ops_send_in_a_row", 3.0),
    // The token contains the id of the user, which leads to the name, and its session, which is read concurrently. The
    // rest is as in a sign-in, followed by the change.
    exactly("ops_change", 5.0),
    exactly("ops_change_in_a_row", 4.0),
    exactly("ops_change_my", 5.0),
    exactly("ops_change_my_in_a_row", 4.0),
    exactly("ops_check_my", 4.0),
    exactly("ops_check_my_in_a_row", 3.0),
    // The use of the session is recorded, which returns its user, whose stamp decides whether it is still valid.
    exactly("ops_session_signin", 2.0),
    exactly("ops_session_signin_in_a_row", 2.0),
    // The id and the session lead to the user, whose stamp must match the token before the sessions are read.
    exactly("ops_sessions", 4.0),
    exactly("ops_sessions_in_a_row", 3.0),
    exactly("ops_session_end", 4.0),
    exactly("ops_session_end_in_a_row", 3.0),
    exactly("ops_authorizer", 3.0),
    exactly("ops_authorizer_in_a_row", 2.0),
    // The units that DynamoDB reports. An eventually consistent read of the address costs half a unit, and a transaction
    // costs double.
    exactly("wru_signin", 1.0),
    exactly("rru_signin", 2.5),
    exactly("wru_signin_session", 2.0),
    exactly("rru_signin_session", 2.5),
    exactly("wru_signin_wrong", 2.0),
    exactly("rru_signin_wrong", 2.5),
    exactly("wru_refused", 0.0),
    exactly("rru_refused", 2.5),
    exactly("wru_change_after_signin", 5.0),
    exactly("rru_change_after_signin", 2.5),
    exactly("wru_check", 2.0),
    exactly("rru_check", 1.5),
    exactly("wru_reset", 5.0),
    exactly("rru_reset", 1.5),
    exactly("wru_send", 2.0),
    exactly("rru_send", 1.0),
    exactly("wru_change", 3.0),
    exactly("rru_change", 3.5),
    exactly("wru_change_my", 3.0),
    exactly("rru_change_my", 3.5),
    exactly("wru_check_my", 1.0),
    exactly("rru_check_my", 3.5),
    exactly("wru_session_signin", 1.0),
    exactly("rru_session_signin", 1.0),
    exactly("wru_sessions", 0.0),
    exactly("rru_sessions", 4.0),
    exactly("wru_session_end", 1.0),
    exactly("rru_session_end", 3.0),
    steady("log_bytes_signin", 500.0),
    // US dollars, with all costs included.
    steady("usd_per_million_signin", 2.95),
    steady("usd_per_million_signin_session", 3.70),
    steady("usd_per_million_session_signin", 2.30),
    steady("usd_per_million_refused", 1.95),
];

/// The results of the measurements.
#[derive(Default)]
pub(crate) struct Report {
    figures: BTreeMap<String, f64>,
    /// Remarks on figures, such as the function with the worst value.
    remarks: BTreeMap<String, String>,
    /// The missing measurements and their reasons.
    missing: Vec<(&'static str, String)>,
    /// Times in seconds, by their descriptions.
    times: Vec<(String, f64)>,
    /// Corrections for documents.
    contradictions: Vec<String>,
}

impl Report {
    pub(crate) fn figure(&mut self, key: &str, value: f64) {
        self.figures.insert(key.to_owned(), value);
    }

    /// Adds a figure with a remark.
    pub(crate) fn figure_of(&mut self, key: &str, value: f64, remark: &str) {
        self.figure(key, value);
        self.remarks.insert(key.to_owned(), remark.to_owned());
    }

    /// Adds a time in seconds, which has no goal.
    pub(crate) fn time(&mut self, what: &str, seconds: f64) {
        self.times.push((what.to_owned(), seconds));
    }

    /// Adds a missing measurement and its reason.
    pub(crate) fn missing(&mut self, what: &'static str, why: &dyn fmt::Display) {
        progress(&format!("{what} not measured: {why}"));
        self.missing.push((what, why.to_string()));
    }

    /// Adds a correction for a document that contradicts the figures.
    pub(crate) fn contradiction(&mut self, correction: String) {
        self.contradictions.push(correction);
    }

    /// Returns all figures as a JSON object.
    pub(crate) fn json(&self) -> Result<String> {
        let figures = self.figures.iter().map(|(key, value)| (key.clone(), Value::from(rounded(*value))));
        Ok(serde_json::to_string_pretty(&figures.collect::<Map<_, _>>())?)
    }

    pub(crate) fn table(&self) -> Result<String> {
        let mut table = String::new();
        let goals = GOALS.iter().map(|goal| goal.key).filter(|key| self.figures.contains_key(*key));
        let others = self.figures.keys().map(String::as_str).filter(|key| goal(key).is_none());
        writeln!(table, "{:32} {:>10} {:>10}", "key", "value", "goal")?;
        for key in goals.chain(others) {
            let value = self.figures.get(key).copied().unwrap_or(f64::NAN);
            let (goal, met) = match goal(key) {
                Some(goal) => (goal.to_string(), if goal.is_met(value) { "met" } else { "NOT MET" }),
                None => (String::new(), ""),
            };
            let remark = self.remarks.get(key).map_or("", String::as_str);
            let line = format!("{key:32} {:>10} {goal:>10} {met:8} {remark}", rounded(value));
            writeln!(table, "{}", line.trim_end())?;
        }
        for (what, why) in &self.missing {
            writeln!(table, "{what} not measured: {why}")?;
        }
        for correction in &self.contradictions {
            writeln!(table, "{correction}")?;
        }
        writeln!(table, "\nmedians in ms; unless stated otherwise, AWS answers from memory over TLS")?;
        for (what, seconds) in &self.times {
            writeln!(table, "{what:60} {:>9.3}", seconds * 1000.0)?;
        }
        writeln!(table, "\n{}", machine())?;
        Ok(table)
    }

    /// Returns the steady goals that were missed or not measured, and the corrections for documents.
    pub(crate) fn missed(&self) -> Vec<String> {
        let steady = GOALS.iter().filter_map(|goal| Some((goal, goal.allowance?)));
        let missed = steady.filter_map(|(goal, allowance)| match self.figures.get(goal.key) {
            Some(value) if goal.is_met_within(*value, allowance) => None,
            Some(value) => Some(format!("{} is {}, not {goal}", goal.key, rounded(*value))),
            None => Some(format!("{} was not measured", goal.key)),
        });
        missed.chain(self.contradictions.iter().cloned()).collect()
    }
}

/// Prints the current step.
pub(crate) fn progress(what: &str) {
    // If standard error is closed, progress is not shown.
    let _ = writeln!(std::io::stderr(), "bench: {what}");
}

fn goal(key: &str) -> Option<&'static Goal> {
    GOALS.iter().find(|goal| goal.key == key)
}

/// The median.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The median of the ratios of all rounds.
pub(crate) fn ratio(values: &[f64], references: &[f64]) -> f64 {
    let ratios: Vec<f64> =
        values.iter().zip(references).map(|(value, reference)| value / reference).collect();
    median(&ratios)
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    format!("{cores} cores, {}", model.map_or(std::env::consts::ARCH, |(_, model)| model))
}
