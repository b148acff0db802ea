//! The constraints of the fields under /api/auth, as tables of cases.

use serde_json::{Value, json};

use crate::answers::{
    CHANGED_PASSWORD, SESSION_TOKEN_INCORRECT, UNKNOWN_USERNAME, USERNAME_OR_PASSWORD_INCORRECT,
    validation_failed,
};
use crate::helpers::{
    CHANGE_PASSWORD_AFTER_SIGNIN, CHECK_CODE, NEW_PASSWORD, PASSWORD, RESET_PASSWORD, SEND_EMAIL,
    SESSION_SIGNIN, SIGNIN, Service, unknown_username,
};

/// A valid body, of a user or session that does not exist.
fn valid(path: &str) -> Value {
    let mut body = match path {
        SIGNIN => json!({"password": PASSWORD}),
        CHANGE_PASSWORD_AFTER_SIGNIN => json!({"old_password": PASSWORD, "new_password": NEW_PASSWORD}),
        SEND_EMAIL => json!({}),
        CHECK_CODE => json!({"code": "482901"}),
        RESET_PASSWORD => json!({"code": "482901", "new_password": NEW_PASSWORD}),
        SESSION_SIGNIN => json!({"session_token": unknown_username()}),
        _ => unreachable!(),
    };
    body["username"] = json!(unknown_username());
    body
}

/// Asserts that each value of a field is answered with 422 and exactly this message.
async fn refused(service: &Service, path: &str, field: &str, cases: &[(Value, &str)]) {
    for (value, message) in cases {
        let mut body = valid(path);
        body[field] = value.clone();
        let answer = service.post_json(path, &body).await;
        let expected = validation_failed(&[(field, message)]);
        assert_eq!((answer.status, &answer.body), (422, &expected), "{path} {field}: {value}");
    }
}

async fn required(service: &Service, path: &str, field: &str) {
    let mut body = valid(path);
    body.as_object_mut().unwrap().remove(field);
    let message = format!("The {} field is required.", field.replace('_', " "));
    let expected = validation_failed(&[(field, &message)]);
    service.post_json(path, &body).await.is((422, &expected));
    refused(service, path, field, &[(json!(null), &message), (json!(""), &message)]).await;
}

/// Asserts that a value of a field is valid: the response is that for an unknown user or session.
async fn taken(service: &Service, path: &str, field: &str, value: Value) {
    let mut body = valid(path);
    body[field] = value;
    let answer = service.post_json(path, &body).await;
    let unknown = match path {
        SIGNIN | CHANGE_PASSWORD_AFTER_SIGNIN => USERNAME_OR_PASSWORD_INCORRECT,
        SESSION_SIGNIN => SESSION_TOKEN_INCORRECT,
        _ => UNKNOWN_USERNAME,
    };
    assert_eq!((answer.status, answer.body.as_str()), unknown, "{path} {field}: {}", body[field]);
}

#[tokio::test]
async fn username() {
    let service = Service::new();
    for path in [SIGNIN, CHANGE_PASSWORD_AFTER_SIGNIN, SEND_EMAIL, CHECK_CODE, RESET_PASSWORD] {
        required(&service, path, "username").await;
        let no_string = "The username must be a string.";
        let too_long = "The username may not be greater than 190 characters.";
        let missing = "The username field is required.";
        refused(
            &service,
            path,
            "username",
            &[
                (json!("   "), missing),
                (json!("\t\n\u{a0}\u{3000}"), missing),
                (json!(33), no_string),
                (json!(true), no_string),
                (json!(["st.huber"]), no_string),
                (json!({"name": "st.huber"}), no_string),
                (json!("a".repeat(191)), too_long),
                (json!("😀".repeat(191)), too_long),
                // One character that is eighteen once it is normalised.
                (json!("ﷺ".repeat(11)), too_long),
                // One that is two in lower case.
                (json!("İ".repeat(96)), too_long),
                // 191 characters that would be 190 once they are composed.
                (json!(format!("{}e\u{301}", "a".repeat(189))), too_long),
            ],
        )
        .await;
    }
}

#[tokio::test]
async fn username_of_up_to_190_characters() {
    let service = Service::new();
    let unique = unknown_username();
    let padded = |with: &str| unique.clone() + &with.repeat(190 - unique.len());
    for path in [SIGNIN, SEND_EMAIL] {
        for username in
            [padded("a"), padded("😀"), padded("ö"), format!("{unique}İ"), format!("{unique}\0'\"")]
        {
            taken(&service, path, "username", json!(username)).await;
        }
    }
}

#[tokio::test]
async fn passwords() {
    let service = Service::new();
    for (path, field) in [
        (SIGNIN, "password"),
        (CHANGE_PASSWORD_AFTER_SIGNIN, "old_password"),
        (CHANGE_PASSWORD_AFTER_SIGNIN, "new_password"),
        (RESET_PASSWORD, "new_password"),
    ] {
        required(&service, path, field).await;
        let name = field.replace('_', " ");
        let no_string = format!("The {name} must be a string.");
        let too_long = format!("The {name} may not be greater than 256 characters.");
        refused(
            &service,
            path,
            field,
            &[
                (json!(12_345_678), &no_string),
                (json!(false), &no_string),
                (json!([PASSWORD]), &no_string),
                (json!({"password": PASSWORD}), &no_string),
                (json!("x".repeat(257)), &too_long),
                (json!("😀".repeat(257)), &too_long),
            ],
        )
        .await;
        for password in ["x".repeat(256), "😀".repeat(256), " ".repeat(8), "\0".repeat(8), "😀".repeat(8)]
        {
            taken(&service, path, field, json!(password)).await;
        }
    }
    for (path, field) in [(SIGNIN, "password"), (CHANGE_PASSWORD_AFTER_SIGNIN, "old_password")] {
        taken(&service, path, field, json!(" ")).await;
    }
}

#[tokio::test]
async fn a_new_password_has_a_minimum_length() {
    let service = Service::new();
    for path in [CHANGE_PASSWORD_AFTER_SIGNIN, RESET_PASSWORD] {
        let too_short = "The new password must be at least 8 characters.";
        refused(
            &service,
            path,
            "new_password",
            &[(json!("x"), too_short), (json!("7 chars"), too_short), (json!("😀😀😀😀😀😀😀"), too_short)],
        )
        .await;
        taken(&service, path, "new_password", json!("8 chars.")).await;
    }
}

#[tokio::test]
async fn a_new_password_differs_from_the_old_one() {
    let service = Service::new();
    let message = "The new password and old password must be different.";
    refused(&service, CHANGE_PASSWORD_AFTER_SIGNIN, "new_password", &[(json!(PASSWORD), message)]).await;
    for different in [format!("{PASSWORD} "), PASSWORD.to_lowercase()] {
        taken(&service, CHANGE_PASSWORD_AFTER_SIGNIN, "new_password", json!(different)).await;
    }
}

#[tokio::test]
async fn code() {
    let service = Service::new();
    for path in [CHECK_CODE, RESET_PASSWORD] {
        required(&service, path, "code").await;
        let message = "The code must be between 1 and 6 digits.";
        refused(
            &service,
            path,
            "code",
            &[
                (json!("1234567"), message),
                (json!("0000000"), message),
                (json!("48290a"), message),
                (json!(" "), message),
                (json!("482 901"), message),
                (json!("482\u{a0}901"), message),
                (json!("\u{200b}482901"), message),
                (json!("482901\0"), message),
                (json!("+48290"), message),
                (json!("-48290"), message),
                (json!("482.90"), message),
                (json!("４８２９０１"), message),
                (json!("٤٨٢٩٠١"), message),
                (json!(1_000_000), message),
                (json!(-1), message),
                (json!(4829.5), message),
                (json!(u64::MAX), message),
                (json!(true), message),
                (json!(["482901"]), message),
                (json!({"code": "482901"}), message),
            ],
        )
        .await;
        for code in [
            json!("0"),
            json!("000000"),
            json!("12345"),
            json!("999999"),
            json!(" 482901"),
            json!("482901\r\n"),
            json!("\u{3000}482901\u{a0}\u{2009}"),
            json!(0),
            json!(99_999),
            json!(999_999),
        ] {
            taken(&service, path, "code", code).await;
        }
    }
}

#[tokio::test]
async fn session_token() {
    let service = Service::new();
    required(&service, SESSION_SIGNIN, "session_token").await;
    let no_string = "The session token must be a string.";
    let too_long = "The session token may not be greater than 190 characters.";
    refused(
        &service,
        SESSION_SIGNIN,
        "session_token",
        &[
            (json!(33), no_string),
            (json!(true), no_string),
            (json!(["x"]), no_string),
            (json!({"token": "x"}), no_string),
            (json!("x".repeat(191)), too_long),
            (json!("😀".repeat(191)), too_long),
        ],
    )
    .await;
    for session_token in ["x".repeat(190), "😀".repeat(190), " ".to_owned(), "\0".to_owned()] {
        taken(&service, SESSION_SIGNIN, "session_token", json!(session_token)).await;
    }
}

#[tokio::test]
async fn session_information() {
    let service = Service::new();
    for path in [SIGNIN, CHANGE_PASSWORD_AFTER_SIGNIN, SESSION_SIGNIN] {
        let length = "The session information must be between 1 and 190 characters.";
        let no_string = "The session information must be a string.";
        refused(
            &service,
            path,
            "session_information",
            &[
                (json!(""), length),
                (json!("x".repeat(191)), length),
                (json!("😀".repeat(191)), length),
                (json!(69), no_string),
                (json!(false), no_string),
                (json!(["Firefox: 69"]), no_string),
                (json!({"Firefox": 69}), no_string),
            ],
        )
        .await;
        for information in [json!(null), json!(" "), json!("x".repeat(190)), json!("😀".repeat(190))] {
            taken(&service, path, "session_information", information).await;
        }
    }
}

#[tokio::test]
async fn stay_logged_in() {
    let service = Service::new();
    for path in [SIGNIN, CHANGE_PASSWORD_AFTER_SIGNIN] {
        let message = "The stay logged in field must be true or false.";
        let values = [json!("true"), json!("false"), json!(""), json!(1), json!(0), json!([true]), json!({})];
        let cases = values.map(|value| (value, message));
        refused(&service, path, "stay_logged_in", &cases).await;
        for stay_logged_in in [json!(null), json!(true), json!(false)] {
            taken(&service, path, "stay_logged_in", stay_logged_in).await;
        }
    }
}

#[tokio::test]
async fn all_invalid_fields_are_reported_together_in_the_documented_order() {
    let service = Service::new();
    let username = ("username", "The username field is required.");
    let session_information =
        ("session_information", "The session information must be between 1 and 190 characters.");
    let stay_logged_in = ("stay_logged_in", "The stay logged in field must be true or false.");
    let session = json!({"stay_logged_in": "yes", "session_information": ""});

    let all = [
        (
            SIGNIN,
            vec![
                username,
                ("password", "The password field is required."),
                session_information,
                stay_logged_in,
            ],
        ),
        (
            CHANGE_PASSWORD_AFTER_SIGNIN,
            vec![
                username,
                ("old_password", "The old password field is required."),
                ("new_password", "The new password field is required."),
                session_information,
                stay_logged_in,
            ],
        ),
        (SEND_EMAIL, vec![username]),
        (
            SESSION_SIGNIN,
            vec![("session_token", "The session token field is required."), session_information],
        ),
        (CHECK_CODE, vec![username, ("code", "The code field is required.")]),
        (
            RESET_PASSWORD,
            vec![
                username,
                ("code", "The code field is required."),
                ("new_password", "The new password field is required."),
            ],
        ),
    ];
    for (path, fields) in all {
        service.post_json(path, &session).await.is((422, &validation_failed(&fields)));
    }
}

#[tokio::test]
async fn an_invalid_field_is_reported_before_an_unknown_user_or_a_code() {
    let service = Service::new();
    let user = service.user().create().await;
    let code = service.code_for(&user).await;

    assert_eq!(service.reset_password(&unknown_username(), &code, "short").await.status, 422);
    assert_eq!(service.reset_password(&user.username, &code, "short").await.status, 422);
    service.reset_password(&user.username, &code, NEW_PASSWORD).await.is(CHANGED_PASSWORD);
}
