//! `manage_users`, the operator's function, which is invoked directly and has no route.

mod addresses;
mod changes;
mod creation;
mod listing;
mod renaming;

use aws_sdk_dynamodb::primitives::{DateTime, DateTimeFormat};
use serde_json::{Value, json};

use crate::answers::UNKNOWN_USERNAME;
use crate::helpers::{PASSWORD, Service, micros_now, unknown_username};

/// The fields of `user` in an answer.
const USER_FIELDS: [&str; 8] = [
    "activated",
    "created_at",
    "email_addresses",
    "last_signin_at",
    "must_change_password",
    "password_changed_at",
    "user_id",
    "username",
];

/// Returns the `user` of a successful response, and fails if the response has other fields.
#[track_caller]
fn user_of(answer: &Value) -> Value {
    assert_eq!(answer, &json!({"ok": true, "user": answer["user"]}));
    let mut fields: Vec<&str> = answer["user"].as_object().unwrap().keys().map(String::as_str).collect();
    fields.sort_unstable();
    assert_eq!(fields, USER_FIELDS);
    answer["user"].clone()
}

#[track_caller]
fn assert_refused(answer: &Value, error_code: &str) {
    assert_eq!(answer, &json!({"ok": false, "error_code": error_code, "msg": answer["msg"]}));
    assert!(answer["msg"].as_str().is_some_and(|message| !message.is_empty()), "{answer}");
}

/// Asserts that exactly this field is reported as invalid.
#[track_caller]
fn assert_invalid(answer: &Value, field: &str) {
    assert_eq!(
        answer,
        &json!({
            "ok": false,
            "error_code": "validation_failed",
            "msg": "The given data was invalid",
            "errors": {field: answer["errors"][field]},
        })
    );
    assert!(answer["errors"][field][0].is_string(), "{answer}");
}

/// Asserts an RFC 3339 timestamp in UTC within the last minute of this machine's clock.
#[track_caller]
fn assert_just_now(instant: &Value) {
    let text = instant.as_str().unwrap_or_else(|| panic!("no instant: {instant}"));
    assert!(text.ends_with('Z'), "{text}");
    let seconds = DateTime::from_str(text, DateTimeFormat::DateTime).unwrap().secs();
    let now = micros_now() / 1_000_000;
    assert!((now - 60..=now + 1).contains(&seconds), "{text}");
}

#[tokio::test]
async fn every_action_refuses_an_unknown_user() {
    let service = Service::new();
    let username = unknown_username();
    for action in [
        json!({"action": "get"}),
        json!({"action": "update", "activated": true}),
        json!({"action": "rename", "new_username": unknown_username()}),
        json!({"action": "set_password", "password": PASSWORD}),
        json!({"action": "unlock"}),
        json!({"action": "revoke_sessions"}),
        json!({"action": "delete"}),
    ] {
        let mut action = action;
        action["username"] = json!(username);
        assert_refused(&service.manage(&action).await, "unknown_username");
    }
    // None of them made the user.
    service.send_email(&username).await.is(UNKNOWN_USERNAME);
}

#[tokio::test]
async fn an_unknown_action_is_refused() {
    let service = Service::new();
    let user = service.user().create().await;
    for payload in [
        json!({}),
        json!({"action": "greet", "username": user.username}),
        json!({"action": null, "username": user.username}),
        json!({"action": "Get", "username": user.username}),
        json!({"action": ["get"], "username": user.username}),
    ] {
        assert_invalid(&service.manage(&payload).await, "action");
    }
    assert_invalid(&service.manage(&json!({"action": "get"})).await, "username");
    for payload in [json!([]), json!("get"), json!(null)] {
        let answer = service.manage(&payload).await;
        assert_eq!((&answer["ok"], &answer["error_code"]), (&json!(false), &json!("validation_failed")));
    }
}

#[tokio::test]
async fn unknown_and_repeated_fields_are_refused_by_every_action() {
    let service = Service::new();
    let user = service.user().create().await;
    let get = json!({"action": "get", "username": user.username});
    let before = user_of(&service.manage(&get).await);
    for payload in [
        json!({"action": "update", "username": user.username, "active": false}),
        json!({"action": "create", "username": unknown_username(), "email": "st.huber@example.com"}),
        json!({"action": "get", "username": user.username, "limit": 1}),
        json!({"action": "list", "user_id": user.id}),
        json!({"action": "rename", "username": user.username, "new_username": "a", "user_id": "33"}),
        json!({"action": "set_password", "username": user.username, "password": PASSWORD, "activated": true}),
        json!({"action": "revoke_sessions", "username": user.username, "session": 1}),
        json!({"action": "unlock", "username": user.username, "Username": user.username}),
        json!({"action": "delete", "username": user.username, "force": null}),
        json!({"action": "import", "users": [], "user": []}),
        json!({"action": "count_outdated_hashes", "page": 1}),
    ] {
        let known = ["action", "username", "new_username", "password", "users"];
        let unknown =
            payload.as_object().unwrap().keys().find(|name| !known.contains(&name.as_str())).unwrap();
        let answer = service.manage(&payload).await;
        assert_invalid(&answer, unknown);
        assert_eq!(
            answer["errors"][unknown],
            json!([format!("The {} field is not known here.", unknown.replace('_', " "))])
        );
    }

    let name = &user.username;
    for (payload, errors) in [
        (
            format!(r#"{{"action":"update","username":"{name}","activated":true,"activated":false}}"#),
            json!({"activated": ["The activated field is given twice."]}),
        ),
        (
            format!(r#"{{"action":"delete","username":"{name}","username":"{name}"}}"#),
            json!({"username": ["The username field is given twice."]}),
        ),
        (
            format!(r#"{{"action":"get","action":"delete","username":"{name}"}}"#),
            json!({"action": ["The action field is given twice."]}),
        ),
        (
            format!(r#"{{"action":"update","username":"","username":"{name}"}}"#),
            json!({"username": ["The username field is required.", "The username field is given twice."]}),
        ),
    ] {
        let answer = service.invoke_raw("manage_users", payload.clone()).await.unwrap();
        assert_eq!(answer["errors"], errors, "{payload}");
    }
    let import =
        r#"{"action":"import","users":[{"username":"st.huber","activated":true,"activated":false}]}"#;
    assert_eq!(
        service.invoke_raw("manage_users", import.to_owned()).await.unwrap(),
        json!({
            "ok": true,
            "created": 0,
            "failed": [{
                "username": "st.huber",
                "error_code": "validation_failed",
                "errors": {"activated": ["The activated field is given twice."]},
            }],
        })
    );
    assert_eq!(user_of(&service.manage(&get).await), before);
}
