//! The operator's function: invoked directly, with no route.

use aws_sdk_dynamodb::primitives::{DateTime, DateTimeFormat};
use serde_json::{Value, json};

use crate::answers::{
    CHANGE_PASSWORD, CHANGED_PASSWORD, NO_CODE_REQUESTED, NOT_ACTIVATED, SESSION_TOKEN_INCORRECT,
    UNKNOWN_USERNAME, USERNAME_OR_PASSWORD_INCORRECT,
};
use crate::helpers::{
    NEW_PASSWORD, PASSWORD, PASSWORD_HASH, Service, User, WRONG_PASSWORD, micros_now, unknown_username,
};

/// The fields of `user` in an answer.
const USER_FIELDS: [&str; 8] = [
    "activated",
    "created_at",
    "email_addresses",
    "last_signin_at",
    "must_change_password",
    "password_changed_at",
    "user_id",
    "username",
];

/// All users there are, by pages of at most `limit`, each followed by `between` with the page.
async fn list(service: &Service, limit: u64, mut between: impl AsyncFnMut(&[Value])) -> Vec<Value> {
    let (mut listed, mut page) = (Vec::new(), json!({"action": "list", "limit": limit}));
    loop {
        let mut answer = service.manage(&page).await;
        let cursor = answer.as_object_mut().unwrap().remove("cursor");
        assert_eq!(answer, json!({"ok": true, "users": answer["users"]}));
        let users = answer["users"].as_array().unwrap();
        assert!(users.len() as u64 <= limit, "{}", users.len());
        between(users).await;
        listed.extend_from_slice(users);
        match cursor {
            Some(cursor) => page["cursor"] = cursor,
            None => return listed,
        }
    }
}

/// The `user` of a success, which has nothing else.
#[track_caller]
fn user_of(answer: &Value) -> Value {
    assert_eq!(answer, &json!({"ok": true, "user": answer["user"]}));
    let mut fields: Vec<&str> = answer["user"].as_object().unwrap().keys().map(String::as_str).collect();
    fields.sort_unstable();
    assert_eq!(fields, USER_FIELDS);
    answer["user"].clone()
}

#[track_caller]
fn assert_refused(answer: &Value, error_code: &str) {
    assert_eq!(answer, &json!({"ok": false, "error_code": error_code, "msg": answer["msg"]}));
    assert!(answer["msg"].as_str().is_some_and(|message| !message.is_empty()), "{answer}");
}

/// That the answer names the field that breaks its constraints, and no other.
#[track_caller]
fn assert_invalid(answer: &Value, field: &str) {
    assert_eq!(
        answer,
        &json!({
            "ok": false,
            "error_code": "validation_failed",
            "msg": "The given data was invalid",
            "errors": {field: answer["errors"][field]},
        })
    );
    assert!(answer["errors"][field][0].is_string(), "{answer}");
}

/// That the instant is one of RFC 3339 in UTC, within the last minute by this machine's clock.
#[track_caller]
fn assert_just_now(instant: &Value) {
    let text = instant.as_str().unwrap_or_else(|| panic!("no instant: {instant}"));
    assert!(text.ends_with('Z'), "{text}");
    let seconds = DateTime::from_str(text, DateTimeFormat::DateTime).unwrap().secs();
    let now = micros_now() / 1_000_000;
    assert!((now - 60..=now + 1).contains(&seconds), "{text}");
}

#[tokio::test]
async fn create_answers_the_user_with_what_is_not_given_at_its_default() {
    let service = Service::new();
    let username = unknown_username();

    let create = json!({"action": "create", "username": username, "password": PASSWORD});
    let user = user_of(&service.manage(&create).await);

    assert_eq!(user["username"], json!(username));
    assert!(user["user_id"].as_str().is_some_and(|user_id| !user_id.is_empty()), "{user}");
    assert_eq!(user["email_addresses"], json!([]));
    assert_eq!(user["activated"], false);
    assert_eq!(user["must_change_password"], false);
    assert_just_now(&user["created_at"]);
    assert_eq!(user["password_changed_at"], Value::Null);
    assert_eq!(user["last_signin_at"], Value::Null);
    service.signin(&username, PASSWORD).await.is(NOT_ACTIVATED);
}

#[tokio::test]
async fn create_takes_every_field() {
    let service = Service::new();
    let (username, user_id) = (unknown_username(), unknown_username());
    let addresses = json!([format!("{username}@example.com"), format!("{username}@example.org")]);

    let create = json!({
        "action": "create",
        "username": username,
        "password_hash": PASSWORD_HASH,
        "email_addresses": addresses,
        "activated": true,
        "must_change_password": true,
        "user_id": user_id,
    });
    let user = user_of(&service.manage(&create).await);

    assert_eq!(user["username"], json!(username));
    assert_eq!(user["user_id"], json!(user_id));
    assert_eq!(user["email_addresses"], addresses);
    assert_eq!(user["activated"], true);
    assert_eq!(user["must_change_password"], true);
    service.signin(&username, PASSWORD).await.is(CHANGE_PASSWORD);
}

#[tokio::test]
async fn a_username_keeps_its_form_for_display_and_is_found_in_any() {
    let service = Service::new();
    let suffix = unknown_username();
    let displayed = format!("ＳＴ.Huber-{suffix}");

    let create = json!({"action": "create", "username": displayed, "password_hash": PASSWORD_HASH});
    assert_eq!(user_of(&service.manage(&create).await)["username"], json!(displayed));

    for form in
        [displayed.clone(), format!("st.huber-{suffix}"), format!("St.Huber-{}", suffix.to_uppercase())]
    {
        let get = json!({"action": "get", "username": form});
        assert_eq!(user_of(&service.manage(&get).await)["username"], json!(displayed), "{form}");
        let again = json!({"action": "create", "username": form, "password_hash": PASSWORD_HASH});
        assert_refused(&service.manage(&again).await, "user_exists");
    }
}

#[tokio::test]
async fn what_exists_is_not_overwritten() {
    let service = Service::new();
    let user = service.user().create().await;

    let create = json!({"action": "create", "username": user.username, "password": NEW_PASSWORD});
    assert_refused(&service.manage(&create).await, "user_exists");
    service.token_of(&user).await;

    let namesake = unknown_username();
    let create = json!({
        "action": "create",
        "username": namesake,
        "password_hash": PASSWORD_HASH,
        "user_id": user.id,
    });
    assert_eq!(service.manage(&create).await["ok"], false);
    service.send_email(&namesake).await.is(UNKNOWN_USERNAME);
}

#[tokio::test]
async fn create_validates_its_fields() {
    let service = Service::new();
    for (field, value) in [
        ("username", json!(null)),
        ("username", json!("")),
        ("username", json!("  ")),
        ("username", json!(33)),
        ("username", json!("a".repeat(191))),
        ("password", json!("")),
        ("password", json!("7 chars")),
        ("password", json!("x".repeat(257))),
        ("password", json!(12_345_678)),
        ("email_addresses", json!("st.huber@example.com")),
        ("email_addresses", json!(["st.huber"])),
        ("email_addresses", json!(["st.huber@"])),
        ("email_addresses", json!(["st.huber@example.com", ""])),
        ("email_addresses", json!(["st.huber@example.com\r\nBcc: everybody@example.com"])),
        ("email_addresses", json!(["st.huber@example.com, everybody@example.com"])),
        ("email_addresses", json!([33])),
        ("activated", json!("yes")),
        ("must_change_password", json!(1)),
        ("user_id", json!("")),
        ("user_id", json!(["33"])),
    ] {
        let username = unknown_username();
        let mut create = json!({"action": "create", "username": username, "password": PASSWORD});
        create[field] = value.clone();
        let answer = service.manage(&create).await;
        assert_eq!(answer["ok"], false, "{field}: {value}: {answer}");
        assert_invalid(&answer, field);
        let get = json!({"action": "get", "username": username});
        assert_refused(&service.manage(&get).await, "unknown_username");
    }
}

#[tokio::test]
async fn a_password_and_a_hash_exclude_each_other() {
    let service = Service::new();

    let both = json!({
        "action": "create",
        "username": unknown_username(),
        "password": PASSWORD,
        "password_hash": PASSWORD_HASH,
    });
    assert_invalid(&service.manage(&both).await, "password");
}

#[tokio::test]
async fn hashes_of_known_form_and_bearable_cost_are_taken() {
    let service = Service::new();
    let create = async |hash: &str| {
        let create = json!({"action": "create", "username": unknown_username(), "password_hash": hash});
        service.manage(&create).await
    };
    let argon2 = |parameters: &str| PASSWORD_HASH.replace("m=19456,t=2,p=1", parameters);
    let bcrypt = |cost: &str| format!("$2b${cost}$abcdefghijklmnopqrstuuPB9RWYRRck5oJKhif9wMsqxq6MYwhq2");

    let pbkdf2 = |function: &str, parameters: &str| {
        format!(
            "$pbkdf2-{function}${parameters}$TVxX2uVcxLTzi81W4lC/9A$T2cO6ru6ToQk1ww12eUactqTR+F4wZ2tIMVn+6stCeY"
        )
    };
    let scrypt = |parameters: &str| {
        format!("$scrypt${parameters}$LlC1Mgfav9+QZyhX5GKlxw$If5TOsaL+3giRCQKJcPGPPoH3btS3u903f2D8ndwzdk")
    };

    for hash in [
        argon2("m=262144,t=2,p=1"),
        argon2("m=19456,t=16,p=1"),
        argon2("m=19456,t=2,p=16"),
        bcrypt("04"),
        bcrypt("14"),
        pbkdf2("sha256", "i=2000000,l=32"),
        pbkdf2("sha512", "i=2000000,l=32"),
        scrypt("ln=18,r=8,p=1"),
        scrypt("ln=16,r=32,p=1"),
        scrypt("ln=18,r=8,p=4"),
        scrypt("ln=1,r=64,p=16"),
        scrypt("ln=15,r=64,p=4"),
        scrypt("ln=4,r=8,p=1,l=32"),
        format!("$firebase-{}", &scrypt("ln=14,r=8,p=1")[1..]),
        argon2("m=1024,t=2,p=1,data=ZGF0YQ"),
        argon2("m=1024,t=2,p=1").replace("$v=19", ""),
        pbkdf2("sha512", "i=1000"),
    ] {
        user_of(&create(&hash).await);
    }
    for hash in [
        argon2("m=262145,t=2,p=1"),
        argon2("m=19456,t=17,p=1"),
        argon2("m=19456,t=2,p=17"),
        argon2("m=4294967295,t=4294967295,p=1"),
        argon2("m=19456,t=0,p=1"),
        bcrypt("15"),
        bcrypt("31"),
        bcrypt("99"),
        bcrypt("03"),
        "$2b$04$abcdefghijklmnopqrstuuPB9RWYRRck5oJKhif9wMsqxq6MYwhq".to_owned(),
        "$2b$04$".to_owned(),
        PASSWORD_HASH.rsplit_once('$').unwrap().0.to_owned(),
        PASSWORD.to_owned(),
        String::new(),
        "$".to_owned(),
        "5f4dcc3b5aa765d61d8327deb882cf99".to_owned(),
        "$1$salt$qJH7.N4xYta3aEG/dfqo/0".to_owned(),
        "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjlO/O817G3uBnIFNjnQJuesI68OTLiBFdcbYEdFCoEOfaS35inz1"
            .to_owned(),
        pbkdf2("sha256", "i=2000001,l=32"),
        pbkdf2("sha512", "i=4294967295,l=32"),
        pbkdf2("sha256", "i=0,l=32"),
        pbkdf2("sha1", "i=10000,l=20"),
        "$pbkdf2-sha256$29000$TVxX2uVcxLTzi81W4lC/9A$T2cO6ru6ToQk1ww12eUactqTR+F4wZ2tIMVn+6stCeY".to_owned(),
        scrypt("ln=19,r=8,p=1"),
        scrypt("ln=18,r=9,p=1"),
        scrypt("ln=18,r=8,p=5"),
        scrypt("ln=63,r=4294967295,p=1"),
        scrypt("ln=1,r=4294967295,p=4294967295"),
        scrypt("ln=0,r=1,p=8388600"),
        scrypt("ln=0,r=8,p=1"),
        scrypt("ln=1,r=65,p=1"),
        scrypt("ln=1,r=1,p=17"),
        scrypt("ln=4,r=8,p=1,l=33"),
        scrypt("ln=4,r=8"),
        format!("$firebase-{}", &scrypt("ln=19,r=8,p=1")[1..]),
        argon2("m=1024,t=2,p=1,keyid=a2V5"),
        argon2("m=1024,t=2"),
        pbkdf2("sha512", "l=32"),
    ] {
        let answer = create(&hash).await;
        assert_invalid(&answer, "password_hash");
    }
}

#[tokio::test]
async fn get_answers_the_user_and_never_a_hash() {
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
async fn a_user_whose_sign_in_was_refused_has_not_signed_in() {
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
async fn update_changes_what_is_given_and_nothing_else() {
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
async fn set_password_may_ask_for_another_one() {
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
async fn nobody_is_unknown_to_every_action() {
    let service = Service::new();
    let username = unknown_username();
    for action in [
        json!({"action": "get"}),
        json!({"action": "update", "activated": true}),
        json!({"action": "rename", "new_username": unknown_username()}),
        json!({"action": "set_password", "password": PASSWORD}),
        json!({"action": "unlock"}),
        json!({"action": "revoke_sessions"}),
        json!({"action": "delete"}),
    ] {
        let mut action = action;
        action["username"] = json!(username);
        assert_refused(&service.manage(&action).await, "unknown_username");
    }
    // None of them made the user.
    service.send_email(&username).await.is(UNKNOWN_USERNAME);
}

#[tokio::test]
async fn what_is_no_action_is_refused() {
    let service = Service::new();
    let user = service.user().create().await;
    for payload in [
        json!({}),
        json!({"action": "greet", "username": user.username}),
        json!({"action": null, "username": user.username}),
        json!({"action": "Get", "username": user.username}),
        json!({"action": ["get"], "username": user.username}),
    ] {
        assert_invalid(&service.manage(&payload).await, "action");
    }
    assert_invalid(&service.manage(&json!({"action": "get"})).await, "username");
    for payload in [json!([]), json!("get"), json!(null)] {
        let answer = service.manage(&payload).await;
        assert_eq!((&answer["ok"], &answer["error_code"]), (&json!(false), &json!("validation_failed")));
    }
}

#[tokio::test]
async fn a_new_deployment_has_no_user() {
    let service = Service::with_settings([]).await;

    assert_eq!(service.manage(&json!({"action": "list"})).await, json!({"ok": true, "users": []}));
}

#[tokio::test]
async fn every_user_is_listed_once_whoever_comes_and_goes_meanwhile() {
    let service = Service::with_settings([]).await;
    let mut users = Vec::new();
    for _ in 0..20 {
        users.push(service.user().create().await);
    }
    let mut passing = Vec::new();
    for _ in 0..20 {
        passing.push(service.user().create().await);
    }

    let mut deleted = Vec::new();
    let listed = list(&service, 3, async |page| {
        service.user().create().await;
        // Those of the page go as well, its last one among them.
        let on_page = |user: &User| page.iter().any(|listed| listed["user_id"] == json!(user.id));
        let next = passing.iter().position(on_page).or(passing.len().checked_sub(1));
        if let Some(user) = next.map(|next| passing.remove(next)) {
            assert_eq!(service.manage_user("delete", &user).await, json!({"ok": true}));
            deleted.push(user);
        }
    })
    .await;

    for user in &users {
        let entries: Vec<&Value> = listed.iter().filter(|entry| entry["user_id"] == json!(user.id)).collect();
        let get = service.manage_user("get", user).await;
        assert_eq!(entries, [&user_of(&get)]);
    }
    assert!(deleted.len() > 6);
    let mut names: Vec<&str> = listed.iter().map(|user| user["username"].as_str().unwrap()).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
    assert!(!json!(listed).to_string().contains("argon2"));
}

#[tokio::test]
async fn a_page_goes_on_after_the_user_it_ended_with_is_gone() {
    let service = Service::with_settings([]).await;
    for _ in 0..5 {
        service.user().create().await;
    }

    let listed = list(&service, 1, async |page| {
        for user in page {
            let delete = json!({"action": "delete", "username": user["username"]});
            assert_eq!(service.manage(&delete).await, json!({"ok": true}));
        }
    })
    .await;

    assert_eq!(listed.len(), 5);
    assert_eq!(service.manage(&json!({"action": "list"})).await, json!({"ok": true, "users": []}));
}

#[tokio::test]
async fn a_page_has_a_hundred_users_unless_it_is_told_otherwise() {
    let service = Service::with_settings([]).await;
    let users: Vec<Value> =
        (0..100).map(|_| json!({"username": unknown_username(), "password_hash": PASSWORD_HASH})).collect();
    assert_eq!(service.manage(&json!({"action": "import", "users": users})).await["created"], 100);
    service.user().create().await;

    let first = service.manage(&json!({"action": "list"})).await;
    assert_eq!(first["users"].as_array().unwrap().len(), 100);
    let second = service.manage(&json!({"action": "list", "cursor": first["cursor"]})).await;
    assert_eq!((second["users"].as_array().unwrap().len(), &second["cursor"]), (1, &Value::Null));
    let all = service.manage(&json!({"action": "list", "limit": 1000, "cursor": null})).await;
    assert_eq!((all["users"].as_array().unwrap().len(), &all["cursor"]), (101, &Value::Null));
}

#[tokio::test]
async fn pages_are_validated() {
    let service = Service::new();
    for action in ["list", "count_outdated_hashes"] {
        for (field, value) in [
            ("limit", json!(0)),
            ("limit", json!(1001)),
            ("limit", json!(-1)),
            ("limit", json!(1.5)),
            ("limit", json!("10")),
            ("limit", json!(true)),
            ("cursor", json!(33)),
            ("cursor", json!("")),
            ("cursor", json!(["st.huber"])),
            ("cursor", json!("x".repeat(1000))),
        ] {
            let mut page = json!({"action": action});
            page[field] = value;
            assert_invalid(&service.manage(&page).await, field);
        }
    }
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
async fn a_locale_is_kept_and_shown_where_there_is_one() {
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
async fn a_user_without_a_password_sets_one_by_a_reset() {
    let service = Service::with_settings([]).await;
    let username = unknown_username();
    let create = json!({
        "action": "create",
        "username": username,
        "email_addresses": [format!("{username}@example.com")],
        "activated": true,
    });
    let created = user_of(&service.manage(&create).await);
    let user = User {
        username,
        id: created["user_id"].as_str().unwrap().to_owned(),
        email: created["email_addresses"][0].as_str().unwrap().to_owned(),
    };

    service.signin(&user.username, PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
    let count = service.manage(&json!({"action": "count_outdated_hashes"})).await;
    assert_eq!(count, json!({"ok": true, "users": 1, "outdated": 0}));
    let exported = service.invoke("export_users", &json!({})).await["users"][0].clone();
    assert_eq!(exported.get("password_hash"), None);

    let code = service.code_for(&user).await;
    service.reset_password(&user.username, &code, PASSWORD).await.is(CHANGED_PASSWORD);
    service.token_of(&user).await;
}

#[tokio::test]
async fn unknown_and_repeated_fields_are_refused_by_every_action() {
    let service = Service::new();
    let user = service.user().create().await;
    let get = json!({"action": "get", "username": user.username});
    let before = user_of(&service.manage(&get).await);
    for payload in [
        json!({"action": "update", "username": user.username, "active": false}),
        json!({"action": "create", "username": unknown_username(), "email": "st.huber@example.com"}),
        json!({"action": "get", "username": user.username, "limit": 1}),
        json!({"action": "list", "user_id": user.id}),
        json!({"action": "rename", "username": user.username, "new_username": "a", "user_id": "33"}),
        json!({"action": "set_password", "username": user.username, "password": PASSWORD, "activated": true}),
        json!({"action": "revoke_sessions", "username": user.username, "session": 1}),
        json!({"action": "unlock", "username": user.username, "Username": user.username}),
        json!({"action": "delete", "username": user.username, "force": null}),
        json!({"action": "import", "users": [], "user": []}),
        json!({"action": "count_outdated_hashes", "page": 1}),
    ] {
        let known = ["action", "username", "new_username", "password", "users"];
        let unknown =
            payload.as_object().unwrap().keys().find(|name| !known.contains(&name.as_str())).unwrap();
        let answer = service.manage(&payload).await;
        assert_invalid(&answer, unknown);
        assert_eq!(
            answer["errors"][unknown],
            json!([format!("The {} field is not known here.", unknown.replace('_', " "))])
        );
    }

    let name = &user.username;
    for (payload, errors) in [
        (
            format!(r#"{{"action":"update","username":"{name}","activated":true,"activated":false}}"#),
            json!({"activated": ["The activated field is given twice."]}),
        ),
        (
            format!(r#"{{"action":"delete","username":"{name}","username":"{name}"}}"#),
            json!({"username": ["The username field is given twice."]}),
        ),
        (
            format!(r#"{{"action":"get","action":"delete","username":"{name}"}}"#),
            json!({"action": ["The action field is given twice."]}),
        ),
        (
            format!(r#"{{"action":"update","username":"","username":"{name}"}}"#),
            json!({"username": ["The username field is required.", "The username field is given twice."]}),
        ),
    ] {
        let answer = service.invoke_raw("manage_users", payload.clone()).await.unwrap();
        assert_eq!(answer["errors"], errors, "{payload}");
    }
    let import =
        r#"{"action":"import","users":[{"username":"st.huber","activated":true,"activated":false}]}"#;
    assert_eq!(
        service.invoke_raw("manage_users", import.to_owned()).await.unwrap(),
        json!({
            "ok": true,
            "created": 0,
            "failed": [{
                "username": "st.huber",
                "error_code": "validation_failed",
                "errors": {"activated": ["The activated field is given twice."]},
            }],
        })
    );
    assert_eq!(user_of(&service.manage(&get).await), before);
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

#[tokio::test]
async fn a_user_is_found_by_id() {
    let service = Service::new();
    let user = service.user().create().await;
    let by_name = user_of(&service.manage_user("get", &user).await);

    let by_id = service.manage(&json!({"action": "get", "user_id": user.id})).await;
    assert_eq!(user_of(&by_id), by_name);

    let unknown = service.manage(&json!({"action": "get", "user_id": unknown_username()})).await;
    assert_refused(&unknown, "unknown_username");
    let both = json!({"action": "get", "user_id": user.id, "username": user.username});
    assert_invalid(&service.manage(&both).await, "username");
    assert_invalid(&service.manage(&json!({"action": "get", "user_id": ""})).await, "user_id");
}

#[tokio::test]
async fn users_are_found_by_address_on_any_page() {
    let service = Service::with_settings([]).await;
    let mut users = Vec::new();
    for _ in 0..5 {
        users.push(service.user().create().await);
    }
    let shared = json!(["elsewhere@example.org", users[1].email]);
    service.update(&users[3], json!({"email_addresses": shared})).await;

    let (mut found, mut list) =
        (Vec::new(), json!({"action": "list", "limit": 1, "email_address": users[1].email.to_uppercase()}));
    let mut pages = 0;
    loop {
        let page = service.manage(&list).await;
        pages += 1;
        found.extend(
            page["users"]
                .as_array()
                .unwrap()
                .iter()
                .map(|user| user["username"].as_str().unwrap().to_owned()),
        );
        if page["cursor"].is_null() {
            break;
        }
        list["cursor"] = page["cursor"].clone();
    }
    found.sort_unstable();
    let mut expected = [users[1].username.clone(), users[3].username.clone()];
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert!(pages >= 5, "{pages}");

    let none = service.manage(&json!({"action": "list", "email_address": "nobody@example.com"})).await;
    assert_eq!(none, json!({"ok": true, "users": []}));
    for address in [json!(""), json!("st.huber"), json!(33)] {
        assert_invalid(
            &service.manage(&json!({"action": "list", "email_address": address})).await,
            "email_address",
        );
    }
}

#[tokio::test]
async fn instants_of_a_new_user_are_in_the_past() {
    let service = Service::new();
    for field in ["created_at", "password_changed_at", "last_signin_at"] {
        for value in [
            json!("2999-01-01T00:00:00Z"),
            json!("2020-06-11"),
            json!("2020-06-11T17:48:13"),
            json!(""),
            json!(1_591_897_693),
        ] {
            let mut create = json!({"action": "create", "username": unknown_username()});
            create[field] = value;
            assert_invalid(&service.manage(&create).await, field);
        }
    }
}

#[tokio::test]
async fn a_new_name_shows_as_it_is() {
    let service = Service::new();
    let user = service.user().create().await;
    for name in [
        " st.huber",
        "st.huber\u{3000}",
        "st.\u{200b}huber",
        "st.huber\u{202e}",
        "st.\u{ad}huber",
        "st\thuber",
    ] {
        let create = json!({"action": "create", "username": name, "password_hash": PASSWORD_HASH});
        assert_invalid(&service.manage(&create).await, "username");
        let rename = json!({"action": "rename", "username": user.username, "new_username": name});
        assert_invalid(&service.manage(&rename).await, "new_username");
        // To sign in, such a name is only unknown.
        service.seen_from_elsewhere().signin(name, PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
    }
}

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

/// The user, whose locale is shown.
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

        // Not even a user who has the old name later can use what the first one left.
        if !display_only {
            service.user().with("username", user.username.clone()).create().await;
            service.session_signin(&session_token).await.is(SESSION_TOKEN_INCORRECT);
            service.check_code(&user.username, &code).await.is(NO_CODE_REQUESTED);
        }
    }
}

#[tokio::test]
async fn a_name_that_is_taken_is_not_given_twice() {
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
async fn of_parallel_renames_to_one_name_one_succeeds() {
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
async fn a_rename_loses_no_change_that_is_made_at_the_same_time() {
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
