//! Changes of the password.

use futures_util::future::{join, join_all};
use serde_json::{Value, json};

use super::only_success;
use crate::answers::{
    CHANGED_PASSWORD, NEW_PASSWORD_SET, NO_PASSWORD_CHANGE_NEEDED, RATE_LIMIT_EXCEEDED, TOO_MANY_ATTEMPTS,
    UNAUTHORIZED, USERNAME_OR_PASSWORD_INCORRECT, change_password_errors,
};
use crate::helpers::{NEW_PASSWORD, OTHER_ARGON2_HASH, PASSWORD, Service, count};

#[tokio::test]
async fn one_of_several_forced_changes_succeeds() {
    let service = Service::new();
    let user = service.user().due_a_password_change().create().await;
    let passwords: Vec<String> = (0..8).map(|number| format!("{NEW_PASSWORD}{number}")).collect();

    let answers = join_all(passwords.iter().map(async |password| {
        service.change_password_after_signin(&user.username, PASSWORD, password).await
    }))
    .await;

    let winner = only_success(&answers);
    for (place, answer) in answers.iter().enumerate() {
        if place != winner {
            let losers = [USERNAME_OR_PASSWORD_INCORRECT, NO_PASSWORD_CHANGE_NEEDED, RATE_LIMIT_EXCEEDED];
            count(std::slice::from_ref(answer), losers);
        }
    }
    assert!(service.takes(&answers[winner].token()).await);
    // The losers' failures may have used the budget up.
    service.manage(&json!({"action": "unlock", "username": user.username})).await;
    service.signin(&user.username, &passwords[winner]).await.token();
    service.signin(&user.username, &passwords[(winner + 1) % 8]).await.is(USERNAME_OR_PASSWORD_INCORRECT);
}

#[tokio::test]
async fn one_of_several_changes_with_one_token_succeeds() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;

    one_change_succeeds(&service, &user.username, &[token.as_str(); 8]).await;
}

#[tokio::test]
async fn one_of_several_changes_with_several_tokens_succeeds() {
    let service = Service::new();
    let user = service.user().create().await;
    let tokens = join_all((0..8).map(async |_| service.token_of(&user).await)).await;
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();

    one_change_succeeds(&service, &user.username, &tokens).await;
}

async fn one_change_succeeds(service: &Service, username: &str, tokens: &[&str]) {
    let passwords: Vec<String> = (0..tokens.len()).map(|number| format!("{NEW_PASSWORD}{number}")).collect();

    let answers = join_all(
        tokens
            .iter()
            .zip(&passwords)
            .map(async |(token, password)| service.change_password(token, PASSWORD, password).await),
    )
    .await;

    let winner = only_success(&answers);
    answers[winner].is(NEW_PASSWORD_SET);
    let incorrect_password = change_password_errors(&[4]);
    for (place, answer) in answers.iter().enumerate() {
        let lost = answer.body == incorrect_password || answer.body == UNAUTHORIZED.1;
        assert!(place == winner || lost || answer.body == TOO_MANY_ATTEMPTS.1, "{answer:?}");
    }
    assert!(service.takes(tokens[winner]).await);
    service.manage(&json!({"action": "unlock", "username": username})).await;
    service.signin(username, &passwords[winner]).await.token();
}

#[tokio::test]
async fn a_sign_in_during_a_reset_leaves_no_valid_token() {
    let service = Service::new();
    for _ in 0..3 {
        let user = service.user().create().await;
        let code = service.code_for(&user).await;

        let (signed_in, reset) = join(
            join_all((0..6).map(async |_| service.signin(&user.username, PASSWORD).await)),
            service.reset_password(&user.username, &code, NEW_PASSWORD),
        )
        .await;

        reset.is(CHANGED_PASSWORD);
        for answer in signed_in {
            match answer.status {
                200 => assert!(!service.takes(&answer.token()).await),
                _ => answer.is(USERNAME_OR_PASSWORD_INCORRECT),
            }
        }
        service.signin(&user.username, NEW_PASSWORD).await.token();
    }
}

#[tokio::test]
async fn a_rehash_does_not_undo_a_concurrent_reset() {
    let service = Service::new();
    for _ in 0..5 {
        let user = service.user().with("password_hash", OTHER_ARGON2_HASH).create().await;
        let code = service.code_for(&user).await;

        let (_, reset) = join(
            join_all((0..4).map(async |_| service.signin(&user.username, PASSWORD).await)),
            service.reset_password(&user.username, &code, NEW_PASSWORD),
        )
        .await;

        reset.is(CHANGED_PASSWORD);
        service.signin(&user.username, NEW_PASSWORD).await.token();
        service.signin(&user.username, PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
    }
}

#[tokio::test]
async fn an_update_and_a_password_change_do_not_undo_each_other() {
    let service = Service::new();
    for _ in 0..3 {
        let user = service.user().create().await;
        let token = service.token_of(&user).await;
        let update = |field: &str, value: Value| {
            let mut update = json!({"action": "update", "username": user.username});
            update[field] = value;
            update
        };
        let addresses = json!(["elsewhere@example.com"]);
        let commands = [update("email_addresses", addresses.clone()), update("activated", json!(true))];

        let (updated, changed) = join(
            join_all(commands.iter().map(|update| service.manage(update))),
            service.change_password(&token, PASSWORD, NEW_PASSWORD),
        )
        .await;

        changed.is(NEW_PASSWORD_SET);
        assert!(updated.iter().all(|answer| answer["ok"] == true), "{updated:?}");
        let get = json!({"action": "get", "username": user.username});
        assert_eq!(service.manage(&get).await["user"]["email_addresses"], addresses);
        service.signin(&user.username, NEW_PASSWORD).await.token();
    }
}
