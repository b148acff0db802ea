//! Bodies: every endpoint accepts the bodies that `openapi.yaml` allows, and rejects all others with the names of the
//! invalid fields.
//!
//! An input is the endpoint's digit and a body. The target has its own copy of the rules, and applies them to the
//! values that `serde_json` parses.
#![no_main]

use std::collections::HashSet;
use std::fmt;
use std::sync::LazyLock;

use fuzz::{Answer, SERVICE, USERNAME, event, valid_token};
use libfuzzer_sys::{Corpus, fuzz_target};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Value, json};
use unicode_normalization::UnicodeNormalization;

type Rule = fn(&Value) -> bool;

/// The endpoints, each with its fields in the order of the documentation and the rule for each field.
const ENDPOINTS: [(&str, &[(&str, Rule)]); 10] = [
    (
        "signin",
        &[
            ("username", username),
            ("password", password),
            ("session_information", information),
            ("stay_logged_in", boolean),
        ],
    ),
    (
        "change_password_after_signin",
        &[
            ("username", username),
            ("old_password", password),
            ("new_password", new_password),
            ("session_information", information),
            ("stay_logged_in", boolean),
        ],
    ),
    ("forgot_password_send_email", &[("username", username)]),
    ("forgot_password_check_code", &[("username", username), ("code", code)]),
    (
        "forgot_password_reset_password",
        &[("username", username), ("code", code), ("new_password", new_password)],
    ),
    ("session_signin", &[("session_token", session_token), ("session_information", information)]),
    ("sessions", &[("session_token", session_token)]),
    (CHANGE_PASSWORD, &[("old_password", any), ("new_password", any), ("new_password_check", any)]),
    (CHECK_OLD_PASSWORD, &[("password", password)]),
    (CHANGE_MY_PASSWORD, &[("old_password", password), ("new_password", new_password)]),
];
const CHANGE_PASSWORD: &str = "change_password";
const CHANGE_MY_PASSWORD: &str = "change_my_password";
/// The function `change_my_password` with its second route, which it recognises by the route key.
const CHECK_OLD_PASSWORD: &str =
    "change_my_password POST /api/v1/user/myself/changePassword/checkOldPassword";

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some((digit, body)) = input.split_first() else {
        return Corpus::Reject;
    };
    let Some((function, rules)) = ENDPOINTS.get(usize::from(digit.wrapping_sub(b'0'))) else {
        return Corpus::Reject;
    };
    let (function, route) = function.split_once(' ').unwrap_or((function, ""));
    let event = event(route, &format!("Bearer {}", valid_token()), body);

    let observed = outcome(&SERVICE.answer(function, &event));

    if let Some(expected) = expected(function, rules, body) {
        assert_eq!(observed, expected, "{function}");
    }
    Corpus::Keep
});

/// The outcome of a request with a body.
#[derive(Debug, Eq, PartialEq)]
enum Outcome {
    Accepted,
    TooLarge,
    Malformed,
    /// The invalid fields, or the error numbers of `change_password`.
    Invalid(Vec<String>),
}

fn outcome(answer: &Answer) -> Outcome {
    match answer.status {
        400 if answer.body["error_code"] == "malformed_json" || answer.body["code"] == 400 => {
            Outcome::Malformed
        }
        // A text that cannot be a session token is rejected without a call of DynamoDB.
        400 | 404 if answer.body["error_code"] == "session_token_incorrect" => Outcome::Accepted,
        413 => Outcome::TooLarge,
        422 => Outcome::Invalid(match &answer.body["errors"] {
            Value::Object(errors) => errors.keys().cloned().collect(),
            errors => errors.as_array().unwrap().iter().map(|error| error["code"].to_string()).collect(),
        }),
        // The body is valid, and the stand-in for AWS refused a call.
        500 if answer.called_dynamodb => Outcome::Accepted,
        status => panic!("{status}: {}", answer.body),
    }
}

/// Returns the expected outcome, or `None` if JSON leaves the meaning of the text open or `serde_json` has its own
/// limits.
fn expected(function: &str, rules: &[(&str, Rule)], body: &[u8]) -> Option<Outcome> {
    if body.len() > 16 * 1024 {
        return Some(Outcome::TooLarge);
    }
    if body.iter().filter(|byte| b"{[".contains(byte)).count() > 100 {
        return None;
    }
    let entries = match serde_json::from_slice::<Entries>(body) {
        Ok(Entries(entries)) => entries,
        Err(error) if ["out of range", "surrogate"].iter().any(|open| error.to_string().contains(open)) => {
            return None;
        }
        Err(error) if error.to_string().contains("escape") => return None,
        Err(_) => return Some(Outcome::Malformed),
    };
    let values = |name: &str| -> Vec<&Value> {
        entries.iter().filter(|(given, _)| given == name).map(|(_, value)| value).collect()
    };
    if rules.iter().any(|(name, _)| values(name).len() > 1) {
        return Some(Outcome::Malformed);
    }
    let value = |name: &str| values(name).first().copied().unwrap_or(&Value::Null);
    if function == CHANGE_PASSWORD {
        return Some(numbered(value("old_password"), value("new_password"), value("new_password_check")));
    }
    let user = json!(USERNAME);
    let named = if function == CHANGE_MY_PASSWORD { &user } else { value("username") };
    let is_valid = |name: &str, rule: &Rule| {
        rule(value(name)) && (name != "new_password" || !is_common(value(name), named))
    };
    let failing = rules.iter().filter(|(name, rule)| !is_valid(name, rule));
    let mut failing: Vec<String> = failing.map(|(name, _)| (*name).to_owned()).collect();
    // The other endpoints verify the old password first.
    if function == "change_password_after_signin"
        && value("old_password") == value("new_password")
        && password(value("old_password"))
        && new_password(value("new_password"))
        && !is_common(value("new_password"), named)
    {
        failing.push("new_password".to_owned());
    }
    // The observed names are the keys of an object, which `Value` keeps sorted.
    failing.sort_unstable();
    Some(if failing.is_empty() { Outcome::Accepted } else { Outcome::Invalid(failing) })
}

/// The errors of `change_password`. They are reported only if the old password cannot be right; otherwise the service
/// reads the user first.
fn numbered(old: &Value, new: &Value, check: &Value) -> Outcome {
    if password(old) {
        return Outcome::Accepted;
    }
    let filled = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    let errors = [
        !filled(old),
        !filled(new),
        !filled(check),
        filled(old),
        filled(new) && filled(check) && new != check,
        filled(new) && !new_password(new),
        new_password(new) && is_common(new, &json!(USERNAME)),
    ];
    let numbers = (1..).zip(errors).filter(|(_, applies)| *applies);
    Outcome::Invalid(numbers.map(|(number, _): (u8, _)| number.to_string()).collect())
}

fn chars(value: &Value) -> usize {
    value.as_str().map_or(0, |text| text.chars().count())
}

fn normalised(value: &Value) -> String {
    let written = value.as_str().unwrap_or_default();
    written.nfkc().collect::<String>().to_lowercase().nfkc().collect()
}

fn username(value: &Value) -> bool {
    let normalised = normalised(value);
    (1..=190).contains(&chars(value))
        && (1..=190).contains(&normalised.chars().count())
        && !normalised.trim().is_empty()
}

fn password(value: &Value) -> bool {
    (1..=256).contains(&chars(value))
}

fn new_password(value: &Value) -> bool {
    (8..=256).contains(&chars(value))
}

/// Returns whether a new password is common for the user with this name, if it is one.
fn is_common(password: &Value, name: &Value) -> bool {
    static COMMON: LazyLock<HashSet<&str>> =
        LazyLock::new(|| include_str!("../../../shared/src/domain/blocklist/common.txt").lines().collect());
    let password = normalised(password);
    let is_named = |name: &str| {
        let digits = password.strip_prefix(name).map(str::as_bytes);
        digits.is_some_and(|digits| digits.len() <= 4 && digits.iter().all(u8::is_ascii_digit))
    };
    COMMON.contains(&*password) || is_named("postern") || (username(name) && is_named(&normalised(name)))
}

fn session_token(value: &Value) -> bool {
    (1..=190).contains(&chars(value))
}

fn information(value: &Value) -> bool {
    value.is_null() || (1..=190).contains(&chars(value))
}

fn boolean(value: &Value) -> bool {
    value.is_null() || value.is_boolean()
}

fn code(value: &Value) -> bool {
    let digits = value.as_str().unwrap_or_default().trim();
    ((1..=6).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()))
        || value.as_u64().is_some_and(|number| number < 1_000_000)
}

fn any(_: &Value) -> bool {
    true
}

/// The entries of an object, including duplicate keys.
struct Entries(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;
        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(EntriesVisitor)
    }
}
