//! Requests of pages: their origins, preflights and the headers of CORS.

use serde_json::json;

use super::routes::PATHS;
use crate::answers::{
    Documented, FOREIGN_ORIGIN, MALFORMED_JSON, ORIGIN_NOT_ALLOWED, SENT, UNAUTHORIZED, UNKNOWN_USERNAME,
    USERNAME_OR_PASSWORD_INCORRECT,
};
use crate::documents::events;
use crate::helpers::{
    ApiResponse, CHANGE_PASSWORD, CHECK_CODE, PASSWORD, RESET_PASSWORD, SEND_EMAIL, SESSION_SIGNIN, SIGNIN,
    Service, WRONG_CODE, WRONG_PASSWORD, unknown_username,
};

const SETTING: &str = "CORS_ALLOW_ORIGINS";
/// The origin of the pages that use the service.
const APP: &str = "https://app.example.com";
/// The origin of another page.
const EVIL: &str = "https://evil.example";
/// Settings that do not allow `EVIL`.
const LISTS: [&str; 2] = ["", "https://app.example.com,http://localhost:9110"];
/// The answer of API Gateway to a path or a method that it does not have.
const NOT_FOUND: (u16, &str) = (404, r#"{"message":"Not Found"}"#);

/// Sends a request from a page of `origin`.
async fn from_page(service: &Service, method: &str, path: &str, origin: &str, body: &str) -> ApiResponse {
    let request = service.request(method, path).header("origin", origin);
    ApiResponse::to(request.body(body.to_owned())).await
}

/// The refusal by an endpoint.
fn refusal(path: &str) -> Documented {
    if path == CHANGE_PASSWORD { FOREIGN_ORIGIN } else { ORIGIN_NOT_ALLOWED }
}

#[tokio::test]
async fn every_endpoint_refuses_pages_of_other_origins_before_anything_else() {
    for list in LISTS {
        let service = Service::with_settings([(SETTING, list)]).await;
        for (path, methods) in PATHS {
            for method in methods {
                for body in ["{}".to_owned(), "{".to_owned(), "x".repeat(17 * 1024)] {
                    let answer = from_page(&service, method, path, EVIL, &body).await;
                    answer.is(refusal(path));
                    assert_eq!(answer.header("access-control-allow-origin"), None, "{answer:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_refused_page_uses_up_no_budget_and_learns_nothing() {
    let limits = ["SIGNIN_FAILURES_PER_IP", "CODE_FAILURES_PER_IP", "RESET_MAILS_PER_IP"];
    let [signins, codes, mails] = limits.map(|limit| (limit, "2"));
    let service = Service::with_settings([(SETTING, APP), signins, codes, mails]).await;
    let user = service.user().create().await;
    let body = json!({
        "username": user.username,
        "password": WRONG_PASSWORD,
        "code": WRONG_CODE,
        "new_password": PASSWORD,
        "session_token": "x",
    });
    let faults = service.stack.as_ref().unwrap().faults();
    faults.begin(None);
    for path in [SIGNIN, SEND_EMAIL, CHECK_CODE, RESET_PASSWORD, SESSION_SIGNIN] {
        for _ in 0..20 {
            from_page(&service, "POST", path, EVIL, &body.to_string()).await.is(ORIGIN_NOT_ALLOWED);
        }
    }
    let right = json!({"username": user.username, "password": PASSWORD}).to_string();
    from_page(&service, "POST", SIGNIN, EVIL, &right).await.is(ORIGIN_NOT_ALLOWED);
    assert_eq!(faults.end().await, [""; 0], "operations of refused requests");

    let allowed = from_page(&service, "POST", SIGNIN, APP, &body.to_string()).await;
    allowed.is(USERNAME_OR_PASSWORD_INCORRECT);
    service.token_of(&user).await;
    service.code_for(&user).await;
}

#[tokio::test]
async fn only_pages_of_listed_origins_may_send_requests() {
    for list in [APP, LISTS[1], "capacitor://localhost", "http://127.0.0.1:65535", "http://[::1]:8080"] {
        let service = Service::with_settings([(SETTING, list)]).await;
        for origin in list.split(',') {
            let answer = from_page(&service, "POST", SIGNIN, origin, "{").await;
            answer.is(MALFORMED_JSON);
            assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
        }
        let first = list.split(',').next().unwrap();
        let variants = [
            format!("{first}/"),
            first.to_uppercase(),
            format!("{first}, {first}"),
            list.replace("://", "://x."),
        ];
        for origin in
            [EVIL, "https://app.example.com.evil.example", "https://app.example.com:443", "null", "*", ""]
                .into_iter()
                .chain(variants.iter().map(String::as_str))
        {
            let answer = from_page(&service, "POST", SIGNIN, origin, "{").await;
            answer.is(ORIGIN_NOT_ALLOWED);
            assert_eq!(answer.header("access-control-allow-origin"), None, "{origin} by {list}");
        }
        service.post(SIGNIN, "{").await.is(MALFORMED_JSON);
    }
}

#[tokio::test]
async fn several_origins_or_one_that_is_no_text_are_refused() {
    let service = Service::with_settings([(SETTING, APP)]).await;
    let twice = service.request("POST", SIGNIN).header("origin", APP).header("origin", APP);
    ApiResponse::to(twice.body("{")).await.is(ORIGIN_NOT_ALLOWED);
    let latin = service.request("POST", SIGNIN).header("origin", &b"https://b\xfccher.example"[..]);
    ApiResponse::to(latin.body("{")).await.is(ORIGIN_NOT_ALLOWED);
}

#[tokio::test]
async fn pages_of_the_api_itself_are_always_allowed() {
    for list in LISTS {
        let service = Service::with_settings([(SETTING, list)]).await;
        let own = service.stack.as_ref().unwrap().api_url();
        from_page(&service, "POST", SIGNIN, &own, "{").await.is(MALFORMED_JSON);
        let (_, port) = own.rsplit_once(':').unwrap();
        let by_name = format!("http://localhost:{port}");
        for other in [format!("{own}/"), by_name.clone(), "http://127.0.0.1".to_owned()] {
            from_page(&service, "POST", SIGNIN, &other, "{").await.is(ORIGIN_NOT_ALLOWED);
        }
        // The domain is the one that was used.
        for (host, origin, expected) in [
            ("localhost", &by_name, MALFORMED_JSON),
            ("localhost", &own, ORIGIN_NOT_ALLOWED),
            ("evil.example", &format!("http://evil.example:{port}"), ORIGIN_NOT_ALLOWED),
        ] {
            let request = service.request("POST", SIGNIN).header("host", format!("{host}:{port}"));
            ApiResponse::to(request.header("origin", origin).body("{")).await.is(expected);
        }

        // As API Gateway reports the domain of a deployment.
        for (origin, expected) in [
            ("https://auth.example.com", MALFORMED_JSON),
            ("http://auth.example.com", ORIGIN_NOT_ALLOWED),
            ("https://auth.example.com:443", ORIGIN_NOT_ALLOWED),
            ("https://evil.example", ORIGIN_NOT_ALLOWED),
        ] {
            let mut event = events::read("signin/malformed_json");
            event["requestContext"]["domainName"] = json!("auth.example.com");
            // A header is no proof of the domain.
            event["headers"]["host"] = json!("evil.example");
            event["headers"]["origin"] = json!(origin);
            let answer = events::invoke(&service, "signin", event).await;
            assert_eq!(answer, events::documented(expected), "{origin}");
        }
    }
}

#[tokio::test]
async fn a_preflight_request_allows_listed_origins_only() {
    let service =
        Service::with_settings([(SETTING, LISTS[1]), ("CORS_ALLOW_HEADERS", "content-type,traceparent")])
            .await;
    let without_pages = Service::with_settings([(SETTING, "")]).await;
    for (path, methods) in PATHS {
        let preflight = async |service: &Service, origin: &str| {
            let request = service.request("OPTIONS", path).header("origin", origin);
            let request = request.header("access-control-request-method", methods[0]);
            ApiResponse::to(request.header("access-control-request-headers", "traceparent")).await
        };
        let allowed = preflight(&service, APP).await;
        assert_eq!((allowed.status, allowed.body.as_str()), (204, ""), "{path}");
        assert_eq!(allowed.header("access-control-allow-origin"), Some(APP));
        assert_eq!(allowed.header("access-control-allow-headers"), Some("content-type,traceparent"));
        assert!(allowed.header("access-control-allow-methods").unwrap().contains(methods[0]));
        for (service, expected) in [(&service, (204, "")), (&without_pages, NOT_FOUND)] {
            let refused = preflight(service, EVIL).await;
            assert_eq!((refused.status, refused.body.as_str()), expected, "{path}");
            let names = refused.headers.keys().map(reqwest::header::HeaderName::as_str);
            assert_eq!(names.filter(|name| name.starts_with("access-control-")).count(), 0, "{refused:?}");
        }
    }
}

#[tokio::test]
async fn locally_pages_of_all_origins_may_read_every_response() {
    let service = Service::new();
    let user = service.user().create().await;
    let from_elsewhere = async |path: &str, body: &str| from_page(&service, "POST", path, APP, body).await;

    let success = from_elsewhere(SEND_EMAIL, &json!({"username": user.username}).to_string()).await;
    success.is(SENT);
    let unknown = from_elsewhere(SEND_EMAIL, &json!({"username": unknown_username()}).to_string()).await;
    unknown.is(UNKNOWN_USERNAME);
    let malformed = from_elsewhere(SIGNIN, "{").await;
    malformed.is(MALFORMED_JSON);
    let invalid = from_elsewhere(SIGNIN, "{}").await;
    assert_eq!(invalid.status, 422);
    let unauthorized = from_elsewhere(CHANGE_PASSWORD, "{}").await;
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
            .header("origin", APP)
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
