//! Users that are created.

use serde_json::{Value, json};

use super::{assert_invalid, assert_just_now, assert_refused, user_of};
use crate::answers::{
    CHANGE_PASSWORD, CHANGED_PASSWORD, CODE_CORRECT, NOT_ACTIVATED, UNKNOWN_USERNAME,
    USERNAME_OR_PASSWORD_INCORRECT,
};
use crate::helpers::{NEW_PASSWORD, PASSWORD, PASSWORD_HASH, Service, User, unknown_username};

#[tokio::test]
async fn create_returns_the_user_with_defaults_for_missing_fields() {
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
async fn create_accepts_every_field() {
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
async fn a_username_is_displayed_as_given_and_found_in_any_form() {
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
async fn existing_users_are_not_overwritten() {
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
async fn hashes_of_known_formats_and_acceptable_cost_are_accepted() {
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
async fn the_first_password_does_not_activate_a_user_and_need_not_be_changed() {
    let service = Service::new();
    let user = service.user().with("password_hash", Value::Null).not_activated().due_a_password_change();
    let user = user.create().await;

    let code = service.code_for(&user).await;
    service.check_code(&user.username, &code).await.is(CODE_CORRECT);
    service.reset_password(&user.username, &code, PASSWORD).await.is(CHANGED_PASSWORD);
    let mails = service.mails_to(&user.email).await;
    let [_, notice] = &mails[..] else { panic!("not the code and a notice: {mails:?}") };
    assert!(notice.body.text_part.starts_with("The password of your account was changed."), "{notice:?}");

    service.signin(&user.username, PASSWORD).await.is(NOT_ACTIVATED);
    service.update(&user, json!({"activated": true})).await;
    service.token_of(&user).await;
}

#[tokio::test]
async fn timestamps_of_a_new_user_must_be_in_the_past() {
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
async fn a_new_username_has_no_invisible_characters() {
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
        // At a sign-in, the name is simply unknown.
        service.seen_from_elsewhere().signin(name, PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
    }
}
