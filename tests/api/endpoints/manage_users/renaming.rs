//! Users that are renamed.

use serde_json::{Value, json};

use super::{assert_refused, user_of};
use crate::answers::{
    NO_CODE_REQUESTED, SESSION_TOKEN_INCORRECT, UNKNOWN_USERNAME, USERNAME_OR_PASSWORD_INCORRECT,
};
use crate::helpers::{NEW_PASSWORD, PASSWORD, Service, User, unknown_username};

#[tokio::test]
async fn a_renamed_user_keeps_everything_but_the_name() {
    let service = Service::new();
    let user =
        service.user().with("locale", "de-AT").with("created_at", "2020-06-11T17:48:13Z").create().await;
    let token = service.token_of(&user).await;
    assert_eq!(service.change_password(&token, PASSWORD, NEW_PASSWORD).await.status, 200);
    let before = user_of_with_locale(&service, &user).await;
    let new_name = format!("St.Huber-{}", unknown_username());

    let rename = json!({"action": "rename", "username": user.username, "new_username": new_name});
    let renamed = service.manage(&rename).await;

    let mut expected = before;
    expected["username"] = json!(new_name);
    assert_eq!(renamed, json!({"ok": true, "user": expected}));
    assert_refused(&service.manage_user("get", &user).await, "unknown_username");
    for get in [json!({"user_id": user.id}), json!({"username": new_name.to_lowercase()})] {
        let mut get = get;
        get["action"] = json!("get");
        assert_eq!(service.manage(&get).await["user"], expected, "{get}");
    }
    service.signin(&user.username, NEW_PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
    service.signin(&new_name, NEW_PASSWORD).await.token();
    // The old name is free, the id is not.
    let with_id = json!({"action": "create", "username": unknown_username(), "user_id": user.id});
    assert_refused(&service.manage(&with_id).await, "user_id_exists");
    service.user().with("username", user.username.clone()).create().await;
}

/// Returns the user with the optional locale.
async fn user_of_with_locale(service: &Service, user: &User) -> Value {
    service.manage_user("get", user).await["user"].clone()
}

#[tokio::test]
async fn a_rename_revokes_tokens_sessions_and_codes() {
    let service = Service::new();
    for display_only in [false, true] {
        let user = service.user().create().await;
        let new_name = if display_only { user.username.to_uppercase() } else { unknown_username() };
        let (token, session_token) = service.session_of(&user).await;
        let code = service.code_for(&user).await;

        let rename = json!({"action": "rename", "username": user.username, "new_username": new_name});
        assert_eq!(user_of(&service.manage(&rename).await)["username"], json!(new_name));

        assert!(!service.takes(&token).await);
        service.session_signin(&session_token).await.is(SESSION_TOKEN_INCORRECT);
        let old = if display_only { NO_CODE_REQUESTED } else { UNKNOWN_USERNAME };
        service.check_code(&user.username, &code).await.is(old);
        service.check_code(&new_name, &code).await.is(NO_CODE_REQUESTED);
        service.reset_password(&new_name, &code, NEW_PASSWORD).await.is(NO_CODE_REQUESTED);
        service.signin(&new_name, PASSWORD).await.token();

        // A later user of the old name cannot use the session or the code either.
        if !display_only {
            service.user().with("username", user.username.clone()).create().await;
            service.session_signin(&session_token).await.is(SESSION_TOKEN_INCORRECT);
            service.check_code(&user.username, &code).await.is(NO_CODE_REQUESTED);
        }
    }
}

#[tokio::test]
async fn a_rename_to_a_taken_name_is_refused() {
    let service = Service::new();
    let (user, other) = (service.user().create().await, service.user().create().await);
    let token = service.token_of(&user).await;

    let rename =
        json!({"action": "rename", "username": user.username, "new_username": other.username.to_uppercase()});
    assert_refused(&service.manage(&rename).await, "user_exists");

    assert!(service.takes(&token).await);
    service.token_of(&other).await;
    let by_id = service.manage(&json!({"action": "get", "user_id": user.id})).await;
    assert_eq!(by_id["user"]["username"], json!(user.username));
}

#[tokio::test]
async fn one_of_several_parallel_renames_to_the_same_name_succeeds() {
    let service = Service::new();
    let (mut users, new_name) = (Vec::new(), unknown_username());
    for _ in 0..8 {
        users.push(service.user().create().await);
    }
    let answers = futures_util::future::join_all(users.iter().map(async |user| {
        service
            .manage(&json!({"action": "rename", "username": user.username, "new_username": new_name}))
            .await
    }));
    let answers = answers.await;

    assert_eq!(answers.iter().filter(|answer| answer["ok"] == true).count(), 1, "{answers:?}");
    let winner =
        service.manage(&json!({"action": "get", "username": new_name})).await["user"]["user_id"].clone();
    for (user, answer) in users.iter().zip(&answers) {
        let by_id = service.manage(&json!({"action": "get", "user_id": user.id})).await;
        let expected = if winner == json!(user.id) { &new_name } else { &user.username };
        assert_eq!(by_id["user"]["username"], json!(expected));
        if winner != json!(user.id) {
            assert_refused(answer, "user_exists");
            service.token_of(user).await;
        }
    }
}

#[tokio::test]
async fn a_rename_does_not_lose_a_concurrent_update() {
    let service = Service::new();
    for _ in 0..10 {
        let user = service.user().create().await;
        let new_name = unknown_username();
        let rename = json!({"action": "rename", "username": user.username, "new_username": new_name});
        let update = json!({"action": "update", "username": user.username, "locale": "de-AT", "must_change_password": true});

        let (renamed, updated) = tokio::join!(service.manage(&rename), service.manage(&update));

        assert_eq!(renamed["ok"], true, "{renamed}");
        let now = service.manage(&json!({"action": "get", "user_id": user.id})).await["user"].clone();
        assert_eq!(now["username"], json!(new_name));
        let was_made = updated["ok"] == true;
        assert_eq!(
            (now["must_change_password"] == true, now["locale"] == "de-AT"),
            (was_made, was_made),
            "{updated}"
        );
        assert_refused(&service.manage_user("get", &user).await, "unknown_username");
    }
}
