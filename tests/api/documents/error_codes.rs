//! Each operation answers with every error code that `openapi.yaml` has for it. (Other tests would find one that it does not
//! have.)

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::openapi::error_codes;
use crate::answers::{RATE_LIMIT_EXCEEDED, SENT};
use crate::helpers::{
    ApiResponse, CHANGE_MY_PASSWORD, CHANGE_PASSWORD_AFTER_SIGNIN, CHECK_CODE, CHECK_OLD_PASSWORD, LOG_OUT,
    NEW_PASSWORD, PASSWORD, RESET_PASSWORD, SEND_EMAIL, SESSION_SIGNIN, SESSIONS, SIGNIN, Service, User,
    WRONG_CODE, WRONG_PASSWORD, claims, unknown_username,
};

/// The statuses of a refused origin, a defect and an outage, which no operation decides by itself.
const SHARED: [u16; 3] = [403, 500, 503];

/// The answers of the operations so far.
struct Seen<'a> {
    service: &'a Service,
    codes: BTreeSet<(String, u16, Option<String>)>,
}

impl Seen<'_> {
    fn note(&mut self, id: &str, answer: &ApiResponse) {
        assert!(answer.status >= 400, "{id}: {answer:?}");
        let code = answer.json()["error_code"].as_str().map(str::to_owned);
        self.codes.insert((id.to_owned(), answer.status, code));
    }

    async fn post(&mut self, id: &str, path: &str, token: &str, body: &Value) {
        let request = self.service.request("POST", path).bearer_auth(token).json(body);
        self.note(id, &ApiResponse::to(request).await);
    }

    /// Sends the bodies that every operation with a body refuses. A token does no harm where none is needed.
    async fn post_bad_bodies(&mut self, id: &str, path: &str, token: &str) {
        for body in ["{".to_owned(), "{}".to_owned(), json!({"padding": "x".repeat(20_000)}).to_string()] {
            let request = self.service.request("POST", path).bearer_auth(token).body(body);
            self.note(id, &ApiResponse::to(request).await);
        }
    }

    /// Sends the tokens that every operation with a token refuses.
    async fn send_bad_tokens(&mut self, id: &str, method: &str, path: &str, expired: &str) {
        for authorization in ["", "Bearer x.y.z", &format!("Bearer {expired}")] {
            let request = self.service.request(method, path).header("authorization", authorization);
            self.note(id, &ApiResponse::to(request).await);
        }
    }
}

/// An expired token of the owner of a token.
async fn expired(service: &Service, token: &str) -> String {
    let (header, mut claims) = (jsonwebtoken::decode_header(token).unwrap(), claims(token));
    let issued = claims["iat"].as_i64().unwrap();
    claims["iat"] = json!(issued - 3601);
    claims["exp"] = json!(issued - 1);
    service.jwt_secret().await.sign(&header, &claims)
}

/// A user whose sign-ins have to wait.
async fn limited(service: &Service) -> User {
    let user = service.user().due_a_password_change().create().await;
    service.set_failures(&user.username, 20, Duration::ZERO).await;
    user
}

#[tokio::test]
async fn every_documented_error_code_is_answered() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    let mut seen = Seen { service: &service, codes: BTreeSet::new() };
    sign_in(&mut seen, &user, &token).await;
    reset(&mut seen, &user, &token).await;
    use_tokens(&mut seen, &token).await;

    let mut documented = error_codes();
    documented.retain(|(_, status, _)| !SHARED.contains(status));
    assert_eq!(seen.codes, documented);
}

async fn sign_in(seen: &mut Seen<'_>, user: &User, token: &str) {
    let service = seen.service;
    let inactive = service.user().not_activated().create().await;
    let due = service.user().due_a_password_change().create().await;
    let limited = limited(service).await;
    seen.post_bad_bodies("signIn", SIGNIN, token).await;
    for (username, password) in [
        (&user.username, WRONG_PASSWORD),
        (&inactive.username, PASSWORD),
        (&due.username, PASSWORD),
        (&limited.username, PASSWORD),
    ] {
        let body = json!({"username": username, "password": password});
        seen.post("signIn", SIGNIN, token, &body).await;
    }

    let id = "changePasswordAfterSignin";
    seen.post_bad_bodies(id, CHANGE_PASSWORD_AFTER_SIGNIN, token).await;
    for (username, password) in [
        (&due.username, WRONG_PASSWORD),
        (&inactive.username, PASSWORD),
        (&user.username, PASSWORD),
        (&limited.username, PASSWORD),
    ] {
        let body = json!({"username": username, "old_password": password, "new_password": NEW_PASSWORD});
        seen.post(id, CHANGE_PASSWORD_AFTER_SIGNIN, token, &body).await;
    }

    seen.post_bad_bodies("signInWithSession", SESSION_SIGNIN, token).await;
    seen.post("signInWithSession", SESSION_SIGNIN, token, &json!({"session_token": "x"})).await;
}

async fn reset(seen: &mut Seen<'_>, user: &User, token: &str) {
    let service = seen.service;
    let (unknown, no_address) =
        (unknown_username(), service.user().with("email_addresses", json!([])).create().await);
    let limited = service.user().create().await;
    for _ in 0..5 {
        service.send_email(&limited.username).await.is(SENT);
    }
    service.set_tries(&limited, 12).await;
    service.code_for(user).await;

    seen.post_bad_bodies("sendResetCode", SEND_EMAIL, token).await;
    for username in [&unknown, &no_address.username, &limited.username] {
        seen.post("sendResetCode", SEND_EMAIL, token, &json!({"username": username})).await;
    }
    for (id, path) in [("checkResetCode", CHECK_CODE), ("resetPassword", RESET_PASSWORD)] {
        seen.post_bad_bodies(id, path, token).await;
        for username in [&unknown, &no_address.username, &limited.username, &user.username] {
            let body = json!({"username": username, "code": WRONG_CODE, "new_password": NEW_PASSWORD});
            seen.post(id, path, token, &body).await;
        }
    }
}

async fn use_tokens(seen: &mut Seen<'_>, token: &str) {
    let service = seen.service;
    let expired = expired(service, token).await;
    let session = format!("{SESSIONS}/1");
    seen.send_bad_tokens("listSessions", "GET", SESSIONS, &expired).await;
    seen.send_bad_tokens("deleteSession", "DELETE", &session, &expired).await;
    seen.note("deleteSession", &service.delete_session(token, "1").await);
    seen.send_bad_tokens("logOut", "POST", LOG_OUT, &expired).await;
    seen.post_bad_bodies("logOut", LOG_OUT, token).await;
    seen.post("logOut", LOG_OUT, token, &json!({"session_token": "x"})).await;

    let limited = service.user().create().await;
    let token_of_limited = service.token_of(&limited).await;
    service.set_failures(&limited.username, 20, Duration::ZERO).await;
    service.check_old_password(&token_of_limited, PASSWORD).await.is_refused_for(RATE_LIMIT_EXCEEDED);
    for (id, path) in [("checkMyPassword", CHECK_OLD_PASSWORD), ("changeMyPassword", CHANGE_MY_PASSWORD)] {
        seen.send_bad_tokens(id, "POST", path, &expired).await;
        seen.post_bad_bodies(id, path, token).await;
        let body =
            json!({"password": WRONG_PASSWORD, "old_password": WRONG_PASSWORD, "new_password": NEW_PASSWORD});
        seen.post(id, path, token, &body).await;
        seen.post(id, path, &token_of_limited, &body).await;
    }
}
