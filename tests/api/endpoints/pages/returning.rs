//! The way back to an application on another origin, which gets the tokens of a user who signed in on the page.

use super::{PAGES, get, values};
use crate::helpers::Service;

const SETTING: &str = "RETURN_ORIGINS";
const APP: &str = "https://app.example.com";

#[tokio::test]
async fn a_page_returns_to_listed_origins_only() {
    for (list, origin, is_listed) in [
        (APP, APP, true),
        ("https://b.example.com,https://app.example.com", APP, true),
        ("http://[::1]:8080", "http://[::1]:8080", true),
        ("", APP, false),
        (APP, "https://app.example.com/", false),
        (APP, "https://app.example.com:443", false),
        (APP, "https://app.example.com.evil.example", false),
        (APP, "http://app.example.com", false),
        (APP, "HTTPS://APP.EXAMPLE.COM", false),
        (APP, "*", false),
        (APP, "null", false),
        (APP, "https://app.example.com,https://b.example.com", false),
        (APP, "\"><script>", false),
    ] {
        let service = Service::with_settings([(SETTING, list)]).await;
        for (path, ..) in PAGES {
            let query: String = form_urlencoded::byte_serialize(origin.as_bytes()).collect();
            let page = get(&service, &format!("{path}?return_origin={query}"), "en").await;
            let returns = values(&page.body, "data-return-origin").pop_first();
            assert_eq!(returns.as_deref(), is_listed.then_some(origin), "{origin} of {list}");
            assert_eq!(page.body.contains(" data-return-refused"), !is_listed);
            // Other pages are parted from the page that opened them.
            let opener = if is_listed { "unsafe-none" } else { "same-origin" };
            assert_eq!(page.header("cross-origin-opener-policy"), Some(opener));
            // The way back stays open on the way through the pages.
            let encoded = format!("return_origin={}", origin.replace('[', "%5B").replace(']', "%5D"));
            for link in values(&page.body, "href").iter().filter(|link| !link.starts_with("/assets/")) {
                assert_eq!(link.contains(&encoded), is_listed, "{link}");
            }
            assert!(!page.body.contains("<script>"), "{}", page.body);
        }
    }
}

#[tokio::test]
async fn a_page_that_was_not_opened_by_an_application_returns_to_none() {
    let service = Service::with_settings([(SETTING, APP)]).await;
    for query in ["", "?return_origin="] {
        let page = get(&service, &format!("/{query}"), "en").await;
        assert!(!page.body.contains("data-return") && !page.body.contains("return-view"), "{}", page.body);
        assert_eq!(page.header("cross-origin-opener-policy"), Some("same-origin"));
    }
}
