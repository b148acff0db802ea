//! The budgets of wrong passwords: one per username, and a coarser one per source address.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use futures_util::future::join_all;
use serde_json::json;

use crate::answers::{
    CHANGE_PASSWORD, CHANGED_PASSWORD, CODE_CORRECT, CODE_INCORRECT, NEW_PASSWORD_SET, NOT_ACTIVATED,
    RATE_LIMIT_EXCEEDED, SENT, TOO_MANY_ATTEMPTS, UNKNOWN_USERNAME, USERNAME_OR_PASSWORD_INCORRECT,
    change_password_errors,
};
use crate::helpers::{
    ApiResponse, HOUR, MINUTE, NEW_PASSWORD, PASSWORD, SIGNIN, Service, User, WRONG_CODE, WRONG_PASSWORD,
    count, unknown_username,
};

/// The wait after the `failures`th failure in a row, in seconds.
fn wait(failures: u32) -> u64 {
    (1 << (failures - 10)).min(900)
}

#[tokio::test]
async fn the_wait_doubles_from_the_tenth_failure_to_fifteen_minutes() {
    let service = Service::new();
    let username = unknown_username();
    // Shorter waits could end before the request.
    for failures in [13, 14, 15, 16, 17, 18, 19, 20, 25, 60] {
        let passed = wait(failures) / 4;
        service.set_failures(&username, failures, Duration::from_secs(passed)).await;
        let seconds = service.signin(&username, PASSWORD).await.is_refused_for(RATE_LIMIT_EXCEEDED);
        let left = wait(failures) - passed;
        assert!(seconds <= left && seconds + 5 >= left, "{failures} failures: {seconds} s, not {left} s");
    }
    for failures in [10, 11, 12, 15, 20, 60] {
        let over = Duration::from_secs(wait(failures));
        service.set_failures(&username, failures, over).await;
        service.signin(&username, PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
    }
}

#[tokio::test]
async fn a_failure_after_a_wait_is_followed_by_a_longer_one() {
    let service = Service::new();
    let user = service.user().create().await;
    service.set_failures(&user.username, 15, MINUTE).await;

    service.signin(&user.username, WRONG_PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);

    let seconds = service.signin(&user.username, PASSWORD).await.is_refused_for(RATE_LIMIT_EXCEEDED);
    assert!(seconds > 32 && seconds <= 64, "{seconds} s");
}

#[tokio::test]
async fn the_tenth_failure_is_the_last_without_a_wait() {
    let service = Service::new();
    let user = service.user().create().await;
    service.set_failures(&user.username, 8, MINUTE / 60).await;

    service.signin(&user.username, WRONG_PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
    service.signin(&user.username, WRONG_PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);

    assert_eq!(service.failures(&user.username).await, 10);
}

#[tokio::test]
async fn refused_attempts_neither_count_nor_prolong_the_wait() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    service.set_failures(&user.username, 16, MINUTE / 2).await;
    let before = service.stored_failures(&user.username).await;

    for password in [PASSWORD, WRONG_PASSWORD] {
        service.signin(&user.username, password).await.is_refused_for(RATE_LIMIT_EXCEEDED);
        service
            .change_password_after_signin(&user.username, password, NEW_PASSWORD)
            .await
            .is_refused_for(RATE_LIMIT_EXCEEDED);
        service.change_password(&token, password, NEW_PASSWORD).await.is_refused_for(TOO_MANY_ATTEMPTS);
        service.check_old_password(&token, password).await.is_refused_for(RATE_LIMIT_EXCEEDED);
        let changed = service.change_my_password(&token, password, NEW_PASSWORD).await;
        changed.is_refused_for(RATE_LIMIT_EXCEEDED);
    }

    assert_eq!(service.stored_failures(&user.username).await, before);
}

#[tokio::test]
async fn known_and_unknown_users_wait_alike() {
    let service = Service::new();
    let user = service.user().create().await;
    for username in [user.username, unknown_username()] {
        service.set_failures(&username, 14, MINUTE).await;
        service.signin(&username, WRONG_PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
        let seconds = service.signin(&username, WRONG_PASSWORD).await.is_refused_for(RATE_LIMIT_EXCEEDED);
        assert!(seconds > 16 && seconds <= 32, "{username}: {seconds} s");
    }
}

#[tokio::test]
async fn known_and_unknown_users_cost_the_same_operations() {
    if !support::embedded() || std::env::var_os("DYNAMODB_URL").is_some() {
        return;
    }
    let service = Service::with_settings([]).await;
    let user = service.user().create().await;
    let faults = service.stack.as_ref().unwrap().faults();
    for (username, counted_in) in [(user.username.clone(), "users"), (unknown_username(), "attempts")] {
        faults.begin(None);
        service.signin(&username, WRONG_PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
        let expected = [
            "BatchGetItem".to_owned(),
            format!("UpdateItem {counted_in}"),
            "UpdateItem source-ips".to_owned(),
        ];
        assert_eq!(faults.end().await, expected);

        service.set_failures(&username, 20, MINUTE).await;
        faults.begin(None);
        service.signin(&username, PASSWORD).await.is_refused_for(RATE_LIMIT_EXCEEDED);
        assert_eq!(faults.end().await, ["BatchGetItem"]);
    }
    service.set_failures(&user.username, 0, MINUTE).await;
    faults.begin(None);
    service.signin(&user.username, PASSWORD).await.token();
    assert_eq!(faults.end().await, ["BatchGetItem", "UpdateItem users", "GetSecretValue jwt-secret"]);
}

#[tokio::test]
async fn an_unknown_username_is_not_stored_in_clear() {
    let service = Service::new();
    let typed = format!("password.{}", unknown_username());
    service.signin(&typed, WRONG_PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
    assert_eq!(service.failures(&typed).await, 1);
    let plain = service.item(&service.tables.attempts, "subject", &format!("username#{typed}")).await;
    assert!(plain.is_none());
}

#[tokio::test]
async fn strangers_cannot_lock_users_out_of_known_networks() {
    let service = Service::new();
    let Some((user, stranger)) = service.owner_and_stranger().await else { return };
    stranger.set_failures(&user.username, 20, MINUTE).await;
    stranger.signin(&user.username, PASSWORD).await.is_refused_for(RATE_LIMIT_EXCEEDED);

    service.signin(&user.username, PASSWORD).await.token();
    // The stranger's budget is still used up, and the owner has one to use up as well.
    stranger.signin(&user.username, PASSWORD).await.is_refused_for(RATE_LIMIT_EXCEEDED);
    service.set_failures(&user.username, 20, MINUTE).await;
    service.signin(&user.username, PASSWORD).await.is_refused_for(RATE_LIMIT_EXCEEDED);

    service.manage_user("unlock", &user).await;
    service.signin(&user.username, PASSWORD).await.token();
    stranger.signin(&user.username, PASSWORD).await.token();
}

#[tokio::test]
async fn a_password_change_keeps_only_the_network_that_it_came_from() {
    let service = Service::new();
    if service.address.is_none() {
        return;
    }
    let intruder = service.seen_from_elsewhere();
    let networks = async |user: &User| service.stored_user(user).await.get("networks").cloned();
    let network_of = |client: &Service| {
        let address = client.address.unwrap().to_string();
        AttributeValue::S(format!("{}.0/24", address.rsplit_once('.').unwrap().0))
    };
    for change in ["own", "reset", "set"] {
        let user = service.user().create().await;
        intruder.token_of(&user).await;
        let token = service.token_of(&user).await;
        let both = AttributeValue::L(vec![network_of(&service), network_of(&intruder)]);
        assert_eq!(networks(&user).await, Some(both));
        match change {
            "own" => service.change_password(&token, PASSWORD, NEW_PASSWORD).await.is(NEW_PASSWORD_SET),
            "reset" => {
                let code = service.code_for(&user).await;
                service.reset_password(&user.username, &code, NEW_PASSWORD).await.is(CHANGED_PASSWORD);
            }
            _ => {
                let set =
                    json!({"action": "set_password", "username": user.username, "password": NEW_PASSWORD});
                assert_eq!(service.manage(&set).await["ok"], true);
            }
        }
        let left = AttributeValue::L(vec![network_of(&service)]);
        assert_eq!(networks(&user).await, (change != "set").then_some(left), "{change}");
    }
}

#[tokio::test]
async fn the_failures_of_a_username_are_counted_in_its_normalised_form() {
    let service = Service::new();
    let user = service.user().create().await;
    service.set_failures(&user.username, 20, MINUTE).await;

    service.signin(&user.username.to_uppercase(), PASSWORD).await.is_refused_for(RATE_LIMIT_EXCEEDED);
}

#[tokio::test]
async fn failures_are_cleared_after_24_hours_without_another() {
    let service = Service::new();
    let user = service.user().create().await;

    service.set_failures(&user.username, 20, 24 * HOUR + MINUTE).await;
    service.signin(&user.username, WRONG_PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
    service.signin(&user.username, WRONG_PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);

    service.set_failures(&user.username, 20, 23 * HOUR).await;
    service.signin(&user.username, WRONG_PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
    service.signin(&user.username, PASSWORD).await.is_refused_for(RATE_LIMIT_EXCEEDED);
}

/// Asserts that the earlier failures are cleared: two more would otherwise be the tenth and the eleventh.
async fn assert_cleared(service: &Service, username: &str) {
    for _ in 0..2 {
        service.signin(username, WRONG_PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
    }
    assert_eq!(service.failures(username).await, 2);
}

#[tokio::test]
async fn the_right_password_clears_the_failures_even_of_a_refused_sign_in() {
    let service = Service::new();
    for (user, answer) in [
        (service.user(), None),
        (service.user().not_activated(), Some(NOT_ACTIVATED)),
        (service.user().due_a_password_change(), Some(CHANGE_PASSWORD)),
    ] {
        let user = user.create().await;
        service.set_failures(&user.username, 9, MINUTE).await;

        let signed_in = service.signin(&user.username, PASSWORD).await;
        match answer {
            Some(answer) => signed_in.is(answer),
            None => drop(signed_in.token()),
        }

        assert_cleared(&service, &user.username).await;
    }
}

#[tokio::test]
async fn a_forced_change_clears_the_failures() {
    let service = Service::new();
    let user = service.user().due_a_password_change().create().await;
    service.set_failures(&user.username, 9, MINUTE).await;

    service.change_password_after_signin(&user.username, PASSWORD, NEW_PASSWORD).await.token();

    assert_cleared(&service, &user.username).await;
}

#[tokio::test]
async fn the_right_old_password_clears_the_failures_even_of_a_refused_change() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;

    service.set_failures(&user.username, 9, MINUTE).await;
    service.change_password(&token, PASSWORD, "short").await.is((422, &change_password_errors(&[6])));
    assert_cleared(&service, &user.username).await;

    service.set_failures(&user.username, 9, MINUTE).await;
    service.change_password(&token, PASSWORD, NEW_PASSWORD).await.is(NEW_PASSWORD_SET);
    assert_cleared(&service, &user.username).await;
}

#[tokio::test]
async fn a_wrong_old_password_counts() {
    let service = Service::new();
    let user = service.user().due_a_password_change().create().await;
    let token = service.change_password_after_signin(&user.username, PASSWORD, NEW_PASSWORD).await.token();

    service.change_password(&token, WRONG_PASSWORD, PASSWORD).await.is((422, &change_password_errors(&[4])));
    service
        .change_password_after_signin(&user.username, WRONG_PASSWORD, NEW_PASSWORD)
        .await
        .is(USERNAME_OR_PASSWORD_INCORRECT);

    assert_eq!(service.failures(&user.username).await, 2);
}

#[tokio::test]
async fn an_unreadable_hash_or_row_counts_like_a_wrong_password() {
    let service = Service::with_settings([("SIGNIN_FAILURES_PER_IP", "30")]).await;
    let [unreadable, damaged] = [service.user().create().await, service.user().create().await];
    let token = service.token_of(&unreadable).await;
    service.set_stored_hash(&unreadable, "x").await;
    service.lose_attribute(&damaged, "email_addresses").await;

    for user in [&unreadable, &damaged] {
        let elsewhere = service.seen_from_elsewhere();
        for failures in 1..=10 {
            let answer = match failures % 3 {
                0 => elsewhere.signin(&user.username, PASSWORD).await,
                1 => elsewhere.signin(&user.username, WRONG_PASSWORD).await,
                _ => elsewhere.change_password_after_signin(&user.username, PASSWORD, NEW_PASSWORD).await,
            };
            assert_eq!(answer.status, 500, "{answer:?}");
            assert_eq!(elsewhere.failures(&user.username).await, failures);
            if service.address.is_some() {
                assert_eq!(elsewhere.failures_of_address().await as usize, failures);
            }
        }
        elsewhere.set_failures(&user.username, 20, MINUTE).await;
        for _ in 0..5 {
            elsewhere.signin(&user.username, PASSWORD).await.is_refused_for(RATE_LIMIT_EXCEEDED);
        }
    }
    service.set_failures(&unreadable.username, 20, MINUTE).await;
    service.change_password(&token, PASSWORD, NEW_PASSWORD).await.is_refused_for(TOO_MANY_ATTEMPTS);
    service.set_failures(&unreadable.username, 9, MINUTE).await;
    assert_eq!(service.change_password(&token, PASSWORD, NEW_PASSWORD).await.status, 500);
    assert_eq!(service.failures(&unreadable.username).await, 10);
}

#[tokio::test]
async fn a_reset_and_unlock_clear_the_failures() {
    let service = Service::new();

    let user = service.user().create().await;
    service.set_failures(&user.username, 20, MINUTE).await;
    let code = service.code_for(&user).await;
    assert_eq!(service.reset_password(&user.username, &code, NEW_PASSWORD).await.status, 200);
    assert_cleared(&service, &user.username).await;

    let user = service.user().create().await;
    service.set_failures(&user.username, 20, MINUTE).await;
    let answer = service.manage(&json!({"action": "unlock", "username": user.username})).await;
    assert_eq!(answer, json!({"ok": true}));
    assert_cleared(&service, &user.username).await;
}

#[tokio::test]
async fn invalid_fields_do_not_count_as_failures() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;

    let body = json!({"username": user.username, "password": WRONG_PASSWORD, "stay_logged_in": "yes"});
    assert_eq!(service.post_json(SIGNIN, &body).await.status, 422);
    let answer = service.change_password_after_signin(&user.username, WRONG_PASSWORD, "short").await;
    assert_eq!(answer.status, 422);
    assert!(service.takes(&token).await);

    assert_eq!(service.failures(&user.username).await, 0);
}

#[tokio::test]
async fn an_address_may_fail_a_hundred_times_in_fifteen_minutes() {
    let service = Service::new();
    if service.address.is_none() {
        return;
    }
    service.set_failures_of_address(99, 10 * MINUTE).await;
    service.signin(&unknown_username(), PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);

    let user = service.user().create().await;
    let refused = service.signin(&user.username, PASSWORD).await;
    let seconds = refused.is_refused_for(RATE_LIMIT_EXCEEDED);
    assert!(seconds <= 600 && seconds > 570, "{seconds} s");
    // A refused attempt uses nothing of the username's own budget.
    assert_eq!(service.failures(&user.username).await, 0);

    // Headers cannot claim another address, and another address is not refused.
    let request = service
        .request("POST", SIGNIN)
        .header("x-forwarded-for", "203.0.113.7")
        .header("forwarded", "for=203.0.113.7")
        .header("x-real-ip", "203.0.113.7")
        .json(&json!({"username": user.username, "password": PASSWORD}));
    ApiResponse::to(request).await.is_refused_for(RATE_LIMIT_EXCEEDED);
    let elsewhere = service.seen_from_elsewhere();
    elsewhere.signin(&user.username, PASSWORD).await.token();
    // A user who forgot the password is not refused either.
    service.send_email(&user.username).await.is(SENT);

    service.end_window_of_address().await;
    service.signin(&user.username, PASSWORD).await.token();
}

#[tokio::test]
async fn the_budget_of_an_address_is_exact_across_usernames_and_endpoints() {
    let service = Service::with_settings([("SIGNIN_FAILURES_PER_IP", "6")]).await;
    let user = service.user().create().await;
    let token = service.token_of(&user).await;

    let answers = join_all((0..30).map(async |guess| match guess % 2 {
        0 => service.signin(&unknown_username(), WRONG_PASSWORD).await,
        _ => service.change_password_after_signin(&unknown_username(), WRONG_PASSWORD, NEW_PASSWORD).await,
    }))
    .await;

    assert_eq!(count(&answers, [USERNAME_OR_PASSWORD_INCORRECT, RATE_LIMIT_EXCEEDED]), [6, 24]);
    service.change_password(&token, PASSWORD, NEW_PASSWORD).await.is_refused_for(TOO_MANY_ATTEMPTS);
    service.check_old_password(&token, PASSWORD).await.is_refused_for(RATE_LIMIT_EXCEEDED);
    service.change_my_password(&token, PASSWORD, NEW_PASSWORD).await.is_refused_for(RATE_LIMIT_EXCEEDED);
    let elsewhere = service.seen_from_elsewhere();
    elsewhere.change_password(&token, PASSWORD, NEW_PASSWORD).await.is(NEW_PASSWORD_SET);
}

#[tokio::test]
async fn right_passwords_do_not_use_the_budget_of_an_address() {
    let service = Service::with_settings([("SIGNIN_FAILURES_PER_IP", "2")]).await;
    let user = service.user().create().await;

    for _ in 0..4 {
        service.signin(&user.username, PASSWORD).await.token();
    }
    let inactive = service.user().not_activated().create().await;
    service.signin(&inactive.username, PASSWORD).await.is(NOT_ACTIVATED);

    service.signin(&user.username, WRONG_PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
    service.signin(&user.username, PASSWORD).await.token();
    service.signin(&user.username, WRONG_PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
    service.signin(&user.username, PASSWORD).await.is_refused_for(RATE_LIMIT_EXCEEDED);
}

#[tokio::test]
async fn the_budget_of_addresses_can_be_turned_off() {
    let service = Service::with_settings([("SIGNIN_FAILURES_PER_IP", "0")]).await;
    for _ in 0..3 {
        service.signin(&unknown_username(), PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
    }
    service.set_failures_of_address(1000, MINUTE).await;
    service.signin(&unknown_username(), PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
}

#[tokio::test]
async fn the_budget_of_wrong_codes_of_an_address_is_exact_across_usernames_and_endpoints() {
    let service = Service::with_settings([("CODE_FAILURES_PER_IP", "6")]).await;
    let user = service.user().create().await;
    let code = service.code_for(&user).await;

    let answers = join_all((0..30).map(async |guess| match guess % 3 {
        0 => service.check_code(&unknown_username(), WRONG_CODE).await,
        1 => service.reset_password(&user.username, WRONG_CODE, NEW_PASSWORD).await,
        _ => service.check_code(&user.username, WRONG_CODE).await,
    }))
    .await;

    let [unknown, incorrect, refused] =
        count(&answers, [UNKNOWN_USERNAME, CODE_INCORRECT, RATE_LIMIT_EXCEEDED]);
    assert_eq!((unknown + incorrect, refused), (6, 24));
    service.check_code(&unknown_username(), WRONG_CODE).await.is_refused_for(RATE_LIMIT_EXCEEDED);
    service.manage_user("unlock", &user).await;
    let elsewhere = service.seen_from_elsewhere();
    if service.address.is_some() {
        // Right codes count for nothing.
        for _ in 0..7 {
            elsewhere.check_code(&user.username, &code).await.is(CODE_CORRECT);
        }
    }
    service.check_code(&user.username, &code).await.is_refused_for(RATE_LIMIT_EXCEEDED);
}

#[tokio::test]
async fn every_request_for_a_code_counts_for_its_address() {
    let service = Service::with_settings([("RESET_MAILS_PER_IP", "6")]).await;

    let answers = join_all((0..20).map(async |_| service.send_email(&unknown_username()).await)).await;

    assert_eq!(count(&answers, [UNKNOWN_USERNAME, RATE_LIMIT_EXCEEDED]), [6, 14]);
    let user = service.user().create().await;
    service.send_email(&user.username).await.is_refused_for(RATE_LIMIT_EXCEEDED);
    service.seen_from_elsewhere().send_email(&user.username).await.is(SENT);
}
