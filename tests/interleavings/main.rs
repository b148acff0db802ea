//! Every interleaving of a few clients, and of the answers that get lost, on the real functions.
//!
//! A scenario is a beginning, some clients, and what has to hold at each end. The functions run in this process; their
//! calls of `DynamoDB` go to an embedded one, but one at a time: each call waits until all clients wait, and is then
//! applied and answered when the search chooses it (`explorer`). It goes on until every order was run, but for those that
//! differ only in steps that commute. Where the budget for losses allows it, a call is also applied without its answer
//! coming back, which makes the SDK repeat it. A call that is refused or throttled before it is applied, and repeated, is
//! no case of its own: it is one that comes later. Time passes when a client lets it.
//!
//! No order is drawn at random: what is printed at the end of a scenario (`--nocapture`) is all there is, and a failure
//! is shown with the order that leads to it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
#![allow(clippy::print_stdout, reason = "a failure is shown with what was printed before")]

mod explorer;
mod sequence;
mod service;

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::explorer::explore;
use crate::service::{Answer, Applied, Beginning, Client, End, PASSWORD, USERNAME, WRONG_CODE, code};

const NEW_PASSWORD: &str = "NewPassword1234!";
const OTHER_PASSWORD: &str = "OtherPassword1234!";
const WRONG_PASSWORD: &str = "Password1234?";
/// [`PASSWORD`] with other parameters than new hashes have, so that a sign-in replaces it.
const OTHER_HASH: &str =
    "$argon2id$v=19$m=8192,t=1,p=1$HzosdDbuv3YvnpWKb+wgvA$feshGaSVCLv1CefRiXf8ta76paVBB9P7Zf9s6lKnb9U";
/// Source addresses in two networks.
const HERE: &str = "203.0.113.12";
const ELSEWHERE: &str = "198.51.100.7";

/// What calls the store makes to count, as they are applied.
const COMMIT: &str = "UpdateItem postern-users";
const COMMIT_UNKNOWN: &str = "UpdateItem postern-attempts";
const CHARGE_ADDRESS: &str = "UpdateItem postern-source-ips";
const UPDATE_CODE: &str = "UpdateItem postern-reset-codes";
const GET_USER: &str = "GetItem postern-users";

const CODE_INCORRECT: &str = "code_incorrect";
const NO_CODE: &str = "There was no code for a password reset requested";
const RATE_LIMIT: &str = "rate_limit_exceeded";
/// What `change_password` says in place of [`RATE_LIMIT`].
const TOO_MANY: &str = "Too many attempts, try again later";
const INCORRECT: &str = "username_or_password_incorrect";

/// A user with a code of which so many tries are used, and the code.
fn with_tries(tries: usize) -> (Beginning, String) {
    let beginning = Beginning::with_user(&json!({}));
    let code = beginning.code();
    for _ in 0..tries {
        assert_eq!(beginning.after(&Client::checks(WRONG_CODE)).error(), CODE_INCORRECT);
    }
    (beginning, code)
}

/// The time, in microseconds since the Unix epoch.
fn micros_now() -> i64 {
    shared::clock::now().as_micros()
}

/// The same for a user who signed in from [`HERE`], with so many tries used from there and from elsewhere.
fn with_tries_in_both(known: usize, other: usize) -> (Beginning, String) {
    let beginning = Beginning::with_user(&json!({}));
    assert!(beginning.after(&Client::signs_in_from(HERE, USERNAME, PASSWORD)).is_success());
    let code = beginning.code();
    beginning.set_tries("known", known);
    beginning.set_tries("other", other);
    (beginning, code)
}

/// How many of the answers are one of these errors.
fn count(answers: &[Answer], errors: &[&str]) -> usize {
    answers.iter().filter(|answer| !answer.is_success() && errors.contains(&answer.error())).count()
}

/// Asserts that each answer is a success or one of these errors.
#[track_caller]
fn assert_among(answers: &[Answer], errors: &[&str]) {
    let successes = answers.iter().filter(|answer| answer.is_success()).count();
    assert_eq!(successes + count(answers, errors), answers.len(), "{answers:?}");
}

/// Asserts that the user's password is this one and no other, and that so many changes were told of.
#[track_caller]
fn assert_password(end: &End<'_>, password: &str, changes: usize) {
    for other in [PASSWORD, NEW_PASSWORD, OTHER_PASSWORD] {
        assert_eq!(end.password_is(other), other == password, "{other}");
    }
    assert_eq!(end.notices(), changes);
}

/// Asserts that the password is a new one if, and only if, this change of it was acknowledged.
#[track_caller]
fn assert_changed(end: &End<'_>, change: &Answer) {
    let changed = change.is_success();
    assert_password(end, if changed { NEW_PASSWORD } else { PASSWORD }, changed.into());
}

#[test]
fn wrong_codes_and_the_right_one_share_the_last_tries() {
    for used in [10, 11] {
        let (beginning, code) = with_tries(used);
        let clients = [Client::checks(WRONG_CODE), Client::checks(WRONG_CODE), Client::checks(&code)];
        explore("wrong codes and the right one share the last tries", &beginning, &clients, 1, |end| {
            let (wrong, right) = end.answers.split_at(2);
            let compared = count(wrong, &[CODE_INCORRECT]);
            assert_eq!(compared + count(wrong, &[RATE_LIMIT]), 2);
            assert_among(right, &[RATE_LIMIT]);
            // Each wrong one keeps its try, and the right one gives its own back.
            assert_eq!(end.tries(), used + compared);
            assert!(end.tries() <= 12);
            // Nobody is refused but for others who were let in.
            assert!(right[0].is_success() || end.tries() == 12);
        });
    }
}

#[test]
fn codes_from_known_and_other_networks_share_no_tries() {
    let (beginning, code) = with_tries_in_both(10, 11);
    for right_address in [HERE, ELSEWHERE] {
        let clients = [
            Client::checks_from(HERE, WRONG_CODE),
            Client::checks_from(ELSEWHERE, WRONG_CODE),
            Client::checks_from(right_address, &code),
        ];
        explore("known and other networks share no tries", &beginning, &clients, 1, |end| {
            let [known, other, right] = &end.answers[..] else { panic!("three clients") };
            // From either network, the right code is the only one that could use up the last try of the wrong one.
            assert_eq!(known.error(), CODE_INCORRECT);
            let used = if other.error() == CODE_INCORRECT { 12 } else { 11 };
            assert!(used == 12 || other.error() == RATE_LIMIT && right_address == ELSEWHERE);
            assert_eq!((end.tries_of("known"), end.tries_of("other")), (11, used));
            assert!(right.is_success() || right_address == ELSEWHERE && right.error() == RATE_LIMIT);
            assert!(right.is_success() || used == 12);
        });
    }
}

#[test]
fn a_try_counts_where_its_network_was_known_when_the_user_was_read() {
    let (beginning, code) = with_tries(0);
    let clients = [
        Client::signs_in_from(HERE, USERNAME, PASSWORD),
        Client::checks_from(HERE, WRONG_CODE),
        Client::checks_from(HERE, &code),
    ];
    explore("a try counts where its network was known", &beginning, &clients, 1, |end| {
        let [signed_in, wrong, right] = &end.answers[..] else { panic!("three clients") };
        assert!(signed_in.is_success() && right.is_success(), "{:?}", end.answers);
        assert_eq!(wrong.error(), CODE_INCORRECT);
        let was_known = end.done(0, COMMIT)[0] < end.done(1, GET_USER)[0];
        let expected = if was_known { (1, 0) } else { (0, 1) };
        assert_eq!((end.tries_of("known"), end.tries_of("other")), expected);
    });
}

/// Every number of tries in both budgets, and each code from each network: the answer and the counts are those of the
/// rule.
#[test]
fn every_try_follows_the_sequential_rule() {
    let counts = [0, 1, 10, 11, 12, 24];
    for (known, other) in counts.into_iter().flat_map(|known| counts.map(|other| (known, other))) {
        let (beginning, code) = with_tries_in_both(known, other);
        for (budget, address, used) in [("known", HERE, known), ("other", ELSEWHERE, other)] {
            for is_right in [false, true] {
                let before = beginning.copy();
                let code = if is_right { &code } else { WRONG_CODE };
                let answer = before.after(&Client::checks_from(address, code));
                let case = format!("{known} and {other}, {budget}, {is_right}: {answer:?}");
                let left = match (used >= 12, is_right) {
                    (true, _) => {
                        assert_eq!(answer.error(), RATE_LIMIT, "{case}");
                        used
                    }
                    (false, true) => {
                        assert!(answer.is_success(), "{case}");
                        used
                    }
                    (false, false) => {
                        assert_eq!(answer.error(), CODE_INCORRECT, "{case}");
                        used + 1
                    }
                };
                let expected = if budget == "known" { (left, other) } else { (known, left) };
                assert_eq!((before.tries_of("known"), before.tries_of("other")), expected, "{case}");
            }
        }
    }
}

/// Sends of half an hour, two hours and 25 hours ago, as many of each as there can be, in both budgets: the answer and
/// the counts are those of the rule.
#[test]
fn every_send_follows_the_sequential_rule() {
    const HOUR: u64 = 3_600_000_000;
    let beginning = Beginning::with_user(&json!({}));
    assert!(beginning.after(&Client::signs_in_from(HERE, USERNAME, PASSWORD)).is_success());
    for recent in 0..=10 {
        for of_today in 0..=10 - recent {
            let earlier = 10 - recent - of_today;
            for old in BTreeSet::from([0, earlier.min(1), earlier]) {
                let ago = [vec![HOUR / 2; recent], vec![2 * HOUR; of_today], vec![25 * HOUR; old]].concat();
                for (budget, other, address) in [("known", "other", HERE), ("other", "known", ELSEWHERE)] {
                    let before = beginning.copy();
                    before.set_sends(budget, &ago);
                    // The other budget is used up.
                    before.set_sends(other, &[HOUR / 2; 10]);
                    let answer = before.after(&Client::sends_from(address));
                    let case = format!("{recent}, {of_today} and {old}, {budget}: {answer:?}");
                    let sends = if recent >= 5 || recent + of_today >= 10 {
                        assert_eq!(answer.error(), RATE_LIMIT, "{case}");
                        ago.len()
                    } else {
                        assert!(answer.is_success(), "{case}");
                        (ago.len() + 1).min(10)
                    };
                    assert_eq!((before.sends_of(budget), before.sends_of(other)), (sends, 10), "{case}");
                    let refused =
                        before.after(&Client::sends_from(if address == HERE { ELSEWHERE } else { HERE }));
                    assert_eq!(refused.error(), RATE_LIMIT, "{case}");
                }
            }
        }
    }
}

#[test]
fn sends_to_known_and_other_networks_are_counted_apart() {
    let beginning = Beginning::with_user(&json!({}));
    assert!(beginning.after(&Client::signs_in_from(HERE, USERNAME, PASSWORD)).is_success());
    beginning.set_sends("known", &[0; 4]);
    beginning.set_sends("other", &[0; 4]);
    let clients = [
        Client::sends_from(HERE),
        Client::sends_from(HERE).without_losses(),
        Client::sends_from(ELSEWHERE).without_losses(),
    ];
    explore("known and other networks are counted apart", &beginning, &clients, 1, |end| {
        let (known, other) = end.answers.split_at(2);
        assert!(other[0].is_success(), "{other:?}");
        // A retry after a lost response finds another code, and no send left, if a stranger's code came in between.
        let refused = count(known, &[RATE_LIMIT]);
        assert!(refused == 1 || refused == 2 && end.lost(0, UPDATE_CODE), "{known:?}");
        assert_eq!((end.sends_of("known"), end.sends_of("other")), (5, 5));
        // The code that was written last is right.
        let codes = end.mails_with_codes();
        assert_eq!(codes.len(), 3 - refused);
        let right = codes.into_iter().filter(|mail| end.after(&Client::checks(&code(mail))).is_success());
        assert!((1..=2).contains(&right.count()));
    });
}

#[test]
fn of_two_resets_one_wins() {
    for (used, guesses, losses) in [(11, 1, 0), (10, 0, 1), (11, 0, 1)] {
        let (beginning, code) = with_tries(used);
        let mut clients = vec![Client::resets(&code, NEW_PASSWORD), Client::resets(&code, OTHER_PASSWORD)];
        clients.extend((0..guesses).map(|_| Client::checks(WRONG_CODE)));
        explore("of two resets one wins", &beginning, &clients, losses, |end| {
            let (resets, wrong) = end.answers.split_at(2);
            assert_among(resets, &[NO_CODE, RATE_LIMIT]);
            assert_eq!(count(wrong, &[CODE_INCORRECT, NO_CODE, RATE_LIMIT]), guesses);
            match [resets[0].is_success(), resets[1].is_success()] {
                [true, true] => panic!("both won"),
                [false, false] => {
                    // Which happens only if the wrong code got the last try.
                    assert_eq!((used, count(wrong, &[CODE_INCORRECT]), end.tries()), (11, 1, 12));
                    assert_password(end, PASSWORD, 0);
                }
                [first, _] => {
                    assert!(end.code()["code_id"].is_null() && end.tries() == 0);
                    assert_password(end, if first { NEW_PASSWORD } else { OTHER_PASSWORD }, 1);
                }
            }
        });
    }
}

#[test]
fn a_refused_mail_restores_the_earlier_code_with_its_tries() {
    for losses in [0, 1] {
        let (beginning, code) = with_tries(2);
        let earlier = beginning.code_id();
        beginning.refuse_mails();
        let mut clients = vec![Client::sends(), Client::checks(WRONG_CODE)];
        if losses == 0 {
            clients.push(Client::resets(&code, NEW_PASSWORD));
        }
        explore("a refused mail restores the earlier code", &beginning, &clients, losses, |end| {
            assert_eq!(end.answers[0].error(), "service_unavailable");
            let wrong = &end.answers[1];
            let id = &end.code()["code_id"];
            if let Some(reset) = end.answers.get(2) {
                // The new code was in the way, if only for a moment.
                assert_among(std::slice::from_ref(reset), &[CODE_INCORRECT]);
                assert!(end.password_is(if reset.is_success() { NEW_PASSWORD } else { PASSWORD }));
                if reset.is_success() {
                    assert_among(std::slice::from_ref(wrong), &[CODE_INCORRECT, NO_CODE]);
                    assert!(id.is_null());
                    return;
                }
            }
            if end.lost(0, UPDATE_CODE) && *id != earlier {
                // The earlier code was in the response that was lost, or the new one was written again.
                assert_among(std::slice::from_ref(wrong), &[CODE_INCORRECT, NO_CODE]);
                assert!(end.sends() <= 3);
                return;
            }
            assert_eq!(*id, earlier);
            // A comparison with either code stays counted, and so may the try of a reset that had to start over.
            let compared = count(&end.answers, &[CODE_INCORRECT]);
            assert!((2 + compared..=3 + compared).contains(&end.tries()), "{} tries", end.tries());
            // The send is given back, unless the new code was tried.
            let [replaced, .., restored] = end.done(0, UPDATE_CODE)[..] else { panic!("two writes") };
            let tried = (1..end.answers.len())
                .flat_map(|client| end.done(client, UPDATE_CODE))
                .any(|place| (replaced..restored).contains(&place));
            assert!(end.sends() == 1 || tried && end.sends() == 2, "{} sends", end.sends());
        });
    }
}

/// A mail is refused while wrong codes come from known and other networks: no comparison and no send is for nothing,
/// and the send is given back in the budget that it was counted in.
#[test]
fn a_refused_mail_gives_back_nothing_that_was_used_in_either_budget() {
    for (sender, budget) in [(HERE, "known"), (ELSEWHERE, "other")] {
        let (beginning, right) = with_tries_in_both(2, 3);
        beginning.refuse_mails();
        let earlier = beginning.code_id();
        let before = (beginning.sends_of("known"), beginning.sends_of("other"));
        let clients = [
            Client::sends_from(sender),
            Client::checks_from(HERE, WRONG_CODE),
            Client::checks_from(ELSEWHERE, WRONG_CODE),
        ];
        explore("a refused mail gives back nothing that was used", &beginning, &clients, 0, |end| {
            let [sent, known, other] = &end.answers[..] else { panic!("three clients") };
            assert_eq!(sent.error(), "service_unavailable");
            assert!(known.error() == CODE_INCORRECT && other.error() == CODE_INCORRECT);
            assert_eq!(end.code()["code_id"], earlier);
            assert_eq!((end.tries_of("known"), end.tries_of("other")), (3, 4));
            let [replaced, .., restored] = end.done(0, UPDATE_CODE)[..] else { panic!("two writes") };
            let tried = [1, 2]
                .into_iter()
                .flat_map(|client| end.done(client, UPDATE_CODE))
                .any(|place| (replaced..restored).contains(&place));
            let counted = usize::from(tried);
            let expected = if budget == "known" {
                (before.0 + counted, before.1)
            } else {
                (before.0, before.1 + counted)
            };
            assert_eq!((end.sends_of("known"), end.sends_of("other")), expected);
            assert!(end.after(&Client::checks(&right)).is_success());
        });
    }
}

#[test]
fn of_two_refused_mails_to_different_budgets_each_gives_its_send_back_unless_they_overlap() {
    let (beginning, _) = with_tries_in_both(2, 3);
    let earlier = beginning.code_id();
    let before = (beginning.sends_of("known"), beginning.sends_of("other"));
    beginning.refuse_mails();
    let clients = [Client::sends_from(HERE), Client::sends_from(ELSEWHERE)];
    explore("of two refused mails to different budgets", &beginning, &clients, 0, |end| {
        assert_eq!(count(&end.answers, &["service_unavailable"]), 2);
        let [known, other] = [0, 1].map(|client| end.done(client, UPDATE_CODE));
        let sends = (end.sends_of("known") - before.0, end.sends_of("other") - before.1);
        let tries = (end.tries_of("known"), end.tries_of("other"));
        if known.len() + other.len() == 4 {
            assert_eq!(end.code()["code_id"], earlier);
            assert_eq!((sends, tries), ((0, 0), (2, 3)));
        } else {
            // The first one stays counted.
            assert_eq!(sends, if known[0] < other[0] { (1, 0) } else { (0, 1) });
            assert_eq!(tries, (0, 0));
        }
    });
}

#[test]
fn of_two_refused_mails_each_gives_its_send_back_unless_they_overlap() {
    let (beginning, _) = with_tries(2);
    let earlier = beginning.code_id();
    beginning.refuse_mails();
    let clients = [Client::sends(), Client::sends()];
    explore("of two refused mails each gives its send back", &beginning, &clients, 0, |end| {
        assert_eq!(count(&end.answers, &["service_unavailable"]), 2);
        let [first, second] = [0, 1].map(|client| end.done(client, UPDATE_CODE));
        let overlap = first.len() + second.len() < 4;
        assert_eq!(end.code()["code_id"] == earlier, !overlap);
        assert_eq!((end.sends(), end.tries()), if overlap { (2, 0) } else { (1, 2) });
    });
}

#[test]
fn a_new_code_replaces_the_old_one_and_its_tries() {
    let (beginning, old) = with_tries(0);
    let clients = [Client::sends(), Client::checks(WRONG_CODE), Client::resets(&old, NEW_PASSWORD)];
    explore("a new code replaces the old one and its tries", &beginning, &clients, 1, |end| {
        let [sent, wrong, reset] = &end.answers[..] else { panic!("three clients") };
        assert!(sent.is_success());
        let new = code(end.mails_with_codes()[0]);
        // Once in a million ends the new code is the old one again.
        if new == old {
            return;
        }
        assert_among(std::slice::from_ref(reset), &[CODE_INCORRECT]);
        assert_changed(end, reset);
        // Whatever was compared with the new code has used one of its tries.
        let sending = end.done(0, UPDATE_CODE)[0];
        let compared = [(1, wrong), (2, reset)].into_iter().filter(|(client, answer)| {
            let compared = !answer.is_success() && answer.error() == CODE_INCORRECT;
            compared && end.done(*client, UPDATE_CODE).last() > Some(&sending)
        });
        assert_eq!(end.tries(), compared.count());
        assert_eq!(end.sends(), 2);
        // The reset also revokes a code that is being sent meanwhile.
        let read = end.done(0, GET_USER)[0];
        let revoked = reset.is_success() && read < end.done(2, "TransactWriteItems")[0];
        assert_eq!(end.after(&Client::checks(&new)).is_success(), !revoked);
    });
}

#[test]
fn an_expired_code_changes_nothing() {
    for (checks, losses) in [(1, 0), (0, 1)] {
        let (beginning, code) = with_tries(0);
        let mut clients = vec![Client::lets_code_expire(), Client::resets(&code, NEW_PASSWORD)];
        clients.extend((0..checks).map(|_| Client::checks(&code)));
        explore("an expired code changes nothing", &beginning, &clients, losses, |end| {
            let [expired, reset, ..] = &end.answers[..] else { panic!("two clients") };
            assert_among(&end.answers[1..], &[NO_CODE]);
            // There is nothing to expire once the code is used.
            assert_eq!(reset.is_success(), !expired.is_success());
            assert_changed(end, reset);
            assert!(end.tries() == 0 || end.lost(1, UPDATE_CODE));
        });
    }
}

/// The commits of attempts, as far as they did something, with their verdicts: the order in which they count.
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

/// Asserts that the answers are those of the sequential rule in the order of the commits, and returns the failures that
/// it leaves after so many before. What was refused was not counted, and what was revealed was counted once; one more may
/// be counted of a client whose response was lost, if another attempt was committed before the retry.
#[track_caller]
fn assert_sequential(end: &End<'_>, answers: &[Answer], mut failures: usize) -> usize {
    let mut counted = vec![0; answers.len()];
    for (client, is_right) in commits(end, answers) {
        assert!(failures < 10, "let in during the wait");
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

/// The beginning with a user whose name has failed so often, each time from an unknown network.
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
            // From a network that the others do not share, so that the budget stays theirs.
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
        // The wrong one alone makes the tenth failure; after the right one, the network is known and counts by itself.
        assert_eq!(right.is_success(), order.contains(&1));
        if right.is_success() {
            assert_eq!(order[0], 1, "let in during the wait");
            assert_eq!(end.failures_of("other"), 0);
            let repeated = end.lost(1, COMMIT);
            assert!(end.failures_of("known") == 1 || repeated && end.failures_of("known") == 0);
        } else {
            assert_eq!((end.failures_of("known"), end.failures_of("other")), (0, 10));
        }
    });
}

/// At the last attempt before a wait: whatever comes in between, an attempt that is refused has made the same calls if
/// its password was right as if it was wrong.
#[test]
fn a_refusal_is_the_same_for_a_right_and_a_wrong_password() {
    let beginning = with_failures(9);
    let refusals = |password: &str| {
        let seen = RefCell::new(BTreeSet::new());
        let clients = [
            Client::signs_in_from(ELSEWHERE, USERNAME, WRONG_PASSWORD),
            Client::signs_in_from(ELSEWHERE, USERNAME, WRONG_PASSWORD).without_losses(),
            Client::signs_in_from(HERE, USERNAME, password),
        ];
        explore("a refusal is the same", &beginning, &clients, 1, |end| {
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
fn right_passwords_at_the_same_time_all_sign_in() {
    let beginning = with_failures(9);
    let clients = [
        Client::signs_in_from(HERE, USERNAME, PASSWORD),
        Client::signs_in_from(HERE, USERNAME, PASSWORD).without_losses(),
        Client::signs_in_from(ELSEWHERE, USERNAME, PASSWORD).without_losses(),
    ];
    explore("right passwords at the same time all sign in", &beginning, &clients, 1, |end| {
        assert!(end.answers.iter().all(Answer::is_success), "{:?}", end.answers);
        let mut networks = end.networks();
        networks.sort_unstable();
        assert_eq!(networks, ["198.51.100.0/24", "203.0.113.0/24"]);
        assert_eq!(end.failures_of("other"), 0);
    });
}

#[test]
fn strangers_use_nothing_of_the_budget_of_a_known_network() {
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
    explore("strangers use nothing of the budget of a known network", &beginning, &clients, 1, |end| {
        let (strangers, owner) = end.answers.split_at(2);
        assert!(owner[0].is_success(), "{owner:?}");
        assert_eq!(end.failures_of("other"), assert_sequential(end, strangers, 9));
        assert_eq!((end.failures_of("known"), end.networks()), (0, vec!["203.0.113.0/24".to_owned()]));
    });
}

#[test]
fn a_right_and_a_wrong_password_from_two_networks_share_the_last_attempt() {
    let beginning = with_failures(9);
    let clients = [
        Client::signs_in_from(HERE, USERNAME, WRONG_PASSWORD),
        Client::signs_in_from(ELSEWHERE, USERNAME, PASSWORD).without_losses(),
    ];
    explore("right and wrong from two networks share the last attempt", &beginning, &clients, 1, |end| {
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
fn a_change_of_the_password_and_a_wrong_password_share_the_last_attempt() {
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
        explore("a change and a wrong password share the last attempt", &beginning, &clients, 1, |end| {
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
        });
    }
}

/// What was charged before it is cleared, and what is charged after it stays.
#[test]
fn a_reset_and_unlock_clear_the_failures_between_the_reading_and_the_commit_of_an_attempt() {
    let beginning = with_failures(9);
    let code = beginning.code();
    for clearing in [Client::resets(&code, NEW_PASSWORD), Client::manages("unlock", json!({}))] {
        let clients = [
            Client::signs_in(WRONG_PASSWORD),
            Client::signs_in(WRONG_PASSWORD).without_losses(),
            clearing.without_losses(),
        ];
        explore("a reset and unlock clear the failures", &beginning, &clients, 1, |end| {
            let cleared_at = end.done(2, "TransactWriteItems")[0];
            let (mut failures, mut counted) = (9, [0; 2]);
            for (place, applied) in end.applied.iter().enumerate() {
                if place == cleared_at {
                    failures = 0;
                } else if applied.done && applied.client < 2 && applied.call == COMMIT {
                    assert!(failures < 10, "let in during the wait");
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
fn failures_that_are_a_day_old_are_forgotten_once() {
    let beginning = Beginning::with_user(&json!({}));
    beginning.set_failures("other", 20, micros_now() - 24 * 3_600_000_000);
    let clients = [Client::signs_in(WRONG_PASSWORD), Client::signs_in(WRONG_PASSWORD).without_losses()];
    explore("failures that are a day old are forgotten once", &beginning, &clients, 1, |end| {
        assert_eq!(count(&end.answers, &[INCORRECT]), 2);
        let counted = [0, 1].map(|client| end.done(client, COMMIT).len());
        assert!(counted == [1, 1] || counted == [2, 1] && end.lost(0, COMMIT));
        assert_eq!(end.failures_of("other"), counted[0] + counted[1]);
    });
}

#[test]
fn a_sign_in_is_no_namesakes() {
    let beginning = Beginning::with_user(&json!({}));
    let clients = [
        Client::manages("delete", json!({})).without_losses(),
        Client::manages("create", json!({"password": OTHER_PASSWORD, "activated": true})).without_losses(),
        Client::signs_in_from(HERE, USERNAME, PASSWORD),
    ];
    explore("a sign-in is no namesake's", &beginning, &clients, 1, |end| {
        let [deleted, created, signed_in] = &end.answers[..] else { panic!("three clients") };
        assert_eq!(deleted.body["ok"], true, "{deleted:?}");
        assert_among(std::slice::from_ref(signed_in), &[INCORRECT]);
        assert!(!signed_in.is_success() || !end.takes_token(signed_in.token()));
        assert_eq!(end.password_is(OTHER_PASSWORD), created.body["ok"] == true);
        assert!(!end.password_is(PASSWORD));
    });
}

#[test]
fn one_of_two_wrong_passwords_is_the_last_that_an_address_is_answered() {
    let beginning = Beginning::empty();
    // The first one to be charged begins a new window.
    beginning.end_window(HERE);
    let clients = ["nobody", "none"].map(|name| Client::signs_in_within(1, HERE, name, WRONG_PASSWORD));
    explore("one of two is the last that an address is answered", &beginning, &clients, 1, |end| {
        let [answered, refused] = [INCORRECT, RATE_LIMIT].map(|error| count(&end.answers, &[error]));
        assert_eq!((answered + refused, end.failures_of_address()), (2, 1));
        // A charge whose response was lost may be overtaken before its retry; both are refused then.
        let lost = (0..2).any(|client| end.lost(client, CHARGE_ADDRESS));
        assert!(answered == 1 || lost && answered == 0, "{:?}", end.answers);
    });
}

#[test]
fn unknown_names_have_the_same_budget() {
    let beginning = Beginning::with_user(&json!({}));
    let attempt = || Client::signs_in_from(HERE, "nobody", PASSWORD);
    for _ in 0..9 {
        assert_eq!(beginning.after(&attempt()).error(), INCORRECT);
    }
    let clients = [attempt(), attempt().without_losses()];
    explore("unknown names have the same budget", &beginning, &clients, 1, |end| {
        assert_eq!(count(&end.answers, &[INCORRECT]), 1);
        assert_eq!(count(&end.answers, &[RATE_LIMIT]), 1);
        assert_eq!((end.failures_of_stub(), end.failures_of("other")), (10, 0));
    });
}

#[test]
fn a_sign_in_meets_the_creation_or_deletion_of_its_user() {
    let beginning = Beginning::with_user(&json!({}));
    let clients = [Client::manages("delete", json!({})), Client::signs_in_from(HERE, USERNAME, PASSWORD)];
    explore("a sign-in meets the deletion of its user", &beginning, &clients, 1, |end| {
        assert_eq!(end.answers[0].body, json!({"ok": true}));
        assert_among(&end.answers[1..], &[INCORRECT]);
        // At most the stub of what is an unknown name by then.
        assert_eq!(end.items(), end.failures_of_stub());
    });
    assert_eq!(beginning.after(&Client::manages("delete", json!({}))).body, json!({"ok": true}));
    let clients = [
        Client::manages("create", json!({"password": PASSWORD, "activated": true})),
        Client::signs_in_from(HERE, USERNAME, PASSWORD),
    ];
    explore("a sign-in meets the creation of its user", &beginning, &clients, 1, |end| {
        assert_eq!(end.answers[0].body["ok"], true, "{:?}", end.answers);
        assert_among(&end.answers[1..], &[INCORRECT]);
        assert_eq!(end.failures_of_stub(), usize::from(!end.answers[1].is_success()));
        assert!(end.password_is(PASSWORD));
    });
}

#[test]
fn a_sign_in_meets_the_rename_of_its_user() {
    const NEW_NAME: &str = "st.meier";
    let beginning = Beginning::with_user(&json!({}));
    for password in [PASSWORD, WRONG_PASSWORD] {
        let clients = [
            Client::manages("rename", json!({"new_username": NEW_NAME})),
            Client::signs_in(password),
            Client::signs_in_from(ELSEWHERE, NEW_NAME, password).without_losses(),
        ];
        explore("a sign-in meets the rename of its user", &beginning, &clients, 1, |end| {
            let [renamed, former, present] = &end.answers[..] else { panic!("three clients") };
            assert_eq!(renamed.body["user"]["username"], NEW_NAME, "{renamed:?}");
            let renaming = end.done(0, "TransactWriteItems")[0];
            for (answer, client, is_former) in [(former, 1, true), (present, 2, false)] {
                if answer.is_success() {
                    // The commit is the moment that counts: before the rename with the old name, after it with the new one.
                    assert_eq!(password, PASSWORD);
                    assert_eq!(end.done(client, COMMIT)[0] < renaming, is_former);
                } else {
                    assert_eq!(answer.error(), INCORRECT);
                }
            }
            // The rename revokes what a sign-in with the old name got.
            assert!(!former.is_success() || !end.takes(former));
            assert!(!present.is_success() || end.takes_token(present.token()));
            // Both names have fresh budgets, so only attempts that were made on them afterwards count.
            let after = |address| end.after(&Client::signs_in_from(address, NEW_NAME, PASSWORD)).is_success();
            assert!(after(HERE) && after(ELSEWHERE));
            assert_eq!(end.after(&Client::signs_in_from(HERE, USERNAME, PASSWORD)).error(), INCORRECT);
        });
    }
}

#[test]
fn a_wait_that_ends_lets_one_in() {
    let beginning = with_failures(10);
    assert!(beginning.after(&Client::lets_wait_end()).is_success());
    let clients =
        [Client::signs_in(WRONG_PASSWORD), Client::signs_in(WRONG_PASSWORD), Client::lets_wait_end()];
    explore("a wait that ends lets one in", &beginning, &clients, 1, |end| {
        let (mut waiting, mut counted) = (false, [0; 2]);
        for applied in end.applied.iter().filter(|applied| applied.done && applied.call == COMMIT) {
            if applied.client == 2 {
                waiting = false;
            } else {
                assert!(!waiting, "let in during the wait");
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

#[test]
fn one_of_two_due_changes_wins() {
    let beginning = Beginning::with_user(&json!({"must_change_password": true}));
    for (signins, losses) in [(1, 0), (0, 1)] {
        let mut clients = vec![
            Client::makes_due_change(NEW_PASSWORD),
            Client::makes_due_change(OTHER_PASSWORD).without_losses(),
        ];
        clients.extend((0..signins).map(|_| Client::signs_in(PASSWORD)));
        explore("one of two due changes wins", &beginning, &clients, losses, |end| {
            let (changes, signed_in) = end.answers.split_at(2);
            assert_eq!(count(signed_in, &[INCORRECT, "change_password"]), signins);
            assert_among(changes, &[INCORRECT, "no_password_change_needed_for_user"]);
            let winners: Vec<&Answer> = changes.iter().filter(|answer| answer.is_success()).collect();
            assert!(winners.len() == 1 && end.takes(winners[0]), "{changes:?}");
            assert_eq!(end.sessions(), 1);
            let first = changes[0].is_success();
            assert_password(end, if first { NEW_PASSWORD } else { OTHER_PASSWORD }, 1);
        });
    }
}

#[test]
fn one_of_two_changes_with_one_token_wins() {
    let beginning = Beginning::with_user(&json!({}));
    let token = beginning.after(&Client::signs_in(PASSWORD)).token().to_owned();
    let clients =
        [Client::changes(&token, OTHER_PASSWORD), Client::changes_in_settings(&token, NEW_PASSWORD)];
    explore("one of two changes with one token wins", &beginning, &clients, 0, |end| {
        let [change, in_settings] = &end.answers[..] else { panic!("two clients") };
        assert_ne!(change.is_success(), in_settings.is_success());
        assert!([200, 422].contains(&change.status), "{change:?}");
        assert_among(std::slice::from_ref(in_settings), &["password_incorrect"]);
        assert!(end.takes_token(&token));
        assert_password(end, if change.is_success() { OTHER_PASSWORD } else { NEW_PASSWORD }, 1);
    });
}

#[test]
fn of_a_reset_and_a_change_by_the_user_one_wins() {
    let (beginning, code) = with_tries(0);
    let token = beginning.after(&Client::signs_in(PASSWORD)).token().to_owned();
    let clients = [Client::changes(&token, OTHER_PASSWORD), Client::resets(&code, NEW_PASSWORD)];
    explore("of a reset and a change by the user one wins", &beginning, &clients, 1, |end| {
        let [change, reset] = &end.answers[..] else { panic!("two clients") };
        assert!([200, 401, 422].contains(&change.status), "{change:?}");
        assert_among(std::slice::from_ref(reset), &[NO_CODE]);
        assert_ne!(change.is_success(), reset.is_success());
        assert_eq!(end.takes_token(&token), change.is_success());
        assert_password(end, if change.is_success() { OTHER_PASSWORD } else { NEW_PASSWORD }, 1);
        assert_eq!(end.after(&Client::checks(&code)).error(), NO_CODE);
    });
}

#[test]
fn of_a_reset_and_a_due_change_one_wins() {
    let beginning = Beginning::with_user(&json!({"must_change_password": true}));
    let code = beginning.code();
    let clients = [Client::makes_due_change(OTHER_PASSWORD), Client::resets(&code, NEW_PASSWORD)];
    explore("of a reset and a due change one wins", &beginning, &clients, 1, |end| {
        let [change, reset] = &end.answers[..] else { panic!("two clients") };
        assert_among(std::slice::from_ref(change), &[INCORRECT, "no_password_change_needed_for_user"]);
        assert_among(std::slice::from_ref(reset), &[NO_CODE]);
        assert_ne!(change.is_success(), reset.is_success());
        assert_password(end, if change.is_success() { OTHER_PASSWORD } else { NEW_PASSWORD }, 1);
        assert_eq!(end.after(&Client::checks(&code)).error(), NO_CODE);
    });
}

/// What an operator may do that ends a code, and what it needs.
fn revocations() -> [(&'static str, Value); 5] {
    [
        ("set_password", json!({"password": OTHER_PASSWORD})),
        ("revoke_sessions", json!({})),
        ("update", json!({"activated": false})),
        ("update", json!({"email_addresses": ["elsewhere@example.com"]})),
        ("update", json!({"email_addresses": [], "activated": true})),
    ]
}

/// Asserts that the second client, whose answer is a success or that there is no code, did nothing with a code after
/// the first one had revoked it: what it did last before it succeeded came before the revocation.
#[track_caller]
fn assert_revoked(end: &End<'_>, code: &str, decisive: &str) {
    let [revoked, used] = &end.answers[..] else { panic!("two clients") };
    assert_eq!(revoked.body["ok"], true, "{revoked:?}");
    assert_among(std::slice::from_ref(used), &[NO_CODE]);
    let revocation = end.done(0, "TransactWriteItems")[0];
    assert!(!used.is_success() || end.done(1, decisive)[0] < revocation);
    assert_eq!(end.after(&Client::checks(code)).error(), NO_CODE);
    assert_eq!(end.after(&Client::checks(WRONG_CODE)).error(), NO_CODE);
}

#[test]
fn no_reset_is_made_with_a_code_that_was_revoked_meanwhile() {
    let (beginning, code) = with_tries(0);
    for (action, fields) in revocations() {
        let clients = [Client::manages(action, fields), Client::resets(&code, NEW_PASSWORD)];
        explore("no reset is made with a code that was revoked meanwhile", &beginning, &clients, 1, |end| {
            assert_revoked(end, &code, "TransactWriteItems");
            let reset = end.answers[1].is_success();
            end.after(&Client::manages("update", json!({"activated": true})));
            match (action, reset) {
                ("set_password", _) => assert_password(end, OTHER_PASSWORD, 1 + usize::from(reset)),
                (_, true) => assert_password(end, NEW_PASSWORD, 1),
                (_, false) => assert_password(end, PASSWORD, 0),
            }
        });
    }
}

#[test]
fn no_code_is_correct_that_was_revoked_before() {
    for used in [11, 12] {
        let (beginning, code) = with_tries(used);
        for (action, fields) in revocations() {
            let clients = [Client::manages(action, fields), Client::checks(&code)];
            explore("no code is correct that was revoked before", &beginning, &clients, 1, |end| {
                if used == 12 && !end.answers[1].is_success() && end.answers[1].error() == RATE_LIMIT {
                    let revocation = end.done(0, "TransactWriteItems")[0];
                    assert!(end.done(1, GET_USER)[0] < revocation);
                    return;
                }
                assert!(used == 11 || !end.answers[1].is_success());
                assert_revoked(end, &code, GET_USER);
            });
        }
    }
}

#[test]
fn a_code_that_is_revoked_takes_no_try_from_its_successor() {
    let (beginning, old) = with_tries(0);
    for wrong in [WRONG_CODE, old.as_str()] {
        let clients = [Client::checks(wrong), Client::manages("revoke_sessions", json!({})), Client::sends()];
        explore("a code that is revoked takes no try from its successor", &beginning, &clients, 1, |end| {
            let new = code(end.mails_with_codes()[0]);
            // Once in 900,000 ends the new code is the old one again.
            if new == old {
                return;
            }
            let check = &end.answers[0];
            assert_among(std::slice::from_ref(check), &[CODE_INCORRECT, NO_CODE]);
            let place = |client, call| end.done(client, call)[0];
            let compared = !check.is_success()
                && check.error() == CODE_INCORRECT
                && end.done(0, UPDATE_CODE).last() > Some(&place(2, UPDATE_CODE));
            assert_eq!(end.tries(), usize::from(compared));
            // The new code is revoked as well if its user was read before the revocation.
            let is_live = place(2, GET_USER) > place(1, "TransactWriteItems");
            assert_eq!(end.after(&Client::checks(&new)).is_success(), is_live);
        });
    }
}

#[test]
fn a_code_that_is_sent_to_addresses_of_before_is_none() {
    let beginning = Beginning::with_user(&json!({}));
    let addresses = json!({"email_addresses": ["elsewhere@example.com"]});
    let clients = [Client::sends(), Client::manages("update", addresses)];
    explore("a code that is sent to addresses of before is none", &beginning, &clients, 1, |end| {
        assert!(end.answers[0].is_success() && end.answers[1].body["ok"] == true, "{:?}", end.answers);
        let mail = end.mails_with_codes()[0];
        let is_live = end.after(&Client::checks(&code(mail))).is_success();
        assert_eq!(mail["Destination"].to_string().contains("elsewhere@example.com"), is_live);
    });
}

#[test]
fn updates_of_the_addresses_come_one_after_the_other() {
    let beginning = Beginning::with_user(&json!({}));
    let update = |address: &str| Client::manages("update", json!({"email_addresses": [address]}));
    // The second one changes nothing if it comes first.
    let clients = [update("elsewhere@example.com"), update("st.huber@example.com"), Client::sends()];
    explore("updates of the addresses come one after the other", &beginning, &clients, 1, |end| {
        let addresses = |user: &Value| user["user"]["email_addresses"][0].as_str().unwrap().to_owned();
        assert_eq!(addresses(&end.answers[0].body), "elsewhere@example.com");
        assert_eq!(addresses(&end.answers[1].body), "st.huber@example.com");
        let shown = end.after(&Client::manages("get", json!({})));
        let mail = end.mails_with_codes()[0];
        // A code that is live is with the addresses that count.
        if end.after(&Client::checks(&code(mail))).is_success() {
            assert!(mail["Destination"].to_string().contains(&addresses(&shown.body)));
        }
    });
}

#[test]
fn of_the_last_changes_that_are_allowed_one_is_made() {
    for made in [8, 9] {
        let beginning = Beginning::with_user(&json!({}));
        let token = beginning.after(&Client::signs_in(PASSWORD)).token().to_owned();
        let passwords = [(PASSWORD, OTHER_PASSWORD), (OTHER_PASSWORD, PASSWORD)].into_iter().cycle();
        for (old, new) in passwords.take(made) {
            assert!(beginning.after(&Client::changes_from(&token, old, new)).is_success());
        }
        let current = if made.is_multiple_of(2) { PASSWORD } else { OTHER_PASSWORD };
        let clients = [
            Client::changes_from(&token, current, NEW_PASSWORD),
            Client::changes_from(&token, NEW_PASSWORD, WRONG_PASSWORD),
        ];
        explore("of the last changes that are allowed one is made", &beginning, &clients, 1, |end| {
            let [first, second] = &end.answers[..] else { panic!("two clients") };
            assert!(first.is_success(), "{first:?}");
            // The second one is wrong about the old password unless the first change was made by then.
            let refused = if made == 9 { 429 } else { 200 };
            assert!([422, refused].contains(&second.status), "{second:?}");
            assert_eq!(end.own_changes(), made + 1 + usize::from(second.is_success()));
        });
    }
}

#[test]
fn a_reset_revokes_what_a_sign_in_gets_meanwhile() {
    let (beginning, code) = with_tries(0);
    let clients = [Client::signs_in(PASSWORD), Client::resets(&code, NEW_PASSWORD)];
    explore("a reset revokes what a sign-in gets meanwhile", &beginning, &clients, 1, |end| {
        let [signed_in, reset] = &end.answers[..] else { panic!("two clients") };
        assert_among(std::slice::from_ref(signed_in), &[INCORRECT]);
        assert!(reset.is_success(), "{reset:?}");
        assert!(!signed_in.is_success() || !end.takes(signed_in));
        assert_password(end, NEW_PASSWORD, 1);
    });
}

/// The commit of the sign-in may be retried after the revocation, when its response was lost.
#[test]
fn a_sign_in_before_a_revocation_is_revoked_even_if_its_commit_is_retried() {
    for hash in [None, Some(OTHER_HASH)] {
        let beginning = Beginning::with_user(&hash.map_or(json!({}), |hash| json!({"password_hash": hash})));
        let change = json!({"password": NEW_PASSWORD});
        for (action, fields) in [("revoke_sessions", json!({})), ("set_password", change)] {
            let clients = [Client::signs_in(PASSWORD), Client::manages(action, fields).without_losses()];
            explore("a sign-in before a revocation is revoked", &beginning, &clients, 1, |end| {
                let [signed_in, revoked] = &end.answers[..] else { panic!("two clients") };
                assert_eq!(revoked.body["ok"], true, "{revoked:?}");
                assert_among(std::slice::from_ref(signed_in), &[INCORRECT]);
                let came_first = end.done(0, COMMIT).first() < end.done(1, "TransactWriteItems").first();
                assert_eq!(signed_in.is_success(), came_first || action == "revoke_sessions");
                assert!(!signed_in.is_success() || end.takes(signed_in) != came_first);
                let (password, changes) = match action {
                    "set_password" => (NEW_PASSWORD, 1),
                    _ => (PASSWORD, 0),
                };
                assert_password(end, password, changes);
            });
        }
    }
}

#[test]
fn a_due_change_with_a_password_that_was_replaced_is_not_made_even_if_its_commit_is_retried() {
    let beginning = Beginning::with_user(&json!({"must_change_password": true}));
    let set = json!({"password": OTHER_PASSWORD, "must_change_password": true});
    let clients =
        [Client::makes_due_change(NEW_PASSWORD), Client::manages("set_password", set).without_losses()];
    explore("a due change with a replaced password is not made", &beginning, &clients, 1, |end| {
        let [change, set] = &end.answers[..] else { panic!("two clients") };
        assert_eq!(set.body["ok"], true, "{set:?}");
        assert_among(std::slice::from_ref(change), &[INCORRECT]);
        let [changed, set] = [0, 1].map(|client| end.done(client, "TransactWriteItems"));
        assert_eq!(change.is_success(), !changed.is_empty());
        assert!(changed.first() < set.first(), "{changed:?}, {set:?}");
        assert!(!change.is_success() || !end.takes(change));
        assert_password(end, OTHER_PASSWORD, 1 + usize::from(change.is_success()));
    });
}

#[test]
fn a_session_of_a_user_who_was_just_activated_is_counted() {
    for (before, after) in [
        (json!({"activated": false}), json!({"activated": true})),
        (json!({"must_change_password": true}), json!({"must_change_password": false})),
    ] {
        let beginning = Beginning::with_user(&before);
        let clients = [Client::signs_in(PASSWORD), Client::manages("update", after).without_losses()];
        explore("a session of a user who was just activated is counted", &beginning, &clients, 0, |end| {
            let [signed_in, update] = &end.answers[..] else { panic!("two clients") };
            assert_eq!(update.body["ok"], true, "{update:?}");
            assert_eq!(end.sessions(), usize::from(signed_in.is_success()));
            assert!(end.sessions_opened() >= end.sessions());
        });
    }
}

#[test]
fn nothing_outlives_an_end_of_all_sessions() {
    let beginning = Beginning::with_user(&json!({}));
    let token = beginning.after(&Client::signs_in(PASSWORD)).token().to_owned();
    for (action, fields) in [("revoke_sessions", json!({})), ("update", json!({"activated": false}))] {
        let clients = [Client::manages(action, fields), Client::changes(&token, NEW_PASSWORD)];
        explore("nothing outlives an end of all sessions", &beginning, &clients, 1, |end| {
            let [ended, change] = &end.answers[..] else { panic!("two clients") };
            assert_eq!(ended.body["ok"], true);
            assert!([200, 401, 422].contains(&change.status), "{change:?}");
            // Not even once the user is activated again.
            end.after(&Client::manages("update", json!({"activated": true})));
            assert!(!end.takes_token(&token));
            assert_changed(end, change);
        });
    }
}

#[test]
fn a_revocation_that_is_repeated_revives_nothing() {
    let beginning = Beginning::with_user(&json!({}));
    let clients = [
        Client::manages("revoke_sessions", json!({})),
        Client::signs_in(PASSWORD).without_losses(),
        Client::manages("set_password", json!({"password": NEW_PASSWORD})).without_losses(),
    ];
    explore("a revocation that is repeated revives nothing", &beginning, &clients, 1, |end| {
        let [revoked, signed_in, set] = &end.answers[..] else { panic!("three clients") };
        assert!(revoked.body["ok"] == true && set.body["ok"] == true);
        assert_among(std::slice::from_ref(signed_in), &[INCORRECT]);
        assert!(!signed_in.is_success() || !end.takes(signed_in));
        assert_password(end, NEW_PASSWORD, 1);
    });
}

#[test]
fn nothing_is_left_of_a_user_who_is_deleted_meanwhile() {
    let (beginning, code) = with_tries(0);
    for client in [Client::checks(&code), Client::resets(&code, NEW_PASSWORD)] {
        let clients = [Client::manages("delete", json!({})), client];
        explore("nothing is left of a user who is deleted meanwhile", &beginning, &clients, 1, |end| {
            assert_eq!(end.answers[0].body, json!({"ok": true}));
            assert_among(&end.answers[1..], &["unknown_username", NO_CODE, CODE_INCORRECT]);
            assert_eq!(end.items(), 0);
        });
    }
}

/// A user who is signed in twice: a token that is no session's, and then that of a session with its session token.
fn with_session() -> (Beginning, String, [String; 2]) {
    let beginning = Beginning::with_user(&json!({}));
    let token = beginning.after(&Client::signs_in_once(PASSWORD)).token().to_owned();
    let session = beginning.after(&Client::signs_in(PASSWORD));
    let session = [session.token().to_owned(), session.session_token().to_owned()];
    (beginning, token, session)
}

#[test]
fn nothing_of_a_session_outlives_its_end() {
    let (beginning, token, [of_session, session_token]) = with_session();
    let clients = [Client::returns(&session_token), Client::logs_out(&token, &session_token)];
    explore("nothing of a session outlives its end", &beginning, &clients, 1, |end| {
        let [returned, ended] = &end.answers[..] else { panic!("two clients") };
        // Also where the answer got lost and the end was repeated.
        assert!(ended.is_success(), "{ended:?}");
        match returned.status {
            202 => assert!(!end.takes_token(returned.token())),
            _ => assert_eq!(returned.error(), "session_token_incorrect"),
        }
        assert!(!end.takes_token(&of_session) && end.takes_token(&token));
        assert_eq!(end.after(&Client::returns(&session_token)).status, 400);
        assert_eq!(end.sessions(), 0);
    });
}

#[test]
fn a_session_is_used_before_it_is_revoked_or_not_at_all() {
    let (beginning, token, [_, session_token]) = with_session();
    let clients = [Client::returns(&session_token), Client::changes(&token, NEW_PASSWORD)];
    explore("a session is used before it is revoked or not at all", &beginning, &clients, 1, |end| {
        let [returned, change] = &end.answers[..] else { panic!("two clients") };
        assert!(change.is_success(), "{change:?}");
        match returned.status {
            202 => assert!(!end.takes_token(returned.token())),
            _ => assert_eq!(returned.error(), "session_token_incorrect"),
        }
        assert_eq!(end.after(&Client::returns(&session_token)).status, 400);
        assert!(end.takes_token(&token));
    });
}

#[test]
fn a_session_that_is_ended_while_its_creation_is_repeated_stays_ended() {
    let beginning = Beginning::with_user(&json!({}));
    let token = beginning.after(&Client::signs_in_once(PASSWORD)).token().to_owned();
    let clients = [Client::signs_in(PASSWORD), Client::ends_sessions(&token)];
    let scenario = "a session that is ended while its creation is repeated stays ended";
    explore(scenario, &beginning, &clients, 1, |end| {
        let [signed_in, ended] = &end.answers[..] else { panic!("two clients") };
        assert!(signed_in.is_success(), "{signed_in:?}");
        assert_eq!(end.takes(signed_in), ended.body == 0);
        assert_eq!(end.sessions() + usize::from(ended.body == 1), 1);
    });
}

#[test]
fn sign_ins_at_once_leave_a_hundred_sessions() {
    let (beginning, _, _) = with_session();
    beginning.fill_sessions(99, true);
    let clients = [Client::signs_in(PASSWORD), Client::signs_in(PASSWORD)];
    explore("sign-ins at once leave a hundred sessions", &beginning, &clients, 0, |end| {
        // The least recently used one of 101 is gone, and no other.
        let mut added: Vec<usize> = end.session_ids().into_iter().filter(|id| *id < 99).collect();
        added.sort_unstable();
        assert_eq!(added, (1..98).collect::<Vec<_>>());
        assert_eq!(end.sessions(), 100);
        assert!(end.answers.iter().all(|answer| end.takes(answer)));
    });
}

#[test]
fn a_session_that_is_used_is_not_the_one_to_end() {
    let (beginning, _, [_, session_token]) = with_session();
    beginning.fill_sessions(100, false);
    let clients = [Client::signs_in(PASSWORD), Client::returns(&session_token)];
    explore("a session that is used is not the one to end", &beginning, &clients, 0, |end| {
        let [signed_in, returned] = &end.answers[..] else { panic!("two clients") };
        assert!(end.takes(signed_in));
        let lives = end.after(&Client::returns(&session_token)).status == 202;
        assert_eq!(returned.status, if lives { 202 } else { 400 });
        assert_eq!(end.sessions(), 100);
    });
}
