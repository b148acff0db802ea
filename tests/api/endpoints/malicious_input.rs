//! Malicious input is refused or treated as plain text, and never causes a 5xx.

use aws_sdk_dynamodb::config::BehaviorVersion;
use aws_types::SdkConfig;
use serde_json::{Value, json};
use shared::domain::is_invisible;
use shared::settings::Settings;

use crate::answers::{
    CODE_CORRECT, MALFORMED_JSON, NO_SESSIONS, SENT, TOKEN_NOT_PROVIDED, UNKNOWN_USERNAME,
    USERNAME_OR_PASSWORD_INCORRECT, validation_failed,
};
use crate::documents::events;
use crate::helpers::{
    ApiResponse, CHANGE_PASSWORD_AFTER_SIGNIN, CHECK_CODE, NEW_PASSWORD, PASSWORD, PASSWORD_HASH, SEND_EMAIL,
    Service, WRONG_PASSWORD, unknown_username,
};

/// Texts that end a line, a header, a string or an element somewhere.
const TEXTS: [&str; 10] = [
    "x\r\nBcc: everybody@example.com",
    "x\r\n\r\n<b>x</b>",
    "x\n{\"level\":\"INFO\",\"message\":\"answered\",\"outcome\":\"signed_in\"}",
    "x\u{2028}IP address: 198.51.100.1",
    "x\u{2029}IP address: 198.51.100.1",
    "x\u{85}x\u{b}x\u{c}x\u{1b}[2Jx\u{7f}",
    "\u{feff}x\u{202e}x\u{200b}",
    "</p><script>alert(1)</script>",
    "{{ code }}${jndi:ldap://x}%s%n\0",
    "'\"`; DROP TABLE users --",
];

#[tokio::test]
async fn a_query_may_contain_characters_that_no_uri_allows() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    let list = async |query: &str| {
        let mut event = events::read("sessions/list_with_query");
        event["rawQueryString"] = json!(query);
        events::invoke(&service, "sessions", event).await
    };

    for hostile in
        ["<", ">", "\"", " ", "#", "\\", "{}", "|", "%", "%zz", "%00", "\0", "\r\nx: y", "é", "😀", "\u{7f}"]
    {
        for query in [format!("x={hostile}&token={token}"), format!("token={token}&{hostile}")] {
            assert_eq!(list(&query).await, events::documented(NO_SESSIONS), "{hostile:?}");
        }
        assert_eq!(list(hostile).await, events::documented(TOKEN_NOT_PROVIDED), "{hostile:?}");
    }
    let long = format!("{}&token={token}", "x=y&".repeat(2000));
    assert_eq!(list(&long).await, events::documented(NO_SESSIONS));
}

#[tokio::test]
async fn no_other_client_input_in_an_event_causes_a_failure() {
    let service = Service::new();
    let changed = async |change: &dyn Fn(&mut Value)| {
        let mut event = events::read("forgot_password_send_email/unknown_username");
        event["body"] = json!(json!({"username": unknown_username()}).to_string());
        change(&mut event);
        events::invoke(&service, "forgot_password_send_email", event).await
    };
    let expected = events::documented(UNKNOWN_USERNAME);

    for path in ["", "x", "//", "/../..", "/%2e%2e%2fx", "/<é😀 \0\r\n", ":99999", "@", "/x?y#z"] {
        assert_eq!(changed(&|event| event["rawPath"] = json!(path)).await, expected, "{path:?}");
    }
    for (name, value) in [
        ("host", ""),
        ("host", "a b"),
        ("host", "x:99999"),
        ("host", "é😀"),
        ("x-forwarded-proto", ""),
        ("x-forwarded-proto", "1,2"),
        ("x-forwarded-for", "é, \t"),
        ("authorization", "Bearer é😀"),
        ("content-type", "\u{ff}"),
        ("content-length", "-1"),
    ] {
        assert_eq!(
            changed(&|event| event["headers"][name] = json!(value)).await,
            expected,
            "{name}: {value:?}"
        );
    }
    for cookies in [json!([]), json!(["", "=", "a=b; c=d"]), json!(["é=😀\0"]), json!(vec!["a=b"; 1000])] {
        assert_eq!(changed(&|event| event["cookies"] = cookies.clone()).await, expected, "{cookies}");
    }
}

#[tokio::test]
async fn repeated_headers_of_any_bytes_cause_no_failure() {
    let service = Service::new();
    let user = service.user().create().await;
    let body = json!({"username": user.username}).to_string();
    for value in [&b"\xff\xfe"[..], b"\xc3\xa9", b"\t a \t", b"", &b"x".repeat(8000)] {
        let mut request = service.request("POST", CHECK_CODE).body(body.clone());
        for name in ["authorization", "content-type", "cookie", "x-forwarded-for", "x-amzn-trace-id", "x-x"] {
            request = request.header(name, value);
            request = request.header(name, value);
        }
        assert_eq!(ApiResponse::to(request).await.status, 422, "{value:?}");
    }
}

#[tokio::test]
async fn bytes_that_are_not_valid_utf_8_are_malformed() {
    let service = Service::new();
    for bytes in [
        &b"\xc0\xaf"[..],
        b"\xc1\x81",
        b"\xe0\x80\xaf",
        b"\xf0\x80\x80\xaf",
        b"\xed\xa0\x80",
        b"\xed\xa0\xbd\xed\xb8\x80",
        b"\xf4\x90\x80\x80",
        b"\xf8\x88\x80\x80\x80",
        b"\x80",
        b"\xe2\x82",
    ] {
        for name in ["username", "x"] {
            let body = [b"{\"", name.as_bytes(), b"\":\"", bytes, b"\"}"].concat();
            let answer = service.post(SEND_EMAIL, body).await;
            assert_eq!((answer.status, answer.body.as_str()), MALFORMED_JSON, "{name} {bytes:?}");
        }
    }
}

#[tokio::test]
async fn a_numeric_code_must_be_an_integer() {
    let service = Service::new();
    let invalid = validation_failed(&[("code", "The code must be between 1 and 6 digits.")]);
    for code in [
        "-0",
        "-1",
        "1.0",
        "1e0",
        "1E5",
        "0.1",
        "1e400",
        "-1e400",
        "1000000",
        "18446744073709551616",
        "{}",
        "[1]",
    ] {
        let body = format!(r#"{{"username":"{}","code":{code}}}"#, unknown_username());
        let answer = service.post(CHECK_CODE, body).await;
        assert_eq!((answer.status, &answer.body), (422, &invalid), "{code}");
    }
}

#[tokio::test]
async fn any_visible_text_is_an_ordinary_username() {
    let service = Service::new();
    for text in TEXTS {
        let username = format!("{text}{}", unknown_username());
        service.signin(&username, PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
        service.send_email(&username).await.is(UNKNOWN_USERNAME);

        if text.contains(is_invisible) {
            let create = json!({"action": "create", "username": username, "password": PASSWORD});
            let refused = service.manage(&create).await;
            assert_eq!(refused["error_code"], "validation_failed", "{text:?}");
            continue;
        }
        let email = format!("{}@example.com", unknown_username());
        let user = service.user().with("username", username.clone());
        user.with("email_addresses", vec![email.clone()]).create().await;
        service.signin(&username, PASSWORD).await.token();
        service.send_email(&username).await.is(SENT);
        let mails = service.mails_to(&email).await;
        assert_eq!(mails.len(), 1, "{text:?}");
        assert_eq!(mails[0].destination.to, [email], "{text:?}");
        service.check_code(&username, &mails[0].code()).await.is(CODE_CORRECT);

        let got = service.manage(&json!({"action": "get", "username": username})).await;
        assert_eq!(got["user"]["username"], username, "{text:?}");
    }
}

#[tokio::test]
async fn session_information_is_quoted_as_one_line_and_stored_unchanged() {
    let service = Service::new();
    for text in TEXTS {
        let user = service.user().due_a_password_change().create().await;
        let body = json!({
            "username": user.username,
            "old_password": PASSWORD,
            "new_password": NEW_PASSWORD,
            "session_information": text,
            "stay_logged_in": true,
        });
        let (token, _) =
            service.post_json(CHANGE_PASSWORD_AFTER_SIGNIN, &body).await.token_and_session_token();
        let listed = service.sessions(&token).await.json();
        assert_eq!(listed["sessions"][0]["information"], text);

        let mail = service.mails_to(&user.email).await.pop().unwrap();
        assert_eq!(mail.destination.to, [user.email]);
        // All characters that can end a line (Unicode Standard, §5.8).
        let ends_line =
            |character| ('\n'..='\r').contains(&character) || "\u{85}\u{2028}\u{2029}".contains(character);
        let quoting: Vec<&str> =
            mail.body.text_part.split(ends_line).filter(|line| line.starts_with("Session: ")).collect();
        let [line] = quoting[..] else { panic!("{mail:?}") };
        let quoted = &line["Session: ".len()..];
        assert!(quoted.chars().count() <= 61 && !quoted.contains('@') && !quoted.contains("//"), "{line}");
        // All the rest of its beginning stays.
        let shown = |text: &str| {
            let kept = |character: &char| character.is_ascii_graphic() && !".@/".contains(*character);
            text.chars().filter(kept).collect::<String>()
        };
        assert!(shown(text).starts_with(&shown(quoted)), "{line}");
        assert!(quoted.ends_with('…') || shown(text) == shown(quoted), "{line}");
        for part in [&mail.subject, &mail.body.text_part, &mail.body.html_part] {
            let invisible = |character| is_invisible(character) && character != '\n';
            assert!(!part.contains(invisible), "{part:?}");
        }
        assert!(
            !mail.body.html_part.contains("<script>") && !mail.body.html_part.contains("<b>"),
            "{mail:?}"
        );
    }
}

#[tokio::test]
async fn the_name_in_the_subject_is_one_line() {
    let aws = SdkConfig::builder().behavior_version(BehaviorVersion::latest()).build();
    for (name, fits) in
        [("R&D", true), ("x\r\nBcc: everybody@example.com", false), ("x\u{2028}y", false), ("\t", false)]
    {
        let settings = Settings::new(move |variable| match variable {
            "MAIL_FROM" => Some("no-reply@example.com".to_owned()),
            "PRODUCT_NAME" => Some(name.to_owned()),
            _ => None,
        });
        let refused = shared::mail::Mailer::new(&settings, &aws).err().map(|error| error.to_string());
        assert_eq!(refused, (!fits).then(|| "PRODUCT_NAME must be one line of text".to_owned()), "{name:?}");
    }
}

#[tokio::test]
async fn an_accepted_hash_can_be_verified() {
    let service = Service::new();
    let [hash, salt, _] = PASSWORD_HASH.rsplitn(3, '$').collect::<Vec<_>>()[..] else { unreachable!() };
    let mut taken = 0;
    for text in [
        format!("$argon2id$v=19$m=128,t=1,p=1$c2FsdA${hash}"),
        format!("$argon2id$v=19$m=128,t=1,p=1${salt}$YWFhYQ"),
        format!("$argon2id$v=19$m=128,t=1,p=1${salt}${}", "YWFh".repeat(21)),
        format!("$argon2id$v=19$m=128,t=1,p=1${}${hash}", "YWFh".repeat(16)),
        format!("$argon2id$v=16$m=128,t=1,p=1${salt}${hash}"),
        format!("$argon2id$v=18$m=128,t=1,p=1${salt}${hash}"),
        format!("$argon2id$v=4294967295$m=128,t=1,p=1${salt}${hash}"),
        format!("$argon2id$m=128,t=1,p=1${salt}${hash}"),
        format!("$argon2id${salt}${hash}"),
        format!("$argon2id$v=19$m=128,t=1,p=1,keyid=YWE,data=YWE${salt}${hash}"),
        format!("$argon2id$v=19$m=128,m=128,t=1,p=1${salt}${hash}"),
        format!("$argon2id$v=19$m=128,t=1,p=1,x=1${salt}${hash}"),
        format!("$argon2id$v=19$m=00128,t=1,p=1${salt}${hash}"),
        format!("$argon2i$v=19$m=128,t=1,p=1${salt}${hash}"),
        format!("$argon2d$v=19$m=128,t=1,p=1${salt}${hash}"),
        format!("$pbkdf2-sha256${salt}${hash}"),
        format!("$pbkdf2-sha256$i=1000,l=16${salt}${hash}"),
        format!("$pbkdf2-sha256$i=1000,l=4294967295${salt}${hash}"),
        format!("$pbkdf2-sha256$v=1$i=1000,l=32${salt}${hash}"),
        format!("$pbkdf2$i=1000,l=32${salt}${hash}"),
        format!("$scrypt${salt}${hash}"),
        format!("$scrypt$ln=0,r=1,p=1${salt}${hash}"),
        format!("$scrypt$ln=4,r=0,p=1${salt}${hash}"),
        format!("$scrypt$ln=4,r=1,p=0${salt}${hash}"),
        format!("$scrypt$ln=4,r=1,p=1${salt}$YWFhYQ"),
        format!("$scrypt$v=1$ln=4,r=1,p=1${salt}${hash}"),
        format!("$2b$+4${}", "a".repeat(53)),
        format!("$2b$4${}", "a".repeat(53)),
        format!("$2b$04${}", "a".repeat(53)),
        format!("$2b$04${}", "é".repeat(53)),
        format!("$2b$04${}\n", "a".repeat(53)),
        format!("$2y$04${}.", "/".repeat(52)),
        "$".repeat(100_000),
        format!("$argon2id$v=19$m=128,t=1,p=1${}${hash}", "YWFh".repeat(100_000)),
    ] {
        let user = unknown_username();
        let create = json!({"action": "create", "username": user, "password_hash": text, "activated": true});
        let created = service.manage(&create).await;
        if created["ok"] == true {
            taken += 1;
            let answer = service.signin(&user, WRONG_PASSWORD).await;
            assert_eq!((answer.status, answer.body.as_str()), USERNAME_OR_PASSWORD_INCORRECT, "{text}");
        } else {
            assert_eq!(created["error_code"], "validation_failed", "{text:.200}: {created}");
        }
    }
    assert!(taken > 5, "{taken} were taken");
}
