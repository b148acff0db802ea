//! Documents 000 and 001: the forced password change at a sign-in.

use crate::answers::{
    NO_PASSWORD_CHANGE_NEEDED, NOT_ACTIVATED, RATE_LIMIT_EXCEEDED, USERNAME_OR_PASSWORD_INCORRECT,
    validation_failed,
};
use crate::helpers::{MINUTE, NEW_PASSWORD, PASSWORD, Service, WRONG_PASSWORD, unknown_username};

#[tokio::test]
async fn the_new_password_replaces_the_old_and_is_no_longer_due() {
    let service = Service::new();
    let user = service.user().due_a_password_change().create().await;

    let token = service.change_password_after_signin(&user.username, PASSWORD, NEW_PASSWORD).await.token();

    assert!(service.takes(&token).await);
    service.signin(&user.username, PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
    service.signin(&user.username, NEW_PASSWORD).await.token();
    service
        .change_password_after_signin(&user.username, NEW_PASSWORD, PASSWORD)
        .await
        .is(NO_PASSWORD_CHANGE_NEEDED);
}

#[tokio::test]
async fn staying_logged_in_gets_a_session_token_too() {
    let service = Service::new();
    let user = service.user().due_a_password_change().create().await;

    let (token, session_token) = service.session_of_forced_change(&user).await;

    assert!(service.takes(&token).await);
    assert_eq!(session_token.len(), 64);
    assert!(session_token.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{session_token}");
    let sessions = service.stored_sessions(&user).await;
    assert_eq!(sessions.len(), 1);
    assert!(!format!("{sessions:?}").contains(&session_token), "stored in clear: {sessions:?}");
}

#[tokio::test]
async fn wrong_password_and_unknown_user_get_the_same_answer() {
    let service = Service::new();
    let user = service.user().due_a_password_change().create().await;

    for (username, old_password) in [(&user.username, WRONG_PASSWORD), (&unknown_username(), PASSWORD)] {
        service
            .change_password_after_signin(username, old_password, NEW_PASSWORD)
            .await
            .is(USERNAME_OR_PASSWORD_INCORRECT);
    }
}

#[tokio::test]
async fn only_the_right_password_reveals_that_the_account_is_not_activated() {
    let service = Service::new();
    let user = service.user().not_activated().due_a_password_change().create().await;

    service.change_password_after_signin(&user.username, PASSWORD, NEW_PASSWORD).await.is(NOT_ACTIVATED);
    service
        .change_password_after_signin(&user.username, WRONG_PASSWORD, NEW_PASSWORD)
        .await
        .is(USERNAME_OR_PASSWORD_INCORRECT);
}

#[tokio::test]
async fn not_activated_is_reported_before_no_change_needed() {
    let service = Service::new();
    let user = service.user().not_activated().create().await;

    service.change_password_after_signin(&user.username, PASSWORD, NEW_PASSWORD).await.is(NOT_ACTIVATED);
}

#[tokio::test]
async fn only_the_right_password_reveals_that_no_change_is_needed() {
    let service = Service::new();
    let user = service.user().create().await;

    service
        .change_password_after_signin(&user.username, PASSWORD, NEW_PASSWORD)
        .await
        .is(NO_PASSWORD_CHANGE_NEEDED);
    service
        .change_password_after_signin(&user.username, WRONG_PASSWORD, NEW_PASSWORD)
        .await
        .is(USERNAME_OR_PASSWORD_INCORRECT);
    service.signin(&user.username, PASSWORD).await.token();
}

#[tokio::test]
async fn a_wait_is_reported_before_the_password_is_checked() {
    let service = Service::new();
    let user = service.user().due_a_password_change().create().await;
    service.set_failures(&user.username, 20, MINUTE).await;

    service
        .change_password_after_signin(&user.username, PASSWORD, NEW_PASSWORD)
        .await
        .is_refused_for(RATE_LIMIT_EXCEEDED);
}

#[tokio::test]
async fn the_new_password_must_differ_from_the_old_one() {
    let service = Service::new();
    let user = service.user().due_a_password_change().create().await;

    let message = "The new password and old password must be different.";
    service
        .change_password_after_signin(&user.username, PASSWORD, PASSWORD)
        .await
        .is((422, &validation_failed(&[("new_password", message)])));
}
