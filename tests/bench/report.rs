//! The figures, what they should be, and how they are shown.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io::Write as _;

use serde_json::{Map, Value};

use crate::Result;

/// A figure's bounds, and how steady it is.
struct Goal {
    key: &'static str,
    at_least: f64,
    at_most: f64,
    /// By what factor `at_most` may be exceeded before that is an error; none where it depends on the machine's mood.
    allowance: Option<f64>,
}

const fn steady(key: &'static str, at_most: f64) -> Goal {
    Goal { key, at_least: 0.0, at_most, allowance: Some(1.0) }
}

/// One that another C library or another setting of huge pages changes a little.
const fn nearly_steady(key: &'static str, at_most: f64) -> Goal {
    Goal { key, at_least: 0.0, at_most, allowance: Some(1.1) }
}

/// One that neither more nor less would do for.
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

/// In the order in which they are shown.
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
    // The functions that change a password hash, verify imported hashes, use three AWS services and write mails.
    steady("zip_mb_max", 2.8),
    varying("verify_vs_c_avx2", 1.05),
    varying("verify_vs_libargon2", 0.5),
    varying("start_vs_node", 1.0 / 30.0),
    varying("warm_vs_node", 0.65),
    varying("rss_vs_node", 1.0 / 3.0),
    // All that decides the attempt is read in one call; then it is charged or cleared.
    exactly("ops_signin", 2.0),
    exactly("ops_signin_in_a_row", 2.0),
    // In a new environment the key is fetched while they run.
    exactly("first_signin_in_a_row", 2.0),
    exactly("ops_signin_session", 3.0),
    exactly("ops_signin_session_in_a_row", 3.0),
    // The address is charged as well.
    exactly("ops_signin_wrong", 3.0),
    exactly("ops_signin_wrong_in_a_row", 3.0),
    exactly("ops_refused", 1.0),
    exactly("ops_refused_in_a_row", 1.0),
    // The same, and the change.
    exactly("ops_change_after_signin", 3.0),
    exactly("ops_change_after_signin_in_a_row", 3.0),
    // The budget of the address is looked at while the user is read; then the try is counted; a right code's is given back.
    exactly("ops_check", 4.0),
    exactly("ops_check_in_a_row", 3.0),
    // Here the change forgets the tries.
    exactly("ops_reset", 4.0),
    exactly("ops_reset_in_a_row", 3.0),
    // The request is charged to the address; then, whether there is a user decides whether a code is made.
    exactly("ops_send", 3.0),
    exactly("ops_send_in_a_row", 3.0),
    // A token names the user by the id, which leads to the name, and its session, read at the same time as the id. Then
    // as a sign-in, and the change.
    exactly("ops_change", 5.0),
    exactly("ops_change_in_a_row", 4.0),
    exactly("ops_change_my", 5.0),
    exactly("ops_change_my_in_a_row", 4.0),
    exactly("ops_check_my", 4.0),
    exactly("ops_check_my_in_a_row", 3.0),
    // The session is noted as used, and names its user, whose stamp decides whether it counts on.
    exactly("ops_session_signin", 2.0),
    exactly("ops_session_signin_in_a_row", 2.0),
    // From the id, with the session, to the user, whose stamp the token needs, before anything is shown.
    exactly("ops_sessions", 4.0),
    exactly("ops_sessions_in_a_row", 3.0),
    exactly("ops_session_end", 4.0),
    exactly("ops_session_end_in_a_row", 3.0),
    // The units that DynamoDB reports. The address is read with eventual consistency, for half a unit; a transaction
    // counts double.
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
    // In dollars, everything in.
    steady("usd_per_million_signin", 2.95),
    steady("usd_per_million_signin_session", 3.70),
    steady("usd_per_million_session_signin", 2.30),
    steady("usd_per_million_refused", 1.95),
];

/// What was found out.
#[derive(Default)]
pub(crate) struct Report {
    figures: BTreeMap<String, f64>,
    /// Which function the worst is, and the like.
    remarks: BTreeMap<String, String>,
    /// What could not be measured, and why.
    missing: Vec<(&'static str, String)>,
    /// In seconds.
    times: Vec<(String, f64)>,
    /// What a document would have to say instead.
    contradictions: Vec<String>,
}

impl Report {
    pub(crate) fn figure(&mut self, key: &str, value: f64) {
        self.figures.insert(key.to_owned(), value);
    }

    /// A figure with what there is to say about it.
    pub(crate) fn figure_of(&mut self, key: &str, value: f64, remark: &str) {
        self.figure(key, value);
        self.remarks.insert(key.to_owned(), remark.to_owned());
    }

    /// A time for orientation, in seconds.
    pub(crate) fn time(&mut self, what: &str, seconds: f64) {
        self.times.push((what.to_owned(), seconds));
    }

    /// Notes what could not be measured, and why.
    pub(crate) fn missing(&mut self, what: &'static str, why: &dyn fmt::Display) {
        progress(&format!("{what} not measured: {why}"));
        self.missing.push((what, why.to_string()));
    }

    /// Notes what a document says that the figures do not.
    pub(crate) fn contradiction(&mut self, correction: String) {
        self.contradictions.push(correction);
    }

    /// All figures as one JSON object.
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
        writeln!(table, "\nmedians in ms; AWS answers from memory, over TLS, unless said otherwise")?;
        for (what, seconds) in &self.times {
            writeln!(table, "{what:60} {:>9.3}", seconds * 1000.0)?;
        }
        writeln!(table, "\n{}", machine())?;
        Ok(table)
    }

    /// The steady goals that are missed, or of which it is not known, and what documents get wrong.
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

/// Tells whoever waits what is being done.
pub(crate) fn progress(what: &str) {
    // Where nobody reads it, nobody waits.
    let _ = writeln!(std::io::stderr(), "bench: {what}");
}

fn goal(key: &str) -> Option<&'static Goal> {
    GOALS.iter().find(|goal| goal.key == key)
}

/// The middle one.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The median of the rounds' ratios.
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
