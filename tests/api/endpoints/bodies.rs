//! The rules for request bodies that do not depend on their fields.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use crate::answers::{MALFORMED_JSON, UNKNOWN_USERNAME, USERNAME_OR_PASSWORD_INCORRECT};
use crate::documents::events;
use crate::helpers::{
    ApiResponse, CHANGE_PASSWORD_AFTER_SIGNIN, CHECK_CODE, PASSWORD, RESET_PASSWORD, SEND_EMAIL,
    SESSION_SIGNIN, SIGNIN, Service, unknown_username,
};

const PATHS: [&str; 6] =
    [SIGNIN, CHANGE_PASSWORD_AFTER_SIGNIN, SEND_EMAIL, CHECK_CODE, RESET_PASSWORD, SESSION_SIGNIN];
const MAX_SIZE: usize = 16 * 1024;

#[tokio::test]
async fn a_body_that_is_not_a_json_object_is_malformed() {
    let service = Service::new();
    for path in PATHS {
        for body in [
            "",
            " ",
            "{",
            "}",
            "{}{}",
            "{} x",
            "[]",
            r#"["username"]"#,
            r#""username""#,
            "33",
            "true",
            "null",
            "username=st.huber&password=Password1234!",
            r#"{"username":"st.huber",}"#,
            r#"{"username":"st.huber" "password":"Password1234!"}"#,
            r"{'username':'st.huber'}",
            r#"{username:"st.huber"}"#,
            r#"{"username":"st.huber"/* a comment */}"#,
            r#"{"username":NaN}"#,
            "{\"username\":\"st.\nhuber\"}",
            r#"{"username":"st.\huber"}"#,
            "\u{feff}{\"username\":\"st.huber\"}",
            r#"{"x":[1,]}"#,
            r#"{"x":01}"#,
        ] {
            let answer = service.post(path, body).await;
            assert_eq!((answer.status, answer.body.as_str()), MALFORMED_JSON, "{path} {body:?}");
        }
        for bytes in
            [&b"{\"username\":\"st.h\xfcber\"}"[..], b"{\"x\":\"\xc3\"}", b"\xff\xfe{\x00}\x00", b"\x00"]
        {
            let answer = service.post(path, bytes).await;
            assert_eq!((answer.status, answer.body.as_str()), MALFORMED_JSON, "{path} {bytes:?}");
        }
        service.post(path, "{").await.is(MALFORMED_JSON);
    }
}

#[tokio::test]
async fn a_known_field_given_twice_is_malformed() {
    let service = Service::new();
    let known = [
        (SIGNIN, vec!["username", "password", "session_information", "stay_logged_in"]),
        (
            CHANGE_PASSWORD_AFTER_SIGNIN,
            vec!["username", "old_password", "new_password", "session_information", "stay_logged_in"],
        ),
        (SEND_EMAIL, vec!["username"]),
        (CHECK_CODE, vec!["username", "code"]),
        (RESET_PASSWORD, vec!["username", "code", "new_password"]),
        (SESSION_SIGNIN, vec!["session_token", "session_information"]),
    ];
    for (path, fields) in known {
        for field in fields {
            let escaped = format!("\\u{:04x}{}", u32::from(field.as_bytes()[0]), &field[1..]);
            for body in [
                format!(r#"{{"{field}":"1","{field}":"1"}}"#),
                format!(r#"{{"{field}":null,"x":1,"{field}":null}}"#),
                format!(r#"{{"{field}":"1","{escaped}":"2"}}"#),
            ] {
                let answer = service.post(path, body.clone()).await;
                assert_eq!((answer.status, answer.body.as_str()), MALFORMED_JSON, "{path} {body}");
            }
        }
    }
}

#[tokio::test]
async fn unknown_fields_of_any_kind_are_ignored() {
    let service = Service::new();
    for unknown in [
        r#""x":1,"x":2"#,
        r#""x":{"username":1,"username":2}"#,
        r#""x":[{"username":"st.huber"}],"":null"#,
        r#""Username":1,"USERNAME":2,"user_name":3"#,
        r#""password":1,"password":2,"code":"x","stay_logged_in":"yes""#,
        r#""x":1e999,"y":-0.0,"z":123456789012345678901234567890"#,
        r#""x":"\ud83d\ude00\u0000\/""#,
        r#""__proto__":{},"constructor":[]"#,
    ] {
        let body = format!(r#"{{{unknown},"username":"{}"}}"#, unknown_username());
        let answer = service.post(SEND_EMAIL, body).await;
        assert_eq!((answer.status, answer.body.as_str()), UNKNOWN_USERNAME, "{unknown}");
    }
}

#[tokio::test]
async fn ambiguous_json_causes_no_internal_error() {
    let service = Service::new();
    for code in ["-0", "4829e2", "482901.0", "1e999", "-1e999", r#""\ud800""#, r#""\udc00\ud800""#] {
        let body = format!(r#"{{"username":"{}","code":{code}}}"#, unknown_username());
        let answer = service.post(CHECK_CODE, body).await;
        assert!([400, 404, 422].contains(&answer.status), "{code}: {answer:?}");
        assert!(answer.json()["error_code"].is_string(), "{code}: {answer:?}");
    }
}

#[tokio::test]
async fn nesting_is_limited_to_128_levels() {
    let service = Service::new();
    let nested = |levels: usize, open: &str, close: &str| {
        // The body's own object is the first level.
        let (open, close) = (open.repeat(levels - 1), close.repeat(levels - 1));
        format!(r#"{{"username":"{}","x":{open}0{close}}}"#, unknown_username())
    };
    for (open, close) in [("[", "]"), (r#"{"x":"#, "}")] {
        service.post(SEND_EMAIL, nested(128, open, close)).await.is(UNKNOWN_USERNAME);
        service.post(SEND_EMAIL, nested(129, open, close)).await.is(MALFORMED_JSON);
        service.post(SEND_EMAIL, nested(1000, open, close)).await.is(MALFORMED_JSON);
    }
    service.post(SEND_EMAIL, "[".repeat(MAX_SIZE)).await.is(MALFORMED_JSON);
}

#[tokio::test]
async fn a_body_has_at_most_16_kib() {
    let service = Service::new();
    for path in PATHS {
        let largest = format!("{}{}", "{}", " ".repeat(MAX_SIZE - 2));
        assert_eq!(largest.len(), MAX_SIZE);
        assert_eq!(service.post(path, largest.clone()).await.status, 422);

        let answer = service.post(path, largest + " ").await;
        assert_eq!(answer.status, 413);
        let body = answer.json();
        assert_eq!(body["error_code"], "payload_too_large");
        answer.is((413, &format!(r#"{{"msg":{},"error_code":"payload_too_large"}}"#, body["msg"])));

        assert_eq!(service.post(path, "x".repeat(100_000)).await.status, 413);
    }
}

#[tokio::test]
async fn the_content_type_does_not_matter() {
    let service = Service::new();
    let user = service.user().create().await;
    let body = json!({"username": user.username, "password": PASSWORD}).to_string();
    for content_type in [
        "application/json",
        "application/json; charset=iso-8859-1",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "image/png",
        "nonsense",
    ] {
        let request = service.request("POST", SIGNIN).header("content-type", content_type);
        ApiResponse::to(request.body(body.clone())).await.token();
    }
    service.post(SIGNIN, body).await.token();
}

#[tokio::test]
async fn a_body_may_arrive_in_base64() {
    let service = Service::new();
    let answer = async |bytes: &[u8]| {
        let mut event = events::read("signin/base64_body");
        event["body"] = BASE64_STANDARD.encode(bytes).into();
        events::invoke(&service, "signin", event).await
    };

    let body = json!({"username": unknown_username(), "password": PASSWORD}).to_string();
    let padded = format!("{body}{}", " ".repeat(MAX_SIZE - body.len()));
    assert_eq!(answer(padded.as_bytes()).await, events::documented(USERNAME_OR_PASSWORD_INCORRECT));
    let (status, too_large) = answer(format!("{padded} ").as_bytes()).await;
    assert_eq!(status, 413);
    assert!(too_large.contains("payload_too_large"), "{too_large}");
    assert_eq!(answer(b"{\"username\":\"\xff\"}").await, events::documented(MALFORMED_JSON));
    assert_eq!(answer(b"").await, events::documented(MALFORMED_JSON));
}

#[tokio::test]
async fn an_event_without_a_body_is_malformed() {
    let service = Service::new();
    for mut event in [events::read("signin/without_session"), events::read("signin/base64_body")] {
        event.as_object_mut().unwrap().remove("body");
        assert_eq!(events::invoke(&service, "signin", event).await, events::documented(MALFORMED_JSON));
    }
}
