//! The limit of ten changes of a password by its user in 24 hours.

use futures_util::future::join_all;
use serde_json::json;

use crate::answers::{
    CHANGED_PASSWORD, NEW_PASSWORD_SET, NO_PASSWORD_CHANGE_NEEDED, NOT_ACTIVATED, PASSWORD_CHANGED,
    PASSWORD_CORRECT, PASSWORD_INCORRECT, RATE_LIMIT_EXCEEDED, TOO_MANY_ATTEMPTS, UNAUTHORIZED,
    USERNAME_OR_PASSWORD_INCORRECT, change_password_errors,
};
use crate::helpers::{DAY, HOUR, MINUTE, NEW_PASSWORD, PASSWORD, Service, User, WRONG_PASSWORD};

/// Changes the password by [`PASSWORD`] and [`NEW_PASSWORD`] in turns; the last one is in force after an even number.
async fn change(service: &Service, token: &str, times: usize) {
    for (old, new) in [(PASSWORD, NEW_PASSWORD), (NEW_PASSWORD, PASSWORD)].into_iter().cycle().take(times) {
        service.change_password(token, old, new).await.is(NEW_PASSWORD_SET);
    }
}

/// A user with [`PASSWORD`] who has made ten changes, and a token.
async fn user_after_ten_changes(service: &Service) -> (User, String) {
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    change(service, &token, 10).await;
    (user, token)
}

#[tokio::test]
async fn at_most_ten_changes_are_made_in_any_24_hours() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    change(&service, &token, 4).await;
    service.age_changes(&user, 2 * HOUR).await;
    change(&service, &token, 4).await;
    service.change_my_password(&token, PASSWORD, NEW_PASSWORD).await.is(PASSWORD_CHANGED);
    service.change_my_password(&token, NEW_PASSWORD, PASSWORD).await.is(PASSWORD_CHANGED);

    let refused = service.change_my_password(&token, PASSWORD, NEW_PASSWORD).await;
    let wait = refused.is_refused_for(RATE_LIMIT_EXCEEDED);
    assert!((21 * 3600..=22 * 3600).contains(&wait), "{wait} s");
    let wait =
        service.change_password(&token, PASSWORD, NEW_PASSWORD).await.is_refused_for(TOO_MANY_ATTEMPTS);
    assert!((21 * 3600..=22 * 3600).contains(&wait), "{wait} s");
    assert_eq!(service.mails_to(&user.email).await.len(), 10);
    // A refused change counts for nothing, and changes nothing.
    service.token_of(&user).await;

    service.age_changes(&user, 22 * HOUR).await;
    change(&service, &token, 4).await;
    service.change_password(&token, PASSWORD, NEW_PASSWORD).await.is_refused_for(TOO_MANY_ATTEMPTS);
    service.age_changes(&user, DAY).await;
    change(&service, &token, 1).await;
}

#[tokio::test]
async fn all_endpoints_share_the_limit_of_ten_changes() {
    let service = Service::new();
    let user = service.user().create().await;
    let due = json!({"must_change_password": true});
    let mut passwords = (0..).map(|number| format!("{NEW_PASSWORD}{number}"));
    let mut old = PASSWORD.to_owned();
    for _ in 0..5 {
        let (first, second) = (passwords.next().unwrap(), passwords.next().unwrap());
        service.update(&user, due.clone()).await;
        let token = service.change_password_after_signin(&user.username, &old, &first).await.token();
        assert_eq!(service.change_my_password(&token, &first, &second).await.status, 200);
        old = second;
    }

    let token = service.signin(&user.username, &old).await.token();
    service.change_password(&token, &old, PASSWORD).await.is_refused_for(TOO_MANY_ATTEMPTS);
    service.change_my_password(&token, &old, PASSWORD).await.is_refused_for(RATE_LIMIT_EXCEEDED);
    service.update(&user, due).await;
    let refused = service.change_password_after_signin(&user.username, &old, PASSWORD).await;
    let wait = refused.is_refused_for(RATE_LIMIT_EXCEEDED);
    assert!((DAY.as_secs() - 600..=DAY.as_secs()).contains(&wait), "{wait} s");
    // The right password uses nothing of the budgets of wrong ones.
    assert_eq!(service.failures(&user.username).await, 0);
}

#[tokio::test]
async fn every_other_error_is_reported_before_the_limit_of_changes() {
    let service = Service::new();
    let (user, token) = user_after_ten_changes(&service).await;
    let post = async |old: &str, new: &str, check: &str| {
        let body = json!({"old_password": old, "new_password": new, "new_password_check": check});
        service.change_password_as(&format!("Bearer {token}"), &body).await
    };

    post(WRONG_PASSWORD, NEW_PASSWORD, NEW_PASSWORD).await.is((422, &change_password_errors(&[4])));
    post(PASSWORD, NEW_PASSWORD, "other").await.is((422, &change_password_errors(&[5])));
    post(PASSWORD, "short", "short").await.is((422, &change_password_errors(&[6])));
    post(PASSWORD, PASSWORD, PASSWORD).await.is((422, &change_password_errors(&[8])));
    service.change_password("none", PASSWORD, NEW_PASSWORD).await.is(UNAUTHORIZED);

    service.change_my_password(&token, WRONG_PASSWORD, NEW_PASSWORD).await.is(PASSWORD_INCORRECT);
    for refused in ["short", PASSWORD] {
        assert_eq!(service.change_my_password(&token, PASSWORD, refused).await.status, 422, "{refused}");
    }
    service.check_old_password(&token, PASSWORD).await.is(PASSWORD_CORRECT);

    let forced =
        async |old: &str| service.change_password_after_signin(&user.username, old, NEW_PASSWORD).await;
    forced(WRONG_PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
    forced(PASSWORD).await.is(NO_PASSWORD_CHANGE_NEEDED);
    service.update(&user, json!({"must_change_password": true})).await;
    forced(WRONG_PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
    forced(PASSWORD).await.is_refused_for(RATE_LIMIT_EXCEEDED);
    service.update(&user, json!({"activated": false})).await;
    forced(PASSWORD).await.is(NOT_ACTIVATED);
}

#[tokio::test]
async fn resets_and_an_operators_passwords_neither_count_nor_are_limited() {
    let service = Service::new();
    let user = service.user().create().await;
    let set = json!({"action": "set_password", "username": user.username, "password": PASSWORD});
    let reset = async || {
        let code = service.code_for(&user).await;
        service.reset_password(&user.username, &code, PASSWORD).await.is(CHANGED_PASSWORD);
    };
    for _ in 0..11 {
        assert_eq!(service.manage(&set).await["ok"], true);
    }
    reset().await;

    let token = service.token_of(&user).await;
    change(&service, &token, 10).await;
    service.change_password(&token, PASSWORD, NEW_PASSWORD).await.is_refused_for(TOO_MANY_ATTEMPTS);

    reset().await;
    assert_eq!(service.manage(&set).await["ok"], true);
    let token = service.token_of(&user).await;
    service.change_password(&token, PASSWORD, NEW_PASSWORD).await.is_refused_for(TOO_MANY_ATTEMPTS);
}

#[tokio::test]
async fn parallel_changes_do_not_exceed_the_limit() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    change(&service, &token, 8).await;
    service.age_changes(&user, MINUTE).await;

    // Each client retries until it has changed the password once, or is refused because of too many changes.
    let passwords: Vec<String> = (0..8).map(|number| format!("{NEW_PASSWORD}{number}")).collect();
    let made = join_all(passwords.iter().map(async |new| {
        loop {
            for old in [PASSWORD].into_iter().chain(passwords.iter().map(String::as_str)) {
                let answer = service.change_password(&token, old, new).await;
                match answer.status {
                    200 => return true,
                    429 if service.stored_changes(&user).await == 10 => return false,
                    _ => {}
                }
                service.manage_user("unlock", &user).await;
            }
        }
    }))
    .await;

    assert_eq!(made.iter().filter(|made| **made).count(), 2);
    assert_eq!(service.mails_to(&user.email).await.len(), 10);
}
