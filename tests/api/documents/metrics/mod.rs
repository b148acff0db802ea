//! The log of the service, and the metrics that the template's filters count from it.
//!
//! Each test that reads a log runs a `local` of its own, so that the log has no other requests.

mod log;
mod sign_in_notices;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Number, Value, json};
use support::metric_filters::{Metric, MetricFilter};
use support::template::MonthlyResources;
use uuid::Uuid;

use crate::answers::{CHANGED_PASSWORD, CODE_INCORRECT, SERVICE_UNAVAILABLE, USERNAME_OR_PASSWORD_INCORRECT};
use crate::documents::operations::guarded;
use crate::documents::template::{functions, template};
use crate::helpers::{
    NEW_PASSWORD, OTHER_ARGON2_HASH, PASSWORD, Service, WRONG_CODE, WRONG_PASSWORD, unknown_username,
};

/// The bytes that CloudWatch bills for an event in addition to its text
/// (<https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/cloudwatch_limits_cwl.html>).
const BYTES_OF_EVENT: usize = 26;
/// The maximum length in bytes of the log line of a request without a failure or a cold start.
const MAX_LINE: usize = 350;

pub(super) struct Local {
    pub(super) service: Service,
    process: Child,
    log: PathBuf,
}

impl Local {
    fn start() -> Self {
        Self::start_with([])
    }

    /// Starts the service with environment variables of its own.
    pub(super) fn start_with<const N: usize>(variables: [(&str, &str); N]) -> Self {
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.log", Uuid::new_v4()));
        let mut process = Command::new(env!("CARGO_BIN_EXE_logged_stack"))
            // A shared DynamoDB must not lose a table.
            .env_remove("DYNAMODB_URL")
            .env("CORS_ALLOW_ORIGINS", "https://app.example.com")
            .envs(variables)
            .stdout(Stdio::piped())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut addresses = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut addresses).unwrap();
        let (api, aws) = addresses.trim_end().split_once(' ').expect("two addresses");
        let service = Service::at(api, aws, None);
        Self { service, process, log }
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub(super) fn lines(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The lines of requests and invocations, and no others.
    fn answers(&self) -> Vec<Value> {
        let mut lines = self.lines();
        lines.retain(|line| line["outcome"].is_string());
        lines
    }

    /// The lines of the requests to one endpoint.
    fn answers_of(&self, event: &str) -> Vec<Value> {
        let mut lines = self.answers();
        lines.retain(|line| line["event"] == event);
        lines
    }

    /// The values that the template's filters extract from the log for each metric, in the order of the lines.
    fn metrics(&self) -> BTreeMap<Metric, Vec<Number>> {
        let filters = template().metric_filters().unwrap();
        let log_groups: BTreeMap<String, String> =
            functions().into_iter().map(|function| (function.name, function.log_group)).collect();
        let mut metrics: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for line in self.lines() {
            let log_group = line["event"].as_str().and_then(|event| log_groups.get(event));
            let filters = filters.values().filter(|filter| Some(&filter.log_group) == log_group);
            for (metric, value) in filters.filter_map(|filter| filter.apply(&line)) {
                metrics.entry(metric).or_default().push(value);
            }
        }
        metrics
    }

    /// The sum of a metric that counts.
    fn sum(&self, name: &str, outcome: Option<&str>) -> u64 {
        let metrics = self.metrics();
        let values = metrics.get(&metric(name, outcome)).into_iter().flatten();
        values.map(|value| value.as_u64().unwrap()).sum()
    }

    /// The failed operations of DynamoDB, SES and Secrets Manager.
    fn dependency_errors(&self) -> [u64; 3] {
        ["DynamoDbErrors", "SesErrors", "SecretsManagerErrors"].map(|name| self.sum(name, None))
    }
}

/// A metric of the stack: `outcome` is the value of its dimension, if it has one.
fn metric(name: &str, outcome: Option<&str>) -> Metric {
    let dimensions = outcome.map(|outcome| ("Outcome".to_owned(), outcome.to_owned()));
    Metric { name: name.to_owned(), dimensions: dimensions.into_iter().collect() }
}

/// Every metric that the template's filters can count in.
fn countable() -> BTreeSet<Metric> {
    template().metric_filters().unwrap().values().flat_map(MetricFilter::metrics).collect()
}

impl Drop for Local {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_file(&self.log);
    }
}

#[tokio::test]
async fn parallel_requests_and_hashes_are_counted_once_each() {
    let local = Local::start();
    let started = Instant::now();
    let user = local.service.user().create().await;
    let sign_ins =
        || ["username_or_password_incorrect", "signed_in"].map(|outcome| local.sum("SignIns", Some(outcome)));

    local.service.signin(&user.username, WRONG_PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
    assert_eq!(sign_ins(), [1, 0]);
    local.service.token_of(&user).await;
    assert_eq!(sign_ins(), [1, 1]);

    let forged = json!({"level": "INFO", "event": "signin", "outcome": "signed_in"});
    let strangers = (0..20).map(async |_| {
        let username = format!("{}\n{forged}", unknown_username());
        local.service.signin(&username, PASSWORD).await
    });
    for answer in join_all(strangers).await {
        answer.is(USERNAME_OR_PASSWORD_INCORRECT);
    }
    assert_eq!(sign_ins(), [21, 1]);
    assert_eq!(local.sum("FailedSignIns", None), 21);
    assert_eq!(local.answers_of("signin").len(), 22);
    let hash_times: Vec<f64> =
        local.metrics()[&metric("HashTime", None)].iter().map(|time| time.as_f64().unwrap()).collect();
    assert_eq!(hash_times.len(), 22);
    // They are in milliseconds: none took longer than all did. In seconds, 22 that overlap would come to 22/1000 of that.
    let elapsed = started.elapsed().as_secs_f64() * 1000.0;
    assert!(hash_times.iter().all(|time| *time < elapsed), "{elapsed}: {hash_times:?}");
    assert!(hash_times.iter().sum::<f64>() * 40.0 > elapsed, "{elapsed}: {hash_times:?}");
    assert_eq!(local.answers().iter().filter(|line| line["cold"] == true).count(), 1);
}

/// Calls every endpoint so that each counted outcome occurs at least once.
async fn give_every_counted_answer(service: &Service) {
    // A cold start counts if it is one of the API.
    let stranger = unknown_username();
    service.signin(&stranger, PASSWORD).await;
    let user = service.user().with("password_hash", OTHER_ARGON2_HASH).create().await;
    let due = service.user().due_a_password_change().create().await;
    let inactive = service.user().not_activated().create().await;
    let unreachable = service.user().with("email_addresses", json!([])).create().await;

    let token = service.token_of(&user).await;
    service.signin(&due.username, PASSWORD).await;
    service.signin(&inactive.username, PASSWORD).await;
    service.signin(&user.username, WRONG_PASSWORD).await;
    service.change_password_after_signin(&due.username, WRONG_PASSWORD, NEW_PASSWORD).await;
    service.change_password(&token, WRONG_PASSWORD, NEW_PASSWORD).await;
    service.change_my_password(&token, WRONG_PASSWORD, NEW_PASSWORD).await;
    service.check_old_password("none", PASSWORD).await;
    service.set_failures(&user.username, 20, Duration::ZERO).await;
    service.signin(&user.username, PASSWORD).await;

    service.check_code(&user.username, WRONG_CODE).await;
    let code = service.code_for(&user).await;
    service.check_code(&user.username, &code).await;
    service.reset_password(&user.username, &code, NEW_PASSWORD).await;
    for _ in 0..5 {
        service.send_email(&user.username).await;
    }
    for _ in 0..7 {
        service.check_code(&user.username, WRONG_CODE).await;
        service.reset_password(&user.username, WRONG_CODE, NEW_PASSWORD).await;
    }
    service.send_email(&unreachable.username).await;
    service.send_email(&stranger).await;
    service.check_code(&stranger, WRONG_CODE).await;
    assert_eq!(service.invoke("export_users", &json!({})).await["ok"], true);

    service.make_unreachable(&due).await;
    service.send_email(&due.username).await;
    // The function may use its own secret only.
    let rotation = json!({"Step": "createSecret", "SecretId": "nowhere", "ClientRequestToken": "none"});
    service.try_invoke("rotate_jwt_secret", &rotation).await.unwrap_err();
    service.lose_table(&service.tables.attempts).await;
    service.signin(&user.username, PASSWORD).await;
}

#[tokio::test]
async fn every_metric_is_counted_and_each_request_logs_one_short_line() {
    let local = Local::start();
    give_every_counted_answer(&local.service).await;
    let counted: BTreeSet<Metric> = local.metrics().into_keys().collect();
    assert_eq!(counted, countable());

    let (answers, mut lines) = (local.answers(), local.lines());
    // This line comes from IAM, not from a function, and explains why the rotation was refused.
    lines.retain(|line| line["message"] != "not allowed by the function's role");
    let ids: BTreeSet<&str> = answers.iter().map(|line| line["request_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), answers.len());
    assert_eq!(lines.len(), answers.len(), "{lines:?}");
    let fields: BTreeSet<&str> =
        answers.iter().flat_map(|line| line.as_object().unwrap().keys()).map(|key| &**key).collect();
    assert_queries_know(&fields);
    for line in &answers {
        let is_ordinary = line["level"] == "INFO" && line["cold"].is_null();
        assert!(!is_ordinary || line.to_string().len() <= MAX_LINE, "{}: {line}", line.to_string().len());
        assert_eq!(line["level"] == "ERROR", line["cause"].is_string(), "{line}");
        assert!(line["ms"].as_f64().unwrap() >= line["hash_ms"].as_f64().unwrap_or_default(), "{line}");
        assert!(line["rss_mb"].as_u64().unwrap() > 0, "{line}");
    }
    assert_eq!(answers[0]["cold"], true, "{}", answers[0]);
}

/// Fails if a saved query uses a field of the functions' log that none of its lines has.
#[track_caller]
fn assert_queries_know(fields: &BTreeSet<&str>) {
    const LANGUAGE: &str = "filter fields stats sort limit by as asc desc in and or like ispresent count \
         count_distinct avg pct min max level type record.status @timestamp @logStream location message";
    for (name, query) in template().queries().unwrap().into_iter().filter(|(name, _)| *name != "MailQuery") {
        let unquoted: String = query.split('"').step_by(2).collect::<Vec<_>>().join(" ");
        let separator = |character: char| !(character.is_ascii_alphanumeric() || "@._".contains(character));
        let words: Vec<&str> = unquoted.split(separator).filter(|word| !word.is_empty()).collect();
        let names: BTreeSet<&str> =
            words.windows(2).filter(|pair| pair[0] == "as").map(|pair| pair[1]).collect();
        for word in words.iter().filter(|word| word.parse::<u32>().is_err()) {
            let is_known = fields.contains(word)
                || names.contains(word)
                // Requests that are sampled have it, of which there is none here.
                || ["trace_id", "init_ms", "username_hash"].contains(word)
                || LANGUAGE.split_whitespace().any(|known| known == *word);
            assert!(is_known, "{name}: {word}");
        }
    }
}

#[test]
fn alarms_and_the_dashboard_use_only_counted_metrics() {
    let (template, countable) = (template(), countable());
    let mut watched = BTreeSet::new();
    for (alarm, metrics) in template.alarms().unwrap() {
        let ids: BTreeSet<_> = metrics.iter().map(|metric| &metric.id).collect();
        assert_eq!(ids.len(), metrics.len(), "the ids of {alarm}");
        assert!(!metrics.is_empty() && metrics.len() <= 10, "{alarm}");
        watched.extend(metrics.into_iter().filter_map(|metric| metric.own));
    }
    assert_eq!(watched.difference(&countable).collect::<Vec<_>>(), [] as [&Metric; 0]);
    assert!(watched.len() >= 11, "{watched:?}");

    let mut shown = BTreeSet::new();
    for widget in template.widgets().unwrap().iter().filter(|widget| widget["type"] == "metric") {
        for metric_of_widget in widget["properties"]["metrics"].as_array().unwrap() {
            if metric_of_widget[0] == "postern" {
                shown.insert(metric(metric_of_widget[1].as_str().unwrap(), None));
            // In quotes, because the name of a stack can have a hyphen.
            } else if let Some(search) = metric_of_widget[0]["expression"].as_str() {
                let name = search.strip_prefix("SEARCH('{\"postern\",Outcome} MetricName=\"");
                let name = name.and_then(|rest| rest.split_once('"')).unwrap_or_else(|| panic!("{search}")).0;
                let of_name: BTreeSet<_> = countable
                    .iter()
                    .filter(|metric| metric.name == name && metric.dimensions.contains_key("Outcome"))
                    .cloned()
                    .collect();
                assert!(!of_name.is_empty(), "{search}");
                shown.extend(of_name);
            }
        }
    }
    assert_eq!(shown.difference(&countable).collect::<Vec<_>>(), [] as [&Metric; 0]);
    let unused: Vec<_> =
        countable.iter().filter(|metric| !watched.contains(metric) && !shown.contains(metric)).collect();
    assert_eq!(unused, [] as [&Metric; 0], "nothing shows it");
    let namespaces: BTreeSet<String> =
        template.metric_filters().unwrap().into_values().map(|filter| filter.namespace).collect();
    assert_eq!(namespaces, BTreeSet::from(["postern".to_owned()]));
    assert_eq!(template.metric_filters().unwrap()["HashTimeFilter"].unit.as_deref(), Some("Milliseconds"));
}

#[test]
fn the_runbook_names_the_metrics_and_the_cost_page_counts_them() {
    let countable = countable();
    for Metric { name, .. } in &countable {
        assert!(include_str!("../../../../RUNBOOK.md").contains(&format!("`{name}`")), "{name}");
    }
    let costs = include_str!("../../../../COSTS.md");
    let MonthlyResources { metrics, metrics_in_alarms, .. } = template().monthly_resources().unwrap();
    assert_eq!(metrics, countable.len());
    let told =
        format!("({metrics} metrics, {metrics_in_alarms} metrics in alarms, a dashboard, two secrets)");
    assert!(costs.contains(&told), "{told}");
    let of_gates = guarded().monthly_resources().unwrap().metrics_in_alarms - metrics_in_alarms;
    assert!(costs.contains(&format!("({of_gates} more metrics")), "{of_gates}");
}

#[tokio::test]
async fn a_rehash_is_counted_when_it_is_stored() {
    let local = Local::start();
    let user = local.service.user().with("password_hash", OTHER_ARGON2_HASH).create().await;
    local.service.signin(&user.username, WRONG_PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
    assert_eq!(local.sum("Rehashes", None), 0);
    local.service.token_of(&user).await;
    local.service.token_of(&user).await;
    assert_eq!(local.sum("Rehashes", None), 1);
}

#[tokio::test]
async fn a_failed_operation_is_counted_by_service_and_its_cause_is_logged() {
    let local = Local::start();
    let service = &local.service;
    let user = service.user().create().await;
    service.make_unreachable(&user).await;
    service.send_email(&user.username).await.is_refused_for(SERVICE_UNAVAILABLE);
    assert_eq!(local.dependency_errors(), [0, 1, 0]);

    let rotation = json!({"Step": "createSecret", "SecretId": "nowhere", "ClientRequestToken": "none"});
    service.try_invoke("rotate_jwt_secret", &rotation).await.unwrap_err();
    assert_eq!(local.dependency_errors(), [0, 1, 1]);
    // The function may use its own secret only.
    assert_eq!(local.sum("InternalErrors", None), 1);

    service.lose_table(&service.tables.attempts).await;
    service.signin(&user.username, PASSWORD).await.is_refused_for(SERVICE_UNAVAILABLE);
    assert_eq!(local.dependency_errors(), [1, 1, 1]);

    for (event, outcome, cause) in [
        ("forgot_password_send_email", "service_unavailable", "SendEmail: "),
        ("rotate_jwt_secret", "internal_error", "GetSecretValue: AccessDeniedException"),
        ("signin", "service_unavailable", "BatchGetItem"),
    ] {
        let [line] = &local.answers_of(event)[..] else { panic!("{event}: {}", local.text()) };
        assert_eq!((&line["level"], &line["outcome"]), (&json!("ERROR"), &json!(outcome)), "{line}");
        assert!(line["cause"].as_str().unwrap().starts_with(cause), "{line}");
    }
}

#[tokio::test]
async fn an_internal_error_counts_against_the_version_that_gave_it() {
    let local = Local::start();
    let user = local.service.user().create().await;
    local.service.lose_attribute(&user, "email_addresses").await;
    assert_eq!(local.service.signin(&user.username, PASSWORD).await.status, 500);
    let [of_signin] = &guarded().alarms().unwrap()["SigninGate"]
        .iter()
        .filter_map(|m| m.own.clone())
        .collect::<Vec<_>>()[..]
    else {
        panic!("one metric of the stack")
    };
    assert_eq!(local.metrics()[of_signin], [Number::from(1)]);
    assert_eq!(local.sum("InternalErrors", None), 1);
    // Other failures are not the version's.
    local.service.lose_table(&local.service.tables.attempts).await;
    local.service.signin(&unknown_username(), PASSWORD).await.is_refused_for(SERVICE_UNAVAILABLE);
    assert_eq!(local.metrics()[of_signin].len(), 1);
}

#[tokio::test]
async fn a_failed_condition_is_not_a_failed_operation() {
    let local = Local::start();
    let service = &local.service;
    let user = service.user().create().await;
    let again =
        service.manage(&json!({"action": "create", "username": user.username, "password": PASSWORD})).await;
    assert_eq!(again["error_code"], "user_exists");
    let code = service.code_for(&user).await;
    service.check_code(&user.username, WRONG_CODE).await.is(CODE_INCORRECT);
    service.reset_password(&user.username, &code, NEW_PASSWORD).await.is(CHANGED_PASSWORD);
    assert_eq!(local.dependency_errors(), [0; 3]);
}
