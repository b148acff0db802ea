//! Users who are created, imported and deleted.

use futures_util::future::{join, join_all};
use serde_json::{Value, json};

use crate::helpers::{NEW_PASSWORD, OTHER_ARGON2_HASH, PASSWORD, PASSWORD_HASH, Service, unknown_username};

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
async fn concurrent_imports_create_every_user_once() {
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
async fn concurrent_changes_do_not_restore_a_deleted_user() {
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
