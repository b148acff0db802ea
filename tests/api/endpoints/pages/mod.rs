//! The pages and the files that they load, as the service sends them.

mod returning;
mod texts;

use std::collections::BTreeSet;
use std::io::Read as _;

use flate2::read::GzDecoder;
use sha2::{Digest, Sha256};

use crate::helpers::{ApiResponse, Service};

/// The pages: their paths and their titles in English and German.
const PAGES: [(&str, &str, &str); 4] = [
    ("/", "Sign in", "Anmelden"),
    ("/forgot-password", "Reset your password", "Passwort zurücksetzen"),
    ("/change-password", "Change your password", "Passwort ändern"),
    ("/sessions", "Your sessions", "Ihre Sitzungen"),
];

/// Gets a page or a file as a browser with these preferences of languages does.
async fn get(service: &Service, path: &str, accept_language: &str) -> ApiResponse {
    ApiResponse::to(service.request("GET", path).header("accept-language", accept_language)).await
}

/// The body in gzip, and its text.
async fn compressed(service: &Service, path: &str) -> (usize, String) {
    let request = service.request("GET", path).header("accept-encoding", "br, gzip;q=0.5");
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["content-encoding"], "gzip", "{path}");
    let bytes = response.bytes().await.unwrap();
    let mut text = String::new();
    GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
    (bytes.len(), text)
}

/// The values of these attributes in a page.
fn values(html: &str, attribute: &str) -> BTreeSet<String> {
    let attribute = format!(" {attribute}=\"");
    let values = html.split(&attribute).skip(1);
    values.map(|rest| rest.split('"').next().unwrap().replace("&#38;", "&").replace("&amp;", "&")).collect()
}

/// The files that a page loads.
fn files_of(html: &str) -> BTreeSet<String> {
    let mut loaded = values(html, "src");
    loaded.extend(values(html, "href").into_iter().filter(|address| address.starts_with("/assets/")));
    loaded
}

#[tokio::test]
async fn each_page_is_in_the_language_that_the_browser_prefers() {
    let service = Service::new();
    for (path, english, german) in PAGES {
        for (accepted, language, title) in [
            ("de-AT,de;q=0.9,en;q=0.8", "de", german),
            ("en-GB", "en", english),
            ("fr,de;q=0.3,en;q=0.1", "de", german),
            ("fr", "en", english),
            ("", "en", english),
        ] {
            let page = get(&service, path, accepted).await;
            assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
            assert_eq!(page.header("content-language"), Some(language), "{path} for {accepted}");
            assert_eq!(page.header("vary"), Some("Accept-Encoding, Accept-Language"));
            assert!(page.body.contains(&format!("<html lang=\"{language}\">")), "{}", page.body);
            assert!(page.body.contains(&format!("<title>{title} · Postern</title>")), "{}", page.body);
            assert!(page.body.contains(&format!("<h1 id=\"title\" tabindex=\"-1\">{title}</h1>")), "{path}");
        }
    }
}

#[tokio::test]
async fn the_language_in_the_query_counts_first_and_stays_in_links() {
    let service = Service::new();
    for (path, ..) in PAGES {
        for (query, language) in
            [("lang=de", "de"), ("lang=DE-ch", "de"), ("lang=fr", "en"), ("lang=%00", "en")]
        {
            let page = get(&service, &format!("{path}?{query}"), "de").await;
            assert_eq!(page.header("content-language"), Some(language), "{path}?{query}");
            let others = [format!("lang={language}"), "lang=de".to_owned(), "lang=en".to_owned()];
            for link in values(&page.body, "href").iter().filter(|link| !link.starts_with("/assets/")) {
                assert!(others.iter().any(|other| link.contains(other)), "{link} on {path}?{query}");
            }
            assert!(values(&page.body, "data-sign-in").iter().all(|link| link.contains(&others[0])));
        }
        for query in ["", "?lang="] {
            let page = get(&service, &format!("{path}{query}"), "de").await;
            assert_eq!(page.header("content-language"), Some("de"));
            let link = values(&page.body, "data-home").pop_first();
            assert_eq!(link.as_deref(), Some("/"), "{path}{query}");
        }
    }
}

#[tokio::test]
async fn a_page_sends_users_who_are_not_signed_in_to_sign_in_and_back() {
    let service = Service::new();
    for (path, sign_in) in [
        ("/", "/"),
        ("/change-password", "/?next=/change-password"),
        ("/sessions?lang=de", "/?lang=de&next=/sessions"),
        ("/forgot-password?next=/sessions", "/?next=/sessions"),
        ("/?next=/sessions", "/?next=/sessions"),
        // Only these two pages can be next.
        ("/?next=https://evil.example", "/"),
        ("/?next=//evil.example/sessions", "/"),
        ("/?next=/", "/"),
        ("/?next=javascript:alert(1)", "/"),
    ] {
        let page = get(&service, path, "en").await;
        assert_eq!(values(&page.body, "data-sign-in"), BTreeSet::from([sign_in.to_owned()]), "{path}");
        let next = values(&page.body, "data-next").pop_first();
        let expected = sign_in.split_once("next=").map(|(_, next)| next.to_owned());
        assert_eq!(next.is_some(), expected.is_some() && path.contains("next="), "{path}");
        assert!(next.is_none() || next == expected, "{path}: {next:?}");
    }
}

#[tokio::test]
async fn pages_run_load_and_embed_nothing_that_is_not_their_own() {
    let service = Service::new();
    for (path, ..) in PAGES {
        let page = get(&service, path, "en").await;
        for (name, value) in [
            (
                "content-security-policy",
                "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                 connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
            ),
            ("x-content-type-options", "nosniff"),
            ("strict-transport-security", "max-age=31536000; includeSubDomains"),
            ("referrer-policy", "no-referrer"),
            ("x-frame-options", "DENY"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cache-control", "no-cache"),
        ] {
            assert_eq!(page.header(name), Some(value), "{name} of {path}");
        }
        assert_eq!(page.header("set-cookie"), None);
        assert!(page.header("permissions-policy").unwrap().contains("camera=()"));

        let html = &page.body;
        assert!(!html.contains("://"), "{path}");
        assert!(!html.contains("<style") && values(html, "style").is_empty(), "{path}");
        assert_eq!(
            html.matches("<script").count(),
            html.matches("<script type=\"module\" src=\"/assets/").count()
        );
        assert!(html.contains("></script>"));
        let tags = html.split('<').filter_map(|rest| Some(rest.split_once('>')?.0));
        let mut names = tags.flat_map(|tag| tag.split('"').step_by(2));
        assert!(names.all(|names| !names.contains(" on")), "an inline handler on {path}");
        assert!(!html.contains("type=\"hidden\"") && !html.contains(" maxlength="), "{path}");
        assert!(
            values(html, "src").iter().chain(&values(html, "href")).all(|address| address.starts_with('/'))
        );
    }
}

#[tokio::test]
async fn a_page_and_its_three_files_are_small() {
    let service = Service::new();
    for (path, ..) in PAGES {
        let (mut total, html) = compressed(&service, path).await;
        let files = files_of(&html);
        assert_eq!(files.len(), 3, "{files:?}");
        for file in &files {
            total += compressed(&service, file).await.0;
        }
        // The goal is 40 KB, with the headers of four responses.
        assert!(total < 24 * 1024, "{total} bytes of {path}");
    }
}

#[tokio::test]
async fn files_are_named_after_their_content_and_never_change() {
    let service = Service::new();
    let page = get(&service, "/", "en").await;
    for path in files_of(&page.body) {
        let file = get(&service, &path, "de").await;
        assert_eq!((file.status, file.header("vary")), (200, Some("Accept-Encoding")));
        assert_eq!(file.header("cache-control"), Some("public, max-age=31536000, immutable"));
        assert_eq!(
            file.header("content-security-policy"),
            Some("default-src 'none'; frame-ancestors 'none'; sandbox")
        );
        assert_eq!(file.header("content-encoding"), None);
        let digest: Vec<String> =
            Sha256::digest(&file.body).iter().map(|byte| format!("{byte:02x}")).collect();
        let hash = digest[..8].concat();
        assert!(path.contains(&format!(".{hash}.")), "{path}");
        assert_eq!(compressed(&service, &path).await.1, file.body);

        let others = [
            path.replace(&hash, "0123456789abcdef"),
            path.replace(&format!(".{hash}"), ""),
            format!("{path}x"),
        ];
        for other in others {
            let missing = get(&service, &other, "de").await;
            assert_eq!((missing.status, &*missing.body), (404, r#"{"message":"Not Found"}"#), "{other}");
        }
    }
}

#[tokio::test]
async fn a_page_that_the_browser_has_is_not_sent_again() {
    let service = Service::new();
    let page = get(&service, "/", "en").await;
    let etag = page.header("etag").unwrap();
    let again = async |path: &str, known: &str| {
        ApiResponse::to(service.request("GET", path).header("if-none-match", known)).await
    };
    let same = again("/", &format!("\"x\", {etag}")).await;
    assert_eq!((same.status, &*same.body, same.header("etag")), (304, "", Some(etag)));
    assert_eq!(same.header("content-security-policy"), page.header("content-security-policy"));
    for (path, known) in [("/", "\"x\""), ("/?lang=de", etag), ("/sessions", etag)] {
        assert_eq!(again(path, known).await.status, 200, "{path} {known}");
    }
}

#[tokio::test]
async fn nothing_else_is_served() {
    let service = Service::new();
    for (method, path) in [
        ("GET", "/index.html"),
        ("GET", "/favicon.ico"),
        ("GET", "/sign-in"),
        ("GET", "/sessions/"),
        ("GET", "/Sessions"),
        ("GET", "/forgot-password/x"),
        ("GET", "/assets"),
        ("GET", "/assets/"),
        ("GET", "/assets/x"),
        ("GET", "/assets/script/main.js"),
        ("GET", "/.well-known/resource-that-should-not-exist-whose-status-code-should-not-be-200"),
        ("POST", "/"),
        ("POST", "/sessions"),
        ("DELETE", "/sessions"),
    ] {
        let answer = ApiResponse::to(service.request(method, path)).await;
        assert_eq!((answer.status, &*answer.body), (404, r#"{"message":"Not Found"}"#), "{method} {path}");
    }
    assert_eq!(service.request("HEAD", "/").send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn forms_are_what_password_managers_expect() {
    let service = Service::with_settings([("PASSWORD_MIN_LENGTH", "12")]).await;
    for (path, forms) in [
        ("/", &[&["username", "current-password"][..], &["username", "new-password"]][..]),
        ("/forgot-password", &[&["username"], &["username", "one-time-code"], &["username", "new-password"]]),
        ("/change-password", &[&["username", "current-password", "new-password"]]),
        ("/sessions", &[]),
    ] {
        let page = get(&service, path, "en").await;
        let seen: Vec<&str> =
            page.body.split("<form ").skip(1).map(|form| form.split("</form>").next().unwrap()).collect();
        assert_eq!(seen.len(), forms.len(), "{path}");
        for (form, expected) in seen.iter().zip(forms) {
            let fields: Vec<&str> =
                form.split(" autocomplete=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
            assert_eq!(fields, *expected, "{path}");
            assert_eq!(form.matches("type=\"submit\"").count(), 1, "{form}");
            // Without a script, passwords must not end up in the address.
            assert!(form.contains("method=\"post\""));
            for id in values(form, "id").iter().filter(|id| !id.ends_with("-error") && !id.ends_with("-hint"))
            {
                let is_labelled =
                    form.contains(&format!("<label for=\"{id}\"")) || form.contains("<label class");
                assert!(is_labelled, "{id}");
            }
            let is_new = expected.contains(&"new-password");
            assert_eq!(form.contains("passwordrules=\"minlength: 12; maxlength: 256;\""), is_new, "{form}");
            assert_eq!(form.contains("At least 12 characters"), is_new, "{form}");
        }
        for role in ["alert", "status"] {
            assert_eq!(page.body.matches(&format!("role=\"{role}\"")).count(), 1);
        }
    }
}

#[tokio::test]
async fn in_safe_mode_the_page_does_not_claim_that_a_code_was_sent() {
    let claim = "We have sent a code";
    let page = get(&Service::new(), "/forgot-password", "en").await;
    assert!(page.body.contains(claim), "{}", page.body);
    let service = Service::with_settings([("PREVENT_USER_EXISTENCE_ERRORS", "true")]).await;
    let page = get(&service, "/forgot-password", "en").await;
    assert!(!page.body.contains(claim) && page.body.contains("If this account exists"), "{}", page.body);
}

#[tokio::test]
async fn the_operators_name_colour_and_logo_are_shown() {
    let logo = r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"><path d="M0 0h1v1z"/></svg>"#;
    let settings =
        [("PRODUCT_NAME", "Ärzte & \"Söhne\" <{min}>"), ("BRAND_COLOR", "#FFCC00"), ("BRAND_LOGO", logo)];
    let service = Service::with_settings(settings).await;
    let page = get(&service, "/", "en").await;
    assert!(
        page.body.contains("<title>Sign in · Ärzte &#38; &#34;Söhne&#34; &#60;{min}&#62;</title>"),
        "{}",
        page.body
    );
    let files: Vec<String> = files_of(&page.body).into_iter().collect();
    let [shown, _, style] = &files[..] else { panic!("{files:?}") };
    assert_eq!(get(&service, shown, "en").await.body, logo);
    let style = get(&service, style, "en").await.body;
    // Black on yellow, and a darker yellow as text on white.
    assert!(style.starts_with(":root{--brand:#ffcc00;--on-brand:#000000;--brand-text:#"), "{style}");
    assert!(!style.starts_with(":root{--brand:#ffcc00;--on-brand:#000000;--brand-text:#ffcc00"), "{style}");

    let default = get(&Service::new(), "/", "en").await;
    assert!(
        files_of(&default.body)
            .iter()
            .filter(|file| files.contains(file))
            .all(|file| file.contains("script"))
    );
}
