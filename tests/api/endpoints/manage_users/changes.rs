//! Users that are shown, changed and deleted.

use serde_json::{Value, json};

use super::{assert_invalid, assert_just_now, assert_refused, user_of};
use crate::answers::{CHANGE_PASSWORD, USERNAME_OR_PASSWORD_INCORRECT};
use crate::helpers::{NEW_PASSWORD, PASSWORD, PASSWORD_HASH, Service, WRONG_PASSWORD, unknown_username};

#[tokio::test]
async fn get_returns_the_user_without_a_hash() {
    let service = Service::new();
    let user = service.user().create().await;
    let get = json!({"action": "get", "username": user.username});

    let fresh = user_of(&service.manage(&get).await);
    assert_eq!(fresh["user_id"], json!(user.id));
    assert_eq!(fresh["email_addresses"], json!([user.email]));
    assert_eq!((&fresh["password_changed_at"], &fresh["last_signin_at"]), (&Value::Null, &Value::Null));

    service.signin(&user.username, WRONG_PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
    assert_eq!(user_of(&service.manage(&get).await), fresh);

    let token = service.token_of(&user).await;
    let signed_in = user_of(&service.manage(&get).await);
    assert_just_now(&signed_in["last_signin_at"]);
    assert_eq!(signed_in["password_changed_at"], Value::Null);

    assert_eq!(service.change_password(&token, PASSWORD, NEW_PASSWORD).await.status, 200);
    let changed = service.manage(&get).await;
    assert_just_now(&user_of(&changed)["password_changed_at"]);
    assert_eq!(user_of(&changed)["created_at"], fresh["created_at"]);
    assert!(!changed.to_string().contains("argon2"), "{changed}");
}

#[tokio::test]
async fn a_refused_sign_in_is_not_recorded() {
    let service = Service::new();
    let user = service.user().due_a_password_change().create().await;
    let get = json!({"action": "get", "username": user.username});

    service.signin(&user.username, PASSWORD).await.is(CHANGE_PASSWORD);
    assert_eq!(user_of(&service.manage(&get).await)["last_signin_at"], Value::Null);

    service.change_password_after_signin(&user.username, PASSWORD, NEW_PASSWORD).await.token();
    let user = user_of(&service.manage(&get).await);
    assert_just_now(&user["last_signin_at"]);
    assert_just_now(&user["password_changed_at"]);
    assert_eq!(user["must_change_password"], false);
}

#[tokio::test]
async fn update_changes_only_the_given_fields() {
    let service = Service::new();
    let user = service.user().create().await;
    let get = json!({"action": "get", "username": user.username});
    let mut expected = user_of(&service.manage(&get).await);

    for (field, value) in [
        ("must_change_password", json!(true)),
        ("email_addresses", json!(["elsewhere@example.com", "st.huber@example.org"])),
        ("activated", json!(false)),
        ("email_addresses", json!([])),
        ("activated", json!(true)),
        ("must_change_password", json!(false)),
    ] {
        let mut update = json!({"action": "update", "username": user.username});
        update[field] = value.clone();
        expected[field] = value;
        assert_eq!(user_of(&service.manage(&update).await), expected, "{update}");
        assert_eq!(user_of(&service.manage(&get).await), expected, "{update}");
    }
    service.token_of(&user).await;
}

#[tokio::test]
async fn update_validates_its_fields() {
    let service = Service::new();
    let user = service.user().create().await;
    let get = json!({"action": "get", "username": user.username});
    let before = user_of(&service.manage(&get).await);

    for (field, value) in [
        ("email_addresses", json!(["st.huber"])),
        ("email_addresses", json!("st.huber@example.com")),
        ("activated", json!("yes")),
        ("must_change_password", json!(1)),
    ] {
        let mut update = json!({"action": "update", "username": user.username});
        update[field] = value;
        assert_invalid(&service.manage(&update).await, field);
    }
    assert_eq!(user_of(&service.manage(&get).await), before);
}

#[tokio::test]
async fn set_password_replaces_the_password() {
    let service = Service::new();
    let user = service.user().create().await;

    let set = json!({"action": "set_password", "username": user.username, "password": NEW_PASSWORD});
    let answer = user_of(&service.manage(&set).await);

    assert_just_now(&answer["password_changed_at"]);
    assert_eq!(answer["must_change_password"], false);
    service.signin(&user.username, PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
    service.signin(&user.username, NEW_PASSWORD).await.token();
}

#[tokio::test]
async fn set_password_can_force_another_change() {
    let service = Service::new();
    let user = service.user().create().await;

    let set = json!({
        "action": "set_password",
        "username": user.username,
        "password": NEW_PASSWORD,
        "must_change_password": true,
    });
    assert_eq!(user_of(&service.manage(&set).await)["must_change_password"], true);

    service.signin(&user.username, NEW_PASSWORD).await.is(CHANGE_PASSWORD);
    service.change_password_after_signin(&user.username, NEW_PASSWORD, PASSWORD).await.token();
}

#[tokio::test]
async fn set_password_validates_the_password() {
    let service = Service::new();
    let user = service.user().create().await;
    for password in [json!(null), json!(""), json!("7 chars"), json!("x".repeat(257)), json!(12_345_678)] {
        let set = json!({"action": "set_password", "username": user.username, "password": password});
        assert_invalid(&service.manage(&set).await, "password");
    }
    service.token_of(&user).await;
}

#[tokio::test]
async fn a_deleted_user_is_unknown_and_the_name_and_id_are_free() {
    let service = Service::new();
    let user = service.user().create().await;

    assert_eq!(service.manage_user("delete", &user).await, json!({"ok": true}));

    assert_refused(&service.manage_user("get", &user).await, "unknown_username");
    assert_refused(&service.manage_user("delete", &user).await, "unknown_username");
    service.signin(&user.username, PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
    service.user().with("user_id", user.id.clone()).create().await;
    service.user().with("username", user.username.clone()).create().await;
}

#[tokio::test]
async fn a_locale_is_kept_and_shown_if_it_is_set() {
    let service = Service::new();
    let user = service.user().create().await;
    user_of(&service.manage_user("get", &user).await);

    for locale in ["de", "de-AT", "en", "zh-Hant-TW"] {
        let update = json!({"action": "update", "username": user.username, "locale": locale});
        assert_eq!(service.manage(&update).await["user"]["locale"], locale);
        assert_eq!(service.manage_user("get", &user).await["user"]["locale"], locale);
    }
    service.update(&user, json!({"activated": true})).await;
    assert_eq!(service.manage_user("get", &user).await["user"]["locale"], "zh-Hant-TW");

    for locale in [
        json!(""),
        json!("de_AT"),
        json!("de AT"),
        json!("-"),
        json!(33),
        json!(["de"]),
        json!("x".repeat(300)),
    ] {
        let update = json!({"action": "update", "username": user.username, "locale": locale});
        assert_invalid(&service.manage(&update).await, "locale");
        let create = json!({
            "action": "create",
            "username": unknown_username(),
            "password_hash": PASSWORD_HASH,
            "locale": locale,
        });
        assert_invalid(&service.manage(&create).await, "locale");
    }
    assert_eq!(service.manage_user("get", &user).await["user"]["locale"], "zh-Hant-TW");
}

#[tokio::test]
async fn a_locale_is_removed_by_null() {
    let service = Service::new();
    let user = service.user().with("locale", "de-AT").create().await;

    let update = json!({"action": "update", "username": user.username, "locale": null});
    user_of(&service.manage(&update).await);
    user_of(&service.manage_user("get", &user).await);

    let update = json!({"action": "update", "username": user.username, "locale": null, "activated": false});
    assert_eq!(user_of(&service.manage(&update).await)["activated"], false);
}
