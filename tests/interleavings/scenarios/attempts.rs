//! Attempts with a password, with their budgets, waits and networks.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::json;

use crate::beginning::Beginning;
use crate::clients::{Answer, Client, PASSWORD, USERNAME};
use crate::explorer::explore;
use crate::run::End;
use crate::scenarios::{
    COMMIT, ELSEWHERE, HERE, INCORRECT, NEW_PASSWORD, RATE_LIMIT, WRONG_PASSWORD, assert_among, count,
};

const COMMIT_UNKNOWN: &str = "UpdateItem postern-attempts";
const CHARGE_ADDRESS: &str = "UpdateItem postern-source-ips";
/// The message of `change_password` that corresponds to [`RATE_LIMIT`].
const TOO_MANY: &str = "Too many attempts, try again later";

/// The time, in microseconds since the Unix epoch.
fn micros_now() -> i64 {
    shared::clock::now().as_micros()
}

use crate::world::Applied;

/// The successful commits of attempts in their order, as clients and true for a right password.
fn commits<'a>(end: &'a End<'_>, answers: &'a [Answer]) -> impl Iterator<Item = (usize, bool)> + 'a {
    let committed = |applied: &&Applied| {
        applied.done
            && [COMMIT, COMMIT_UNKNOWN].contains(&applied.call.as_str())
            && applied.client < answers.len()
    };
    end.applied.iter().filter(committed).map(|applied| {
        let answer = &answers[applied.client];
        (applied.client, answer.is_success() || ![INCORRECT, RATE_LIMIT].contains(&answer.error()))
    })
}

/// Asserts that the answers follow the sequential rule in the order of the commits, and returns the number of failures
/// at the end, given the number at the beginning. A refused attempt is not counted, and an attempt that reveals its
/// outcome is counted once. After a lost response, it may be counted once more if another attempt was committed before
/// the retry.
#[track_caller]
fn assert_sequential(end: &End<'_>, answers: &[Answer], mut failures: usize) -> usize {
    let mut counted = vec![0; answers.len()];
    for (client, is_right) in commits(end, answers) {
        assert!(failures < 10, "allowed during the wait");
        failures = if is_right { 0 } else { failures + 1 };
        counted[client] += 1;
    }
    for (client, answer) in answers.iter().enumerate() {
        let revealed = usize::from(answer.is_success() || answer.error() != RATE_LIMIT);
        let once_more = counted[client] == revealed + 1 && end.lost(client, COMMIT);
        assert!(counted[client] == revealed || once_more, "{answers:?}");
    }
    failures
}

/// A user with so many failures, all from an unknown network.
fn with_failures(failures: usize) -> Beginning {
    let beginning = Beginning::with_user(&json!({}));
    for _ in 0..failures {
        assert_eq!(beginning.after(&Client::signs_in(WRONG_PASSWORD)).error(), INCORRECT);
    }
    beginning
}

#[test]
fn failed_sign_ins_are_counted_one_by_one() {
    for before in [8, 9] {
        let beginning = with_failures(before);
        let clients = [
            Client::signs_in(WRONG_PASSWORD),
            Client::signs_in(WRONG_PASSWORD).without_losses(),
            // From another network, which is not known either and shares the budget.
            Client::signs_in_from(ELSEWHERE, USERNAME, WRONG_PASSWORD).without_losses(),
        ];
        explore("failed sign-ins are counted one by one", &beginning, &clients, 1, |end| {
            assert_eq!(count(&end.answers, &[INCORRECT, RATE_LIMIT]), 3);
            assert_eq!(end.failures_of("other"), assert_sequential(end, &end.answers, before));
            assert!(end.lost(0, COMMIT) || count(&end.answers, &[INCORRECT]) == 10 - before);
        });
    }
}

#[test]
fn the_right_password_and_a_wrong_one_share_the_last_attempt() {
    let beginning = with_failures(9);
    let clients = [Client::signs_in(WRONG_PASSWORD), Client::signs_in(PASSWORD)];
    explore("the right password and a wrong one share the last attempt", &beginning, &clients, 1, |end| {
        let [wrong, right] = &end.answers[..] else { panic!("two clients") };
        assert_among(std::slice::from_ref(wrong), &[INCORRECT]);
        assert_among(std::slice::from_ref(right), &[RATE_LIMIT]);
        let order: Vec<usize> = commits(end, &end.answers).map(|(client, _)| client).collect();
        // Without the right password, the wrong one is the tenth failure. After the right one, the network is known and
        // has its own budget.
        assert_eq!(right.is_success(), order.contains(&1));
        if right.is_success() {
            assert_eq!(order[0], 1, "allowed during the wait");
            assert_eq!(end.failures_of("other"), 0);
            let repeated = end.lost(1, COMMIT);
            assert!(end.failures_of("known") == 1 || repeated && end.failures_of("known") == 0);
        } else {
            assert_eq!((end.failures_of("known"), end.failures_of("other")), (0, 10));
        }
    });
}

/// Tests the last attempt before a wait. A refused attempt must not reveal by its calls whether its password was right,
/// in any order with other attempts.
#[test]
fn a_refused_attempt_makes_the_same_calls_for_the_right_and_a_wrong_password() {
    let beginning = with_failures(9);
    let refusals = |password: &str| {
        let seen = RefCell::new(BTreeSet::new());
        let clients = [
            Client::signs_in_from(ELSEWHERE, USERNAME, WRONG_PASSWORD),
            Client::signs_in_from(ELSEWHERE, USERNAME, WRONG_PASSWORD).without_losses(),
            Client::signs_in_from(HERE, USERNAME, password),
        ];
        explore("a refused attempt makes the same calls", &beginning, &clients, 1, |end| {
            let answer = &end.answers[2];
            if !answer.is_success() && answer.error() == RATE_LIMIT {
                let calls = end
                    .applied
                    .iter()
                    .map(|applied| (applied.client, applied.call.clone(), applied.done, applied.lost));
                seen.borrow_mut().insert(calls.collect::<Vec<_>>());
            }
        });
        seen.into_inner()
    };
    let (right, wrong) = (refusals(PASSWORD), refusals(WRONG_PASSWORD));
    assert!(right.iter().any(|calls| calls.iter().filter(|(client, ..)| *client == 2).count() > 1));
    assert_eq!(right, wrong);
}

#[test]
fn concurrent_sign_ins_with_the_right_password_all_succeed() {
    let beginning = with_failures(9);
    let clients = [
        Client::signs_in_from(HERE, USERNAME, PASSWORD),
        Client::signs_in_from(HERE, USERNAME, PASSWORD).without_losses(),
        Client::signs_in_from(ELSEWHERE, USERNAME, PASSWORD).without_losses(),
    ];
    explore("concurrent sign-ins with the right password all succeed", &beginning, &clients, 1, |end| {
        assert!(end.answers.iter().all(Answer::is_success), "{:?}", end.answers);
        let mut networks = end.networks();
        networks.sort_unstable();
        assert_eq!(networks, ["198.51.100.0/24", "203.0.113.0/24"]);
        assert_eq!(end.failures_of("other"), 0);
    });
}

#[test]
fn failures_from_elsewhere_do_not_use_the_budget_of_a_known_network() {
    let beginning = with_failures(9);
    assert!(beginning.after(&Client::signs_in_from(HERE, USERNAME, PASSWORD)).is_success());
    for _ in 0..9 {
        let failed = beginning.after(&Client::signs_in_from(ELSEWHERE, USERNAME, WRONG_PASSWORD));
        assert_eq!(failed.error(), INCORRECT);
    }
    let clients = [
        Client::signs_in_from(ELSEWHERE, USERNAME, WRONG_PASSWORD),
        Client::signs_in_from(ELSEWHERE, USERNAME, WRONG_PASSWORD).without_losses(),
        Client::signs_in_from(HERE, USERNAME, PASSWORD),
    ];
    explore(
        "failures from elsewhere do not use the budget of a known network",
        &beginning,
        &clients,
        1,
        |end| {
            let (strangers, owner) = end.answers.split_at(2);
            assert!(owner[0].is_success(), "{owner:?}");
            assert_eq!(end.failures_of("other"), assert_sequential(end, strangers, 9));
            assert_eq!((end.failures_of("known"), end.networks()), (0, vec!["203.0.113.0/24".to_owned()]));
        },
    );
}

#[test]
fn the_right_password_and_a_wrong_one_from_two_networks_share_the_last_attempt() {
    let beginning = with_failures(9);
    let clients = [
        Client::signs_in_from(HERE, USERNAME, WRONG_PASSWORD),
        Client::signs_in_from(ELSEWHERE, USERNAME, PASSWORD).without_losses(),
    ];
    explore("passwords from two networks share the last attempt", &beginning, &clients, 1, |end| {
        let [wrong, right] = &end.answers[..] else { panic!("two clients") };
        assert_eq!(wrong.error(), INCORRECT);
        assert_among(std::slice::from_ref(right), &[RATE_LIMIT]);
        assert_eq!(end.failures_of("other"), assert_sequential(end, &end.answers, 9));
        assert_eq!(end.failures_of("known"), 0);
        assert_eq!(right.is_success(), commits(end, &end.answers).next() == Some((1, true)));
        assert_eq!(end.networks(), if right.is_success() { vec!["198.51.100.0/24"] } else { vec![] });
    });
}

#[test]
fn a_password_change_and_a_wrong_password_share_the_last_attempt() {
    let token_of = |beginning: &Beginning| beginning.after(&Client::signs_in(PASSWORD)).token().to_owned();
    for kind in ["due", "own", "in settings"] {
        let beginning = Beginning::with_user(&json!({"must_change_password": kind == "due"}));
        let (change, budget) = match kind {
            "due" => (Client::makes_due_change(NEW_PASSWORD), "other"),
            "own" => (Client::changes(&token_of(&beginning), NEW_PASSWORD), "known"),
            _ => (Client::changes_in_settings(&token_of(&beginning), NEW_PASSWORD), "known"),
        };
        beginning.set_failures(budget, 9, micros_now());
        let clients = [change.without_losses(), Client::signs_in(WRONG_PASSWORD)];
        explore(
            "a password change and a wrong password share the last attempt",
            &beginning,
            &clients,
            1,
            |end| {
                let [change, wrong] = &end.answers[..] else { panic!("two clients") };
                assert_eq!(wrong.error(), INCORRECT);
                let is_first = end.done(0, COMMIT).first() < end.done(1, COMMIT).first();
                assert_eq!(change.is_success(), is_first && !end.done(0, COMMIT).is_empty(), "{change:?}");
                assert!(change.is_success() || [RATE_LIMIT, TOO_MANY].contains(&change.error()));
                let failures = end.failures_of("known") + end.failures_of("other");
                let counted = end.done(1, COMMIT).len();
                assert!(counted == 1 || counted == 2 && end.lost(1, COMMIT));
                let before = if change.is_success() { 0 } else { 9 };
                assert_eq!(failures, before + counted);
                assert_eq!(end.notices(), usize::from(change.is_success()));
            },
        );
    }
}

/// A reset or unlock clears the failures from before it, and keeps those from after it.
#[test]
fn a_reset_or_unlock_clears_failures_during_an_attempt() {
    let beginning = with_failures(9);
    let code = beginning.code();
    for clearing in [Client::resets(&code, NEW_PASSWORD), Client::manages("unlock", json!({}))] {
        let clients = [
            Client::signs_in(WRONG_PASSWORD),
            Client::signs_in(WRONG_PASSWORD).without_losses(),
            clearing.without_losses(),
        ];
        explore("a reset or unlock clears failures during an attempt", &beginning, &clients, 1, |end| {
            let cleared_at = end.done(2, "TransactWriteItems")[0];
            let (mut failures, mut counted) = (9, [0; 2]);
            for (place, applied) in end.applied.iter().enumerate() {
                if place == cleared_at {
                    failures = 0;
                } else if applied.done && applied.client < 2 && applied.call == COMMIT {
                    assert!(failures < 10, "allowed during the wait");
                    failures += 1;
                    counted[applied.client] += 1;
                }
            }
            for (client, answer) in end.answers[..2].iter().enumerate() {
                let revealed = usize::from(answer.error() == INCORRECT);
                let once_more = counted[client] == revealed + 1 && end.lost(client, COMMIT);
                assert!(counted[client] == revealed || once_more, "{:?}", end.answers);
            }
            assert_eq!(end.failures_of("known") + end.failures_of("other"), failures);
        });
    }
}

#[test]
fn failures_that_are_a_day_old_expire_once() {
    let beginning = Beginning::with_user(&json!({}));
    beginning.set_failures("other", 20, micros_now() - 24 * 3_600_000_000);
    let clients = [Client::signs_in(WRONG_PASSWORD), Client::signs_in(WRONG_PASSWORD).without_losses()];
    explore("failures that are a day old expire once", &beginning, &clients, 1, |end| {
        assert_eq!(count(&end.answers, &[INCORRECT]), 2);
        let counted = [0, 1].map(|client| end.done(client, COMMIT).len());
        assert!(counted == [1, 1] || counted == [2, 1] && end.lost(0, COMMIT));
        assert_eq!(end.failures_of("other"), counted[0] + counted[1]);
    });
}

#[test]
fn two_wrong_passwords_share_the_last_answer_to_an_address() {
    let beginning = Beginning::empty();
    // The first charge begins a new window.
    beginning.end_window(HERE);
    let clients = ["unknown", "other"].map(|name| Client::signs_in_within(1, HERE, name, WRONG_PASSWORD));
    explore("two wrong passwords share the last answer to an address", &beginning, &clients, 1, |end| {
        let [answered, refused] = [INCORRECT, RATE_LIMIT].map(|error| count(&end.answers, &[error]));
        assert_eq!((answered + refused, end.failures_of_address()), (2, 1));
        // After a lost response, the other charge may come before the retry. Both are refused then.
        let lost = (0..2).any(|client| end.lost(client, CHARGE_ADDRESS));
        assert!(answered == 1 || lost && answered == 0, "{:?}", end.answers);
    });
}

#[test]
fn known_and_unknown_users_have_the_same_budget() {
    let beginning = Beginning::with_user(&json!({}));
    let attempt = || Client::signs_in_from(HERE, "unknown", PASSWORD);
    for _ in 0..9 {
        assert_eq!(beginning.after(&attempt()).error(), INCORRECT);
    }
    let clients = [attempt(), attempt().without_losses()];
    explore("known and unknown users have the same budget", &beginning, &clients, 1, |end| {
        assert_eq!(count(&end.answers, &[INCORRECT]), 1);
        assert_eq!(count(&end.answers, &[RATE_LIMIT]), 1);
        assert_eq!((end.failures_of_stub(), end.failures_of("other")), (10, 0));
    });
}

#[test]
fn one_attempt_is_allowed_when_a_wait_ends() {
    let beginning = with_failures(10);
    assert!(beginning.after(&Client::lets_wait_end()).is_success());
    let clients =
        [Client::signs_in(WRONG_PASSWORD), Client::signs_in(WRONG_PASSWORD), Client::lets_wait_end()];
    explore("one attempt is allowed when a wait ends", &beginning, &clients, 1, |end| {
        let (mut waiting, mut counted) = (false, [0; 2]);
        for applied in end.applied.iter().filter(|applied| applied.done && applied.call == COMMIT) {
            if applied.client == 2 {
                waiting = false;
            } else {
                assert!(!waiting, "allowed during the wait");
                waiting = true;
                counted[applied.client] += 1;
            }
        }
        let signins = &end.answers[..2];
        assert_eq!(count(signins, &[INCORRECT, RATE_LIMIT]), 2);
        for (client, answer) in signins.iter().enumerate() {
            let revealed = usize::from(answer.error() == INCORRECT);
            let once_more = counted[client] == revealed + 1 && end.lost(client, COMMIT);
            assert!(counted[client] == revealed || once_more, "{signins:?}");
        }
        assert_eq!(end.failures_of("other"), 10 + counted[0] + counted[1]);
    });
}
