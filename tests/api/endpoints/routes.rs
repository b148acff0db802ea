//! Routes, methods and CORS.

use serde_json::json;

use crate::answers::{MALFORMED_JSON, SENT, UNAUTHORIZED, UNKNOWN_USERNAME};
use crate::helpers::{
    ApiResponse, CHANGE_MY_PASSWORD, CHANGE_PASSWORD, CHANGE_PASSWORD_AFTER_SIGNIN, CHECK_CODE,
    CHECK_OLD_PASSWORD, LOG_OUT, RESET_PASSWORD, SEND_EMAIL, SESSION_SIGNIN, SESSIONS, SIGNIN, Service,
    unknown_username,
};

/// Every path, and the methods that it has. The last one of the sessions could be a session's id.
const PATHS: [(&str, &[&str]); 12] = [
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

#[tokio::test]
async fn pages_of_other_origins_may_read_every_response() {
    let service = Service::new();
    let from_elsewhere = async |path: &str, body: String| {
        let request = service.request("POST", path).header("origin", "https://app.example.com");
        ApiResponse::to(request.body(body)).await
    };
    let user = service.user().create().await;

    let success = from_elsewhere(SEND_EMAIL, json!({"username": user.username}).to_string()).await;
    success.is(SENT);
    let unknown = from_elsewhere(SEND_EMAIL, json!({"username": unknown_username()}).to_string()).await;
    unknown.is(UNKNOWN_USERNAME);
    let malformed = from_elsewhere(SIGNIN, "{".to_owned()).await;
    malformed.is(MALFORMED_JSON);
    let invalid = from_elsewhere(SIGNIN, "{}".to_owned()).await;
    assert_eq!(invalid.status, 422);
    let unauthorized = from_elsewhere(CHANGE_PASSWORD, "{}".to_owned()).await;
    unauthorized.is(UNAUTHORIZED);
    for answer in [success, unknown, malformed, invalid, unauthorized] {
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{answer:?}");
        let exposed = answer.header("access-control-expose-headers").unwrap().to_lowercase();
        assert_eq!(exposed, "retry-after,www-authenticate");
    }
}

#[tokio::test]
async fn preflight_requests_are_answered() {
    let service = Service::new();
    for (path, methods) in PATHS {
        let method = methods[0];
        let request = service
            .request("OPTIONS", path)
            .header("origin", "https://app.example.com")
            .header("access-control-request-method", method)
            .header("access-control-request-headers", "authorization,content-type");
        let answer = ApiResponse::to(request).await;

        assert_eq!((answer.status, answer.body.as_str()), (204, ""), "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{path}");
        let allowed = answer.header("access-control-allow-methods").unwrap();
        assert!(allowed.contains(method), "{allowed}");
        let headers = answer.header("access-control-allow-headers").unwrap().to_lowercase();
        assert!(headers.contains("authorization") && headers.contains("content-type"), "{headers}");
    }
}

#[tokio::test]
async fn a_request_without_an_origin_gets_no_cors_headers() {
    let service = Service::new();
    let answer = service.post(SIGNIN, "{").await;
    answer.is(MALFORMED_JSON);
    assert_eq!(answer.header("access-control-allow-origin"), None);
}
