//! Reset codes end with everything that revokes sessions, and with a change of the e-mail addresses.

use serde_json::{Value, json};

use crate::answers::{CHANGED_PASSWORD, CODE_CORRECT, CODE_INCORRECT, NEW_PASSWORD_SET, NO_CODE_REQUESTED};
use crate::helpers::{NEW_PASSWORD, PASSWORD, Service, User, WRONG_CODE};

const INTRUDERS_PASSWORD: &str = "IntrudersPassword1234!";

/// Asserts that a code from before is refused as if there had been none, also once tries would be used up.
async fn assert_ended(service: &Service, user: &User, code: &str) {
    let before = service.stored_user(user).await;
    for _ in 0..13 {
        service.check_code(&user.username, WRONG_CODE).await.is(NO_CODE_REQUESTED);
    }
    service.check_code(&user.username, code).await.is(NO_CODE_REQUESTED);
    service.reset_password(&user.username, code, INTRUDERS_PASSWORD).await.is(NO_CODE_REQUESTED);
    assert_eq!(service.stored_user(user).await, before);
}

/// Asserts that a user gets a new code and resets the password with it.
async fn assert_recovers(service: &Service, user: &User) {
    let code = service.code_for(user).await;
    service.check_code(&user.username, &code).await.is(CODE_CORRECT);
    service.reset_password(&user.username, &code, "AnotherPassword1234!").await.is(CHANGED_PASSWORD);
}

/// Asserts that an action of an operator ends a live code.
async fn assert_ends_code(action: &str, fields: Value) {
    let service = Service::new();
    let user = service.user().create().await;
    let code = service.code_for(&user).await;
    service.check_code(&user.username, &code).await.is(CODE_CORRECT);

    let mut payload = fields;
    payload["action"] = json!(action);
    payload["username"] = json!(user.username);
    let answer = service.manage(&payload).await;
    assert_eq!(answer["ok"], true, "{answer}");

    assert_ended(&service, &user, &code).await;
    if payload["email_addresses"].is_null() {
        assert_recovers(&service, &user).await;
    }
}

#[tokio::test]
async fn an_operators_new_password_revokes_a_code() {
    assert_ends_code("set_password", json!({"password": NEW_PASSWORD})).await;
    assert_ends_code("set_password", json!({"password": NEW_PASSWORD, "must_change_password": true})).await;
}

#[tokio::test]
async fn revoking_all_sessions_revokes_a_code() {
    assert_ends_code("revoke_sessions", json!({})).await;
}

#[tokio::test]
async fn deactivation_revokes_a_code() {
    assert_ends_code("update", json!({"activated": false})).await;
    let without_addresses = json!({"activated": false, "email_addresses": []});
    assert_ends_code("update", without_addresses).await;
}

#[tokio::test]
async fn other_addresses_revoke_a_code() {
    assert_ends_code("update", json!({"email_addresses": ["elsewhere@example.com"]})).await;
    assert_ends_code("update", json!({"email_addresses": []})).await;
}

#[tokio::test]
async fn adding_or_removing_an_address_revokes_a_code() {
    let service = Service::new();
    let user = service.user().create().await;
    let two = json!([user.email, format!("second.{}", user.email)]);

    let code = service.code_for(&user).await;
    service.update(&user, json!({"email_addresses": two})).await;
    assert_ended(&service, &user, &code).await;

    let code = service.code_for(&user).await;
    service.update(&user, json!({"email_addresses": [user.email]})).await;
    assert_ended(&service, &user, &code).await;
    assert_recovers(&service, &user).await;
}

#[tokio::test]
async fn a_change_by_the_signed_in_user_revokes_a_code() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    let code = service.code_for(&user).await;

    service.change_password(&token, PASSWORD, NEW_PASSWORD).await.is(NEW_PASSWORD_SET);

    assert_ended(&service, &user, &code).await;
    assert_recovers(&service, &user).await;
}

#[tokio::test]
async fn a_change_by_the_original_clients_revokes_a_code() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    let code = service.code_for(&user).await;

    assert_eq!(service.change_my_password(&token, PASSWORD, NEW_PASSWORD).await.status, 200);

    assert_ended(&service, &user, &code).await;
    assert_recovers(&service, &user).await;
}

#[tokio::test]
async fn a_forced_change_revokes_a_code() {
    let service = Service::new();
    let user = service.user().due_a_password_change().create().await;
    let code = service.code_for(&user).await;

    service.change_password_after_signin(&user.username, PASSWORD, NEW_PASSWORD).await.token();

    assert_ended(&service, &user, &code).await;
    assert_recovers(&service, &user).await;
}

#[tokio::test]
async fn a_reset_revokes_its_own_code_and_earlier_ones() {
    let service = Service::new();
    let user = service.user().create().await;
    let replaced = service.code_for(&user).await;
    let code = service.code_for(&user).await;

    service.reset_password(&user.username, &code, NEW_PASSWORD).await.is(CHANGED_PASSWORD);

    assert_ended(&service, &user, &replaced).await;
    assert_ended(&service, &user, &code).await;
    assert_recovers(&service, &user).await;
}

#[tokio::test]
async fn a_code_without_tries_left_is_revoked_too() {
    let service = Service::new();
    let user = service.user().create().await;
    let code = service.code_for(&user).await;
    service.set_tries(&user, 12).await;

    service.manage_user("revoke_sessions", &user).await;

    assert_ended(&service, &user, &code).await;
}

#[tokio::test]
async fn unlock_does_not_restore_a_revoked_code() {
    let service = Service::new();
    let user = service.user().create().await;
    let code = service.code_for(&user).await;
    service.manage_user("revoke_sessions", &user).await;

    assert_eq!(service.manage_user("unlock", &user).await, json!({"ok": true}));

    assert_ended(&service, &user, &code).await;
}

#[tokio::test]
async fn restored_addresses_do_not_restore_a_revoked_code() {
    let service = Service::new();
    let user = service.user().create().await;
    let code = service.code_for(&user).await;

    service.update(&user, json!({"email_addresses": []})).await;
    service.update(&user, json!({"email_addresses": [user.email]})).await;
    service.update(&user, json!({"activated": true})).await;

    assert_ended(&service, &user, &code).await;
}

#[tokio::test]
async fn other_updates_do_not_revoke_a_code() {
    let service = Service::new();
    let user = service.user().not_activated().create().await;
    let second = format!("second.{}", user.email);
    service.update(&user, json!({"email_addresses": [user.email, second]})).await;
    let code = service.code_for(&user).await;

    for update in [
        json!({}),
        json!({"activated": true}),
        json!({"must_change_password": true}),
        json!({"must_change_password": false}),
        json!({"locale": "de"}),
        json!({"email_addresses": [user.email, second]}),
        json!({"email_addresses": [second, user.email]}),
        json!({"activated": true, "email_addresses": [user.email, second], "locale": "en"}),
    ] {
        let told = update.to_string();
        service.update(&user, update).await;
        let answer = service.check_code(&user.username, &code).await;
        assert_eq!((answer.status, answer.body.as_str()), CODE_CORRECT, "{told}");
    }
    // Neither does a sign-in.
    service.token_of(&user).await;
    service.reset_password(&user.username, &code, NEW_PASSWORD).await.is(CHANGED_PASSWORD);
}

#[tokio::test]
async fn safe_mode_says_that_a_revoked_code_is_incorrect() {
    let service = Service::with_settings([("PREVENT_USER_EXISTENCE_ERRORS", "true")]).await;
    let user = service.user().create().await;
    let code = service.code_for(&user).await;

    service.manage_user("revoke_sessions", &user).await;

    service.check_code(&user.username, &code).await.is(CODE_INCORRECT);
    service.reset_password(&user.username, &code, INTRUDERS_PASSWORD).await.is(CODE_INCORRECT);
    service.signin(&user.username, PASSWORD).await.token();
    assert_recovers(&service, &user).await;
}
