//! What the service writes about itself: its log, and its metrics among the log's lines.
//!
//! Each test runs a `local` of its own, because nobody else may be served by it meanwhile.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use shared::config::Environment;
use support::template::Template;
use uuid::Uuid;

use crate::answers::{CHANGED_PASSWORD, CODE_INCORRECT, SERVICE_UNAVAILABLE, USERNAME_OR_PASSWORD_INCORRECT};
use crate::helpers::{
    NEW_PASSWORD, OTHER_ARGON2_HASH, PASSWORD, Service, User, WRONG_CODE, WRONG_PASSWORD, unknown_username,
};

const NAMESPACE: &str = "postern-tests";

struct Local {
    service: Service,
    process: Child,
    log: PathBuf,
}

/// One metric in one line.
struct Metric {
    name: String,
    unit: String,
    /// An object of the dimensions and their values.
    dimensions: Value,
    value: Value,
}

impl Local {
    fn start() -> Self {
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.log", Uuid::new_v4()));
        // Only the API's port is printed, so this one cannot be left to the process to choose.
        let aws_port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let mut process = Command::new(env!("CARGO_BIN_EXE_local"))
            .args(["--no-demo", "--api-port", "0", "--aws-port", &aws_port.to_string()])
            .env("METRICS_NAMESPACE", NAMESPACE)
            // One that others use too must not lose a table.
            .env_remove("DYNAMODB_URL")
            .stdout(Stdio::piped())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let api = ready.trim_end().strip_prefix("ready ").expect("a line that says that it is ready");
        let service = Service::at(api, &format!("http://127.0.0.1:{aws_port}"), None);
        Self { service, process, log }
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    fn lines(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The lines that say what a function answered.
    fn answered(&self, event: &str) -> Vec<Value> {
        let mut lines = self.lines();
        lines.retain(|line| line["message"] == "answered" && line["event"] == event);
        lines
    }

    /// All metrics, read out of the embedded metric format.
    fn metrics(&self) -> Vec<Metric> {
        let mut metrics = Vec::new();
        for line in self.lines().into_iter().filter(|line| !line["_aws"].is_null()) {
            assert!(line["_aws"]["Timestamp"].is_u64(), "{line}");
            let directives = line["_aws"]["CloudWatchMetrics"].as_array().unwrap();
            for directive in directives {
                assert_eq!(directive["Namespace"], NAMESPACE);
                let [dimensions] = &directive["Dimensions"].as_array().unwrap()[..] else { panic!("{line}") };
                let dimensions = dimensions.as_array().unwrap().iter().map(|key| key.as_str().unwrap());
                let dimensions: Value = dimensions.map(|key| (key, line[key].as_str().unwrap())).collect();
                for metric in directive["Metrics"].as_array().unwrap() {
                    let [name, unit] = ["Name", "Unit"].map(|key| metric[key].as_str().unwrap().to_owned());
                    let value = line[&name].clone();
                    metrics.push(Metric { name, unit, dimensions: dimensions.clone(), value });
                }
            }
        }
        metrics
    }

    /// The sum of a metric that counts.
    #[track_caller]
    fn count(&self, name: &str, dimensions: &Value) -> u64 {
        let mut metrics = self.metrics();
        metrics.retain(|metric| metric.name == name && metric.dimensions == *dimensions);
        assert!(metrics.iter().all(|metric| metric.unit == "Count"));
        metrics.iter().map(|metric| metric.value.as_u64().unwrap()).sum()
    }

    #[track_caller]
    fn answers(&self, event: &str, outcome: &str) -> u64 {
        self.count("Answers", &json!({"Event": event, "Outcome": outcome}))
    }

    #[track_caller]
    fn dependency_errors(&self) -> [u64; 3] {
        ["DynamoDB", "SES", "SecretsManager"]
            .map(|dependency| self.count("DependencyErrors", &json!({"Dependency": dependency})))
    }

    /// How long each hash took, in milliseconds.
    fn hash_times(&self) -> Vec<f64> {
        let mut metrics = self.metrics();
        metrics.retain(|metric| metric.name == "HashTime");
        assert!(metrics.iter().all(|metric| metric.unit == "Milliseconds" && metric.dimensions == json!({})));
        let times = metrics.iter().flat_map(|metric| metric.value.as_array().unwrap());
        times.map(|time| time.as_f64().unwrap()).collect()
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_file(&self.log);
    }
}

#[tokio::test]
async fn every_answer_and_every_hash_counts_once_however_many_overlap() {
    let local = Local::start();
    let started = Instant::now();
    let user = local.service.user().create().await;
    assert_eq!(local.answers("manage_users", "created"), 1);

    local.service.signin(&user.username, WRONG_PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
    assert_eq!(local.answers("signin", "username_or_password_incorrect"), 1);
    assert_eq!(local.answers("signin", "signed_in"), 0);
    local.service.token_of(&user).await;
    assert_eq!(local.answers("signin", "username_or_password_incorrect"), 1);
    assert_eq!(local.answers("signin", "signed_in"), 1);

    let forged = json!({"level": "INFO", "message": "answered", "event": "signin", "outcome": "signed_in"});
    let strangers = (0..20).map(async |_| {
        let username = format!("{}\n{forged}", unknown_username());
        local.service.signin(&username, PASSWORD).await
    });
    for answer in join_all(strangers).await {
        answer.is(USERNAME_OR_PASSWORD_INCORRECT);
    }
    assert_eq!(local.answers("signin", "username_or_password_incorrect"), 21);
    assert_eq!(local.answered("signin").len(), 22);
    let hash_times = local.hash_times();
    assert_eq!(hash_times.len(), 22);
    // They are in milliseconds: none took longer than all did. In seconds, 22 that overlap would come to 22/1000 of that.
    let elapsed = started.elapsed().as_secs_f64() * 1000.0;
    assert!(hash_times.iter().all(|time| *time < elapsed), "{elapsed}: {hash_times:?}");
    assert!(hash_times.iter().sum::<f64>() * 40.0 > elapsed, "{elapsed}: {hash_times:?}");
    assert_eq!(local.count("ColdStarts", &json!({})), 1);
}

#[tokio::test]
async fn every_answer_that_an_alarm_counts_is_counted_under_that_name() {
    let local = Local::start();
    let service = &local.service;
    let user = service.user().create().await;
    let due = service.user().due_a_password_change().create().await;
    let nobody = unknown_username();

    let token = service.token_of(&user).await;
    service.signin(&user.username, WRONG_PASSWORD).await;
    service.change_password_after_signin(&due.username, WRONG_PASSWORD, NEW_PASSWORD).await;
    service.change_password(&token, WRONG_PASSWORD, NEW_PASSWORD).await;
    service.change_password("none", PASSWORD, NEW_PASSWORD).await;
    service.change_my_password(&token, WRONG_PASSWORD, NEW_PASSWORD).await;
    service.check_old_password("none", PASSWORD).await;
    service.sessions("none").await;
    for user in [&user, &due] {
        service.set_failures(&user.username, 20, Duration::ZERO).await;
    }
    service.signin(&user.username, PASSWORD).await;
    service.change_password_after_signin(&due.username, PASSWORD, NEW_PASSWORD).await;
    service.change_password(&token, PASSWORD, NEW_PASSWORD).await;
    service.check_old_password(&token, PASSWORD).await;

    service.code_for(&user).await;
    for _ in 0..7 {
        service.check_code(&user.username, WRONG_CODE).await;
        service.reset_password(&user.username, WRONG_CODE, NEW_PASSWORD).await;
    }
    service.send_email(&nobody).await;
    service.check_code(&nobody, WRONG_CODE).await;
    service.reset_password(&nobody, WRONG_CODE, NEW_PASSWORD).await;
    assert_eq!(service.invoke("export_users", &json!({})).await["ok"], true);

    let sender = |setting: &str| (setting == "MAIL_FROM").then(|| "no-reply@example.com".to_owned());
    let alarms = Template::for_stack("postern", &Environment::new(sender)).unwrap().alarms().unwrap();
    assert_eq!(alarms.values().filter(|answers| !answers.is_empty()).count(), 6, "{alarms:?}");
    for (alarm, answers) in alarms {
        for [event, outcome] in answers {
            assert_ne!(local.answers(&event, &outcome), 0, "{alarm} counts {outcome} of {event}");
        }
    }
}

#[tokio::test]
async fn a_hash_counts_as_replaced_once_it_is() {
    let local = Local::start();
    let user = local.service.user().with("password_hash", OTHER_ARGON2_HASH).create().await;
    local.service.signin(&user.username, WRONG_PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
    assert_eq!(local.count("Rehashes", &json!({})), 0);
    local.service.token_of(&user).await;
    local.service.token_of(&user).await;
    assert_eq!(local.count("Rehashes", &json!({})), 1);
}

#[tokio::test]
async fn what_a_dependency_fails_counts_against_it_and_a_condition_that_does_not_hold_is_no_failure() {
    let local = Local::start();
    let service = &local.service;
    let user = service.user().create().await;
    let again =
        service.manage(&json!({"action": "create", "username": user.username, "password": PASSWORD})).await;
    assert_eq!(again["error_code"], "user_exists");
    let code = service.code_for(&user).await;
    service.check_code(&user.username, WRONG_CODE).await.is(CODE_INCORRECT);
    service.reset_password(&user.username, &code, NEW_PASSWORD).await.is(CHANGED_PASSWORD);
    assert_eq!(local.dependency_errors(), [0, 0, 0]);

    service.make_unreachable(&user).await;
    service.send_email(&user.username).await.is_refused_for(SERVICE_UNAVAILABLE);
    assert_eq!(local.dependency_errors(), [0, 1, 0]);

    let rotation = json!({"Step": "createSecret", "SecretId": "nowhere", "ClientRequestToken": "none"});
    service.try_invoke("rotate_jwt_secret", &rotation).await.unwrap_err();
    assert_eq!(local.dependency_errors(), [0, 1, 1]);
    // The function may use its own secret only.
    assert_eq!(local.answers("rotate_jwt_secret", "internal_error"), 1);

    service.lose_table(&service.tables.attempts).await;
    service.signin(&user.username, PASSWORD).await.is_refused_for(SERVICE_UNAVAILABLE);
    assert_eq!(local.dependency_errors(), [1, 1, 1]);
    assert_eq!(local.answers("signin", "service_unavailable"), 1);
}

#[tokio::test]
async fn the_log_tells_what_happened_to_whom_and_keeps_secrets() {
    let local = Local::start();
    let service = &local.service;
    let user = service.user().with_password(PASSWORD).create().await;
    let (token, session_token) = service.session_of(&user).await;
    let code = service.code_for(&user).await;
    service.reset_password(&user.username, &code, NEW_PASSWORD).await.is(CHANGED_PASSWORD);
    service.signin(&user.username, PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
    service.make_unreachable(&user).await;
    service.send_email(&user.username).await.is_refused_for(SERVICE_UNAVAILABLE);

    for event in ["signin", "forgot_password_send_email", "forgot_password_reset_password"] {
        let answered = local.answered(event);
        assert!(!answered.is_empty(), "{event}");
        for line in answered {
            assert_eq!(line["span"]["user_id"], user.id, "{line}");
            assert!(line["span"]["source_ip"].is_string(), "{line}");
        }
    }
    for line in local.lines().iter().filter(|line| !line["span"].is_null()) {
        assert!(line["span"]["request_id"].is_string(), "{line}");
        let trace_id: Vec<&str> = line["span"]["trace_id"].as_str().unwrap().split('-').collect();
        assert_eq!(trace_id.iter().map(|part| part.len()).collect::<Vec<_>>(), [1, 8, 24], "{line}");
    }
    let text = local.text();
    for secret in [PASSWORD, NEW_PASSWORD, &token, &session_token, "$argon2", "@example.com"] {
        assert!(!text.contains(secret), "{secret}");
    }
    // Six digits are also found in times and ids.
    for mut line in local.lines().into_iter().filter(|line| line["_aws"].is_null()) {
        line.as_object_mut().unwrap().retain(|key, _| !["timestamp", "span"].contains(&key.as_str()));
        assert!(!line.to_string().contains(&code), "{line}");
    }
}

#[tokio::test]
async fn an_unknown_username_has_one_hash_in_the_log_that_its_name_does_not_tell() {
    let local = Local::start();
    let service = &local.service;
    let user = service.user().create().await;
    let (name, other) = (unknown_username(), unknown_username());
    service.signin(&name, PASSWORD).await;
    service.signin(&name.to_uppercase(), PASSWORD).await;
    service.change_password_after_signin(&name, PASSWORD, NEW_PASSWORD).await;
    service.send_email(&name).await;
    service.check_code(&name, WRONG_CODE).await;
    service.reset_password(&name, WRONG_CODE, NEW_PASSWORD).await;
    service.signin(&other, PASSWORD).await;
    service.signin(&user.username, WRONG_PASSWORD).await;

    let mut lines = local.lines();
    lines.retain(|line| line["message"] == "answered" && line["event"] != "manage_users");
    let hashes: Vec<_> = lines.iter().map(|line| line["span"]["username_hash"].as_str()).collect();
    let [hash, .., hash_of_other, of_known] = hashes[..] else { panic!("{hashes:?}") };
    assert_eq!(hashes[..6], [hash; 6]);
    assert_eq!(hash.map(str::len), Some(16));
    assert_ne!(hash, hash_of_other);
    assert_eq!(of_known, None);
    let plain = format!("{:016x}", u64::from_be_bytes(Sha256::digest(&name)[..8].try_into().unwrap()));
    for told in [&name, &other, &plain] {
        assert!(!local.text().contains(told.as_str()), "{told}");
    }
}

#[tokio::test]
async fn the_log_names_the_action_of_an_administrator_and_nothing_that_is_none() {
    let local = Local::start();
    let service = &local.service;
    let user = service.user().create().await;
    let User { username, id, .. } = &user;
    let unnamed = "drop_all_users";
    for payload in [
        json!({"action": "get", "username": username}),
        json!({"action": "set_password", "username": username}),
        json!({"action": "set_password", "username": username, "password": NEW_PASSWORD}),
        json!({"action": "delete", "username": unknown_username()}),
        json!({"action": unnamed}),
        json!([unnamed]),
    ] {
        service.manage(&payload).await;
    }

    let told = local.answered("manage_users").into_iter();
    let told: Vec<_> =
        told.map(|line| json!([line["action"], line["outcome"], line["span"]["user_id"]])).collect();
    let expected = [
        json!(["create", "created", id]),
        json!(["get", "shown", id]),
        json!(["set_password", "validation_failed", null]),
        json!(["set_password", "password_set", id]),
        json!(["delete", "unknown_username", null]),
        json!([null, "validation_failed", null]),
        json!([null, "validation_failed", null]),
    ];
    assert_eq!(told, expected);
    assert!(!local.text().contains(unnamed));
}
