//! Document 004: the password change of a user who is signed in.

use serde_json::{Value, json};

use crate::answers::{
    CHECK_DATA, NEW_PASSWORD_SET, TOO_MANY_ATTEMPTS, UNAUTHORIZED, USERNAME_OR_PASSWORD_INCORRECT,
    change_password_errors,
};
use crate::helpers::{ApiResponse, CHANGE_PASSWORD, MINUTE, NEW_PASSWORD, PASSWORD, Service, WRONG_PASSWORD};

/// PBKDF2 of "x", which is too short for a new password.
const HASH_OF_X: &str =
    "$pbkdf2-sha256$i=1000,l=32$c2FsdHNhbHRzYWx0c2FsdA$X1ZZN8Gu1D0PvLdmpmgiSOP+77NQgUlgWDjaXh3iflI";

#[tokio::test]
async fn the_new_password_replaces_the_old() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;

    service.change_password(&token, PASSWORD, NEW_PASSWORD).await.is(NEW_PASSWORD_SET);

    service.signin(&user.username, PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
    service.signin(&user.username, NEW_PASSWORD).await.token();
}

#[tokio::test]
async fn a_change_completes_a_pending_password_change() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    let due = json!({"action": "update", "username": user.username, "must_change_password": true});
    service.manage(&due).await;

    service.change_password(&token, PASSWORD, NEW_PASSWORD).await.is(NEW_PASSWORD_SET);

    service.signin(&user.username, NEW_PASSWORD).await.token();
}

#[tokio::test]
async fn every_error_that_applies_is_named_in_order_of_its_code() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    let (right, wrong, new) = (PASSWORD, WRONG_PASSWORD, NEW_PASSWORD);
    let too_long = "x".repeat(257);

    let common = "Passw0rd";

    let cases: [(Value, &[usize]); 36] = [
        (json!({}), &[1, 2, 3]),
        (json!({"old_password": null, "new_password": null, "new_password_check": null}), &[1, 2, 3]),
        (json!({"old_password": "", "new_password": "", "new_password_check": ""}), &[1, 2, 3]),
        (json!({"old_password": 1, "new_password": ["x"], "new_password_check": {}}), &[1, 2, 3]),
        (json!({"old_password": true, "new_password": new, "new_password_check": new}), &[1]),
        (json!({"new_password": new, "new_password_check": new}), &[1]),
        (json!({"new_password": new, "new_password_check": right}), &[1, 5]),
        (json!({"new_password": "short", "new_password_check": "short"}), &[1, 6]),
        (json!({"old_password": right}), &[2, 3]),
        (json!({"old_password": right, "new_password": new}), &[3]),
        (json!({"old_password": right, "new_password": "short"}), &[3, 6]),
        (json!({"old_password": wrong}), &[2, 3, 4]),
        (json!({"old_password": wrong, "new_password": new}), &[3, 4]),
        (json!({"old_password": wrong, "new_password": new, "new_password_check": new}), &[4]),
        (json!({"old_password": wrong, "new_password": new, "new_password_check": right}), &[4, 5]),
        (json!({"old_password": wrong, "new_password": "short", "new_password_check": "other"}), &[4, 5, 6]),
        (json!({"old_password": wrong, "new_password": "short", "new_password_check": "short"}), &[4, 6]),
        (json!({"old_password": right, "new_password": new, "new_password_check": right}), &[5]),
        (json!({"old_password": right, "new_password": new, "new_password_check": format!("{new} ")}), &[5]),
        (json!({"old_password": right, "new_password": "short", "new_password_check": "other"}), &[5, 6]),
        (json!({"old_password": right, "new_password": "7 chars", "new_password_check": "7 chars"}), &[6]),
        (json!({"old_password": right, "new_password": "😀😀😀", "new_password_check": "😀😀😀"}), &[6]),
        (json!({"old_password": right, "new_password": too_long, "new_password_check": too_long}), &[6]),
        (json!({"old_password": right, "new_password": common, "new_password_check": common}), &[7]),
        (json!({"old_password": right, "new_password": common}), &[3, 7]),
        (json!({"old_password": right, "new_password": common, "new_password_check": new}), &[5, 7]),
        (json!({"old_password": wrong, "new_password": common, "new_password_check": common}), &[4, 7]),
        (json!({"old_password": wrong, "new_password": common}), &[3, 4, 7]),
        (json!({"old_password": common, "new_password": common, "new_password_check": common}), &[4, 7]),
        (json!({"new_password": common, "new_password_check": common}), &[1, 7]),
        (json!({"old_password": right, "new_password": right, "new_password_check": right}), &[8]),
        (json!({"old_password": right, "new_password": right}), &[3, 8]),
        (json!({"old_password": right, "new_password": right, "new_password_check": new}), &[5, 8]),
        // The response says that the two are equal only if the old password is right.
        (json!({"old_password": wrong, "new_password": wrong, "new_password_check": wrong}), &[4]),
        (json!({"old_password": wrong, "new_password": right, "new_password_check": right}), &[4]),
        (json!({"new_password": right, "new_password_check": right}), &[1]),
    ];
    for (body, codes) in cases {
        let answer = service.change_password_as(&format!("Bearer {token}"), &body).await;
        assert_eq!((answer.status, answer.body.as_str()), (422, &*change_password_errors(codes)), "{body}");
    }
    service.signin(&user.username, PASSWORD).await.token();
}

#[tokio::test]
async fn the_new_password_must_differ_from_the_old_one() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    let before = service.stored_apart_from_attempts(&user).await;

    let same = service.change_password(&token, PASSWORD, PASSWORD).await;
    same.is((422, &change_password_errors(&[8])));

    assert_eq!(service.stored_apart_from_attempts(&user).await, before);
    assert!(service.mails_to(&user.email).await.is_empty());
    assert_eq!(service.failures(&user.username).await, 0);
    // A password of one more character is another one.
    let longer = format!("{PASSWORD} ");
    service.change_password(&token, PASSWORD, &longer).await.is(NEW_PASSWORD_SET);
}

#[tokio::test]
async fn only_the_first_error_of_the_new_password_is_reported() {
    let service = Service::new();
    let user = service.user().with("password_hash", HASH_OF_X).create().await;
    let token = service.signin(&user.username, "x").await.token();

    service.change_password(&token, "x", "x").await.is((422, &change_password_errors(&[6])));
}

#[tokio::test]
async fn a_bearer_token_is_accepted_in_the_documented_and_the_standard_form() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;

    for authorization in [
        format!("Bearer {token}"),
        format!("Bearer: {token}"),
        format!("bearer {token}"),
        format!("BEARER {token}"),
    ] {
        let answer = service.change_password_as(&authorization, &json!({})).await;
        answer.is((422, &change_password_errors(&[1, 2, 3])));
    }
}

#[tokio::test]
async fn the_token_is_checked_before_anything_else() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    let bodies = [
        json!({"old_password": PASSWORD, "new_password": NEW_PASSWORD, "new_password_check": NEW_PASSWORD})
            .to_string(),
        "{".to_owned(),
        "x".repeat(20_000),
    ];

    for body in bodies {
        service.post(CHANGE_PASSWORD, body.clone()).await.is(UNAUTHORIZED);
        service.post(&format!("{CHANGE_PASSWORD}?token={token}"), body.clone()).await.is(UNAUTHORIZED);
        let (none, wrong) = ("Bearer", r#"Bearer error="invalid_token""#);
        for (authorization, challenge) in [
            (String::new(), none),
            ("Bearer".to_owned(), none),
            ("Bearer ".to_owned(), none),
            ("Bearer:".to_owned(), none),
            ("Bearer null".to_owned(), wrong),
            ("Bearer undefined".to_owned(), wrong),
            ("Bearer a.b.c".to_owned(), wrong),
            (format!("Basic {token}"), none),
            (format!("Bearer {token}x"), wrong),
            (format!("Bearer {token} {token}"), wrong),
            (format!("Bearer {token}, Bearer {token}"), wrong),
            (token.clone(), none),
        ] {
            let request = service.request("POST", CHANGE_PASSWORD).header("authorization", &authorization);
            let answer = ApiResponse::to(request.body(body.clone())).await;
            assert_eq!((answer.status, answer.body.as_str()), UNAUTHORIZED, "{authorization}");
            assert_eq!(answer.header("www-authenticate"), Some(challenge), "{authorization}");
        }
    }
    service.signin(&user.username, PASSWORD).await.token();
}

#[tokio::test]
async fn malformed_json_is_answered_in_the_documented_envelope() {
    let service = Service::new();
    let token = service.token_of(&service.user().create().await).await;
    let post = async |body: Vec<u8>| {
        let request = service.request("POST", CHANGE_PASSWORD).bearer_auth(&token);
        ApiResponse::to(request.body(body)).await
    };

    for body in [
        "",
        "{",
        "[]",
        "null",
        r#""old_password""#,
        r#"{"old_password":"a",}"#,
        r#"{"old_password":"a","old_password":"a"}"#,
    ] {
        let answer = post(body.into()).await;
        assert_eq!((answer.status, answer.body.as_str()), CHECK_DATA, "{body}");
    }
    post(b"{\"old_password\":\"\xff\"}".to_vec()).await.is(CHECK_DATA);

    let too_large = post(format!("{{}}{}", " ".repeat(16 * 1024 - 1)).into()).await;
    assert_eq!(too_large.status, 413);
    let envelope = too_large.json();
    assert_eq!((&envelope["success"], &envelope["code"]), (&json!(false), &json!(413)));
    assert!(envelope["message"].is_string(), "{envelope}");
    assert_eq!(envelope.as_object().unwrap().len(), 3);
}

#[tokio::test]
async fn a_wait_is_reported_before_the_old_password_is_checked() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    service.set_failures(&user.username, 20, MINUTE).await;

    service.change_password(&token, PASSWORD, NEW_PASSWORD).await.is_refused_for(TOO_MANY_ATTEMPTS);
    service.change_password_as("Bearer null", &json!({})).await.is(UNAUTHORIZED);
}

#[tokio::test]
async fn the_message_states_the_configured_length() {
    let service = Service::with_settings([("PASSWORD_MIN_LENGTH", "12")]).await;
    let user = service.user().create().await;
    let token = service.token_of(&user).await;

    let answer = service.change_password(&token, PASSWORD, "11 letters.").await;

    let message = "New password must be between 12 and 256 characters long";
    assert_eq!(answer.status, 422);
    assert_eq!(answer.json()["errors"], json!([{"code": 6, "message": message, "param": "new_password"}]));
}
