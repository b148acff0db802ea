//! The check and the change of the password by a signed-in user of the original clients. The forms of the token are
//! tested in `sessions` too, the budgets of failures in `throttling` and `races`.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::answers::{
    MALFORMED_JSON, NEW_PASSWORD_SET, PASSWORD_CHANGED, PASSWORD_CORRECT, PASSWORD_INCORRECT,
    RATE_LIMIT_EXCEEDED, SESSION_TOKEN_INCORRECT, TOKEN_EXPIRED, TOKEN_INCORRECT, TOKEN_NOT_PROVIDED,
    USERNAME_OR_PASSWORD_INCORRECT, validation_failed,
};
use crate::helpers::{
    ApiResponse, CHANGE_MY_PASSWORD, CHECK_OLD_PASSWORD, MINUTE, NEW_PASSWORD, PASSWORD, Service,
    WRONG_PASSWORD, claims,
};

/// Both routes, each with a good body of a user with [`PASSWORD`].
fn routes() -> [(&'static str, Value); 2] {
    [
        (CHECK_OLD_PASSWORD, json!({"password": PASSWORD})),
        (CHANGE_MY_PASSWORD, json!({"old_password": PASSWORD, "new_password": NEW_PASSWORD})),
    ]
}

#[tokio::test]
async fn a_check_distinguishes_right_and_wrong_and_changes_nothing() {
    let service = Service::new();
    let user = service.user().create().await;
    let (token, session_token) = service.session_of(&user).await;
    let stored = service.stored_apart_from_attempts(&user).await;

    service.check_old_password(&token, PASSWORD).await.is(PASSWORD_CORRECT);
    service.check_old_password(&token, WRONG_PASSWORD).await.is(PASSWORD_INCORRECT);
    service.check_old_password(&token, &format!("{PASSWORD} ")).await.is(PASSWORD_INCORRECT);
    service.check_old_password(&token, PASSWORD).await.is(PASSWORD_CORRECT);

    assert_eq!(service.stored_apart_from_attempts(&user).await, stored);
    assert!(service.mails_to(&user.email).await.is_empty());
    service.session_signin(&session_token).await.token_of_session();
}

#[tokio::test]
async fn the_new_password_replaces_the_old() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;

    service.change_my_password(&token, PASSWORD, NEW_PASSWORD).await.is(PASSWORD_CHANGED);

    service.signin(&user.username, PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
    service.signin(&user.username, NEW_PASSWORD).await.token();
}

#[tokio::test]
async fn a_change_revokes_everything_but_the_token_that_made_it() {
    let service = Service::new();
    let user = service.user().create().await;
    let (token, session_token) = service.session_of(&user).await;
    let (other, other_session_token) = service.session_of(&user).await;

    service.change_my_password(&token, PASSWORD, NEW_PASSWORD).await.is(PASSWORD_CHANGED);

    assert!(service.takes(&token).await);
    service.check_old_password(&token, NEW_PASSWORD).await.is(PASSWORD_CORRECT);
    service.check_old_password(&other, NEW_PASSWORD).await.is(TOKEN_INCORRECT);
    for session_token in [session_token, other_session_token] {
        service.session_signin(&session_token).await.is(SESSION_TOKEN_INCORRECT);
    }
    // The token stays valid, and can change the password again.
    service.change_my_password(&token, NEW_PASSWORD, PASSWORD).await.is(PASSWORD_CHANGED);
    service.change_password(&token, PASSWORD, NEW_PASSWORD).await.is(NEW_PASSWORD_SET);
    service.change_my_password(&token, NEW_PASSWORD, PASSWORD).await.is(PASSWORD_CHANGED);
    service.token_of(&user).await;
}

#[tokio::test]
async fn a_change_completes_a_pending_password_change() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    service.update(&user, json!({"must_change_password": true})).await;

    service.check_old_password(&token, PASSWORD).await.is(PASSWORD_CORRECT);
    service.change_my_password(&token, PASSWORD, NEW_PASSWORD).await.is(PASSWORD_CHANGED);

    service.signin(&user.username, NEW_PASSWORD).await.token();
}

#[tokio::test]
async fn a_wrong_old_password_changes_nothing() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;

    service.change_my_password(&token, WRONG_PASSWORD, NEW_PASSWORD).await.is(PASSWORD_INCORRECT);

    service.signin(&user.username, PASSWORD).await.token();
    assert!(service.mails_to(&user.email).await.is_empty());
}

#[tokio::test]
async fn the_token_is_read_from_the_header_or_the_query() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    let bearer = format!("Bearer {token}");
    let takes = None;
    for (query, authorization, refused) in [
        (String::new(), Some(&*bearer), takes),
        (String::new(), Some(&*bearer.replacen(' ', ": ", 1)), takes),
        (format!("?token={token}"), None, takes),
        // A refreshed token is appended to the old one; the last one wins.
        (format!("?token=x.y.z&token={token}"), None, takes),
        (format!("?token={token}&token=x.y.z"), None, Some(TOKEN_INCORRECT)),
        // The header wins over the query.
        ("?token=x.y.z".to_owned(), Some(&*bearer), takes),
        (format!("?token={token}"), Some("Bearer null"), Some(TOKEN_INCORRECT)),
        (String::new(), Some("Bearer null"), Some(TOKEN_INCORRECT)),
        ("?token=null".to_owned(), None, Some(TOKEN_INCORRECT)),
        (String::new(), None, Some(TOKEN_NOT_PROVIDED)),
        ("?token=".to_owned(), None, Some(TOKEN_NOT_PROVIDED)),
        (String::new(), Some("Bearer"), Some(TOKEN_NOT_PROVIDED)),
    ] {
        for (path, _) in routes() {
            let mut request = service.request("POST", &format!("{path}{query}")).body("{}");
            if let Some(authorization) = authorization {
                request = request.header("authorization", authorization);
            }
            let answer = ApiResponse::to(request).await;
            match refused {
                Some(refused) => answer.is(refused),
                // An empty body is validated only after the token.
                None => assert_eq!(answer.status, 422, "{path}{query} {authorization:?}: {answer:?}"),
            }
        }
    }
}

#[tokio::test]
async fn the_token_is_checked_before_anything_else() {
    let service = Service::new();
    let user = service.user().create().await;
    let revoked = service.token_of(&user).await;
    service.manage_user("revoke_sessions", &user).await;
    let token = service.token_of(&user).await;
    let (header, mut claims) = (jsonwebtoken::decode_header(&token).unwrap(), claims(&token));
    let issued = claims["iat"].as_i64().unwrap();
    claims["iat"] = json!(issued - 3601);
    claims["exp"] = json!(issued - 1);
    let expired = service.jwt_secret().await.sign(&header, &claims);

    for (path, body) in routes() {
        for body in [body.to_string(), "{}".to_owned(), "{".to_owned(), " ".repeat(17 * 1024)] {
            service.post(path, body.clone()).await.is(TOKEN_NOT_PROVIDED);
            service.post(&format!("{path}?token={revoked}"), body.clone()).await.is(TOKEN_INCORRECT);
            service.post(&format!("{path}?token={expired}"), body).await.is(TOKEN_EXPIRED);
        }
    }
    assert_eq!(service.failures(&user.username).await, 0);
    service.token_of(&user).await;
}

#[tokio::test]
async fn the_body_is_checked_before_the_rate_limit() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    service.set_failures(&user.username, 20, MINUTE).await;

    for (path, body) in routes() {
        let path = format!("{path}?token={token}");
        for malformed in ["", "{", "[]", "null", r#"{"password":"x","old_password":"x",}"#] {
            service.post(&path, malformed).await.is(MALFORMED_JSON);
        }
        let field = if body["password"].is_string() { "password" } else { "new_password" };
        service.post(&path, format!(r#"{{"{field}":"1","{field}":"1"}}"#)).await.is(MALFORMED_JSON);
        let answer = service.post(&path, format!("{body}{}", " ".repeat(16 * 1024))).await;
        assert_eq!((answer.status, &answer.json()["error_code"]), (413, &json!("payload_too_large")));
        assert_eq!(service.post(&path, "{}").await.status, 422);

        service.post_json(&path, &body).await.is_refused_for(RATE_LIMIT_EXCEEDED);
    }
}

#[tokio::test]
async fn every_invalid_field_is_named() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    let too_long = "x".repeat(257);
    let required = |field: &str| format!("The {field} field is required.");
    let no_string = |field: &str| format!("The {field} must be a string.");
    let long = |field: &str| format!("The {field} may not be greater than 256 characters.");

    let path = format!("{CHECK_OLD_PASSWORD}?token={token}");
    for (value, message) in [
        (Value::Null, required("password")),
        (json!(""), required("password")),
        (json!(33), no_string("password")),
        (json!(too_long), long("password")),
    ] {
        let answer = service.post_json(&path, &json!({"password": value})).await;
        answer.is((422, &validation_failed(&[("password", &message)])));
    }
    let old = "old password";
    let new = "new password";
    let short = "The new password must be at least 8 characters.".to_owned();
    let path = format!("{CHANGE_MY_PASSWORD}?token={token}");
    for (body, messages) in [
        (json!({}), [Some(required(old)), Some(required(new))]),
        (json!({"old_password": null, "new_password": ""}), [Some(required(old)), Some(required(new))]),
        (json!({"old_password": [], "new_password": 1}), [Some(no_string(old)), Some(no_string(new))]),
        (json!({"old_password": too_long, "new_password": too_long}), [Some(long(old)), Some(long(new))]),
        (json!({"old_password": PASSWORD, "new_password": "7 chars"}), [None, Some(short.clone())]),
        // The old password is compared only if both fields are valid.
        (json!({"old_password": WRONG_PASSWORD, "new_password": "7 chars"}), [None, Some(short)]),
        (json!({"old_password": "", "new_password": NEW_PASSWORD}), [Some(required(old)), None]),
    ] {
        let names = ["old_password", "new_password"].into_iter();
        let failing: Vec<(&str, &str)> =
            names.zip(&messages).filter_map(|(name, message)| Some((name, message.as_deref()?))).collect();
        let answer = service.post_json(&path, &body).await;
        answer.is((422, &validation_failed(&failing)));
    }
    assert_eq!(service.failures(&user.username).await, 0);
}

#[tokio::test]
async fn only_the_right_old_password_reveals_that_the_new_one_is_the_same() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    let same = validation_failed(&[("new_password", "The new password and old password must be different.")]);

    service.change_my_password(&token, WRONG_PASSWORD, WRONG_PASSWORD).await.is(PASSWORD_INCORRECT);
    assert_eq!(service.failures(&user.username).await, 1);
    service.change_my_password(&token, PASSWORD, PASSWORD).await.is((422, &same));

    // The old password was right all the same.
    assert_eq!(service.failures(&user.username).await, 0);
    service.token_of(&user).await;
}

#[tokio::test]
async fn a_wrong_password_counts_and_a_right_one_clears_the_count() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;

    service.check_old_password(&token, WRONG_PASSWORD).await.is(PASSWORD_INCORRECT);
    service.change_my_password(&token, WRONG_PASSWORD, NEW_PASSWORD).await.is(PASSWORD_INCORRECT);
    assert_eq!((service.failures(&user.username).await, service.failures_of_address().await), (2, 2));

    service.check_old_password(&token, PASSWORD).await.is(PASSWORD_CORRECT);
    assert_eq!((service.failures(&user.username).await, service.failures_of_address().await), (0, 2));

    service.check_old_password(&token, WRONG_PASSWORD).await.is(PASSWORD_INCORRECT);
    service.change_my_password(&token, PASSWORD, NEW_PASSWORD).await.is(PASSWORD_CHANGED);
    assert_eq!((service.failures(&user.username).await, service.failures_of_address().await), (0, 3));
}

#[tokio::test]
async fn one_of_several_changes_at_once_succeeds() {
    let service = Service::new();
    for with_one_token in [true, false] {
        let user = service.user().create().await;
        let first = service.token_of(&user).await;
        let tokens = join_all(
            (0..8).map(async |_| if with_one_token { first.clone() } else { service.token_of(&user).await }),
        )
        .await;
        let passwords: Vec<String> = (0..8).map(|number| format!("{NEW_PASSWORD}{number}")).collect();

        let answers = join_all(
            tokens
                .iter()
                .zip(&passwords)
                .map(async |(token, new)| service.change_my_password(token, PASSWORD, new).await),
        )
        .await;

        let winners: Vec<usize> = (0..8).filter(|place| answers[*place].status == 200).collect();
        let [winner] = winners[..] else { panic!("not one change: {answers:?}") };
        answers[winner].is(PASSWORD_CHANGED);
        for (place, answer) in answers.iter().enumerate().filter(|(place, _)| *place != winner) {
            let documented = [PASSWORD_INCORRECT, RATE_LIMIT_EXCEEDED, TOKEN_INCORRECT];
            let expected = if with_one_token { &documented[..2] } else { &documented[..] };
            assert!(
                expected.iter().any(|&(status, body)| (status, body) == (answer.status, &*answer.body)),
                "{place}: {answer:?}"
            );
        }
        assert!(service.takes(&tokens[winner]).await);
        service.manage_user("unlock", &user).await;
        for (place, password) in passwords.iter().enumerate() {
            let signed_in = service.signin(&user.username, password).await;
            assert_eq!(signed_in.status == 200, place == winner, "{signed_in:?}");
        }
        assert_eq!(service.mails_to(&user.email).await.len(), 1);
    }
}
