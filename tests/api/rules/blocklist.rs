//! Common passwords: refused wherever one is set, and nowhere else.

use serde_json::{Value, json};

use crate::answers::{
    CHANGED_PASSWORD, CODE_INCORRECT, Documented, NEW_PASSWORD_SET, NO_PASSWORD_CHANGE_NEEDED,
    PASSWORD_CHANGED, PASSWORD_INCORRECT, USERNAME_OR_PASSWORD_INCORRECT, change_password_errors,
    validation_failed,
};
use crate::helpers::{
    ApiResponse, CHANGE_PASSWORD_AFTER_SIGNIN, NEW_PASSWORD, PASSWORD, RESET_PASSWORD, Service, User,
    WRONG_CODE, WRONG_PASSWORD, unknown_username,
};

/// The ways to set a password.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    ChangePassword,
    ChangeMyPassword,
    AfterSignin,
    Reset,
    SetPassword,
    Create,
    Import,
}

pub(super) const WAYS: [Way; 7] = [
    Way::ChangePassword,
    Way::ChangeMyPassword,
    Way::AfterSignin,
    Way::Reset,
    Way::SetPassword,
    Way::Create,
    Way::Import,
];

/// PBKDF2 of "Password1", which is common.
const HASH_OF_A_COMMON_PASSWORD: &str =
    "$pbkdf2-sha256$i=1000,l=32$c2FsdHNhbHRzYWx0c2FsdA$FbZuQ5/XmeJlau36UFvzHmjxV5vxVA5NmV/1h9ed1k8";

/// Creates a user who is due a password change, with an address whose local part is not the username, and returns that
/// local part, too.
pub(super) async fn user_of_another_local_part(service: &Service) -> (User, String) {
    let local_part = unknown_username();
    let user = service.user().with("email_addresses", json!([format!("{local_part}@example.com")]));
    (user.due_a_password_change().create().await, local_part)
}

/// Sets a password that is made of a username and a local part in one of the ways. Returns false if it is refused as too
/// common; fails on any other refusal.
pub(super) async fn sets(service: &Service, way: Way, password: impl Fn(&str, &str) -> String) -> bool {
    let (user, local_part) = user_of_another_local_part(service).await;
    let new = password(&user.username, &local_part);
    let of_api = |answer: ApiResponse, success: Documented, refusal: &str| {
        let is_set = answer.status == 200;
        answer.is(if is_set { success } else { (422, refusal) });
        is_set
    };
    let refusal = validation_failed(&[("new_password", "The new password is too common.")]);
    let refused_by_manager = json!({"password": ["The password is too common."]});
    match way {
        Way::ChangePassword | Way::ChangeMyPassword => {
            service.update(&user, json!({"must_change_password": false})).await;
            let token = service.token_of(&user).await;
            if matches!(way, Way::ChangePassword) {
                let answer = service.change_password(&token, PASSWORD, &new).await;
                of_api(answer, NEW_PASSWORD_SET, &change_password_errors(&[7]))
            } else {
                of_api(service.change_my_password(&token, PASSWORD, &new).await, PASSWORD_CHANGED, &refusal)
            }
        }
        Way::AfterSignin => {
            let answer = service.change_password_after_signin(&user.username, PASSWORD, &new).await;
            if answer.status == 200 {
                answer.token();
                return true;
            }
            of_api(answer, (200, ""), &refusal)
        }
        Way::Reset => {
            let code = service.code_for(&user).await;
            let answer = service.reset_password(&user.username, &code, &new).await;
            of_api(answer, CHANGED_PASSWORD, &refusal)
        }
        Way::SetPassword => {
            let set = json!({"action": "set_password", "username": user.username, "password": new});
            let answer = service.manage(&set).await;
            assert!(answer["ok"] == true || answer["errors"] == refused_by_manager, "{answer}");
            answer["ok"] == true
        }
        Way::Create | Way::Import => {
            let username = unknown_username();
            let new = password(&username, &local_part);
            let addresses = json!([user.email]);
            let entry = json!({"username": username, "password": new, "email_addresses": addresses});
            if matches!(way, Way::Import) {
                let answer = service.manage(&json!({"action": "import", "users": [entry]})).await;
                let failed = json!([{
                    "username": username, "error_code": "validation_failed", "errors": refused_by_manager,
                }]);
                assert!(answer["created"] == 1 || answer["failed"] == failed, "{answer}");
                answer["created"] == 1
            } else {
                let mut create = entry;
                create["action"] = json!("create");
                let answer = service.manage(&create).await;
                assert!(answer["ok"] == true || answer["errors"] == refused_by_manager, "{answer}");
                answer["ok"] == true
            }
        }
    }
}

#[tokio::test]
async fn a_common_password_is_refused_by_every_way_of_setting_one() {
    let service = Service::new();
    for way in WAYS {
        for password in
            ["password", "PassW0rd", "1qaz2wsx3edc", "POSTERN1", "postern2026", "ｐａｓｓｗｏｒｄ"]
        {
            assert!(!sets(&service, way, |_, _| password.to_owned()).await, "{way:?} {password}");
        }
        assert!(!sets(&service, way, |username, _| username.to_owned()).await, "{way:?}");
        assert!(!sets(&service, way, |username, _| format!("{}2026", username.to_uppercase())).await);
        assert!(sets(&service, way, |username, _| format!("{username}20261")).await, "{way:?}");
        assert!(sets(&service, way, |_, _| "correct horse battery staple".to_owned()).await, "{way:?}");
    }
}

#[tokio::test]
async fn the_local_part_of_an_address_is_refused_by_every_way_of_setting_a_password() {
    let service = Service::new();
    for way in WAYS {
        assert!(!sets(&service, way, |_, local_part| local_part.to_owned()).await, "{way:?}");
        assert!(!sets(&service, way, |_, local_part| format!("{}1", local_part.to_uppercase())).await);
        assert!(sets(&service, way, |_, local_part| format!("{local_part}@example.com")).await, "{way:?}");
    }
}

#[tokio::test]
async fn the_blocklist_can_be_turned_off() {
    let service = Service::with_settings([("PASSWORD_BLOCKLIST", "off")]).await;
    for way in WAYS {
        assert!(sets(&service, way, |_, _| "password".to_owned()).await, "{way:?}");
        assert!(sets(&service, way, |username, _| username.to_owned()).await, "{way:?}");
        assert!(sets(&service, way, |_, local_part| local_part.to_owned()).await, "{way:?}");
    }
}

#[tokio::test]
async fn the_configured_name_of_the_product_is_refused() {
    let service = Service::with_settings([("PRODUCT_NAME", "Lumen Portal")]).await;
    for way in WAYS {
        assert!(!sets(&service, way, |_, _| "lumen portal".to_owned()).await, "{way:?}");
        assert!(!sets(&service, way, |_, _| "LUMEN Portal1".to_owned()).await, "{way:?}");
        assert!(sets(&service, way, |_, _| "Postern2026".to_owned()).await, "{way:?}");
    }
}

#[tokio::test]
async fn a_common_password_is_named_together_with_all_other_invalid_fields() {
    let service = Service::new();
    let common = "The new password is too common.";

    let body = json!({"username": "", "old_password": 1, "new_password": "password", "stay_logged_in": 1});
    service.post_json(CHANGE_PASSWORD_AFTER_SIGNIN, &body).await.is((
        422,
        &validation_failed(&[
            ("username", "The username field is required."),
            ("old_password", "The old password must be a string."),
            ("new_password", common),
            ("stay_logged_in", "The stay logged in field must be true or false."),
        ]),
    ));
    let body = json!({"username": "st.huber", "code": "x", "new_password": "ST.HUBER1"});
    let code = ("code", "The code must be between 1 and 6 digits.");
    service
        .post_json(RESET_PASSWORD, &body)
        .await
        .is((422, &validation_failed(&[code, ("new_password", common)])));
    let answer = service.manage(&json!({"action": "create", "password": "password", "activated": 1})).await;
    let fields: Vec<&String> = answer["errors"].as_object().unwrap().keys().collect();
    assert_eq!(fields, ["activated", "password", "username"], "{answer}");
}

#[tokio::test]
async fn a_common_password_that_is_the_old_one_too_is_refused_as_common() {
    let service = Service::new();
    let common = "Password1";
    let user = service.user().with("password_hash", HASH_OF_A_COMMON_PASSWORD).create().await;
    let token = service.signin(&user.username, common).await.token();
    let refusal = validation_failed(&[("new_password", "The new password is too common.")]);

    service.change_password(&token, common, common).await.is((422, &change_password_errors(&[7])));
    service.change_my_password(&token, common, common).await.is((422, &refusal));
    service.update(&user, json!({"must_change_password": true})).await;
    service.change_password_after_signin(&user.username, common, common).await.is((422, &refusal));

    // Also if it is the local part, which is known to be common only once the old password is verified.
    let local_part = unknown_username();
    let addresses = json!([format!("{local_part}@example.com")]);
    let user = service.user().with_password(&local_part).create().await;
    service.update(&user, json!({"email_addresses": addresses})).await;
    let token = service.signin(&user.username, &local_part).await.token();
    let answer = service.change_password(&token, &local_part, &local_part).await;
    answer.is((422, &change_password_errors(&[7])));
    service.change_my_password(&token, &local_part, &local_part).await.is((422, &refusal));
}

#[tokio::test]
async fn a_common_password_that_is_in_use_keeps_working() {
    let service = Service::new();
    let common = "Password1";
    let user = service.user().with("password_hash", HASH_OF_A_COMMON_PASSWORD).create().await;

    service.signin(&user.username, common).await.token();
    // Rehashed by now.
    let token = service.signin(&user.username, common).await.token();
    service.change_password(&token, common, NEW_PASSWORD).await.is(NEW_PASSWORD_SET);
}

#[tokio::test]
async fn a_local_part_is_refused_only_after_the_old_password_is_found_right() {
    let service = Service::new();
    let (user, local_part) = user_of_another_local_part(&service).await;
    let refusal = validation_failed(&[("new_password", "The new password is too common.")]);
    let before = service.stored_apart_from_attempts(&user).await;

    let forced =
        async |old: &str| service.change_password_after_signin(&user.username, old, &local_part).await;
    forced(WRONG_PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
    forced(PASSWORD).await.is((422, &refusal));
    assert_eq!(service.failures(&user.username).await, 0);
    assert_eq!(service.stored_apart_from_attempts(&user).await["security_stamp"], before["security_stamp"]);

    service.update(&user, json!({"must_change_password": false})).await;
    forced(PASSWORD).await.is(NO_PASSWORD_CHANGE_NEEDED);
    let token = service.token_of(&user).await;
    let my_change = async |old: &str| service.change_my_password(&token, old, &local_part).await;
    my_change(WRONG_PASSWORD).await.is(PASSWORD_INCORRECT);
    my_change(PASSWORD).await.is((422, &refusal));
    let change = async |old: Value, check: Value| {
        let body = json!({"old_password": old, "new_password": local_part, "new_password_check": check});
        let answer = service.change_password_as(&format!("Bearer {token}"), &body).await;
        assert_eq!(answer.status, 422, "{answer:?}");
        answer.body
    };
    for (old, check, codes) in [
        (json!(WRONG_PASSWORD), json!(local_part), &[4][..]),
        (Value::Null, json!(local_part), &[1]),
        (json!(PASSWORD), json!(local_part), &[7]),
        (json!(PASSWORD), Value::Null, &[3, 7]),
        (json!(PASSWORD), json!(NEW_PASSWORD), &[5, 7]),
    ] {
        assert_eq!(change(old, check).await, change_password_errors(codes));
    }
    assert_eq!(service.failures(&user.username).await, 0);
    assert_eq!(service.stored_apart_from_attempts(&user).await["security_stamp"], before["security_stamp"]);
    assert!(service.mails_to(&user.email).await.is_empty());
}

#[tokio::test]
async fn a_local_part_is_refused_only_with_the_right_code_and_uses_no_try() {
    for safe_mode in ["false", "true"] {
        let service = Service::with_settings([("PREVENT_USER_EXISTENCE_ERRORS", safe_mode)]).await;
        let (user, local_part) = user_of_another_local_part(&service).await;
        let code = service.code_for(&user).await;
        let refusal = validation_failed(&[("new_password", "The new password is too common.")]);

        service.reset_password(&user.username, WRONG_CODE, &local_part).await.is(CODE_INCORRECT);
        assert_eq!(service.tries(&user).await, 1);
        // More often than there are tries.
        for _ in 0..13 {
            service.reset_password(&user.username, &code, &local_part).await.is((422, &refusal));
        }
        assert_eq!(service.tries(&user).await, 1);
        service.reset_password(&user.username, &code, NEW_PASSWORD).await.is(CHANGED_PASSWORD);
    }
}
