//! What holds when everything happens at the same time: exact counts and single winners.

use std::time::Instant;

use futures_util::future::{join, join_all};
use serde_json::{Value, json};

use crate::answers::{
    CHANGED_PASSWORD, CODE_CORRECT, CODE_INCORRECT, NEW_PASSWORD_SET, NO_CODE_REQUESTED,
    NO_PASSWORD_CHANGE_NEEDED, PASSWORD_CORRECT, PASSWORD_INCORRECT, RATE_LIMIT_EXCEEDED, SENT,
    SERVICE_UNAVAILABLE, TOO_MANY_ATTEMPTS, UNAUTHORIZED, USERNAME_OR_PASSWORD_INCORRECT,
    change_password_errors,
};
use crate::helpers::{
    Answer, MINUTE, Mail, NEW_PASSWORD, OTHER_ARGON2_HASH, PASSWORD, PASSWORD_HASH, Service, WRONG_CODE,
    WRONG_PASSWORD, count, unknown_username,
};

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
    if service.address.is_none() {
        return;
    }
    let user = service.user().create().await;
    service.token_of(&user).await;
    let stranger = service.seen_from_elsewhere();
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
async fn right_tries_at_the_same_time_are_all_given_back() {
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
async fn right_tries_are_given_back_in_their_own_budget() {
    let service = Service::new();
    if service.address.is_none() {
        return;
    }
    let user = service.user().create().await;
    service.token_of(&user).await;
    let stranger = service.seen_from_elsewhere();
    let code = service.code_for(&user).await;
    let clients = [service, stranger];
    for (client, used) in clients.iter().zip([4, 7]) {
        client.set_tries(&user, used).await;
    }

    // No more at once than tries are left.
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
async fn twenty_sends_are_five_mails_of_which_one_code_is_right() {
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
async fn forty_sends_are_five_mails_in_each_budget_of_which_one_code_is_right() {
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
async fn refused_mails_are_no_source_of_tries() {
    // The budgets of the addresses would end the guesses sooner.
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
async fn wrong_passwords_share_one_budget_wherever_they_are_tried() {
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
    let verified = |answer: &&Answer| answer.body == incorrect_password;
    let of_the_profile = answers.iter().filter(verified).count();
    let others: Vec<Answer> = answers.into_iter().filter(|answer| !verified(&answer)).collect();
    let incorrect = [USERNAME_OR_PASSWORD_INCORRECT, PASSWORD_INCORRECT];
    let [of_sign_in, of_settings, ..] =
        count(&others, [incorrect[0], incorrect[1], RATE_LIMIT_EXCEEDED, TOO_MANY_ATTEMPTS]);
    let verified = of_the_profile + of_sign_in + of_settings;
    assert!((10..=most).contains(&verified), "{verified} passwords were verified");
    assert_eq!(service.failures(&user.username).await, verified);
}

#[tokio::test]
async fn wrong_passwords_of_nobody_have_the_same_budget() {
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
    // More than one address may fail.
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
async fn right_and_wrong_passwords_from_two_networks_are_counted_apart() {
    let service = Service::new();
    if service.address.is_none() {
        return;
    }
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    let stranger = service.seen_from_elsewhere();
    stranger.set_failures(&user.username, 8, MINUTE).await;

    let started = Instant::now();
    // As many wrong passwords as make nobody wait, even if no right one comes between them.
    let owner = join_all((0..29).map(async |attempt: usize| match attempt % 3 {
        0 if attempt < 27 => service.signin(&user.username, WRONG_PASSWORD).await,
        1 => service.check_old_password(&token, PASSWORD).await,
        _ => service.signin(&user.username, PASSWORD).await,
    }));
    let guesses = join_all((0..60).map(async |_| stranger.signin(&user.username, WRONG_PASSWORD).await));
    let (owner, guesses) = join(owner, guesses).await;
    let most = most_failures_within(started) - 8;

    let (signed_in, others): (Vec<Answer>, Vec<Answer>) =
        owner.into_iter().partition(|answer| answer.json()["token"].is_string());
    assert_eq!(signed_in.len(), 10);
    assert_eq!(count(&others, [USERNAME_OR_PASSWORD_INCORRECT, PASSWORD_CORRECT]), [9, 10]);
    let [revealed, _] = count(&guesses, [USERNAME_OR_PASSWORD_INCORRECT, RATE_LIMIT_EXCEEDED]);
    assert!((2..=most).contains(&revealed), "{revealed} outcomes were revealed");
    assert_eq!(stranger.failures(&user.username).await, 8 + revealed);
    assert!(service.failures(&user.username).await <= 9);
}

#[tokio::test]
async fn strangers_guesses_hinder_no_sign_in_from_a_known_network() {
    let service = Service::new();
    if service.address.is_none() {
        return;
    }
    let user = service.user().create().await;
    service.token_of(&user).await;
    let stranger = service.seen_from_elsewhere();

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
async fn a_sign_in_that_overlaps_a_reset_leaves_no_token_of_the_old_password() {
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
async fn a_sign_in_that_hashes_anew_undoes_no_reset() {
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
async fn an_update_and_a_change_of_the_password_undo_nothing_of_each_other() {
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

#[tokio::test]
async fn one_of_several_users_gets_a_user_id() {
    let service = Service::new();
    let user_id = unknown_username();
    let usernames: Vec<String> = (0..10).map(|_| unknown_username()).collect();

    let answers = join_all(usernames.iter().map(async |username| {
        let create = json!({
            "action": "create",
            "username": username,
            "password_hash": PASSWORD_HASH,
            "user_id": user_id,
        });
        service.manage(&create).await["ok"] == true
    }))
    .await;

    assert_eq!(answers.iter().filter(|created| **created).count(), 1);
    for (username, created) in usernames.iter().zip(answers) {
        let get = json!({"action": "get", "username": username});
        assert_eq!(service.manage(&get).await["ok"], created);
    }
}

#[tokio::test]
async fn one_of_several_users_gets_a_username() {
    let service = Service::new();
    let username = unknown_username();

    let answers = join_all((0..20).map(async |number: usize| {
        let username = if number.is_multiple_of(2) { username.clone() } else { username.to_uppercase() };
        let hash = PASSWORD_HASH;
        service.manage(&json!({"action": "create", "username": username, "password_hash": hash})).await
    }))
    .await;

    assert_eq!(answers.iter().filter(|answer| answer["ok"] == true).count(), 1);
    assert_eq!(answers.iter().filter(|answer| answer["error_code"] == "user_exists").count(), 19);
}

#[tokio::test]
async fn imports_that_overlap_create_every_user_once() {
    let service = Service::new();
    let users: Vec<Value> =
        (0..20).map(|_| json!({"username": unknown_username(), "password_hash": PASSWORD_HASH})).collect();
    let import = json!({"action": "import", "users": users});

    let answers = join_all((0..3).map(async |_| service.manage(&import).await)).await;

    let created: u64 = answers.iter().map(|answer| answer["created"].as_u64().unwrap()).sum();
    let failed: Vec<&Value> =
        answers.iter().flat_map(|answer| answer["failed"].as_array().unwrap()).collect();
    assert_eq!((created, failed.len()), (20, 40));
    assert!(failed.iter().all(|failed| failed["error_code"] == "user_exists"), "{failed:?}");
}

#[tokio::test]
async fn a_user_is_deleted_once() {
    let service = Service::new();
    let user = service.user().create().await;

    let answers = join_all((0..10).map(async |_| service.manage_user("delete", &user).await)).await;

    let deleted = answers.iter().filter(|answer| answer["ok"] == true).count();
    let unknown = answers.iter().filter(|answer| answer["error_code"] == "unknown_username").count();
    assert_eq!((deleted, unknown), (1, 9), "{answers:?}");
}

#[tokio::test]
async fn what_overlaps_a_deletion_brings_nobody_back() {
    let service = Service::new();
    for _ in 0..5 {
        let user = service.user().with("password_hash", OTHER_ARGON2_HASH).create().await;
        let (token, session_token) = service.session_of(&user).await;
        let commands = [
            json!({"action": "update", "username": user.username, "activated": true}),
            json!({"action": "set_password", "username": user.username, "password": NEW_PASSWORD}),
            json!({"action": "revoke_sessions", "username": user.username}),
        ];

        let (_, (_, (_, deleted))) = join(
            join_all(commands.iter().map(|command| service.manage(command))),
            join(
                service.change_password(&token, PASSWORD, NEW_PASSWORD),
                join(service.session_signin(&session_token), service.manage_user("delete", &user)),
            ),
        )
        .await;

        assert_eq!(deleted, json!({"ok": true}));
        let get = service.manage_user("get", &user).await;
        assert_eq!(get["error_code"], "unknown_username", "{get}");
        service.user().with("username", user.username).with("user_id", user.id).create().await;
        assert!(!service.takes(&token).await);
    }
}

#[tokio::test]
async fn a_code_that_is_sent_while_its_user_is_deleted_is_not_the_namesakes() {
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

/// Which of the answers is the only 200.
#[track_caller]
fn only_success(answers: &[Answer]) -> usize {
    let winners: Vec<usize> = (0..answers.len()).filter(|&place| answers[place].status == 200).collect();
    let [winner] = winners[..] else { panic!("not one winner: {answers:?}") };
    winner
}

/// How many failures the budget allows in the time since then: the tenth is followed by a wait of one second,
/// the eleventh by two, and so on. It is ten unless this machine is very slow.
fn most_failures_within(started: Instant) -> usize {
    let seconds = started.elapsed().as_secs();
    10 + (seconds + 1).ilog2() as usize
}
