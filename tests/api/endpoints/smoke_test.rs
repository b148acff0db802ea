//! `smoke_test`: a healthy service passes, a broken one fails, and no user is left over.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use support::{Fault, Plan};
use uuid::Uuid;

use crate::helpers::{MINUTE, Service, micros_now, unknown_username};
use shared::domain::Timestamp;

/// Every failure shows at once.
const SETTINGS: [(&str, &str); 3] =
    [("ARGON2_MEMORY_KIB", "128"), ("ARGON2_ITERATIONS", "1"), ("SECRETS_CACHE_SECONDS", "0")];

/// The checks until the mail.
const CHECKS: [&str; 6] = [
    "create_user",
    "refuse_wrong_password",
    "sign_in",
    "list_sessions",
    "sign_in_with_session",
    "request_code",
];
/// The checks at the end.
const LAST_CHECKS: [&str; 3] =
    ["delete_user", "refuse_token_of_deleted_user", "refuse_session_of_deleted_user"];

/// The names of the checks of a report that passed, or else failed.
fn checks(report: &Value, passed: bool) -> Vec<&str> {
    let checks = report["checks"].as_array().unwrap().iter();
    checks.filter(|check| check["ok"] == passed).map(|check| check["name"].as_str().unwrap()).collect()
}

/// The report of a test of the API, as an operator asks for it, and whether the invocation failed.
async fn test(service: &Service, options: &Value) -> Result<Value, Value> {
    let report = |error: Value| serde_json::from_str(error["errorMessage"].as_str().unwrap()).unwrap();
    service.try_invoke("smoke_test", options).await.map_err(report)
}

/// The event of `CodeDeploy` with a new id.
fn hook() -> Value {
    json!({"DeploymentId": "d-1", "LifecycleEventHookExecutionId": Uuid::new_v4().to_string()})
}

/// The results that `CodeDeploy` was told for an event.
async fn told(service: &Service, hook: &Value) -> Vec<String> {
    let (_, page) = service.page("/_aws/codedeploy").await;
    let page: Value = serde_json::from_str(&page).unwrap();
    let results = page["results"].as_array().unwrap().iter().filter(|result| {
        result["lifecycleEventHookExecutionId"] == hook["LifecycleEventHookExecutionId"]
            && result["deploymentId"] == hook["DeploymentId"]
    });
    results.map(|result| result["status"].as_str().unwrap().to_owned()).collect()
}

/// The names of all users.
async fn users(service: &Service) -> Vec<String> {
    let users = service.manage(&json!({"action": "list", "limit": 1000})).await;
    users["users"]
        .as_array()
        .unwrap()
        .iter()
        .map(|user| user["username"].as_str().unwrap().to_owned())
        .collect()
}

/// Creates a user with the id of a test that began that long ago.
async fn take_id(service: &Service, number: usize, ago: Duration) -> String {
    let username = format!("smoke-test-{}", unknown_username());
    let created_at = Timestamp::from_micros(micros_now()) - ago;
    let user = json!({
        "action": "create",
        "username": username,
        "user_id": format!("smoke-test-{number}"),
        "activated": true,
        "created_at": created_at.to_rfc3339(),
    });
    assert_eq!(service.manage(&user).await["ok"], true);
    username
}

#[tokio::test]
async fn a_healthy_service_passes_every_check_and_keeps_no_user() {
    let service = Service::with_settings([]).await;
    let report = test(&service, &json!({})).await.unwrap();
    let expected = [&["find_api"][..], &CHECKS, &["deliver_mail"], &LAST_CHECKS].concat();
    assert_eq!((checks(&report, true), &report["ok"]), (expected, &json!(true)), "{report}");
    assert!(users(&service).await.is_empty());

    let report = test(&service, &json!({"mail": false})).await.unwrap();
    let expected = [&["find_api"][..], &CHECKS, &LAST_CHECKS].concat();
    assert_eq!(checks(&report, true), expected, "{report}");
}

#[tokio::test]
async fn a_test_passes_in_safe_mode_and_with_published_keys() {
    let settings = [("PREVENT_USER_EXISTENCE_ERRORS", "true"), ("JWT_ALGORITHM", "ES256")];
    let service = Service::with_settings(settings).await;
    test(&service, &json!({})).await.unwrap();
    let hook = hook();
    service.invoke("smoke_test", &hook).await;
    assert_eq!(told(&service, &hook).await, ["Succeeded"]);
}

#[tokio::test]
async fn a_broken_service_fails_the_check_that_needs_it_and_keeps_no_user() {
    let service = Service::with_settings(SETTINGS).await;
    let faults = service.stack.as_ref().unwrap().faults();
    for (operation, fault, failed) in [
        ("TransactWriteItems", Fault::Unavailable, "create_user"),
        // The user was created, but the test did not learn of it.
        ("TransactWriteItems", Fault::CutAfter, "create_user"),
        ("BatchGetItem", Fault::Unavailable, "refuse_wrong_password"),
        ("GetSecretValue jwt-secret", Fault::Unavailable, "sign_in"),
        ("PutItem sessions", Fault::Throttled, "sign_in"),
        ("GetItem sessions", Fault::Unavailable, "list_sessions"),
        ("UpdateItem sessions", Fault::ServerError, "sign_in_with_session"),
        ("GetSecretValue code-key", Fault::Unavailable, "request_code"),
        ("UpdateItem reset-codes", Fault::Unavailable, "request_code"),
        ("SendEmail simulator.amazonses.com", Fault::MessageRejected, "request_code"),
    ] {
        let told = format!("{fault:?} at {operation}");
        let plan = Plan { operation: operation.to_owned(), fault, attempts: Plan::EVERY_ATTEMPT };
        faults.begin(Some(plan));
        let report = test(&service, &json!({})).await;
        assert!(faults.end().await.iter().any(|name| name == operation), "{told}");
        let report = report.expect_err(&told);
        assert_eq!(
            (checks(&report, false), &report["ok"]),
            (vec![failed], &json!(false)),
            "{told}: {report}"
        );
        assert_eq!(users(&service).await, [] as [String; 0], "{told}");
    }
    test(&service, &json!({})).await.unwrap();
}

#[tokio::test]
async fn a_user_whose_test_crashed_is_deleted_by_a_later_test() {
    let service = Service::with_settings([]).await;
    take_id(&service, 0, 11 * MINUTE).await;
    take_id(&service, 7, 11 * MINUTE).await;
    let running = take_id(&service, 3, MINUTE).await;
    let other = service.user().create().await;
    test(&service, &json!({"mail": false})).await.unwrap();
    let mut left = users(&service).await;
    left.sort_unstable();
    let mut expected = [running, other.username];
    expected.sort_unstable();
    assert_eq!(left, expected);
}

#[tokio::test]
async fn a_user_who_cannot_be_deleted_fails_the_test() {
    let service = Service::with_settings(SETTINGS).await;
    let faults = service.stack.as_ref().unwrap().faults();
    let operation = "TransactWriteItems 2".to_owned();
    faults.begin(Some(Plan { operation, fault: Fault::Unavailable, attempts: Plan::EVERY_ATTEMPT }));
    let report = test(&service, &json!({})).await.unwrap_err();
    faults.end().await;
    assert_eq!(checks(&report, false), ["delete_user"], "{report}");
    assert_eq!(users(&service).await.len(), 1);
}

#[tokio::test]
async fn eight_tests_at_the_same_time_pass() {
    let service = Service::with_settings(SETTINGS).await;
    let mail = json!({"mail": false});
    for report in join_all((0..8).map(|_| test(&service, &mail))).await {
        report.unwrap();
    }
    assert!(users(&service).await.is_empty());
    for number in 0..8 {
        take_id(&service, number, Duration::ZERO).await;
    }
    let report = test(&service, &mail).await.unwrap_err();
    assert_eq!(checks(&report, false), ["create_user"], "{report}");
    assert_eq!(users(&service).await.len(), 8);
}

#[tokio::test]
async fn code_deploy_is_told_once_whether_the_new_versions_work() {
    let service = Service::with_settings(SETTINGS).await;
    let good = hook();
    let report = service.invoke("smoke_test", &good).await;
    let expected = [&["find_origin_secret"][..], &CHECKS, &LAST_CHECKS].concat();
    assert_eq!(checks(&report, true), expected, "{report}");
    assert_eq!(told(&service, &good).await, ["Succeeded"]);

    let faults = service.stack.as_ref().unwrap().faults();
    for operation in ["BatchGetItem", "GetItem sessions", "UpdateItem sessions", "UpdateItem reset-codes"] {
        let bad = hook();
        let plan = Plan {
            operation: operation.to_owned(),
            fault: Fault::Unavailable,
            attempts: Plan::EVERY_ATTEMPT,
        };
        faults.begin(Some(plan));
        let report = service.invoke("smoke_test", &bad).await;
        faults.end().await;
        // Without an address, there is no code to write, and so nothing that can fail.
        let works = operation == "UpdateItem reset-codes";
        assert_eq!(report["ok"], works, "{operation}: {report}");
        let result = if works { "Succeeded" } else { "Failed" };
        assert_eq!(told(&service, &bad).await, [result], "{operation}");
    }
    assert!(users(&service).await.is_empty());
    // CodeDeploy does not take a second result, so an operator who repeats an event is told.
    let error = service.try_invoke("smoke_test", &good).await.unwrap_err();
    assert!(error["errorMessage"].as_str().unwrap().contains("AlreadyCompleted"), "{error}");
    assert_eq!(told(&service, &good).await.len(), 1);
}

#[tokio::test]
async fn new_versions_that_refuse_requests_around_the_edge_are_tested() {
    let service = Service::with_settings([("EDGE", "required")]).await;
    let hook = hook();
    service.invoke("smoke_test", &hook).await;
    assert_eq!(told(&service, &hook).await, ["Succeeded"]);
    // The API itself has no edge in front of it here.
    let report = test(&service, &json!({})).await.unwrap_err();
    assert_eq!(checks(&report, false), ["refuse_wrong_password", "request_code"], "{report}");
}

#[tokio::test]
async fn deployments_at_the_same_time_send_no_mails() {
    let service = Service::with_settings(SETTINGS).await;
    let hooks: Vec<Value> = (0..4).map(|_| hook()).collect();
    join_all(hooks.iter().map(|hook| service.invoke("smoke_test", hook))).await;
    for hook in &hooks {
        assert_eq!(told(&service, hook).await, ["Succeeded"]);
    }
    let (_, mails) = service.page("/_aws/ses").await;
    assert_eq!(serde_json::from_str::<Value>(&mails).unwrap(), json!({"messages": []}));
}

#[tokio::test]
async fn other_payloads_are_refused() {
    let service = Service::new();
    for payload in [json!(null), json!("api"), json!({"mails": true}), json!({"DeploymentId": "d-1"})] {
        service.try_invoke("smoke_test", &payload).await.unwrap_err();
    }
}
