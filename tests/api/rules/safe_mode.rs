//! `PREVENT_USER_EXISTENCE_ERRORS`: no response of forgotPassword reveals whether a user exists.

use futures_util::future::{join, join_all};
use serde_json::json;

use crate::answers::{
    CHANGED_PASSWORD, CODE_CORRECT, CODE_INCORRECT, Documented, RATE_LIMIT_EXCEEDED, SENT,
    USERNAME_OR_PASSWORD_INCORRECT, validation_failed,
};
use crate::helpers::{
    ApiResponse, NEW_PASSWORD, PASSWORD, SEND_EMAIL, Service, User, WRONG_CODE, count, unknown_username,
};

async fn service() -> Service {
    // All requests come from one address.
    let settings = [
        ("PREVENT_USER_EXISTENCE_ERRORS", "true"),
        ("CODE_FAILURES_PER_IP", "0"),
        ("RESET_MAILS_PER_IP", "0"),
    ];
    Service::with_settings(settings).await
}

fn unknown_user() -> User {
    let username = unknown_username();
    User { email: format!("{username}@example.com"), username, id: String::new() }
}

/// All responses that an attacker sees for one username, from the first code to the last send, each with the expected one.
async fn protocol(service: &Service, user: &User) -> Vec<(ApiResponse, Documented)> {
    let username = &user.username;
    let mut answers = Vec::new();
    // Wrong codes where there is none use no tries.
    for _ in 0..7 {
        answers.push((service.check_code(username, WRONG_CODE).await, CODE_INCORRECT));
        answers.push((service.reset_password(username, WRONG_CODE, NEW_PASSWORD).await, CODE_INCORRECT));
    }
    answers.push((service.send_email(username).await, SENT));
    for _ in 0..6 {
        answers.push((service.check_code(username, WRONG_CODE).await, CODE_INCORRECT));
        answers.push((service.reset_password(username, WRONG_CODE, NEW_PASSWORD).await, CODE_INCORRECT));
    }
    answers.push((service.check_code(username, WRONG_CODE).await, RATE_LIMIT_EXCEEDED));
    answers.push((service.reset_password(username, WRONG_CODE, NEW_PASSWORD).await, RATE_LIMIT_EXCEEDED));
    // A new code has its tries, in whatever form the name is written.
    answers.push((service.send_email(&username.to_uppercase()).await, SENT));
    answers.push((service.check_code(username, WRONG_CODE).await, CODE_INCORRECT));
    service.expire_code(user).await;
    answers.push((service.check_code(username, WRONG_CODE).await, CODE_INCORRECT));
    answers.push((service.reset_password(username, WRONG_CODE, NEW_PASSWORD).await, CODE_INCORRECT));
    // The limit of sends does not show either.
    for _ in 0..4 {
        answers.push((service.send_email(username).await, SENT));
    }
    answers
}

#[tokio::test]
async fn known_and_unknown_users_are_indistinguishable() {
    let service = service().await;
    let users = [
        service.user().create().await,
        service.user().not_activated().due_a_password_change().create().await,
        service.user().with("email_addresses", json!([])).create().await,
        service.user().create().await,
        unknown_user(),
    ];
    service.make_unreachable(&users[3]).await;

    let transcripts = join_all(users.iter().map(|user| protocol(&service, user))).await;

    for transcript in &transcripts {
        for ((answer, documented), (first, _)) in transcript.iter().zip(&transcripts[0]) {
            answer.is(*documented);
            let headers = |answer: &ApiResponse| {
                let mut names: Vec<String> = answer.headers.keys().map(ToString::to_string).collect();
                names.sort_unstable();
                names
            };
            assert_eq!(headers(answer), headers(first));
        }
    }
    assert_eq!(service.mails_to(&users[0].email).await.len(), 5);
    assert!(service.mails_to(&users[4].email).await.is_empty());
}

#[tokio::test]
async fn a_known_user_can_reset_the_password() {
    let service = service().await;
    let user = service.user().create().await;

    let code = service.code_for(&user).await;
    service.check_code(&user.username, &code).await.is(CODE_CORRECT);
    service.reset_password(&user.username, &code, NEW_PASSWORD).await.is(CHANGED_PASSWORD);

    // The response does not reveal that the code was used either.
    service.check_code(&user.username, &code).await.is(CODE_INCORRECT);
    service.reset_password(&user.username, &code, PASSWORD).await.is(CODE_INCORRECT);
    service.signin(&user.username, PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
    service.signin(&user.username, NEW_PASSWORD).await.token();
}

#[tokio::test]
async fn limits_are_exact_and_look_alike_for_known_and_unknown_users() {
    let service = service().await;
    let (user, unknown) = (service.user().create().await, unknown_user());
    let at_once = async |user: &User| {
        let sends = join_all((0..12).map(async |_| service.send_email(&user.username).await)).await;
        assert_eq!(count(&sends, [SENT]), [12]);
        let tries =
            join_all((0..40).map(async |_| service.check_code(&user.username, WRONG_CODE).await)).await;
        assert_eq!(count(&tries, [CODE_INCORRECT, RATE_LIMIT_EXCEEDED]), [12, 28]);
    };
    join(at_once(&user), at_once(&unknown)).await;
    assert_eq!(service.mails_to(&user.email).await.len(), 5);
}

#[tokio::test]
async fn an_unknown_username_is_not_stored_with_its_code() {
    let service = service().await;
    let unknown = unknown_user();
    service.send_email(&unknown.username).await.is(SENT);
    let code = service.stored_code(&unknown).await.unwrap();
    assert!(!format!("{code:?}").contains(&unknown.username), "{code:?}");
}

#[tokio::test]
async fn an_invalid_field_is_still_reported() {
    let service = service().await;
    let missing = validation_failed(&[("username", "The username field is required.")]);
    service.post(SEND_EMAIL, "{}").await.is((422, &missing));
    assert_eq!(service.reset_password(&unknown_username(), WRONG_CODE, "short").await.status, 422);
}

#[tokio::test]
async fn a_username_with_requested_codes_can_be_given_to_a_user() {
    let service = service().await;
    let unknown = unknown_user();
    service.send_email(&unknown.username).await.is(SENT);

    let user = service.user().with("username", unknown.username.clone()).create().await;
    let user = User { email: user.email, ..unknown };
    service.check_code(&user.username, WRONG_CODE).await.is(CODE_INCORRECT);
    service.send_email(&user.username).await.is(SENT);
    assert_eq!(service.signin(&user.username, PASSWORD).await.status, 200);
}

#[tokio::test]
async fn known_and_unknown_users_use_up_the_budget_of_an_address_alike() {
    for known in [true, false] {
        let settings = [("PREVENT_USER_EXISTENCE_ERRORS", "true"), ("CODE_FAILURES_PER_IP", "4")];
        let service = Service::with_settings(settings).await;
        let user = if known { service.user().create().await } else { unknown_user() };
        service.check_code(&user.username, WRONG_CODE).await.is(CODE_INCORRECT);
        service.send_email(&user.username).await.is(SENT);
        for _ in 0..3 {
            service.check_code(&user.username, WRONG_CODE).await.is(CODE_INCORRECT);
        }
        service.check_code(&user.username, WRONG_CODE).await.is_refused_for(RATE_LIMIT_EXCEEDED);
    }
}
