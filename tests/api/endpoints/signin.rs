//! Document 002: sign-in.

use std::collections::BTreeSet;

use serde_json::json;

use crate::answers::{CHANGE_PASSWORD, NOT_ACTIVATED, RATE_LIMIT_EXCEEDED, USERNAME_OR_PASSWORD_INCORRECT};
use crate::helpers::{ApiResponse, MINUTE, PASSWORD, SIGNIN, Service, WRONG_PASSWORD, unknown_username};

#[tokio::test]
async fn right_password_gets_a_token() {
    let service = Service::new();
    let user = service.user().create().await;

    service.signin(&user.username, PASSWORD).await.token();
    assert!(service.stored_sessions(&user).await.is_empty());
}

#[tokio::test]
async fn staying_logged_in_gets_a_session_token_too() {
    let service = Service::new();
    let user = service.user().create().await;

    for session_information in [json!("Firefox: 69; Mobile: true;"), json!(null)] {
        let body = json!({
            "username": user.username,
            "password": PASSWORD,
            "session_information": session_information,
            "stay_logged_in": true,
        });
        let (_, session_token) = service.post_json(SIGNIN, &body).await.token_and_session_token();

        assert_eq!(session_token.len(), 64);
        assert!(session_token.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{session_token}");
        let sessions = service.stored_sessions(&user).await;
        assert!(!format!("{sessions:?}").contains(&session_token), "stored in clear: {sessions:?}");
    }
    assert_eq!(service.stored_sessions(&user).await.len(), 2);
}

#[tokio::test]
async fn not_staying_logged_in_gets_no_session_token() {
    let service = Service::new();
    let user = service.user().create().await;

    for stay_logged_in in [json!(false), json!(null)] {
        let body = json!({
            "username": user.username,
            "password": PASSWORD,
            "session_information": "Firefox: 69; Mobile: true;",
            "stay_logged_in": stay_logged_in,
        });
        service.post_json(SIGNIN, &body).await.token();
    }
    assert!(service.stored_sessions(&user).await.is_empty());
}

#[tokio::test]
async fn wrong_password_and_unknown_user_get_the_same_answer() {
    let service = Service::new();
    let user = service.user().create().await;

    let wrong_password = service.signin(&user.username, WRONG_PASSWORD).await;
    let unknown_user = service.signin(&unknown_username(), PASSWORD).await;

    wrong_password.is(USERNAME_OR_PASSWORD_INCORRECT);
    unknown_user.is(USERNAME_OR_PASSWORD_INCORRECT);
    let names = |answer: &ApiResponse| -> BTreeSet<String> {
        answer.headers.keys().map(ToString::to_string).collect()
    };
    assert_eq!(names(&wrong_password), names(&unknown_user));
}

#[tokio::test]
async fn only_the_right_password_reveals_that_the_account_is_not_activated() {
    let service = Service::new();
    let user = service.user().not_activated().create().await;

    service.signin(&user.username, PASSWORD).await.is(NOT_ACTIVATED);
    service.signin(&user.username, WRONG_PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
}

#[tokio::test]
async fn only_the_right_password_reveals_that_the_password_has_to_be_changed() {
    let service = Service::new();
    let user = service.user().due_a_password_change().create().await;

    service.signin(&user.username, PASSWORD).await.is(CHANGE_PASSWORD);
    service.signin(&user.username, WRONG_PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
}

#[tokio::test]
async fn not_activated_is_reported_before_change_password() {
    let service = Service::new();
    let user = service.user().not_activated().due_a_password_change().create().await;

    service.signin(&user.username, PASSWORD).await.is(NOT_ACTIVATED);
}

#[tokio::test]
async fn a_wait_is_reported_before_everything_but_invalid_fields() {
    let service = Service::new();
    let user = service.user().not_activated().create().await;
    service.set_failures(&user.username, 20, MINUTE).await;

    service.signin(&user.username, PASSWORD).await.is(RATE_LIMIT_EXCEEDED);
    assert_eq!(service.signin(&user.username, "").await.status, 422);
}

#[tokio::test]
async fn usernames_are_compared_in_their_normalised_form() {
    let service = Service::new();
    let user = service.user().create().await;
    let suffix = user.username.strip_prefix("st.huber").unwrap();

    for same in [
        format!("St.Huber{suffix}"),
        format!("ST.HUBER{}", suffix.to_uppercase()),
        format!("ｓｔ．Ｈｕｂｅｒ{suffix}"),
        format!("ſt.huber{suffix}"),
    ] {
        let answer = service.signin(&same, PASSWORD).await;
        assert_eq!(answer.status, 200, "{same}: {answer:?}");
    }
    for other in [format!(" st.huber{suffix}"), format!("st.huber{suffix} "), format!("sț.huber{suffix}")] {
        service.signin(&other, PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
    }
}

#[tokio::test]
async fn a_dotless_i_is_another_letter() {
    let service = Service::new();
    let mike = format!("mike.{}", unknown_username());
    service.user().with("username", mike.clone()).create().await;

    service.signin(&mike.replace("mike", "MIKE"), PASSWORD).await.token();
    service.signin(&mike.replace("mike", "mıke"), PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
}
