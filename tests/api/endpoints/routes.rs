//! Routes and methods.

use serde_json::json;

use crate::answers::SENT;
use crate::helpers::{
    ApiResponse, CHANGE_MY_PASSWORD, CHANGE_PASSWORD, CHANGE_PASSWORD_AFTER_SIGNIN, CHECK_CODE,
    CHECK_OLD_PASSWORD, LOG_OUT, RESET_PASSWORD, SEND_EMAIL, SESSION_SIGNIN, SESSIONS, SIGNIN, Service,
};

/// Every path, and the methods that it has. The last one of the sessions could be a session's id.
pub(crate) const PATHS: [(&str, &[&str]); 12] = [
    (SIGNIN, &["POST"]),
    (CHANGE_PASSWORD_AFTER_SIGNIN, &["POST"]),
    (SEND_EMAIL, &["POST"]),
    (CHECK_CODE, &["POST"]),
    (RESET_PASSWORD, &["POST"]),
    (CHANGE_PASSWORD, &["POST"]),
    (CHECK_OLD_PASSWORD, &["POST"]),
    (CHANGE_MY_PASSWORD, &["POST"]),
    (SESSION_SIGNIN, &["POST"]),
    (SESSIONS, &["GET"]),
    ("/api/v1/user/myself/session/33", &["DELETE"]),
    (LOG_OUT, &["POST", "DELETE"]),
];

#[tokio::test]
async fn there_are_no_other_routes() {
    let service = Service::new();
    for path in [
        "/",
        "/api",
        "/api/auth",
        "/api/auth/signin/",
        "/api/auth/Signin",
        "/api/auth/signin/x",
        "/api//auth/signin",
        "/api/auth/forgotPassword",
        "/api/v1/profile/change_password()",
        "/auth/signin",
        "/manage_users",
        "/api/manage_users",
        "/export_users",
        "/rotate_jwt_secret",
        "/api/auth/iamLoggedIn",
        "/api/v1/user/myself/session/",
        "/api/v1/user/myself/session/33/logoutCurrentSession",
        "/api/v1/user/33/session",
        "/api/v1/user/myself/changePassword",
        "/api/v1/user/33/changePassword/changePassword",
    ] {
        let answer = service.post(path, "{}").await;
        assert_eq!((answer.status, answer.body.as_str()), (404, r#"{"message":"Not Found"}"#), "{path}");
    }
}

#[tokio::test]
async fn every_path_has_its_methods() {
    let service = Service::new();
    for (path, methods) in PATHS {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            if methods.contains(&method) {
                continue;
            }
            let answer = ApiResponse::to(service.request(method, path).body("{}")).await;
            assert_eq!(
                (answer.status, answer.body.as_str()),
                (404, r#"{"message":"Not Found"}"#),
                "{method} {path}"
            );
        }
    }
}

#[tokio::test]
async fn an_unexpected_query_is_ignored() {
    let service = Service::new();
    let user = service.user().create().await;
    let body = json!({"username": user.username});

    service.post_json(&format!("{SEND_EMAIL}?username=x&username=y&%ff=%00"), &body).await.is(SENT);
}
