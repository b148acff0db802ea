//! The values of settings: an invalid one stops the start, with an error that names it.

use shared::domain::AllowedOrigins;
use support::{Options, Stack};
use uuid::Uuid;

use crate::documents::template::{READ_BY_API, matches_pattern, readers, template};

const CORS_ALLOW_ORIGINS: &str = "CORS_ALLOW_ORIGINS";
const RETURN_ORIGINS: &str = "RETURN_ORIGINS";
/// Valid values of `CORS_ALLOW_ORIGINS`.
const ORIGINS: [&str; 6] = [
    "*",
    "https://app.example.com",
    "https://app.example.com,http://localhost:9110",
    "capacitor://localhost",
    "http://127.0.0.1:65535",
    "http://[::1]:8080",
];
/// Origins that no browser sends.
const NO_ORIGINS: [&str; 22] = [
    "https://app.example.com/",
    "https://app.example.com/login",
    "https://app.example.com?x",
    "https://app.example.com#x",
    "https://App.example.com",
    "HTTPS://app.example.com",
    "https://user@app.example.com",
    "https://app.example.com:",
    "https://app.example.com:https",
    "https://*.example.com",
    "https://b\u{fc}cher.example",
    "https://",
    "://app.example.com",
    "app.example.com",
    "app.example.com:443",
    "http:localhost",
    "null",
    "**",
    "https://[::1",
    "https://::1",
    "https:// app.example.com",
    "https://app.example.com https://b.example.com",
];
/// Lists of which one element at least is no origin.
const NO_LISTS: [&str; 7] = [
    ",",
    "https://app.example.com,",
    ",https://app.example.com",
    "https://app.example.com,,https://b.example.com",
    "https://app.example.com, https://b.example.com",
    " https://app.example.com",
    "*,https://app.example.com",
];

/// Names of headers that pages may not be allowed to send, and lists of them.
const NO_HEADERS: [&str; 7] =
    ["*", "authorization,*", "content type", "content-type:", "authorization, content-type", ",", "x-\u{fc}"];

/// Starts a stack with one setting, and returns the error of that.
async fn refusal(setting: &str, value: &str) -> Option<String> {
    let name = Some(format!("postern-{}", Uuid::new_v4().simple()));
    let settings = [(setting.to_owned(), value.to_owned())].into();
    let started = Stack::start(Options { name, settings, ..Options::default() }).await;
    started.err().map(|error| error.to_string())
}

#[tokio::test]
async fn an_invalid_setting_stops_the_start_with_an_error_that_names_it() {
    let template = template();
    let wrong_texts = [
        ("MAIL_FROM", "nobody"),
        ("MAIL_FROM", "no-reply@"),
        ("MAIL_FROM", "no-reply@example.com@example.com"),
        ("PRODUCT_NAME", "two\nlines"),
        (RETURN_ORIGINS, "*"),
        (RETURN_ORIGINS, NO_ORIGINS[0]),
        (RETURN_ORIGINS, NO_LISTS[0]),
        ("BRAND_COLOR", "red"),
        ("BRAND_COLOR", "#12345"),
        ("BRAND_COLOR", "#12345g"),
        ("BRAND_LOGO", "logo.svg"),
        ("BRAND_LOGO", "<svg "),
        ("PASSWORD_BREACH_URL", "http://api.pwnedpasswords.com"),
        ("PASSWORD_BREACH_URL", "api.pwnedpasswords.com"),
    ];
    let wrong_origins = NO_ORIGINS.into_iter().chain(NO_LISTS).map(|origins| (CORS_ALLOW_ORIGINS, origins));
    let wrong_headers = NO_HEADERS.into_iter().map(|headers| (READ_BY_API, headers));
    let mut wrong: Vec<_> = wrong_texts
        .into_iter()
        .chain(wrong_origins)
        .chain(wrong_headers)
        .map(|(setting, value)| (setting.to_owned(), value.to_owned()))
        .collect();
    for setting in readers().into_keys() {
        let Some(parameter) = template.parameter(&setting) else {
            continue;
        };
        if let (Some(min), Some(max)) = (parameter.min_value, parameter.max_value) {
            for number in
                [(min - 1).to_string(), (max + 1).to_string(), format!("{max}.0"), "many".to_owned()]
            {
                wrong.push((setting.clone(), number));
            }
        } else if !parameter.allowed_values.is_empty() {
            wrong.push((setting, "none of these".to_owned()));
        }
    }
    assert!(wrong.len() > 60, "{}", wrong.len());

    for (setting, value) in wrong {
        let refusal = refusal(&setting, &value).await.unwrap_or_else(|| panic!("{setting} may be {value:?}"));
        assert!(refusal.starts_with(&format!("{setting} ")), "{setting}, {value:?}: {refusal}");
        assert_eq!(refusal.lines().count(), 1, "{refusal}");
    }
}

#[test]
fn the_template_accepts_the_same_origins_and_headers_as_the_code() {
    let template = template();
    for (setting, takes_all) in [(CORS_ALLOW_ORIGINS, true), (RETURN_ORIGINS, false)] {
        let parameter = template.parameter(setting).unwrap();
        let is_taken =
            |text: &str| (matches_pattern(parameter, text), text.parse::<AllowedOrigins>().is_ok());
        for origins in ORIGINS {
            assert_eq!(is_taken(origins), (takes_all || origins != "*", true), "{origins}");
        }
        for origins in NO_ORIGINS.into_iter().chain(NO_LISTS) {
            assert_eq!(is_taken(origins), (false, false), "{origins}");
        }
        assert!(matches_pattern(parameter, ""), "none");
    }

    let parameter = template.parameter(READ_BY_API).unwrap();
    assert!(matches_pattern(parameter, "authorization,X-Amzn-Trace-Id,traceparent"));
    for headers in NO_HEADERS {
        assert!(!matches_pattern(parameter, headers), "{headers}");
    }
}
