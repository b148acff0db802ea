//! Reset codes: sends, tries and resets.

use futures_util::future::{join, join_all};
use serde_json::json;

use super::only_success;
use crate::answers::{
    CHANGED_PASSWORD, CODE_CORRECT, CODE_INCORRECT, NO_CODE_REQUESTED, RATE_LIMIT_EXCEEDED, SENT,
    SERVICE_UNAVAILABLE, USERNAME_OR_PASSWORD_INCORRECT,
};
use crate::helpers::{Mail, NEW_PASSWORD, PASSWORD, Service, WRONG_CODE, count, unknown_username};

#[tokio::test]
async fn two_hundred_wrong_codes_get_twelve_comparisons() {
    let service = Service::new();
    let user = service.user().create().await;
    let code = service.code_for(&user).await;

    let answers = join_all((0..200).map(async |guess| {
        if guess % 2 == 0 {
            service.check_code(&user.username, WRONG_CODE).await
        } else {
            service.reset_password(&user.username, WRONG_CODE, NEW_PASSWORD).await
        }
    }))
    .await;

    assert_eq!(count(&answers, [CODE_INCORRECT, RATE_LIMIT_EXCEEDED]), [12, 188]);
    service.check_code(&user.username, &code).await.is(RATE_LIMIT_EXCEEDED);
}

#[tokio::test]
async fn two_hundred_wrong_codes_get_twelve_comparisons_in_each_budget() {
    let service = Service::new();
    let Some((user, stranger)) = service.owner_and_stranger().await else { return };
    let code = service.code_for(&user).await;

    let guesses = |client: &Service| {
        let client = client.clone();
        let username = user.username.clone();
        join_all((0..100).map(move |guess| {
            let (client, username) = (client.clone(), username.clone());
            async move {
                match guess % 5 {
                    0 => client.reset_password(&username, WRONG_CODE, NEW_PASSWORD).await,
                    _ => client.check_code(&username, WRONG_CODE).await,
                }
            }
        }))
    };
    let (known, other) = join(guesses(&service), guesses(&stranger)).await;

    for answers in [known, other] {
        assert_eq!(count(&answers, [CODE_INCORRECT, RATE_LIMIT_EXCEEDED]), [12, 88]);
    }
    for client in [service, stranger] {
        client.check_code(&user.username, &code).await.is(RATE_LIMIT_EXCEEDED);
    }
}

#[tokio::test]
async fn parallel_tries_with_the_right_code_are_all_released() {
    let service = Service::new();
    let user = service.user().create().await;
    let code = service.code_for(&user).await;

    let answers = join_all((0..12).map(async |_| service.check_code(&user.username, &code).await)).await;

    assert_eq!(count(&answers, [CODE_CORRECT]), [12]);
    for _ in 0..12 {
        service.check_code(&user.username, WRONG_CODE).await.is(CODE_INCORRECT);
    }
    service.check_code(&user.username, &code).await.is(RATE_LIMIT_EXCEEDED);
}

#[tokio::test]
async fn tries_with_the_right_code_are_released_in_their_own_budget() {
    let service = Service::new();
    let Some((user, stranger)) = service.owner_and_stranger().await else { return };
    let code = service.code_for(&user).await;
    let clients = [service, stranger];
    for (client, used) in clients.iter().zip([4, 7]) {
        client.set_tries(&user, used).await;
    }

    // No more parallel tries than are left.
    let checks = clients.iter().zip([8, 5]).map(async |(client, right)| {
        let answers =
            join_all((0..right).map(async |_| client.check_code(&user.username, &code).await)).await;
        assert_eq!(count(&answers, [CODE_CORRECT]), [right]);
    });
    join_all(checks).await;

    for (client, used) in clients.iter().zip([4, 7]) {
        assert_eq!(client.tries(&user).await, used);
    }
}

#[tokio::test]
async fn twenty_parallel_sends_make_five_mails_and_one_valid_code() {
    let service = Service::new();
    let user = service.user().create().await;

    let answers = join_all((0..20).map(async |_| service.send_email(&user.username).await)).await;

    assert_eq!(count(&answers, [SENT, RATE_LIMIT_EXCEEDED]), [5, 15]);
    let mails = service.mails_to(&user.email).await;
    assert_eq!(mails.len(), 5);
    let mut codes: Vec<String> = mails.iter().map(Mail::code).collect();
    codes.sort_unstable();
    codes.dedup();
    let answers =
        join_all(codes.iter().map(async |code| service.check_code(&user.username, code).await)).await;
    assert_eq!(count(&answers, [CODE_CORRECT, CODE_INCORRECT]), [1, codes.len() - 1]);
}

#[tokio::test]
async fn forty_parallel_sends_make_five_mails_in_each_budget_and_one_valid_code() {
    let service = Service::new();
    if service.address.is_none() {
        return;
    }
    let user = service.user().create().await;
    service.token_of(&user).await;
    let clients = [service.clone(), service.seen_from_elsewhere()];

    let sends = clients
        .iter()
        .map(async |client| join_all((0..20).map(async |_| client.send_email(&user.username).await)).await);
    for answers in join_all(sends).await {
        assert_eq!(count(&answers, [SENT, RATE_LIMIT_EXCEEDED]), [5, 15]);
    }

    let mut codes: Vec<String> = service.mails_to(&user.email).await.iter().map(Mail::code).collect();
    assert_eq!(codes.len(), 10);
    codes.sort_unstable();
    codes.dedup();
    let answers =
        join_all(codes.iter().map(async |code| service.check_code(&user.username, code).await)).await;
    assert_eq!(count(&answers, [CODE_CORRECT, CODE_INCORRECT]), [1, codes.len() - 1]);
}

#[tokio::test]
async fn refused_mails_give_no_additional_tries() {
    // The budgets of addresses would stop the guesses earlier.
    let service = Service::with_settings([("CODE_FAILURES_PER_IP", "0"), ("RESET_MAILS_PER_IP", "0")]).await;
    let user = service.user().create().await;
    service.token_of(&user).await;
    service.code_for(&user).await;
    service.make_unreachable(&user).await;
    let clients = [service.clone(), service.seen_from_elsewhere()];

    let clients = clients.iter().map(async |client| {
        let sends = join_all((0..60).map(async |_| client.send_email(&user.username).await));
        let guesses = join_all((0..200).map(async |_| client.check_code(&user.username, WRONG_CODE).await));
        join(sends, guesses).await
    });
    for (sends, guesses) in join_all(clients).await {
        count(&sends, [SERVICE_UNAVAILABLE, RATE_LIMIT_EXCEEDED]);
        let [compared, _] = count(&guesses, [CODE_INCORRECT, RATE_LIMIT_EXCEEDED]);
        // Each budget allows twelve tries of each code, and both together ten codes in an hour.
        assert!((12..=120).contains(&compared), "{compared}");
    }
}

#[tokio::test]
async fn twenty_resets_have_one_winner() {
    let service = Service::new();
    let user = service.user().create().await;
    let code = service.code_for(&user).await;
    let passwords: Vec<String> = (0..20).map(|number| format!("{NEW_PASSWORD}{number}")).collect();

    let answers = join_all(
        passwords.iter().map(async |password| service.reset_password(&user.username, &code, password).await),
    )
    .await;

    let [winners, ..] = count(&answers, [CHANGED_PASSWORD, NO_CODE_REQUESTED, RATE_LIMIT_EXCEEDED]);
    assert_eq!(winners, 1);
    let winner = only_success(&answers);
    service.signin(&user.username, &passwords[winner]).await.token();
    for loser in [(winner + 1) % 20, (winner + 10) % 20] {
        service.signin(&user.username, &passwords[loser]).await.is(USERNAME_OR_PASSWORD_INCORRECT);
    }
    service.signin(&user.username, PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
}

#[tokio::test]
async fn a_code_sent_during_a_deletion_does_not_work_for_a_new_user() {
    let service = Service::new();
    for _ in 0..10 {
        let user = service.user().create().await;

        let (_, deleted) =
            join(service.send_email(&user.username), service.manage_user("delete", &user)).await;

        assert_eq!(deleted, json!({"ok": true}));
        let namesake = service
            .user()
            .with("username", user.username)
            .with("email_addresses", vec![format!("{}@example.com", unknown_username())])
            .create()
            .await;
        for mail in service.mails_to(&user.email).await {
            let answer = service.check_code(&namesake.username, &mail.code()).await;
            count(&[answer], [NO_CODE_REQUESTED, CODE_INCORRECT]);
        }
    }
}
