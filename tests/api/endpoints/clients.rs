//! The requests of the original clients, and the responses that they need: of the web client (`DatePoll-Frontend` 0.16),
//! the Android app (`DatePoll-Android` 1.0) and the other system's JavaScript SDK.

use serde_json::{Value, json};

use crate::answers::{
    CHANGED_PASSWORD, CODE_CORRECT, CODE_INCORRECT, Documented, LOGGED_OUT, NEW_PASSWORD_SET,
    PASSWORD_CHANGED, PASSWORD_CORRECT, PASSWORD_INCORRECT, SENT, SESSION_DELETED, SESSION_TOKEN_INCORRECT,
    TOKEN_INCORRECT, TOKEN_NOT_PROVIDED, UNAUTHORIZED, USERNAME_OR_PASSWORD_INCORRECT,
    change_password_errors,
};
use crate::helpers::{
    ApiResponse, CHANGE_MY_PASSWORD, CHANGE_PASSWORD, CHANGE_PASSWORD_AFTER_SIGNIN, CHECK_CODE,
    CHECK_OLD_PASSWORD, LOG_OUT, PASSWORD, RESET_PASSWORD, SEND_EMAIL, SESSION_SIGNIN, SESSIONS, SIGNIN,
    Service, User, WRONG_PASSWORD, unknown_username,
};

/// The origin of the web client's development server.
const ORIGIN: &str = "http://localhost:9110";

/// A new password that the clients take: six characters are enough for them.
const SIX_CHARACTERS: &str = "Sechs6";

/// A deployment with the settings that DEPLOYMENT.md recommends for the original clients.
async fn deployment() -> Service {
    Service::with_settings([("PASSWORD_MIN_LENGTH", "6"), ("CORS_ALLOW_ORIGINS", ORIGIN)]).await
}

/// The web client in Chromium, on a page of another origin.
struct Web(Service);

impl Web {
    /// Sends a request, after a preflight if the browser needs one.
    async fn send(&self, method: &str, path: &str, body: Option<&Value>) -> ApiResponse {
        if method != "GET" {
            let asks = self.0.request("OPTIONS", path).header("origin", ORIGIN);
            let asks = asks.header("access-control-request-method", method);
            let asks = match body {
                Some(_) => asks.header("access-control-request-headers", "content-type"),
                None => asks,
            };
            let allowed = ApiResponse::to(asks).await;
            assert_eq!(allowed.status, 204, "{method} {path}: {allowed:?}");
            assert_eq!(allowed.header("access-control-allow-origin"), Some(ORIGIN));
            assert!(allowed.header("access-control-allow-methods").unwrap().contains(method), "{allowed:?}");
            let headers = allowed.header("access-control-allow-headers").unwrap();
            assert!(headers.contains("content-type"), "{allowed:?}");
        }
        let request = self.0.request(method, path);
        let request = request
            .header("accept", "application/json, text/plain, */*")
            .header("origin", ORIGIN)
            .header("referer", format!("{ORIGIN}/"))
            .header("sec-fetch-mode", "cors")
            .header("sec-fetch-site", "same-site");
        let request = match body {
            Some(body) => request.header("content-type", "application/json").body(body.to_string()),
            None => request,
        };
        let answer = ApiResponse::to(request).await;
        assert_eq!(answer.header("access-control-allow-origin"), Some(ORIGIN), "{method} {path}: {answer:?}");
        answer
    }

    async fn post(&self, path: &str, body: &Value) -> ApiResponse {
        self.send("POST", path, Some(body)).await
    }

    async fn sign_in(&self, user: &User, password: &str) -> ApiResponse {
        let body = json!({
            "username": user.username,
            "password": password,
            "stay_logged_in": true,
            "session_information": "Chrome - 156; OS: Linux; Phone: false",
        });
        self.post(SIGNIN, &body).await
    }

    /// Gets a new token by a session token, as the client does after each 401.
    async fn refresh(&self, session_token: &Value) -> ApiResponse {
        let information = "Chrome - 156; OS: Linux; Phone: false";
        let body = json!({"session_token": session_token, "session_information": information});
        self.post(SESSION_SIGNIN, &body).await
    }
}

/// The JSON object of an error, which has a message and, but for one answer, a code.
#[track_caller]
fn error_code(answer: &ApiResponse) -> Option<String> {
    let body = answer.json();
    assert!(body["msg"].is_string(), "{answer:?}");
    body["error_code"].as_str().map(str::to_owned)
}

#[tokio::test]
async fn the_web_client_signs_in_refreshes_its_token_and_signs_out() {
    let web = Web(deployment().await);
    let user = web.0.user().create().await;

    web.sign_in(&user, WRONG_PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
    let (old, session_token) = web.sign_in(&user, PASSWORD).await.token_and_session_token();
    web.0.manage_user("revoke_sessions", &user).await;
    // Only a 401 makes it refresh the token. Any status but 202 means that the refresh was refused.
    web.send("GET", &format!("{SESSIONS}?token={old}"), None).await.is(TOKEN_INCORRECT);
    web.refresh(&json!(session_token)).await.is(SESSION_TOKEN_INCORRECT);

    let (_, session_token) = web.sign_in(&user, PASSWORD).await.token_and_session_token();
    let new = web.refresh(&json!(session_token)).await.token_of_session();
    // The request that was answered 401 is sent again, with the new token behind the old one.
    let path = format!("{SESSIONS}?token={old}&token={new}");
    let list = web.send("GET", &path, None).await;
    assert_eq!(list.status, 200, "{list:?}");
    let other = web.sign_in(&user, PASSWORD).await.token_and_session_token();
    let ids = web.0.session_ids(&new).await;
    web.send("DELETE", &format!("{SESSIONS}/{}?token={new}", ids[1]), None).await.is(SESSION_DELETED);
    web.refresh(&json!(other.1)).await.is(SESSION_TOKEN_INCORRECT);

    let path = format!("{LOG_OUT}?token={old}&token={new}");
    web.post(&path, &json!({"session_token": session_token})).await.is(LOGGED_OUT);
    // With its storage cleared it has no session token any more, and sends null.
    for answer in [web.post(&path, &json!({"session_token": null})).await, web.refresh(&Value::Null).await] {
        assert!(answer.status >= 400, "{answer:?}");
        assert!(error_code(&answer).is_some(), "{answer:?}");
    }
    assert_eq!(web.refresh(&Value::Null).await.status, 422);
}

#[tokio::test]
async fn the_web_client_signs_out_after_it_ends_its_own_session_in_the_list() {
    let web = Web(deployment().await);
    let user = web.0.user().create().await;
    let (token, session_token) = web.sign_in(&user, PASSWORD).await.token_and_session_token();
    let path = format!("{SESSIONS}?token={token}");
    let list = web.send("GET", &path, None).await.json();

    let own = format!("{SESSIONS}/{}?token={token}", list["sessions"][0]["id"]);
    web.send("DELETE", &own, None).await.is(SESSION_DELETED);

    // It fetches the list again, and clears its storage once the refresh is refused.
    web.send("GET", &path, None).await.is(TOKEN_INCORRECT);
    web.refresh(&json!(session_token)).await.is(SESSION_TOKEN_INCORRECT);
    let log_out = web.post(&format!("{LOG_OUT}?token={token}"), &json!({"session_token": null})).await;
    log_out.is(TOKEN_INCORRECT);
}

#[tokio::test]
async fn the_web_client_makes_a_forced_change() {
    let web = Web(deployment().await);
    let user = web.0.user().due_a_password_change().create().await;

    assert_eq!(error_code(&web.sign_in(&user, PASSWORD).await).as_deref(), Some("change_password"));
    let body = json!({
        "username": user.username,
        "old_password": PASSWORD,
        "new_password": SIX_CHARACTERS,
        "stay_logged_in": true,
        "session_information": "Chrome - 156; OS: Linux; Phone: false",
    });
    let (_, session_token) = web.post(CHANGE_PASSWORD_AFTER_SIGNIN, &body).await.token_and_session_token();
    web.refresh(&json!(session_token)).await.token_of_session();
}

#[tokio::test]
async fn the_web_client_changes_a_password_in_its_settings() {
    let web = Web(deployment().await);
    let user = web.0.user().create().await;
    let (token, _) = web.sign_in(&user, PASSWORD).await.token_and_session_token();

    let check = format!("{CHECK_OLD_PASSWORD}?token={token}");
    web.post(&check, &json!({"password": WRONG_PASSWORD})).await.is(PASSWORD_INCORRECT);
    web.post(&check, &json!({"password": PASSWORD})).await.is(PASSWORD_CORRECT);
    let body = json!({"old_password": PASSWORD, "new_password": SIX_CHARACTERS});
    web.post(&format!("{CHANGE_MY_PASSWORD}?token={token}"), &body).await.is(PASSWORD_CHANGED);

    // It stays signed in with the same token.
    let list = web.send("GET", &format!("{SESSIONS}?token={token}"), None).await;
    assert_eq!(list.status, 200, "{list:?}");
    web.sign_in(&user, SIX_CHARACTERS).await.token_and_session_token();
}

#[tokio::test]
async fn the_web_client_resets_a_password_with_a_code_that_is_a_number() {
    let web = Web(deployment().await);
    let user = web.0.user().create().await;

    let unknown = web.post(SEND_EMAIL, &json!({"username": unknown_username()})).await;
    assert_eq!(error_code(&unknown).as_deref(), Some("unknown_username"));
    web.post(SEND_EMAIL, &json!({"username": user.username})).await.is(SENT);
    let code: u32 = web.0.mails_to(&user.email).await[0].code().parse().unwrap();
    let wrong = if code == 999_999 { 100_000 } else { code + 1 };
    web.post(CHECK_CODE, &json!({"username": user.username, "code": wrong})).await.is(CODE_INCORRECT);
    web.post(CHECK_CODE, &json!({"username": user.username, "code": code})).await.is(CODE_CORRECT);
    let body = json!({"username": user.username, "code": code, "new_password": SIX_CHARACTERS});
    web.post(RESET_PASSWORD, &body).await.is(CHANGED_PASSWORD);
    // The one error without a code is an object with a message as well.
    assert_eq!(error_code(&web.post(RESET_PASSWORD, &body).await), None);

    web.sign_in(&user, SIX_CHARACTERS).await.token_and_session_token();
}

/// A request of the Android app.
async fn android(service: &Service, method: &str, path: &str, body: Option<&Value>) -> ApiResponse {
    let request = service.request(method, path);
    let request = request.header("accept-encoding", "gzip").header("user-agent", "okhttp/5.0.0-alpha.2");
    ApiResponse::to(match body {
        Some(body) => {
            request.header("content-type", "application/json; charset=UTF-8").body(body.to_string())
        }
        None => request,
    })
    .await
}

#[tokio::test]
async fn the_android_app_finds_every_field_that_it_needs() {
    let service = deployment().await;
    let user = service.user().create().await;
    let post = async |path: String, body: Value| android(&service, "POST", &path, Some(&body)).await;
    let body = json!({
        "username": user.username,
        "password": PASSWORD,
        "session_information": "Google Pixel 4",
        "stay_logged_in": true,
    });
    let (token, session_token) = post(SIGNIN.to_owned(), body).await.token_and_session_token();
    // A session of a client that says nothing about itself.
    let body = json!({"username": user.username, "password": PASSWORD, "stay_logged_in": true});
    post(SIGNIN.to_owned(), body).await.token_and_session_token();

    let list = android(&service, "GET", &format!("{SESSIONS}?token={token}"), None).await.json();
    assert!(list["msg"].is_string(), "{list}");
    let sessions = list["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 2, "{list}");
    for session in sessions {
        // A Kotlin `Int`.
        let id: i32 = serde_json::from_value(session["id"].clone()).unwrap();
        assert!(id >= 1);
        assert!(session["information"].is_string(), "{session}");
        // It takes the fraction for milliseconds, and ignores what follows.
        let (_, fraction) = session["last_used"].as_str().unwrap().split_once('.').unwrap();
        assert_eq!(fraction, "000000Z", "{session}");
    }

    let path = format!("{SESSIONS}/{}?token={token}", sessions[1]["id"]);
    android(&service, "DELETE", &path, None).await.is(SESSION_DELETED);

    let body = json!({"session_token": session_token, "session_information": "Android smartphone"});
    let token = post(SESSION_SIGNIN.to_owned(), body).await.token_of_session();
    let check = format!("{CHECK_OLD_PASSWORD}?token={token}");
    post(check, json!({"password": PASSWORD})).await.is(PASSWORD_CORRECT);
    let body = json!({"old_password": PASSWORD, "new_password": SIX_CHARACTERS});
    post(format!("{CHANGE_MY_PASSWORD}?token={token}"), body).await.is(PASSWORD_CHANGED);

    // After it has signed out, both tokens are empty.
    let body = json!({"session_token": "", "session_information": "Android smartphone"});
    let refused = post(SESSION_SIGNIN.to_owned(), body).await;
    assert_eq!((refused.status, error_code(&refused).as_deref()), (422, Some("validation_failed")));
    android(&service, "GET", &format!("{SESSIONS}?token="), None).await.is(TOKEN_NOT_PROVIDED);
}

#[tokio::test]
async fn the_sdk_passes_its_own_suite() {
    let service = Service::with_settings([("PASSWORD_MIN_LENGTH", "1")]).await;
    let username = format!("test.{}@sensorlab.io", unknown_username());
    let user = service.user().with("username", username).with_password("test").create().await;
    let token = service.signin(&user.username, "test").await.token();
    let change = async |token: &str, body: Value| {
        let request = service.request("POST", CHANGE_PASSWORD).header("content-type", "application/json");
        let request = request.header("authorization", format!("Bearer {token}"));
        ApiResponse::to(request.body(body.to_string())).await
    };

    // Without a token, the SDK sends the word null.
    change("null", json!({})).await.is(UNAUTHORIZED);
    for (body, codes) in [
        (json!({}), &[1, 2, 3][..]),
        (json!({"old_password": "test"}), &[2, 3]),
        (json!({"old_password": "test", "new_password": "newpass"}), &[3]),
        (json!({"old_password": "test", "new_password_check": "newpass"}), &[2]),
        (json!({"old_password": "test", "new_password": "newpass", "new_password_check": "other"}), &[5]),
    ] {
        let answer = change(&token, body).await;
        assert_eq!((answer.status, answer.body), (422, change_password_errors(codes)));
    }
    let body = json!({"old_password": "test", "new_password": "newpass", "new_password_check": "newpass"});
    change(&token, body).await.is(NEW_PASSWORD_SET);
    service.signin(&user.username, "test").await.is(USERNAME_OR_PASSWORD_INCORRECT);
    service.signin(&user.username, "newpass").await.token();
    // It goes on with the token from before the change.
    let body = json!({"old_password": "newpass", "new_password": "test", "new_password_check": "test"});
    change(&token, body).await.is(NEW_PASSWORD_SET);
}

#[tokio::test]
async fn only_a_refused_token_is_answered_with_401() {
    let service = Service::new();
    let unknown = unknown_username();
    let refused: [(&str, &str, Value); 5] = [
        ("GET", SESSIONS, Value::Null),
        ("DELETE", "/api/v1/user/myself/session/33", Value::Null),
        ("POST", LOG_OUT, json!({"session_token": "x"})),
        ("POST", CHECK_OLD_PASSWORD, json!({"password": PASSWORD})),
        ("POST", CHANGE_MY_PASSWORD, json!({"old_password": PASSWORD, "new_password": SIX_CHARACTERS})),
    ];
    let expected: [(&str, Documented); 2] = [("", TOKEN_NOT_PROVIDED), ("?token=null", TOKEN_INCORRECT)];
    for (query, expected) in expected {
        for (method, path, body) in &refused {
            let request = service.request(method, &format!("{path}{query}")).body(body.to_string());
            ApiResponse::to(request).await.is(expected);
        }
    }
    for path in [SIGNIN, CHANGE_PASSWORD_AFTER_SIGNIN, SEND_EMAIL, CHECK_CODE, RESET_PASSWORD, SESSION_SIGNIN]
    {
        for body in [
            json!({}),
            json!({
                "username": unknown,
                "password": WRONG_PASSWORD,
                "old_password": WRONG_PASSWORD,
                "new_password": PASSWORD,
                "code": 482_901,
                "session_token": "x",
            }),
        ] {
            let answer = service.post_json(&format!("{path}?token=null"), &body).await;
            assert!([400, 404, 422].contains(&answer.status), "{path}: {answer:?}");
            assert!(error_code(&answer).is_some(), "{path}: {answer:?}");
        }
    }
}
