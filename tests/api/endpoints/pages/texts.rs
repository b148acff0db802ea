//! The texts of the pages: each language has all of them, and there is one for each error that a page can meet.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::documents::openapi::error_codes;

/// The operations that the pages use.
const OPERATIONS: [&str; 9] = [
    "changeMyPassword",
    "changePasswordAfterSignin",
    "checkResetCode",
    "deleteSession",
    "listSessions",
    "logOut",
    "resetPassword",
    "sendResetCode",
    "signIn",
];
/// The ones that they use beside these, without a person having asked for it.
const BACKGROUND: [&str; 1] = ["signInWithSession"];

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../functions/pages").join(folder);
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// The texts by the names of their files.
fn languages() -> BTreeMap<String, Value> {
    let texts = files("texts").into_iter().map(|file| {
        let texts = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        (file.file_stem().unwrap().to_str().unwrap().to_owned(), texts)
    });
    texts.collect()
}

/// The source of the script, or of the templates.
fn source(folder: &str) -> String {
    files(folder).into_iter().map(|file| fs::read_to_string(file).unwrap()).collect()
}

/// The words that stand between two others in a text.
fn between<'a>(text: &'a str, before: &'a str, after: &'a str) -> BTreeSet<&'a str> {
    text.split(before).skip(1).filter_map(|rest| Some(rest.split_once(after)?.0)).collect()
}

fn keys(texts: &Value) -> BTreeSet<&str> {
    texts.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn every_language_has_every_text_with_the_same_placeholders() {
    let languages = languages();
    let english = &languages["en"];
    assert!(languages.len() >= 2);
    for (file, texts) in &languages {
        assert_eq!(texts["language"], **file);
        for part in ["page", "script"] {
            assert_eq!(keys(&texts[part]), keys(&english[part]), "{file}");
            for (key, text) in texts[part].as_object().unwrap() {
                let (text, original) = (text.as_str().unwrap(), english[part][key].as_str().unwrap());
                assert_eq!(between(text, "{", "}"), between(original, "{", "}"), "{file}: {key}");
                assert!(!text.trim().is_empty() && text.trim() == text, "{file}: {key}");
                assert!(file == "en" || text == "Code" || text != original, "{file} has no {key} of its own");
            }
        }
    }
}

#[test]
fn every_error_that_a_page_can_meet_has_a_text() {
    let languages = languages();
    let texts = keys(&languages["en"]["script"]);
    let known: BTreeSet<&str> = OPERATIONS.into_iter().chain(BACKGROUND).collect();
    let codes = error_codes();
    let operations: BTreeSet<&str> = codes.iter().map(|(operation, ..)| &**operation).collect();
    assert!(known.is_subset(&operations), "{known:?}");
    for (operation, status, code) in codes.iter().filter(|(operation, ..)| known.contains(&**operation)) {
        // The one error without a code.
        let code = code.as_deref().unwrap_or("no_code_requested");
        assert!(texts.contains(code), "no text for {code} of {operation} ({status})");
    }
    for own in
        ["unknown_error", "no_answer", "timed_out", "offline", "unreadable_answer", "too_many_requests"]
    {
        assert!(texts.contains(own), "{own}");
    }
}

#[test]
fn every_text_is_used_and_every_used_text_is_there() {
    let languages = languages();
    let (page, script) = (keys(&languages["en"]["page"]), keys(&languages["en"]["script"]));
    let (templates, code) = (source("templates"), source("assets/script"));
    let mut used = between(&templates, "self.text(\"", "\")?");
    let titles: Vec<String> = ["sign_in", "forgot_password", "change_password", "sessions"]
        .map(|page| format!("{page}_title"))
        .into();
    used.extend(titles.iter().map(String::as_str));
    assert_eq!(used, page);

    let codes = error_codes();
    let errors: BTreeSet<&str> = codes.iter().filter_map(|(_, _, code)| code.as_deref()).collect();
    for key in &script {
        let is_named = code.contains(&format!("'{key}'"));
        let is_required = key
            .strip_prefix("required_")
            .is_some_and(|field| templates.contains(&format!("name=\"{field}\"")));
        assert!(is_named || is_required || errors.contains(key), "nothing shows {key}");
    }
    for used in between(&code, "text('", "'").iter().chain(&between(&code, "leaveNotice('", "'")) {
        assert!(script.contains(used), "no text {used}");
    }
}

#[test]
fn the_script_follows_error_codes_and_makes_no_html_of_texts() {
    let code = source("assets/script");
    for sink in [
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        "eval(",
        "Function(",
        "setTimeout('",
        ".style",
        "createContextualFragment",
        "srcdoc",
        "javascript:",
        ".msg",
        ".message",
        "document.cookie",
        "http:",
        "https:",
        "location.search",
        "location.hash",
        "'*'",
    ] {
        assert!(!code.contains(sink), "{sink}");
    }
    let calls = code.matches("fetch(").count();
    assert_eq!((calls, code.matches("credentials: 'omit'").count()), (1, 1));
}
