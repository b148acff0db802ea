//! The lines of the log: their size, what they tell, and what they keep.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{BYTES_OF_EVENT, Local};
use crate::answers::{
    CHANGED_PASSWORD, ORIGIN_NOT_ALLOWED, SERVICE_UNAVAILABLE, USERNAME_OR_PASSWORD_INCORRECT,
};
use crate::documents::template::template;
use crate::helpers::{
    ApiResponse, NEW_PASSWORD, PASSWORD, SIGNIN, User, WRONG_CODE, WRONG_PASSWORD, unknown_username,
};

/// The line that API Gateway writes about an answered sign-in, by the template's format.
fn access_log_line(request_id: &str, source_ip: &str) -> String {
    let mut line = template().access_log().unwrap().format;
    for (variable, value) in [
        ("requestId", request_id),
        ("identity.sourceIp", source_ip),
        ("routeKey", "POST /api/auth/signin"),
        ("status", "200"),
        ("responseLatency", "100"),
        // API Gateway writes a dash for a variable without a value.
        ("error.message", "-"),
        ("integration.error", "-"),
    ] {
        line = line.replace(&format!("$context.{variable}\""), &format!("{value}\""));
    }
    assert!(!line.contains('$'), "{line}");
    line
}

#[tokio::test]
async fn a_sign_in_writes_at_most_500_bytes_of_log() {
    let local = Local::start();
    let user = local.service.user().create().await;
    local.service.session_of(&user).await;
    let [line] = &local.answers_of("signin")[..] else { panic!("{}", local.text()) };
    let (request_id, longest_ip) = (line["request_id"].as_str().unwrap(), "203.203.203.203");
    let mut access = access_log_line(request_id, longest_ip);
    let parsed: Value = serde_json::from_str(&access).unwrap();
    assert_eq!(parsed["request_id"], line["request_id"], "the two lines of a request have one id");
    let ours = line.to_string().replace(line["source_ip"].as_str().unwrap(), longest_ip);
    access.push_str(&ours);
    let bytes = access.len() + 2 * BYTES_OF_EVENT;
    assert!(bytes <= 500, "{bytes}: {access}");
    // Lambda adds no lines of its own.
    assert!(
        include_str!("../../../../template.yaml")
            .contains("LogFormat: JSON, LogGroup: !Ref LogGroup, SystemLogLevel: WARN")
    );
}

#[tokio::test]
async fn a_failure_that_changes_no_response_is_logged_with_the_request_id() {
    let local = Local::start();
    let service = &local.service;
    let user = service.user().create().await;
    let code = service.code_for(&user).await;
    service.make_unreachable(&user).await;
    service.reset_password(&user.username, &code, NEW_PASSWORD).await.is(CHANGED_PASSWORD);
    let [answer] = &local.answers_of("forgot_password_reset_password")[..] else {
        panic!("{}", local.text())
    };
    assert_eq!((&answer["level"], &answer["ses_errors"]), (&json!("INFO"), &json!(1)), "{answer}");
    let mut warnings = local.lines();
    warnings.retain(|line| line["level"] == "WARN");
    let [warning] = &warnings[..] else { panic!("{warnings:?}") };
    assert_eq!(warning["message"], "user not told of the changed password");
    assert!(warning["cause"].as_str().unwrap().starts_with("SendEmail: "), "{warning}");
    assert_eq!((&warning["event"], &warning["request_id"]), (&answer["event"], &answer["request_id"]));
}

#[tokio::test]
async fn the_log_names_outcomes_and_users_but_no_secrets() {
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
        let answers = local.answers_of(event);
        assert!(!answers.is_empty(), "{event}");
        for line in answers {
            assert_eq!(line["user_id"], user.id, "{line}");
            assert!(line["source_ip"].as_str().unwrap().starts_with("127."), "{line}");
            assert!(line["status"].is_u64() && !line["request_id"].as_str().unwrap().is_empty(), "{line}");
            // No trace is sampled here.
            assert!(line["trace_id"].is_null(), "{line}");
        }
    }
    let text = local.text();
    for secret in [PASSWORD, NEW_PASSWORD, &token, &session_token, "$argon2", "@example.com"] {
        assert!(!text.contains(secret), "{secret}");
    }
    // Six digits are also found in times and ids.
    for mut line in local.lines() {
        line.as_object_mut()
            .unwrap()
            .retain(|key, _| !["timestamp", "request_id", "user_id"].contains(&key.as_str()));
        assert!(!line.to_string().contains(&code), "{line}");
    }
}

#[tokio::test]
async fn an_authorizer_logs_its_decision_and_the_user_but_no_token() {
    let local = Local::start();
    let service = &local.service;
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    service.authorize(&token).await.unwrap();
    service.authorize(&format!("{token}A")).await.unwrap();
    service.authorize("").await.unwrap();
    service.try_invoke("authorizer", &json!({})).await.unwrap_err();
    service.lose_attribute(&user, "activated").await;
    service.authorize(&token).await.unwrap_err();

    let told = local.answers_of("authorizer").into_iter();
    let told: Vec<_> =
        told.map(|line| json!([line["level"], line["action"], line["outcome"], line["user_id"]])).collect();
    let expected = [
        json!(["INFO", "http_api", "authorized", user.id]),
        json!(["INFO", "http_api", "token_incorrect", null]),
        json!(["INFO", "http_api", "token_not_provided", null]),
        json!(["INFO", null, "unknown_event", null]),
        json!(["ERROR", null, "internal_error", null]),
    ];
    assert_eq!(told, expected);
    assert!(!local.text().contains(&token));
    // Its errors in Lambda are no alarm, these are.
    assert_eq!(["RefusedTokens", "InternalErrors"].map(|metric| local.sum(metric, None)), [1, 1]);
}

#[tokio::test]
async fn an_unknown_username_is_logged_as_a_keyed_hash() {
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

    let mut lines = local.answers();
    lines.retain(|line| line["event"] != "manage_users");
    let hashes: Vec<_> = lines.iter().map(|line| line["username_hash"].as_str()).collect();
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
async fn a_refused_page_is_logged_by_its_outcome_alone() {
    let local = Local::start();
    let user = local.service.user().create().await;
    let body = json!({"username": user.username, "password": PASSWORD});
    let request = local.service.request("POST", SIGNIN).header("origin", "https://evil.example");
    ApiResponse::to(request.json(&body)).await.is(ORIGIN_NOT_ALLOWED);
    let [line] = &local.answers_of("signin")[..] else { panic!("{}", local.text()) };
    let told = json!([line["level"], line["outcome"], line["status"], line["user_id"]]);
    assert_eq!(told, json!(["INFO", "origin_not_allowed", 403, null]));
    assert!(!local.text().contains("evil"), "the origin is the client's to choose");
}

#[tokio::test]
async fn behind_the_edge_the_log_has_the_address_of_the_client_and_not_the_secret() {
    let local = Local::start_with([("EDGE", "optional")]);
    let service = &local.service;
    let secret = service.secret(&service.origin_secret_id).await.value;
    let through = service.through_edge(&secret);
    let user = through.user().create().await;
    through.token_of(&user).await;
    let wrong = service.through_edge(&secret.to_lowercase());
    wrong.token_of(&user).await;
    let lines = local.answers_of("signin");
    let [through_edge, direct] = [0, 1].map(|line| lines[line]["source_ip"].as_str().unwrap());
    assert_eq!(through_edge, through.address.unwrap().to_string());
    assert!(direct.starts_with("127."), "{direct}");
    assert!(!local.text().contains(&secret) && !local.text().contains(&secret.to_lowercase()));
}

#[tokio::test]
async fn a_right_password_from_a_new_network_is_marked_in_the_log() {
    let local = Local::start();
    let service = &local.service;
    let user = service.user().create().await;
    let elsewhere = service.seen_from_elsewhere();
    let is_marked = |lines: &[Value]| lines.last().unwrap()["new_network"] == true;
    for (client, password, expected) in [
        (service, PASSWORD, false),
        (&elsewhere, WRONG_PASSWORD, false),
        (&elsewhere, PASSWORD, true),
        (&elsewhere, PASSWORD, false),
        (service, PASSWORD, false),
    ] {
        client.signin(&user.username, password).await;
        assert_eq!(is_marked(&local.answers_of("signin")), expected, "{}", local.text());
    }
}

#[tokio::test]
async fn the_log_names_known_actions_only() {
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

    let told = local.answers_of("manage_users").into_iter();
    let told: Vec<_> = told.map(|line| json!([line["action"], line["outcome"], line["user_id"]])).collect();
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
