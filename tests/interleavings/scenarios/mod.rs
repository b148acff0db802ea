//! The scenarios, with their common constants and assertions.

mod administration;
mod attempts;
mod codes;
mod passwords;
mod sessions;

use serde_json::json;

use crate::beginning::Beginning;
use crate::clients::{Answer, Client, PASSWORD, WRONG_CODE};
use crate::run::End;

const NEW_PASSWORD: &str = "NewPassword1234!";
const OTHER_PASSWORD: &str = "OtherPassword1234!";
const WRONG_PASSWORD: &str = "Password1234?";
/// Source addresses in two networks.
const HERE: &str = "203.0.113.12";
const ELSEWHERE: &str = "198.51.100.7";

/// Calls of the store, as operation and table.
const COMMIT: &str = "UpdateItem postern-users";
const UPDATE_CODE: &str = "UpdateItem postern-reset-codes";
const GET_USER: &str = "GetItem postern-users";

const CODE_INCORRECT: &str = "code_incorrect";
const NO_CODE: &str = "There was no code for a password reset requested";
const RATE_LIMIT: &str = "rate_limit_exceeded";
const INCORRECT: &str = "username_or_password_incorrect";

/// A user with a code and so many used tries, and the code.
fn with_tries(tries: usize) -> (Beginning, String) {
    let beginning = Beginning::with_user(&json!({}));
    let code = beginning.code();
    for _ in 0..tries {
        assert_eq!(beginning.after(&Client::checks(WRONG_CODE)).error(), CODE_INCORRECT);
    }
    (beginning, code)
}

/// The number of answers that are one of these errors.
fn count(answers: &[Answer], errors: &[&str]) -> usize {
    answers.iter().filter(|answer| !answer.is_success() && errors.contains(&answer.error())).count()
}

/// Asserts that each answer is a success or one of these errors.
#[track_caller]
fn assert_among(answers: &[Answer], errors: &[&str]) {
    let successes = answers.iter().filter(|answer| answer.is_success()).count();
    assert_eq!(successes + count(answers, errors), answers.len(), "{answers:?}");
}

/// Asserts that only this password is right, and that so many notices of changes were mailed.
#[track_caller]
fn assert_password(end: &End<'_>, password: &str, changes: usize) {
    for other in [PASSWORD, NEW_PASSWORD, OTHER_PASSWORD] {
        assert_eq!(end.password_is(other), other == password, "{other}");
    }
    assert_eq!(end.notices(), changes);
}

/// Asserts that the password was changed if and only if the answer to the change is a success.
#[track_caller]
fn assert_changed(end: &End<'_>, change: &Answer) {
    let changed = change.is_success();
    assert_password(end, if changed { NEW_PASSWORD } else { PASSWORD }, changed.into());
}
