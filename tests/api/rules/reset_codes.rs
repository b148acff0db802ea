//! The lifetime, the tries and the sends of reset codes.

use serde_json::json;

use crate::answers::{
    CHANGED_PASSWORD, CODE_CORRECT, CODE_INCORRECT, NO_CODE_REQUESTED, RATE_LIMIT_EXCEEDED, SENT,
    SERVICE_UNAVAILABLE, USERNAME_OR_PASSWORD_INCORRECT,
};
use crate::helpers::{
    HOUR, MINUTE, NEW_PASSWORD, PASSWORD, Service, User, WRONG_CODE, WRONG_PASSWORD, is_send, micros_now,
    unknown_username,
};

/// The tries that are answered `code_incorrect`.
const TRIES: usize = 12;

async fn use_up_tries(service: &Service, user: &User, tries: usize) {
    for _ in 0..tries {
        service.check_code(&user.username, WRONG_CODE).await.is(CODE_INCORRECT);
    }
}

#[tokio::test]
async fn a_code_is_valid_for_ten_minutes() {
    let service = Service::new();
    let user = service.user().create().await;

    let before = micros_now();
    service.send_email(&user.username).await.is(SENT);
    let after = micros_now();

    let code = service.stored_code(&user).await.unwrap();
    let expires_at: i64 = code["expires_at"].as_n().unwrap().parse().unwrap();
    let life = 600_000_000;
    assert!((before + life..=after + life).contains(&expires_at), "{before} {expires_at} {after}");
    // DynamoDB deletes expired items later.
    let ttl: i64 = code["ttl"].as_n().unwrap().parse().unwrap();
    assert!(ttl * 1_000_000 >= expires_at);
}

#[tokio::test]
async fn an_expired_code_is_rejected() {
    let service = Service::new();
    let user = service.user().create().await;
    let code = service.code_for(&user).await;
    service.expire_code(&user).await;

    for tries in [0, TRIES] {
        if tries > 0 {
            service.set_tries(&user, tries).await;
        }
        service.check_code(&user.username, &code).await.is(NO_CODE_REQUESTED);
        service.check_code(&user.username, WRONG_CODE).await.is(NO_CODE_REQUESTED);
        service.reset_password(&user.username, &code, NEW_PASSWORD).await.is(NO_CODE_REQUESTED);
    }
    service.signin(&user.username, PASSWORD).await.token();
}

#[tokio::test]
async fn a_used_code_is_rejected() {
    let service = Service::new();
    let user = service.user().create().await;
    let code = service.code_for(&user).await;
    service.reset_password(&user.username, &code, NEW_PASSWORD).await.is(CHANGED_PASSWORD);

    service.check_code(&user.username, &code).await.is(NO_CODE_REQUESTED);
    service.reset_password(&user.username, &code, PASSWORD).await.is(NO_CODE_REQUESTED);
    service.signin(&user.username, NEW_PASSWORD).await.token();
}

#[tokio::test]
async fn a_new_code_replaces_the_old() {
    let service = Service::new();
    let user = service.user().create().await;
    let old = service.code_for(&user).await;
    let mut new = service.code_for(&user).await;
    if new == old {
        new = service.code_for(&user).await;
    }

    service.check_code(&user.username, &old).await.is(CODE_INCORRECT);
    service.check_code(&user.username, &new).await.is(CODE_CORRECT);
}

#[tokio::test]
async fn after_twelve_wrong_tries_the_right_code_is_refused_too() {
    let service = Service::new();
    let user = service.user().create().await;
    let code = service.code_for(&user).await;
    use_up_tries(&service, &user, TRIES).await;

    service.check_code(&user.username, WRONG_CODE).await.is(RATE_LIMIT_EXCEEDED);
    service.check_code(&user.username, &code).await.is(RATE_LIMIT_EXCEEDED);
    service.reset_password(&user.username, &code, NEW_PASSWORD).await.is(RATE_LIMIT_EXCEEDED);
    service.signin(&user.username, PASSWORD).await.token();
}

#[tokio::test]
async fn known_and_other_networks_have_twelve_tries_each() {
    let service = Service::new();
    let Some((user, stranger)) = service.owner_and_stranger().await else { return };
    let code = service.code_for(&user).await;

    use_up_tries(&stranger, &user, TRIES).await;
    stranger.check_code(&user.username, &code).await.is(RATE_LIMIT_EXCEEDED);
    service.check_code(&user.username, &code).await.is(CODE_CORRECT);
    use_up_tries(&service, &user, TRIES).await;
    service.reset_password(&user.username, &code, NEW_PASSWORD).await.is(RATE_LIMIT_EXCEEDED);

    // A new code has all its tries in both.
    let code = service.code_for(&user).await;
    for client in [&service, &stranger] {
        use_up_tries(client, &user, TRIES - 1).await;
        client.check_code(&user.username, &code).await.is(CODE_CORRECT);
        use_up_tries(client, &user, 1).await;
        client.check_code(&user.username, &code).await.is(RATE_LIMIT_EXCEEDED);
    }
}

#[tokio::test]
async fn known_and_other_networks_have_five_sends_each() {
    let service = Service::new();
    let Some((user, stranger)) = service.owner_and_stranger().await else { return };

    for client in [&stranger, &service] {
        for _ in 0..5 {
            client.send_email(&user.username).await.is(SENT);
        }
        let seconds = client.send_email(&user.username).await.is_refused_for(RATE_LIMIT_EXCEEDED);
        assert!(seconds <= 3600, "{seconds} s");
    }
    assert_eq!(service.mails_to(&user.email).await.len(), 10);
    // Both have ten in a day.
    service.age_sends(&user, 2 * HOUR).await;
    for client in [&service, &stranger] {
        for _ in 0..5 {
            client.send_email(&user.username).await.is(SENT);
        }
    }
    service.age_sends(&user, 2 * HOUR).await;
    for client in [&service, &stranger] {
        client.send_email(&user.username).await.is_refused_for(RATE_LIMIT_EXCEEDED);
    }
}

/// A stranger uses up all budgets of other networks: ten wrong passwords, five requests for codes, twelve wrong codes.
#[tokio::test]
async fn strangers_cannot_block_recovery_from_a_known_network() {
    let service = Service::new();
    let Some((user, stranger)) = service.owner_and_stranger().await else { return };
    for _ in 0..10 {
        let failed = stranger.signin(&user.username, WRONG_PASSWORD).await;
        failed.is(USERNAME_OR_PASSWORD_INCORRECT);
    }
    for _ in 0..5 {
        stranger.send_email(&user.username).await.is(SENT);
    }
    use_up_tries(&stranger, &user, TRIES).await;
    let code = service.mails_to(&user.email).await.last().unwrap().code();
    stranger.send_email(&user.username).await.is_refused_for(RATE_LIMIT_EXCEEDED);
    stranger.check_code(&user.username, &code).await.is(RATE_LIMIT_EXCEEDED);
    stranger.reset_password(&user.username, &code, NEW_PASSWORD).await.is(RATE_LIMIT_EXCEEDED);

    service.signin(&user.username, PASSWORD).await.token();
    service.check_code(&user.username, &code).await.is(CODE_CORRECT);
    let code = service.code_for(&user).await;
    service.check_code(&user.username, &code).await.is(CODE_CORRECT);
    service.reset_password(&user.username, &code, NEW_PASSWORD).await.is(CHANGED_PASSWORD);
    service.signin(&user.username, NEW_PASSWORD).await.token();
}

#[tokio::test]
async fn check_and_reset_share_the_tries() {
    let service = Service::new();
    let user = service.user().create().await;
    let code = service.code_for(&user).await;
    for _ in 0..TRIES / 2 {
        service.check_code(&user.username, WRONG_CODE).await.is(CODE_INCORRECT);
        service.reset_password(&user.username, WRONG_CODE, NEW_PASSWORD).await.is(CODE_INCORRECT);
    }

    service.check_code(&user.username, &code).await.is(RATE_LIMIT_EXCEEDED);
    service.reset_password(&user.username, &code, NEW_PASSWORD).await.is(RATE_LIMIT_EXCEEDED);
}

#[tokio::test]
async fn a_try_with_the_right_code_is_released() {
    let service = Service::new();
    let user = service.user().create().await;
    let code = service.code_for(&user).await;
    use_up_tries(&service, &user, TRIES - 1).await;

    for _ in 0..3 {
        service.check_code(&user.username, &code).await.is(CODE_CORRECT);
    }
    service.reset_password(&user.username, &code, NEW_PASSWORD).await.is(CHANGED_PASSWORD);
}

#[tokio::test]
async fn an_invalid_new_password_uses_no_try() {
    let service = Service::new();
    let user = service.user().create().await;
    let code = service.code_for(&user).await;
    use_up_tries(&service, &user, TRIES - 1).await;

    for _ in 0..3 {
        assert_eq!(service.reset_password(&user.username, WRONG_CODE, "short").await.status, 422);
    }
    service.reset_password(&user.username, &code, NEW_PASSWORD).await.is(CHANGED_PASSWORD);
}

#[tokio::test]
async fn a_new_code_has_all_its_tries() {
    let service = Service::new();
    let user = service.user().create().await;
    service.code_for(&user).await;
    use_up_tries(&service, &user, TRIES).await;
    service.check_code(&user.username, WRONG_CODE).await.is(RATE_LIMIT_EXCEEDED);

    let code = service.code_for(&user).await;
    use_up_tries(&service, &user, TRIES - 1).await;
    service.check_code(&user.username, &code).await.is(CODE_CORRECT);
}

#[tokio::test]
async fn at_most_five_codes_are_sent_in_any_sixty_minutes() {
    let service = Service::new();
    let user = service.user().create().await;
    for _ in 0..5 {
        service.send_email(&user.username).await.is(SENT);
    }
    service.send_email(&user.username).await.is(RATE_LIMIT_EXCEEDED);

    service.age_sends(&user, 59 * MINUTE).await;
    service.send_email(&user.username).await.is(RATE_LIMIT_EXCEEDED);

    service.age_sends(&user, 2 * MINUTE).await;
    service.send_email(&user.username).await.is(SENT);
    assert_eq!(service.mails_to(&user.email).await.len(), 6);
}

#[tokio::test]
async fn at_most_ten_codes_are_sent_in_any_day() {
    let service = Service::new();
    let user = service.user().create().await;
    for _ in 0..2 {
        for _ in 0..5 {
            service.send_email(&user.username).await.is(SENT);
        }
        service.age_sends(&user, 2 * HOUR).await;
    }
    service.send_email(&user.username).await.is(RATE_LIMIT_EXCEEDED);

    // Now the first five were 24 hours and more ago, the other five less.
    service.age_sends(&user, 21 * HOUR).await;
    for _ in 0..5 {
        service.send_email(&user.username).await.is(SENT);
    }
    service.send_email(&user.username).await.is(RATE_LIMIT_EXCEEDED);
}

#[tokio::test]
async fn a_refused_send_does_not_change_the_last_code() {
    let service = Service::new();
    let user = service.user().create().await;
    for _ in 0..4 {
        service.send_email(&user.username).await.is(SENT);
    }
    let code = service.code_for(&user).await;
    use_up_tries(&service, &user, TRIES - 1).await;

    service.send_email(&user.username).await.is(RATE_LIMIT_EXCEEDED);

    service.check_code(&user.username, &code).await.is(CODE_CORRECT);
    use_up_tries(&service, &user, 1).await;
    service.check_code(&user.username, &code).await.is(RATE_LIMIT_EXCEEDED);
}

#[tokio::test]
async fn using_a_code_does_not_allow_more_sends() {
    let service = Service::new();
    let user = service.user().create().await;
    // The reset itself must not make the network known, which has a budget of its own.
    service.token_of(&user).await;
    for _ in 0..4 {
        service.send_email(&user.username).await.is(SENT);
    }
    let code = service.code_for(&user).await;
    service.reset_password(&user.username, &code, NEW_PASSWORD).await.is(CHANGED_PASSWORD);

    service.send_email(&user.username).await.is(RATE_LIMIT_EXCEEDED);
}

#[tokio::test]
async fn unlock_clears_the_tries_and_the_sends() {
    let service = Service::new();
    let user = service.user().create().await;
    for _ in 0..4 {
        service.send_email(&user.username).await.is(SENT);
    }
    let code = service.code_for(&user).await;
    use_up_tries(&service, &user, TRIES).await;
    service.check_code(&user.username, &code).await.is(RATE_LIMIT_EXCEEDED);
    service.send_email(&user.username).await.is(RATE_LIMIT_EXCEEDED);

    service.manage(&json!({"action": "unlock", "username": user.username})).await;

    use_up_tries(&service, &user, TRIES - 1).await;
    service.check_code(&user.username, &code).await.is(CODE_CORRECT);
    for _ in 0..5 {
        service.send_email(&user.username).await.is(SENT);
    }
    service.send_email(&user.username).await.is(RATE_LIMIT_EXCEEDED);
}

#[tokio::test]
async fn unlock_clears_the_tries_and_the_sends_of_both_budgets() {
    let service = Service::new();
    let Some((user, stranger)) = service.owner_and_stranger().await else { return };
    for client in [&service, &stranger] {
        for _ in 0..5 {
            client.send_email(&user.username).await.is(SENT);
        }
    }
    for client in [&service, &stranger] {
        use_up_tries(client, &user, TRIES).await;
        client.check_code(&user.username, WRONG_CODE).await.is(RATE_LIMIT_EXCEEDED);
        client.send_email(&user.username).await.is_refused_for(RATE_LIMIT_EXCEEDED);
    }

    service.manage_user("unlock", &user).await;

    assert_eq!(service.sends(&user).await, 0);
    for client in [&service, &stranger] {
        use_up_tries(client, &user, TRIES).await;
        client.check_code(&user.username, WRONG_CODE).await.is(RATE_LIMIT_EXCEEDED);
    }
    for client in [&service, &stranger] {
        client.send_email(&user.username).await.is(SENT);
    }
}

/// Sends are counted in full, and so are tries. There are twice as many as a code allows, because a refused mail leaves
/// the tries of two codes together.
#[tokio::test]
async fn the_largest_possible_code_costs_one_write_unit() {
    let service = Service::new();
    if service.address.is_none() {
        return;
    }
    let username = unknown_username();
    let username = format!("{username}{}", "😀".repeat(190 - username.len()));
    let user = service.user().with("username", username).create().await;
    service.token_of(&user).await;
    let stranger = service.seen_from_elsewhere();
    for _ in 0..2 {
        for client in [&service, &stranger] {
            for _ in 0..5 {
                client.send_email(&user.username).await.is(SENT);
            }
        }
        service.age_sends(&user, 2 * HOUR).await;
    }
    service.send_email(&user.username).await.is_refused_for(RATE_LIMIT_EXCEEDED);
    for client in [&service, &stranger] {
        use_up_tries(client, &user, TRIES).await;
    }
    service.double_tries(&user).await;

    assert_eq!(service.sends(&user).await, 20);
    assert_eq!((service.tries(&user).await, stranger.tries(&user).await), (2 * TRIES, 2 * TRIES));
    assert!((service.write_units_of_code(&user).await - 1.0).abs() < f64::EPSILON);
}

#[tokio::test]
async fn a_code_is_not_stored_in_clear() {
    let service = Service::new();
    let user = service.user().create().await;
    let code = service.code_for(&user).await;

    let item = service.stored_code(&user).await.unwrap();
    assert!(item["code_hash"].is_b());
    // Instants are numbers long enough to hold any six digits by chance.
    for text in item.values().filter_map(|value| value.as_s().ok()) {
        assert!(!text.contains(&code), "{item:?}");
    }
    let bytes = item["code_hash"].as_b().unwrap().as_ref();
    assert!(!bytes.windows(6).any(|window| window == code.as_bytes()), "{item:?}");
}

#[tokio::test]
async fn a_refused_mail_releases_the_send_and_restores_the_earlier_code() {
    let service = Service::new();
    let user = service.user().create().await;
    let code = service.code_for(&user).await;
    use_up_tries(&service, &user, TRIES - 1).await;
    let before = service.stored_code(&user).await.unwrap();

    service.make_unreachable(&user).await;
    for _ in 0..11 {
        service.send_email(&user.username).await.is_refused_for(SERVICE_UNAVAILABLE);
    }

    let mut after = service.stored_code(&user).await.unwrap();
    after.insert("ttl".to_owned(), before["ttl"].clone());
    assert_eq!(after, before);
    service.check_code(&user.username, &code).await.is(CODE_CORRECT);
    use_up_tries(&service, &user, 1).await;
    service.check_code(&user.username, &code).await.is(RATE_LIMIT_EXCEEDED);
    service.set_stored_addresses(&user, &[&user.email]).await;
    for _ in 0..4 {
        service.send_email(&user.username).await.is(SENT);
    }
    service.send_email(&user.username).await.is(RATE_LIMIT_EXCEEDED);
}

#[tokio::test]
async fn a_refused_mail_releases_the_send_in_its_own_budget() {
    let service = Service::new();
    let Some((user, stranger)) = service.owner_and_stranger().await else { return };
    for _ in 0..4 {
        service.send_email(&user.username).await.is(SENT);
        stranger.send_email(&user.username).await.is(SENT);
    }
    let code = service.mails_to(&user.email).await.last().unwrap().code();
    use_up_tries(&service, &user, TRIES - 1).await;
    use_up_tries(&stranger, &user, TRIES - 2).await;
    let before = service.stored_code(&user).await.unwrap();

    service.make_unreachable(&user).await;
    for _ in 0..6 {
        for client in [&service, &stranger] {
            client.send_email(&user.username).await.is_refused_for(SERVICE_UNAVAILABLE);
        }
    }

    let mut after = service.stored_code(&user).await.unwrap();
    after.insert("ttl".to_owned(), before["ttl"].clone());
    after.retain(|name, sent| !is_send(name) || sent.as_n().unwrap() != "0");
    let mut expected = before;
    expected.retain(|name, sent| !is_send(name) || sent.as_n().unwrap() != "0");
    assert_eq!(after, expected);
    for (client, tries) in [(&service, 1), (&stranger, 2)] {
        client.check_code(&user.username, &code).await.is(CODE_CORRECT);
        use_up_tries(client, &user, tries).await;
        client.check_code(&user.username, &code).await.is(RATE_LIMIT_EXCEEDED);
    }
    service.set_stored_addresses(&user, &[&user.email]).await;
    for client in [&service, &stranger] {
        client.send_email(&user.username).await.is(SENT);
        client.send_email(&user.username).await.is_refused_for(RATE_LIMIT_EXCEEDED);
    }
}

#[tokio::test]
async fn refused_mails_do_not_accumulate_tries() {
    let service = Service::new();
    let user = service.user().create().await;
    let code = service.code_for(&user).await;
    service.set_tries(&user, 2 * TRIES).await;
    service.make_unreachable(&user).await;

    service.send_email(&user.username).await.is_refused_for(SERVICE_UNAVAILABLE);

    assert_eq!(service.tries(&user).await, TRIES);
    service.check_code(&user.username, &code).await.is(RATE_LIMIT_EXCEEDED);
}

#[tokio::test]
async fn a_first_code_whose_mail_is_refused_is_removed() {
    let service = Service::new();
    let user = service.user().create().await;
    service.make_unreachable(&user).await;
    for _ in 0..6 {
        service.send_email(&user.username).await.is_refused_for(SERVICE_UNAVAILABLE);
        service.check_code(&user.username, WRONG_CODE).await.is(NO_CODE_REQUESTED);
    }
    assert_eq!(service.sends(&user).await, 0);
    let mut left = service.stored_code(&user).await.unwrap();
    left.retain(|name, _| !is_send(name));
    let mut left: Vec<_> = left.keys().map(String::as_str).collect();
    left.sort_unstable();
    assert_eq!(left, ["ttl", "username_hash"]);

    service.set_stored_addresses(&user, &[&user.email]).await;
    for _ in 0..5 {
        service.send_email(&user.username).await.is(SENT);
    }
    service.send_email(&user.username).await.is(RATE_LIMIT_EXCEEDED);
}
