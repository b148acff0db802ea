//! Import and export of users, including their hashes.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::answers::{CHANGE_PASSWORD, NOT_ACTIVATED, USERNAME_OR_PASSWORD_INCORRECT};
use crate::helpers::{
    NEW_PASSWORD, OTHER_ARGON2_HASH, PASSWORD, PASSWORD_HASH, Service, User, unknown_username,
};
use crate::rules::passwords::{DEFAULT_PARAMETERS, imported_hashes};

async fn import(service: &Service, users: &[Value]) -> Value {
    service.manage(&json!({"action": "import", "users": users})).await
}

/// Counts the users, and those with an outdated hash, in pages of two.
async fn count_outdated(service: &Service) -> (u64, u64) {
    let (mut users, mut outdated) = (0, 0);
    let mut count = json!({"action": "count_outdated_hashes", "limit": 2});
    loop {
        let mut answer = service.manage(&count).await;
        let cursor = answer.as_object_mut().unwrap().remove("cursor");
        assert_eq!(answer, json!({"ok": true, "users": answer["users"], "outdated": answer["outdated"]}));
        assert!(
            answer["users"].as_u64() <= Some(2) && answer["outdated"].as_u64() <= answer["users"].as_u64()
        );
        users += answer["users"].as_u64().unwrap();
        outdated += answer["outdated"].as_u64().unwrap();
        match cursor {
            Some(cursor) => count["cursor"] = cursor,
            None => return (users, outdated),
        }
    }
}

/// All users, exported by pages.
async fn export(service: &Service, limit: u64) -> Vec<Value> {
    let (mut exported, mut page) = (Vec::new(), json!({"limit": limit}));
    loop {
        let mut answer = service.invoke("export_users", &page).await;
        let cursor = answer.as_object_mut().unwrap().remove("cursor");
        assert_eq!(answer, json!({"ok": true, "users": answer["users"]}));
        let users = answer["users"].as_array().unwrap();
        assert!(users.len() as u64 <= limit);
        exported.extend_from_slice(users);
        match cursor {
            Some(cursor) => page["cursor"] = cursor,
            None => return exported,
        }
    }
}

#[tokio::test]
async fn an_import_reports_failures_in_the_order_of_the_payload() {
    let service = Service::new();
    let existing = service.user().create().await;
    let names: Vec<String> = (0..4).map(|_| unknown_username()).collect();
    let with_hash = |username: &str| json!({"username": username, "password_hash": PASSWORD_HASH});
    let mut bad_hash = with_hash(&unknown_username());
    bad_hash["password_hash"] = json!("$1$salt$qJH7.N4xYta3aEG/dfqo/0");
    let mut taken_id = with_hash(&unknown_username());
    taken_id["user_id"] = json!(existing.id);
    let mut complete = with_hash(&names[1]);
    complete["email_addresses"] = json!([format!("{}@example.com", names[1])]);
    complete["activated"] = json!(true);
    complete["must_change_password"] = json!(false);
    complete["user_id"] = json!(names[1]);
    complete["locale"] = json!("de-AT");
    let users = [
        with_hash(&names[0]),
        with_hash(&existing.username.to_uppercase()),
        bad_hash.clone(),
        complete,
        json!({"username": names[2], "password": PASSWORD, "activated": true}),
        json!({"username": unknown_username(), "password": "short"}),
        json!({"username": unknown_username(), "password": PASSWORD, "locale": "de_AT", "active": true}),
        json!({"password_hash": PASSWORD_HASH}),
        taken_id.clone(),
        json!("st.huber"),
        with_hash(&names[3]),
    ];

    let answer = import(&service, &users).await;

    assert_eq!(
        answer,
        json!({
            "ok": true,
            "created": 4,
            "failed": [
                {"username": existing.username.to_uppercase(), "error_code": "user_exists"},
                {
                    "username": bad_hash["username"],
                    "error_code": "validation_failed",
                    "errors": {
                        "password_hash": ["The password hash must be an Argon2, PBKDF2, scrypt or bcrypt hash."],
                    },
                },
                {
                    "username": users[5]["username"],
                    "error_code": "validation_failed",
                    "errors": {"password": ["The password must be at least 8 characters."]},
                },
                {
                    "username": users[6]["username"],
                    "error_code": "validation_failed",
                    "errors": {
                        "locale": ["The locale must be a language tag such as de-AT."],
                        "active": ["The active field is not known here."],
                    },
                },
                {
                    "username": null,
                    "error_code": "validation_failed",
                    "errors": {"username": ["The username field is required."]},
                },
                {"username": taken_id["username"], "error_code": "user_id_exists"},
                {
                    "username": null,
                    "error_code": "validation_failed",
                    "errors": {"username": ["The username field is required."]},
                },
            ],
        })
    );
    service.signin(&names[0], PASSWORD).await.is(NOT_ACTIVATED);
    service.signin(&names[1], PASSWORD).await.token();
    service.signin(&names[2], PASSWORD).await.token();
    let get = service.manage(&json!({"action": "get", "username": names[1]})).await;
    assert_eq!((&get["user"]["user_id"], &get["user"]["locale"]), (&json!(names[1]), &json!("de-AT")));
    let get = service.manage(&json!({"action": "get", "username": bad_hash["username"]})).await;
    assert_eq!(get["error_code"], "unknown_username");
    service.token_of(&existing).await;

    // Nothing is imported twice.
    let again = import(&service, &users).await;
    assert_eq!((&again["created"], again["failed"].as_array().unwrap().len()), (&json!(0), 11));
}

#[tokio::test]
async fn one_of_two_users_with_the_same_name_is_imported() {
    let service = Service::new();
    let user = json!({"username": unknown_username(), "password_hash": PASSWORD_HASH});

    assert_eq!(
        import(&service, &[user.clone(), user.clone()]).await,
        json!({
            "ok": true,
            "created": 1,
            "failed": [{"username": user["username"], "error_code": "user_exists"}],
        })
    );
}

#[tokio::test]
async fn an_import_has_at_most_one_hundred_users() {
    let service = Service::new();
    let users: Vec<Value> =
        (0..101).map(|_| json!({"username": unknown_username(), "password_hash": PASSWORD_HASH})).collect();

    for users in [json!(users), json!(null), json!({"username": "st.huber"}), json!("st.huber")] {
        let answer = service.manage(&json!({"action": "import", "users": users})).await;
        assert_eq!((&answer["ok"], &answer["error_code"]), (&json!(false), &json!("validation_failed")));
        assert!(answer["errors"]["users"][0].is_string(), "{answer}");
    }
    let get = json!({"action": "get", "username": users[0]["username"]});
    assert_eq!(service.manage(&get).await["error_code"], "unknown_username");

    assert_eq!(import(&service, &users[..100]).await, json!({"ok": true, "created": 100, "failed": []}));
    assert_eq!(import(&service, &[]).await, json!({"ok": true, "created": 0, "failed": []}));
}

#[tokio::test]
async fn imported_users_sign_in_and_get_an_argon2id_hash() {
    let service = Service::with_settings([]).await;
    let users: Vec<Value> = imported_hashes()
        .chain([PASSWORD_HASH])
        .map(|hash| json!({"username": unknown_username(), "password_hash": hash, "activated": true}))
        .collect();
    let all = users.len() as u64;
    assert_eq!(import(&service, &users).await, json!({"ok": true, "created": all, "failed": []}));
    assert_eq!(count_outdated(&service).await, (all, all - 1));

    let mut left = all - 1;
    for user in &users {
        let username = user["username"].as_str().unwrap();
        service.signin(username, NEW_PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
        assert_eq!(count_outdated(&service).await, (all, left));

        service.signin(username, PASSWORD).await.token();

        let user = User { username: username.to_owned(), id: String::new(), email: String::new() };
        let hash = service.stored_hash(&user).await;
        assert!(hash.starts_with(DEFAULT_PARAMETERS), "{hash}");
        left = left.saturating_sub(1);
        assert_eq!(count_outdated(&service).await, (all, left));
        service.signin(username, PASSWORD).await.token();
    }
}

#[tokio::test]
async fn the_configuration_decides_which_hashes_are_outdated() {
    let settings = [("ARGON2_MEMORY_KIB", "8192"), ("ARGON2_ITERATIONS", "1")];
    let service = Service::with_settings(settings).await;
    service.user().create().await;
    service.user().with("password_hash", OTHER_ARGON2_HASH).create().await;

    assert_eq!(count_outdated(&service).await, (2, 1));
}

#[tokio::test]
async fn users_are_exported_deleted_and_imported_as_they_were() {
    let service = Service::with_settings([]).await;
    let bcrypt = imported_hashes().next().unwrap();
    let mut users = vec![
        service.user().create().await,
        service.user().with("password_hash", bcrypt).with("locale", "de").create().await,
        service.user().with("user_id", json!("33")).with_password(PASSWORD).create().await,
        service.user().not_activated().create().await,
        service.user().due_a_password_change().with("email_addresses", json!([])).create().await,
    ];
    let displayed = format!("St.Huber-{}", unknown_username());
    let mut mixed = service.user().with("username", displayed.clone()).create().await;
    mixed.username = displayed.to_lowercase();
    users.push(mixed);
    users.push(
        service
            .user()
            .with("created_at", "2015-01-02T03:04:05.000006Z")
            .with("password_changed_at", "2016-01-02T03:04:05Z")
            .with("last_signin_at", "2017-01-02T03:04:05+01:00")
            .create()
            .await,
    );
    service.token_of(&users[0]).await;

    let exported = export(&service, 4).await;
    assert_eq!(exported.len(), users.len());
    let [of_bcrypt] = &exported.iter().filter(|user| user["locale"] == "de").collect::<Vec<_>>()[..] else {
        panic!("{exported:?}")
    };
    assert_eq!(
        **of_bcrypt,
        json!({
            "username": users[1].username,
            "password_hash": bcrypt,
            "user_id": users[1].id,
            "email_addresses": [users[1].email],
            "locale": "de",
            "activated": true,
            "must_change_password": false,
            "created_at": of_bcrypt["created_at"],
            "password_changed_at": null,
            "last_signin_at": null,
        })
    );
    let signed_in = exported.iter().find(|user| user["user_id"] == users[0].id).unwrap();
    assert!(signed_in["last_signin_at"].is_string(), "{signed_in}");
    let old = exported.iter().find(|user| user["user_id"] == users[6].id).unwrap();
    assert_eq!(
        (&old["created_at"], &old["password_changed_at"], &old["last_signin_at"]),
        (
            &json!("2015-01-02T03:04:05.000006Z"),
            &json!("2016-01-02T03:04:05.000000Z"),
            &json!("2017-01-02T02:04:05.000000Z"),
        )
    );
    assert!(exported.iter().all(|user| user["created_at"].is_string()));
    assert!(exported.iter().any(|user| user["username"] == displayed.as_str()), "{exported:?}");

    for user in &users {
        assert_eq!(service.manage_user("delete", user).await, json!({"ok": true}));
    }
    assert!(export(&service, 1000).await.is_empty());
    assert_eq!(
        import(&service, &exported).await,
        json!({"ok": true, "created": exported.len(), "failed": []})
    );

    let by_name = |users: Vec<Value>| users.into_iter().map(|user| user.to_string()).collect::<BTreeSet<_>>();
    assert_eq!(by_name(export(&service, 1).await), by_name(exported));
    for user in [&users[0], &users[1], &users[2], &users[5]] {
        service.token_of(user).await;
    }
    service.signin(&users[3].username, PASSWORD).await.is(NOT_ACTIVATED);
    service.signin(&users[4].username, PASSWORD).await.is(CHANGE_PASSWORD);
}

#[tokio::test]
async fn pages_of_an_export_are_validated() {
    let service = Service::new();
    for (field, value) in [
        ("limit", json!(0)),
        ("limit", json!(1001)),
        ("limit", json!("10")),
        ("cursor", json!(33)),
        ("cursor", json!("x".repeat(1000))),
    ] {
        let mut page = json!({});
        page[field] = value;
        let answer = service.invoke("export_users", &page).await;
        assert_eq!((&answer["ok"], &answer["error_code"]), (&json!(false), &json!("validation_failed")));
        assert!(answer["errors"][field][0].is_string(), "{page}: {answer}");
    }
}

#[tokio::test]
async fn an_export_refuses_unknown_fields() {
    let service = Service::new();
    let answer = service.invoke("export_users", &json!({"limits": 10})).await;
    assert_eq!(answer["errors"], json!({"limits": ["The limits field is not known here."]}));
}
