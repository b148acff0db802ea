//! The service of breached passwords: when it is asked, and the effect of its responses.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::blocklist::{WAYS, Way, sets, user_of_another_local_part};
use crate::answers::{
    CHANGED_PASSWORD, CODE_INCORRECT, PASSWORD_INCORRECT, TOKEN_INCORRECT, USERNAME_OR_PASSWORD_INCORRECT,
    change_password_errors, validation_failed,
};
use crate::helpers::{
    BREACHED, BREACHES, BreachService, NEW_PASSWORD, PADDING, PASSWORD, Service, WRONG_CODE, WRONG_PASSWORD,
};

/// A service that waits long enough for responses on a busy machine.
async fn service_with(breaches: &BreachService) -> Service {
    let settings = [("PASSWORD_BREACH_URL", &*breaches.url), ("PASSWORD_BREACH_TIMEOUT_MS", "5000")];
    Service::with_settings(settings).await
}

#[tokio::test]
async fn a_breached_password_is_refused_by_every_way_of_setting_one() {
    let breaches = BreachService::answering(200, BREACHES).await;
    let service = service_with(&breaches).await;
    for way in WAYS {
        assert!(!sets(&service, way, |_, _| BREACHED.to_owned()).await, "{way:?}");
        // Padding has the count zero.
        assert!(sets(&service, way, |_, _| PADDING.to_owned()).await, "{way:?}");
        assert!(sets(&service, way, |_, _| NEW_PASSWORD.to_owned()).await, "{way:?}");
    }
}

#[tokio::test]
async fn the_service_learns_five_digits_of_a_hash_and_no_more() {
    let breaches = BreachService::answering(200, BREACHES).await;
    let service = service_with(&breaches).await;
    assert!(!sets(&service, Way::Reset, |_, _| BREACHED.to_owned()).await);

    let [request] = &breaches.requests()[..] else { panic!("{:?}", breaches.requests()) };
    let mut lines: Vec<&str> = request.trim_end().split("\r\n").collect();
    lines.sort_unstable();
    let host = breaches.url.replace("http://", "host: ");
    let user_agent = concat!("user-agent: postern/", env!("CARGO_PKG_VERSION"));
    assert_eq!(lines, ["GET /range/ABF7A HTTP/1.1", "add-padding: true", &host, user_agent]);
}

#[tokio::test]
async fn a_service_that_fails_refuses_no_password() {
    let too_large = BREACHES.repeat(3000);
    let answering = [
        (500, BREACHES),
        (404, ""),
        (429, BREACHES),
        (302, BREACHES),
        (200, ""),
        (200, "<html>AD6438836DBE526AA231ABDE2D0EEF74D42:384</html>"),
        (200, "AD6438836DBE526AA231ABDE2D0EEF74D42:384\r\nan error"),
        (200, &too_large),
    ];
    let services = join_all(answering.map(|(status, body)| BreachService::answering(status, body))).await;
    let tried = services.iter().map(async |breaches| {
        let service = service_with(breaches).await;
        assert!(sets(&service, Way::Reset, |_, _| BREACHED.to_owned()).await, "{}", breaches.url);
        assert_eq!(breaches.requests().len(), 1);
    });
    join_all(tried).await;

    let silent = BreachService::silent().await;
    for url in [&*silent.url, "http://127.0.0.1:1"] {
        let settings = [("PASSWORD_BREACH_URL", url), ("PASSWORD_BREACH_TIMEOUT_MS", "100")];
        let service = Service::with_settings(settings).await;
        assert!(sets(&service, Way::Reset, |_, _| BREACHED.to_owned()).await, "{url}");
    }
}

#[tokio::test]
async fn the_service_is_asked_only_if_nothing_else_is_wrong() {
    let breaches = BreachService::answering(200, BREACHES).await;
    let service = service_with(&breaches).await;
    let (user, local_part) = user_of_another_local_part(&service).await;

    let forced =
        async |old: &str, new: &str| service.change_password_after_signin(&user.username, old, new).await;
    forced(WRONG_PASSWORD, BREACHED).await.is(USERNAME_OR_PASSWORD_INCORRECT);
    assert_eq!(forced(PASSWORD, PASSWORD).await.status, 422);
    assert_eq!(forced(PASSWORD, "password").await.status, 422);
    assert_eq!(forced(PASSWORD, &local_part).await.status, 422);

    let code = service.code_for(&user).await;
    service.reset_password(&user.username, WRONG_CODE, BREACHED).await.is(CODE_INCORRECT);
    assert_eq!(service.reset_password(&user.username, &code, &local_part).await.status, 422);

    service.update(&user, json!({"must_change_password": false})).await;
    assert_eq!(forced(PASSWORD, BREACHED).await.status, 400);
    let token = service.token_of(&user).await;
    service.change_my_password("x.y.z", PASSWORD, BREACHED).await.is(TOKEN_INCORRECT);
    service.change_my_password(&token, WRONG_PASSWORD, BREACHED).await.is(PASSWORD_INCORRECT);
    assert_eq!(service.change_my_password(&token, PASSWORD, PASSWORD).await.status, 422);
    for (old, check, codes) in [
        (json!(WRONG_PASSWORD), json!(BREACHED), &[4][..]),
        (Value::Null, json!(BREACHED), &[1]),
        (json!(PASSWORD), Value::Null, &[3]),
        (json!(PASSWORD), json!(NEW_PASSWORD), &[5]),
    ] {
        let body = json!({"old_password": old, "new_password": BREACHED, "new_password_check": check});
        let answer = service.change_password_as(&format!("Bearer {token}"), &body).await;
        answer.is((422, &change_password_errors(codes)));
    }

    let unknown = json!({"action": "set_password", "username": "no.such.user", "password": BREACHED});
    assert_eq!(service.manage(&unknown).await["error_code"], "unknown_username");
    let invalid = json!({"action": "create", "username": "", "password": BREACHED});
    assert_eq!(service.manage(&invalid).await["error_code"], "validation_failed");
    assert_eq!(breaches.requests(), [""; 0]);
}

#[tokio::test]
async fn a_breached_password_uses_no_try_of_a_code() {
    let breaches = BreachService::answering(200, BREACHES).await;
    let service = service_with(&breaches).await;
    let (user, _) = user_of_another_local_part(&service).await;
    let code = service.code_for(&user).await;
    let refusal = validation_failed(&[("new_password", "The new password is too common.")]);

    // More often than there are tries.
    for _ in 0..13 {
        service.reset_password(&user.username, &code, BREACHED).await.is((422, &refusal));
    }
    assert_eq!(service.tries(&user).await, 0);
    service.reset_password(&user.username, &code, NEW_PASSWORD).await.is(CHANGED_PASSWORD);
    assert_eq!(breaches.requests().len(), 14);
}
