//! Passwords that are tried.

use std::time::Instant;

use futures_util::future::{join, join_all};

use crate::answers::{
    PASSWORD_CORRECT, PASSWORD_INCORRECT, RATE_LIMIT_EXCEEDED, TOO_MANY_ATTEMPTS,
    USERNAME_OR_PASSWORD_INCORRECT, change_password_errors,
};
use crate::helpers::{
    ApiResponse, MINUTE, NEW_PASSWORD, PASSWORD, Service, WRONG_PASSWORD, count, unknown_username,
};

#[tokio::test]
async fn all_endpoints_share_the_budget_of_wrong_passwords() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;

    let started = Instant::now();
    let answers = join_all((0..30).map(async |guess| match guess % 5 {
        0 => service.signin(&user.username, WRONG_PASSWORD).await,
        1 => service.change_password_after_signin(&user.username, WRONG_PASSWORD, NEW_PASSWORD).await,
        2 => service.change_password(&token, WRONG_PASSWORD, NEW_PASSWORD).await,
        3 => service.check_old_password(&token, WRONG_PASSWORD).await,
        _ => service.change_my_password(&token, WRONG_PASSWORD, NEW_PASSWORD).await,
    }))
    .await;
    let most = most_failures_within(started);

    let incorrect_password = change_password_errors(&[4]);
    let verified = |answer: &&ApiResponse| answer.body == incorrect_password;
    let of_the_profile = answers.iter().filter(verified).count();
    let others: Vec<ApiResponse> = answers.into_iter().filter(|answer| !verified(&answer)).collect();
    let incorrect = [USERNAME_OR_PASSWORD_INCORRECT, PASSWORD_INCORRECT];
    let [of_sign_in, of_settings, ..] =
        count(&others, [incorrect[0], incorrect[1], RATE_LIMIT_EXCEEDED, TOO_MANY_ATTEMPTS]);
    let verified = of_the_profile + of_sign_in + of_settings;
    assert!((10..=most).contains(&verified), "{verified} passwords were verified");
    assert_eq!(service.failures(&user.username).await, verified);
}

#[tokio::test]
async fn unknown_users_have_the_same_budget_of_wrong_passwords() {
    let service = Service::new();
    let unknown = unknown_username();

    let started = Instant::now();
    let answers = join_all((0..30).map(async |_| service.signin(&unknown, WRONG_PASSWORD).await)).await;
    let most = most_failures_within(started);

    let [verified, _] = count(&answers, [USERNAME_OR_PASSWORD_INCORRECT, RATE_LIMIT_EXCEEDED]);
    assert!((10..=most).contains(&verified), "{verified} passwords were verified");
}

#[tokio::test]
async fn forty_right_passwords_at_once_all_sign_in() {
    let service = Service::new();
    let user = service.user().create().await;

    let answers = join_all((0..40).map(async |_| service.signin(&user.username, PASSWORD).await)).await;

    for answer in answers {
        assert!(service.takes(&answer.token()).await);
    }
}

#[tokio::test]
async fn right_passwords_from_twelve_networks_at_once_all_sign_in() {
    let service = Service::new();
    let user = service.user().create().await;
    let clients: Vec<Service> = (0..12).map(|_| service.seen_from_elsewhere()).collect();

    let answers =
        join_all(clients.iter().map(async |client| client.signin(&user.username, PASSWORD).await)).await;

    for answer in answers {
        answer.token();
    }
    let stored = service.stored_user(&user).await;
    assert!(service.address.is_none() || stored["networks"].as_l().unwrap().len() == 5);
}

#[tokio::test]
async fn two_hundred_wrong_passwords_reveal_ten_outcomes() {
    let service = Service::new();
    let user = service.user().create().await;
    // One address alone would reach its own limit.
    let clients = [service.clone(), service.seen_from_elsewhere(), service.seen_from_elsewhere()];

    let started = Instant::now();
    let answers = join_all(
        (0..200).map(async |guess: usize| clients[guess % 3].signin(&user.username, WRONG_PASSWORD).await),
    )
    .await;
    let most = most_failures_within(started);

    let [revealed, _] = count(&answers, [USERNAME_OR_PASSWORD_INCORRECT, RATE_LIMIT_EXCEEDED]);
    assert!((10..=most).contains(&revealed), "{revealed} outcomes were revealed");
    assert_eq!(service.failures_of_both(&user.username).await, revealed);
}

#[tokio::test]
async fn after_nine_failures_two_hundred_wrong_passwords_reveal_one_outcome() {
    let service = Service::new();
    let user = service.user().create().await;
    let unknown = unknown_username();
    for username in [&user.username, &unknown] {
        service.set_failures(username, 9, MINUTE).await;
        let clients = [service.seen_from_elsewhere(), service.seen_from_elsewhere()];

        let started = Instant::now();
        let answers = join_all((0..200).map(async |guess: usize| match guess % 4 {
            0 => {
                clients[guess % 2].change_password_after_signin(username, WRONG_PASSWORD, NEW_PASSWORD).await
            }
            _ => clients[guess % 2].signin(username, WRONG_PASSWORD).await,
        }))
        .await;
        let most = most_failures_within(started) - 9;

        let [revealed, _] = count(&answers, [USERNAME_OR_PASSWORD_INCORRECT, RATE_LIMIT_EXCEEDED]);
        assert!((1..=most).contains(&revealed), "{revealed} outcomes were revealed");
        assert_eq!(service.failures_of_both(username).await, 9 + revealed);
    }
}

#[tokio::test]
async fn right_and_wrong_passwords_from_two_networks_are_counted_separately() {
    let service = Service::new();
    if service.address.is_none() {
        return;
    }
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    let stranger = service.seen_from_elsewhere();
    stranger.set_failures(&user.username, 8, MINUTE).await;

    let started = Instant::now();
    // Too few wrong passwords for a wait, even if no right one comes in between.
    let owner = join_all((0..29).map(async |attempt: usize| match attempt % 3 {
        0 if attempt < 27 => service.signin(&user.username, WRONG_PASSWORD).await,
        1 => service.check_old_password(&token, PASSWORD).await,
        _ => service.signin(&user.username, PASSWORD).await,
    }));
    let guesses = join_all((0..60).map(async |_| stranger.signin(&user.username, WRONG_PASSWORD).await));
    let (owner, guesses) = join(owner, guesses).await;
    let most = most_failures_within(started) - 8;

    let (signed_in, others): (Vec<ApiResponse>, Vec<ApiResponse>) =
        owner.into_iter().partition(|answer| answer.json()["token"].is_string());
    assert_eq!(signed_in.len(), 10);
    assert_eq!(count(&others, [USERNAME_OR_PASSWORD_INCORRECT, PASSWORD_CORRECT]), [9, 10]);
    let [revealed, _] = count(&guesses, [USERNAME_OR_PASSWORD_INCORRECT, RATE_LIMIT_EXCEEDED]);
    assert!((2..=most).contains(&revealed), "{revealed} outcomes were revealed");
    assert_eq!(stranger.failures(&user.username).await, 8 + revealed);
    assert!(service.failures(&user.username).await <= 9);
}

#[tokio::test]
async fn strangers_guesses_do_not_block_sign_ins_from_a_known_network() {
    let service = Service::new();
    let Some((user, stranger)) = service.owner_and_stranger().await else { return };

    let started = Instant::now();
    let (signed_in, guesses) = join(
        join_all((0..20).map(async |_| service.signin(&user.username, PASSWORD).await)),
        join_all((0..40).map(async |_| stranger.signin(&user.username, WRONG_PASSWORD).await)),
    )
    .await;
    let most = most_failures_within(started);

    for answer in signed_in {
        answer.token();
    }
    let [revealed, _] = count(&guesses, [USERNAME_OR_PASSWORD_INCORRECT, RATE_LIMIT_EXCEEDED]);
    assert!((10..=most).contains(&revealed), "{revealed} outcomes were revealed");
    assert_eq!(stranger.failures(&user.username).await, revealed);
    assert_eq!(service.failures(&user.username).await, 0);
}

/// The failures that the budget allows since `started`: a wait of one second follows the tenth, of two seconds the
/// eleventh, and so on. It is ten unless the machine is very slow.
fn most_failures_within(started: Instant) -> usize {
    let seconds = started.elapsed().as_secs();
    10 + (seconds + 1).ilog2() as usize
}
