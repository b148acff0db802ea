//! Document 003: the forgotten password. The tests of the lifetime and the tries of codes are in `reset_codes`.

use serde_json::json;

use crate::answers::{
    CHANGE_PASSWORD, CHANGED_PASSWORD, CODE_CORRECT, CODE_INCORRECT, NO_CODE_REQUESTED, NO_EMAIL_ADDRESSES,
    NOT_ACTIVATED, SENT, UNKNOWN_USERNAME, USERNAME_OR_PASSWORD_INCORRECT,
};
use crate::helpers::{
    CHECK_CODE, MINUTE, NEW_PASSWORD, PASSWORD, RESET_PASSWORD, Service, WRONG_CODE, unknown_username,
};

#[tokio::test]
async fn a_code_is_sent_checked_and_resets_the_password() {
    let service = Service::new();
    let user = service.user().create().await;

    service.send_email(&user.username).await.is(SENT);
    let code = service.mails_to(&user.email).await[0].code();
    service.check_code(&user.username, &code).await.is(CODE_CORRECT);
    service.check_code(&user.username, &code).await.is(CODE_CORRECT);
    service.reset_password(&user.username, &code, NEW_PASSWORD).await.is(CHANGED_PASSWORD);

    service.signin(&user.username, PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
    service.signin(&user.username, NEW_PASSWORD).await.token();
}

#[tokio::test]
async fn an_unknown_user_gets_no_code() {
    let service = Service::new();
    let unknown = unknown_username();

    service.send_email(&unknown).await.is(UNKNOWN_USERNAME);
    service.check_code(&unknown, WRONG_CODE).await.is(UNKNOWN_USERNAME);
    service.reset_password(&unknown, WRONG_CODE, NEW_PASSWORD).await.is(UNKNOWN_USERNAME);
}

#[tokio::test]
async fn a_user_without_addresses_gets_no_code() {
    let service = Service::new();
    let user = service.user().with("email_addresses", json!([])).create().await;

    service.send_email(&user.username).await.is(NO_EMAIL_ADDRESSES);
    service.check_code(&user.username, WRONG_CODE).await.is(NO_CODE_REQUESTED);
}

#[tokio::test]
async fn a_code_that_was_not_requested_is_rejected() {
    let service = Service::new();
    let user = service.user().create().await;

    service.check_code(&user.username, WRONG_CODE).await.is(NO_CODE_REQUESTED);
    service.reset_password(&user.username, WRONG_CODE, NEW_PASSWORD).await.is(NO_CODE_REQUESTED);
}

#[tokio::test]
async fn a_wrong_code_is_incorrect() {
    let service = Service::new();
    let user = service.user().create().await;
    let code = service.code_for(&user).await;
    let other = (code.parse::<u32>().unwrap() ^ 1).to_string();

    service.check_code(&user.username, &other).await.is(CODE_INCORRECT);
    service.reset_password(&user.username, &other, NEW_PASSWORD).await.is(CODE_INCORRECT);
    service.signin(&user.username, PASSWORD).await.token();
}

#[tokio::test]
async fn a_code_belongs_to_its_user_in_any_case_of_the_name() {
    let service = Service::new();
    let user = service.user().create().await;
    let another = service.user().create().await;
    let code = service.code_for(&user).await;
    let code_of_another = service.code_for(&another).await;

    service.check_code(&user.username.to_uppercase(), &code).await.is(CODE_CORRECT);
    if code_of_another != code {
        service.check_code(&user.username, &code_of_another).await.is(CODE_INCORRECT);
    }
    service.reset_password(&user.username.to_uppercase(), &code, NEW_PASSWORD).await.is(CHANGED_PASSWORD);
}

#[tokio::test]
async fn a_reset_ends_a_pending_password_change() {
    let service = Service::new();
    let user = service.user().due_a_password_change().create().await;
    service.signin(&user.username, PASSWORD).await.is(CHANGE_PASSWORD);

    let code = service.code_for(&user).await;
    service.reset_password(&user.username, &code, NEW_PASSWORD).await.is(CHANGED_PASSWORD);

    service.signin(&user.username, NEW_PASSWORD).await.token();
}

#[tokio::test]
async fn a_reset_does_not_activate_a_user() {
    let service = Service::new();
    let user = service.user().not_activated().create().await;

    let code = service.code_for(&user).await;
    service.reset_password(&user.username, &code, NEW_PASSWORD).await.is(CHANGED_PASSWORD);

    service.signin(&user.username, NEW_PASSWORD).await.is(NOT_ACTIVATED);
}

#[tokio::test]
async fn a_reset_is_possible_during_a_wait_and_ends_it() {
    let service = Service::new();
    let user = service.user().create().await;
    service.set_failures(&user.username, 20, MINUTE).await;

    let code = service.code_for(&user).await;
    service.check_code(&user.username, &code).await.is(CODE_CORRECT);
    service.reset_password(&user.username, &code, NEW_PASSWORD).await.is(CHANGED_PASSWORD);

    service.signin(&user.username, NEW_PASSWORD).await.token();
}

#[tokio::test]
async fn a_code_may_be_a_number_or_have_white_space_around_it() {
    let service = Service::new();
    let user = service.user().create().await;
    let code = service.code_for(&user).await;
    assert!(!code.starts_with('0'), "{code}");
    let number: u32 = code.parse().unwrap();

    service.post_json(CHECK_CODE, &json!({"username": user.username, "code": number})).await.is(CODE_CORRECT);
    for spaced in [format!(" {code}"), format!("{code}\r\n"), format!("\u{3000}{code}\u{a0}")] {
        service.check_code(&user.username, &spaced).await.is(CODE_CORRECT);
    }
    let body = json!({"username": user.username, "code": number, "new_password": NEW_PASSWORD});
    service.post_json(RESET_PASSWORD, &body).await.is(CHANGED_PASSWORD);
}
