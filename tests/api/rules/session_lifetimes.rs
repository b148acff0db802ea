//! The end of sessions: by time, by a password change, with the user, and under parallel requests.

use futures_util::future::{join, join_all};
use serde_json::json;

use crate::answers::{
    CHANGED_PASSWORD, LOGGED_OUT, NEW_PASSWORD_SET, NO_CODE_REQUESTED, NO_SESSION_TO_LOG_OUT, NO_SESSIONS,
    SESSION_DELETED, SESSION_NOT_FOUND, SESSION_TOKEN_INCORRECT, TOKEN_INCORRECT, UNKNOWN_USERNAME,
    USERNAME_OR_PASSWORD_INCORRECT,
};
use crate::helpers::{DAY, NEW_PASSWORD, PASSWORD, SIGNIN, Service, User, count};

#[tokio::test]
async fn a_session_expires_after_thirty_idle_days() {
    let service = Service::new();
    let user = service.user().create().await;
    let (of_session, session_token) = service.session_of(&user).await;
    let token = service.token_of(&user).await;

    service.age_sessions(&user, 29 * DAY).await;
    assert!(service.takes(&of_session).await);
    assert_eq!(service.session_ids(&token).await.len(), 1);
    service.session_signin(&session_token).await.token_of_session();
    service.age_sessions(&user, 29 * DAY).await;
    service.session_signin(&session_token).await.token_of_session();

    service.age_sessions(&user, 30 * DAY).await;
    assert_ended(&service, &token, &session_token).await;
    service.sessions(&of_session).await.is(TOKEN_INCORRECT);
    assert!(!service.takes(&of_session).await);
}

#[tokio::test]
async fn a_session_expires_after_ninety_days_even_if_it_is_used() {
    let service = Service::new();
    let user = service.user().create().await;
    let (of_session, session_token) = service.session_of(&user).await;
    let token = service.token_of(&user).await;
    for _ in 0..3 {
        service.age_sessions(&user, 29 * DAY).await;
        service.session_signin(&session_token).await.token_of_session();
    }

    service.age_sessions(&user, 2 * DAY).await;
    service.session_signin(&session_token).await.token_of_session();
    assert!(service.takes(&of_session).await);
    service.age_sessions(&user, DAY).await;
    assert_ended(&service, &token, &session_token).await;
    service.sessions(&of_session).await.is(TOKEN_INCORRECT);
}

/// Asserts that the session is over for sign-in, list and log-out. The token must not belong to the session.
async fn assert_ended(service: &Service, token: &str, session_token: &str) {
    service.session_signin(session_token).await.is(SESSION_TOKEN_INCORRECT);
    service.sessions(token).await.is(NO_SESSIONS);
    service.log_out(token, session_token).await.is(NO_SESSION_TO_LOG_OUT);
}

/// Two sessions of a user, with a token and the session tokens.
async fn two_sessions(service: &Service, user: &User) -> (String, [String; 2]) {
    let (_, first) = service.session_of(user).await;
    let (token, second) = service.session_of(user).await;
    (token, [first, second])
}

async fn assert_revoked(service: &Service, session_tokens: &[String]) {
    for session_token in session_tokens {
        service.session_signin(session_token).await.is(SESSION_TOKEN_INCORRECT);
    }
}

#[tokio::test]
async fn a_password_change_ends_every_session() {
    let service = Service::new();
    let user = service.user().create().await;
    let (token, session_tokens) = two_sessions(&service, &user).await;
    let ids = service.session_ids(&token).await;

    service.change_password(&token, PASSWORD, NEW_PASSWORD).await.is(NEW_PASSWORD_SET);

    assert_revoked(&service, &session_tokens).await;
    // The token that made the change is kept, and finds none of them.
    assert_ended(&service, &token, &session_tokens[0]).await;
    service.delete_session(&token, &ids[1]).await.is(SESSION_NOT_FOUND);
}

#[tokio::test]
async fn a_forced_change_ends_every_session_but_its_own() {
    let service = Service::new();
    let user = service.user().create().await;
    let (old_token, session_tokens) = two_sessions(&service, &user).await;
    service.update(&user, json!({"must_change_password": true})).await;

    let (token, session_token) = service.session_of_forced_change(&user).await;

    assert_revoked(&service, &session_tokens).await;
    service.sessions(&old_token).await.is(TOKEN_INCORRECT);
    service.session_signin(&session_token).await.token_of_session();
    assert_eq!(service.session_ids(&token).await.len(), 1);
}

#[tokio::test]
async fn a_reset_ends_every_session() {
    let service = Service::new();
    let user = service.user().create().await;
    let (token, session_tokens) = two_sessions(&service, &user).await;

    let code = service.code_for(&user).await;
    service.session_signin(&session_tokens[0]).await.token_of_session();
    service.reset_password(&user.username, &code, NEW_PASSWORD).await.is(CHANGED_PASSWORD);

    assert_revoked(&service, &session_tokens).await;
    service.sessions(&token).await.is(TOKEN_INCORRECT);
    let token = service.signin(&user.username, NEW_PASSWORD).await.token();
    assert_ended(&service, &token, &session_tokens[1]).await;
}

#[tokio::test]
async fn an_operator_ends_every_session() {
    let service = Service::new();
    for action in [
        json!({"action": "set_password", "password": PASSWORD}),
        json!({"action": "revoke_sessions"}),
        json!({"action": "update", "activated": false}),
    ] {
        let user = service.user().create().await;
        let (token, session_tokens) = two_sessions(&service, &user).await;
        let mut command = action;
        command["username"] = json!(user.username);

        assert_eq!(service.manage(&command).await["ok"], true, "{command}");

        assert_revoked(&service, &session_tokens).await;
        service.sessions(&token).await.is(TOKEN_INCORRECT);
        assert!(!service.takes(&token).await, "{command}");
        // Activation allows new sign-ins, but restores no session.
        service.update(&user, json!({"activated": true})).await;
        assert_revoked(&service, &session_tokens).await;
        service.sessions(&token).await.is(TOKEN_INCORRECT);
        let token = service.token_of(&user).await;
        assert_ended(&service, &token, &session_tokens[0]).await;
    }
}

#[tokio::test]
async fn revoking_keeps_the_password_and_allows_new_sessions() {
    let service = Service::new();
    let user = service.user().create().await;
    let kept = service.token_of(&user).await;
    service.change_password(&kept, PASSWORD, NEW_PASSWORD).await.is(NEW_PASSWORD_SET);
    service.change_password(&kept, NEW_PASSWORD, PASSWORD).await.is(NEW_PASSWORD_SET);
    let mails = service.mails_to(&user.email).await.len();

    assert_eq!(service.manage_user("revoke_sessions", &user).await, json!({"ok": true}));

    assert!(!service.takes(&kept).await);
    let (token, session_token) = service.session_of(&user).await;
    service.session_signin(&session_token).await.token_of_session();
    assert!(service.takes(&token).await);
    assert_eq!(service.mails_to(&user.email).await.len(), mails, "no password was changed");
}

#[tokio::test]
async fn a_session_is_suspended_while_a_password_change_is_pending() {
    let service = Service::new();
    let user = service.user().create().await;
    let (_, session_token) = service.session_of(&user).await;

    service.update(&user, json!({"must_change_password": true})).await;
    service.session_signin(&session_token).await.is(SESSION_TOKEN_INCORRECT);

    service.update(&user, json!({"must_change_password": false})).await;
    service.session_signin(&session_token).await.token_of_session();
}

#[tokio::test]
async fn other_updates_end_no_session() {
    let service = Service::new();
    let user = service.user().create().await;
    let (_, session_token) = service.session_of(&user).await;

    for update in [
        json!({"activated": true}),
        json!({"email_addresses": ["elsewhere@example.com"]}),
        json!({"locale": "de"}),
    ] {
        service.update(&user, update).await;
        service.session_signin(&session_token).await.token_of_session();
    }
    assert_eq!(service.manage_user("unlock", &user).await, json!({"ok": true}));
    service.session_signin(&session_token).await.token_of_session();
}

#[tokio::test]
async fn a_new_user_with_a_deleted_username_inherits_nothing() {
    let service = Service::new();
    let user = service.user().create().await;
    let (token, session_token) = service.session_of(&user).await;
    let kept = service.token_of(&user).await;
    service.change_password(&kept, PASSWORD, NEW_PASSWORD).await.is(NEW_PASSWORD_SET);
    service.change_password(&kept, NEW_PASSWORD, PASSWORD).await.is(NEW_PASSWORD_SET);
    let (later, later_session) = service.session_of(&user).await;
    let code = service.code_for(&user).await;
    let owner = service.stored_user(&user).await["session_owner"].clone();

    assert_eq!(service.manage_user("delete", &user).await, json!({"ok": true}));

    assert_eq!(service.session_rows(owner).await, []);

    let assert_dead = async || {
        for token in [&token, &kept, &later] {
            assert!(!service.takes(token).await);
            service.sessions(token).await.is(TOKEN_INCORRECT);
        }
        assert_revoked(&service, &[session_token.clone(), later_session.clone()]).await;
    };
    assert_dead().await;
    service.signin(&user.username, PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
    service.check_code(&user.username, &code).await.is(UNKNOWN_USERNAME);
    service.send_email(&user.username).await.is(UNKNOWN_USERNAME);

    let namesake = service
        .user()
        .with("username", user.username.clone())
        .with("user_id", user.id.clone())
        .create()
        .await;
    assert_eq!(namesake.id, user.id);
    assert_dead().await;
    service.check_code(&namesake.username, &code).await.is(NO_CODE_REQUESTED);
    service.reset_password(&namesake.username, &code, NEW_PASSWORD).await.is(NO_CODE_REQUESTED);
    let token = service.token_of(&namesake).await;
    assert_ended(&service, &token, &session_token).await;
}

#[tokio::test]
async fn a_session_used_during_a_reset_leaves_no_valid_token() {
    let service = Service::new();
    for _ in 0..3 {
        let user = service.user().create().await;
        let (_, session_token) = service.session_of(&user).await;
        let code = service.code_for(&user).await;

        let (signed_in, reset) = join(
            join_all((0..12).map(async |_| service.session_signin(&session_token).await)),
            service.reset_password(&user.username, &code, NEW_PASSWORD),
        )
        .await;

        reset.is(CHANGED_PASSWORD);
        for answer in signed_in {
            match answer.status {
                202 => assert!(!service.takes(&answer.token_of_session()).await),
                _ => answer.is(SESSION_TOKEN_INCORRECT),
            }
        }
        assert_revoked(&service, &[session_token]).await;
    }
}

#[tokio::test]
async fn a_session_started_during_a_password_change_is_ended_by_it() {
    let service = Service::new();
    for _ in 0..3 {
        let user = service.user().create().await;
        let token = service.token_of(&user).await;
        let body = json!({"username": user.username, "password": PASSWORD, "stay_logged_in": true});

        let (begun, changed) = join(
            join_all((0..4).map(async |_| service.post_json(SIGNIN, &body).await)),
            service.change_password(&token, PASSWORD, NEW_PASSWORD),
        )
        .await;

        changed.is(NEW_PASSWORD_SET);
        for answer in begun {
            if answer.status == 200 {
                let (token, session_token) = answer.token_and_session_token();
                assert!(!service.takes(&token).await);
                service.session_signin(&session_token).await.is(SESSION_TOKEN_INCORRECT);
            } else {
                answer.is(USERNAME_OR_PASSWORD_INCORRECT);
            }
        }
        service.sessions(&token).await.is(NO_SESSIONS);
    }
}

#[tokio::test]
async fn a_session_is_ended_once() {
    let service = Service::new();
    let user = service.user().create().await;
    let (token, session_tokens) = two_sessions(&service, &user).await;
    let ids = service.session_ids(&token).await;

    let answers = join_all((0..10).map(async |_| service.log_out(&token, &session_tokens[0]).await)).await;
    assert_eq!(count(&answers, [LOGGED_OUT, NO_SESSION_TO_LOG_OUT]), [1, 9]);

    let token = service.token_of(&user).await;
    let answers = join_all((0..10).map(async |_| service.delete_session(&token, &ids[1]).await)).await;
    assert_eq!(count(&answers, [SESSION_DELETED, SESSION_NOT_FOUND]), [1, 9]);
}

#[tokio::test]
async fn a_session_used_while_it_is_ended_stays_ended() {
    let service = Service::new();
    for _ in 0..3 {
        let user = service.user().create().await;
        let (token, session_token) = service.session_of(&user).await;

        let (signed_in, ended) = join(
            join_all((0..8).map(async |_| service.session_signin(&session_token).await)),
            service.log_out(&token, &session_token),
        )
        .await;

        ended.is(LOGGED_OUT);
        for answer in signed_in {
            match answer.status {
                202 => assert!(!service.takes(&answer.token_of_session()).await),
                _ => answer.is(SESSION_TOKEN_INCORRECT),
            }
        }
        assert!(!service.takes(&token).await);
        assert_ended(&service, &service.token_of(&user).await, &session_token).await;
        assert!(service.stored_sessions(&user).await.is_empty());
    }
}

#[tokio::test]
async fn ending_a_session_revokes_only_its_own_tokens() {
    let service = Service::new();
    for ends_by_id in [true, false] {
        let user = service.user().create().await;
        let (first, session_token) = service.session_of(&user).await;
        let refreshed = service.session_signin(&session_token).await.token_of_session();
        let (other, _) = service.session_of(&user).await;
        let plain = service.token_of(&user).await;
        let [id, _] = &service.session_ids(&plain).await[..] else { panic!("not two sessions") };

        if ends_by_id {
            service.delete_session(&other, id).await.is(SESSION_DELETED);
        } else {
            service.log_out(&first, &session_token).await.is(LOGGED_OUT);
        }

        for token in [&first, &refreshed] {
            service.sessions(token).await.is(TOKEN_INCORRECT);
            service.log_out(token, &session_token).await.is(TOKEN_INCORRECT);
            assert!(!service.takes(token).await);
        }
        for token in [&other, &plain] {
            assert_eq!(service.session_ids(token).await.len(), 1);
            assert!(service.takes(token).await);
        }
    }
}

#[tokio::test]
async fn the_token_that_changed_the_password_survives_its_session() {
    let service = Service::new();
    let user = service.user().create().await;
    let (_, session_token) = service.session_of(&user).await;
    let maker = service.session_signin(&session_token).await.token_of_session();
    let sister = service.session_signin(&session_token).await.token_of_session();

    service.change_password(&maker, PASSWORD, NEW_PASSWORD).await.is(NEW_PASSWORD_SET);

    assert_ended(&service, &maker, &session_token).await;
    service.sessions(&sister).await.is(TOKEN_INCORRECT);
    service.change_password(&maker, NEW_PASSWORD, PASSWORD).await.is(NEW_PASSWORD_SET);
    assert!(service.takes(&maker).await);
    service.manage_user("revoke_sessions", &user).await;
    assert!(!service.takes(&maker).await);
}

#[tokio::test]
async fn beyond_a_hundred_sessions_the_least_recently_used_one_ends() {
    let service = Service::new();
    for oldest_is_used in [false, true] {
        let user = service.user().create().await;
        let (of_oldest, oldest) = service.session_of(&user).await;
        service.age_sessions(&user, DAY).await;
        let (_, latest) = service.session_of(&user).await;
        let added = service.fill_sessions(&user, 100).await;
        let token = service.token_of(&user).await;
        let ids = service.session_ids(&token).await;
        assert_eq!(ids.len(), 100);
        if oldest_is_used {
            service.session_signin(&oldest).await.token_of_session();
        }

        let (_, new) = service.session_of(&user).await;

        let ended = if oldest_is_used { added.last().unwrap().to_string() } else { ids[0].clone() };
        let left = service.session_ids(&token).await;
        let expected: Vec<_> = ids.into_iter().filter(|id| *id != ended).collect();
        let (kept, [_]) = left.split_at(99) else { panic!("{} sessions", left.len()) };
        assert_eq!(kept, expected);
        for session_token in [&latest, &new] {
            service.session_signin(session_token).await.token_of_session();
        }
        if oldest_is_used {
            service.session_signin(&oldest).await.token_of_session();
            assert!(service.takes(&of_oldest).await);
        } else {
            service.session_signin(&oldest).await.is(SESSION_TOKEN_INCORRECT);
            service.sessions(&of_oldest).await.is(TOKEN_INCORRECT);
        }
    }
}

/// Signs the user in so many times, all at once, and returns the session tokens.
async fn sessions_at_once(service: &Service, user: &User, count: usize) -> Vec<String> {
    let sessions = join_all((0..count).map(async |_| service.session_of(user).await)).await;
    sessions.into_iter().map(|(_, session_token)| session_token).collect()
}

#[tokio::test]
async fn a_hundred_and_twenty_parallel_sign_ins_leave_a_hundred_sessions() {
    let service = Service::new();
    let user = service.user().create().await;

    let session_tokens = sessions_at_once(&service, &user, 120).await;

    let token = service.token_of(&user).await;
    assert_eq!(service.session_ids(&token).await.len(), 100);
    let mut counts = [0; 2];
    for session_token in session_tokens {
        match service.session_signin(&session_token).await.status {
            202 => counts[0] += 1,
            400 => counts[1] += 1,
            status => panic!("{status}"),
        }
    }
    assert_eq!(counts, [100, 20]);
    assert_eq!(service.stored_user(&user).await["sessions_opened"].as_n().unwrap(), "100");
}

#[tokio::test]
async fn parallel_sign_ins_end_the_least_recently_used_sessions() {
    let service = Service::new();
    let user = service.user().create().await;
    service.session_of(&user).await;
    service.age_sessions(&user, DAY).await;
    let added = service.fill_sessions(&user, 100).await;

    let session_tokens = sessions_at_once(&service, &user, 30).await;

    for session_token in &session_tokens {
        service.session_signin(session_token).await.token_of_session();
    }
    let mut left = service.session_ids(&service.token_of(&user).await).await;
    assert_eq!(left.len(), 100);
    // The first session of all and the 69 that were used last of those that were added.
    left.retain(|id| added.iter().any(|added| added.to_string() == *id));
    left.sort_unstable();
    let mut expected: Vec<String> = added[..69].iter().map(ToString::to_string).collect();
    expected.sort_unstable();
    assert_eq!(left, expected);
}

#[tokio::test]
async fn ended_sessions_are_deleted_first() {
    let service = Service::new();
    let user = service.user().create().await;
    service.session_of(&user).await;
    service.fill_sessions(&user, 99).await;
    let token = service.token_of(&user).await;
    let ids = service.session_ids(&token).await;
    service.delete_session(&token, &ids[0]).await.is(SESSION_DELETED);

    service.session_of(&user).await;
    service.session_of(&user).await;

    // Of the 101 rows, one had ended.
    assert_eq!(service.session_ids(&token).await.len(), 100);
    let owner = service.stored_user(&user).await["session_owner"].clone();
    assert_eq!(service.session_rows(owner).await.len(), 100);
}

#[tokio::test]
async fn revoked_sessions_do_not_accumulate() {
    let service = Service::new();
    let user = service.user().create().await;
    service.session_of(&user).await;
    service.fill_sessions(&user, 100).await;
    let owner = service.stored_user(&user).await["session_owner"].clone();

    for _ in 0..3 {
        service.manage_user("revoke_sessions", &user).await;
        service.session_of(&user).await;
        assert_eq!(service.session_ids(&service.token_of(&user).await).await.len(), 1);
    }

    assert_eq!(service.session_rows(owner).await.len(), 100);
}
