//! Codes, with their tries, sends and expiry.

use std::collections::BTreeSet;

use serde_json::json;

use crate::beginning::{Beginning, code};
use crate::clients::{Client, PASSWORD, USERNAME, WRONG_CODE};
use crate::explorer::explore;
use crate::scenarios::{
    CODE_INCORRECT, COMMIT, ELSEWHERE, GET_USER, HERE, NEW_PASSWORD, NO_CODE, RATE_LIMIT, UPDATE_CODE,
    assert_among, assert_changed, count, with_tries,
};

/// A user who signed in from [`HERE`] and has a code with so many used tries in each budget, and the code.
fn with_tries_in_both(known: usize, other: usize) -> (Beginning, String) {
    let beginning = Beginning::with_user(&json!({}));
    assert!(beginning.after(&Client::signs_in_from(HERE, USERNAME, PASSWORD)).is_success());
    let code = beginning.code();
    beginning.set_tries("known", known);
    beginning.set_tries("other", other);
    (beginning, code)
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
            // A wrong code uses up its try, and the right one releases it.
            assert_eq!(end.tries(), used + compared);
            assert!(end.tries() <= 12);
            // The right code is refused only if wrong codes used all tries.
            assert!(right[0].is_success() || end.tries() == 12);
        });
    }
}

#[test]
fn known_and_other_networks_have_separate_tries() {
    let (beginning, code) = with_tries_in_both(10, 11);
    for right_address in [HERE, ELSEWHERE] {
        let clients = [
            Client::checks_from(HERE, WRONG_CODE),
            Client::checks_from(ELSEWHERE, WRONG_CODE),
            Client::checks_from(right_address, &code),
        ];
        explore("known and other networks have separate tries", &beginning, &clients, 1, |end| {
            let [known, other, right] = &end.answers[..] else { panic!("three clients") };
            // The wrong code from elsewhere is refused only while the right code from there holds the last try.
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
fn a_try_counts_as_known_if_its_network_was_known_when_the_user_was_read() {
    let (beginning, code) = with_tries(0);
    let clients = [
        Client::signs_in_from(HERE, USERNAME, PASSWORD),
        Client::checks_from(HERE, WRONG_CODE),
        Client::checks_from(HERE, &code),
    ];
    explore("a try counts as known if its network was known", &beginning, &clients, 1, |end| {
        let [signed_in, wrong, right] = &end.answers[..] else { panic!("three clients") };
        assert!(signed_in.is_success() && right.is_success(), "{:?}", end.answers);
        assert_eq!(wrong.error(), CODE_INCORRECT);
        let was_known = end.done(0, COMMIT)[0] < end.done(1, GET_USER)[0];
        let expected = if was_known { (1, 0) } else { (0, 1) };
        assert_eq!((end.tries_of("known"), end.tries_of("other")), expected);
    });
}

/// Compares the answer and the counts with the rule for every number of tries in both budgets, and for the right and a
/// wrong code from each network.
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

/// Compares the answer and the counts with the rule in both budgets, for all numbers of sends half an hour, two hours
/// and 25 hours ago.
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
fn known_and_other_networks_have_separate_sends() {
    let beginning = Beginning::with_user(&json!({}));
    assert!(beginning.after(&Client::signs_in_from(HERE, USERNAME, PASSWORD)).is_success());
    beginning.set_sends("known", &[0; 4]);
    beginning.set_sends("other", &[0; 4]);
    let clients = [
        Client::sends_from(HERE),
        Client::sends_from(HERE).without_losses(),
        Client::sends_from(ELSEWHERE).without_losses(),
    ];
    explore("known and other networks have separate sends", &beginning, &clients, 1, |end| {
        let (known, other) = end.answers.split_at(2);
        assert!(other[0].is_success(), "{other:?}");
        // After a lost response, the retry finds another code and no send left if the request from elsewhere came in
        // between.
        let refused = count(known, &[RATE_LIMIT]);
        assert!(refused == 1 || refused == 2 && end.lost(0, UPDATE_CODE), "{known:?}");
        assert_eq!((end.sends_of("known"), end.sends_of("other")), (5, 5));
        // The code that was written last is valid.
        let codes = end.mails_with_codes();
        assert_eq!(codes.len(), 3 - refused);
        let right = codes.into_iter().filter(|mail| end.after(&Client::checks(&code(mail))).is_success());
        assert!((1..=2).contains(&right.count()));
    });
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
                // The new code may have replaced the earlier one for a moment.
                assert_among(std::slice::from_ref(reset), &[CODE_INCORRECT]);
                assert!(end.password_is(if reset.is_success() { NEW_PASSWORD } else { PASSWORD }));
                if reset.is_success() {
                    assert_among(std::slice::from_ref(wrong), &[CODE_INCORRECT, NO_CODE]);
                    assert!(id.is_null());
                    return;
                }
            }
            if end.lost(0, UPDATE_CODE) && *id != earlier {
                // The lost response contained the earlier code, or the retry wrote the new code again.
                assert_among(std::slice::from_ref(wrong), &[CODE_INCORRECT, NO_CODE]);
                assert!(end.sends() <= 3);
                return;
            }
            assert_eq!(*id, earlier);
            // A comparison with either code stays counted, and so may the try of a reset that was retried.
            let compared = count(&end.answers, &[CODE_INCORRECT]);
            assert!((2 + compared..=3 + compared).contains(&end.tries()), "{} tries", end.tries());
            // The send is released unless the new code was tried.
            let [replaced, .., restored] = end.done(0, UPDATE_CODE)[..] else { panic!("two writes") };
            let tried = (1..end.answers.len())
                .flat_map(|client| end.done(client, UPDATE_CODE))
                .any(|place| (replaced..restored).contains(&place));
            assert!(end.sends() == 1 || tried && end.sends() == 2, "{} sends", end.sends());
        });
    }
}

/// A mail is refused while wrong codes come from known and other networks. Every comparison stays counted, and the send
/// is released in its own budget unless the new code was tried.
#[test]
fn a_refused_mail_releases_its_send_but_no_tries_of_either_budget() {
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
        explore("a refused mail releases its send but no tries", &beginning, &clients, 0, |end| {
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
fn refused_mails_in_different_budgets_release_their_sends_unless_they_overlap() {
    let (beginning, _) = with_tries_in_both(2, 3);
    let earlier = beginning.code_id();
    let before = (beginning.sends_of("known"), beginning.sends_of("other"));
    beginning.refuse_mails();
    let clients = [Client::sends_from(HERE), Client::sends_from(ELSEWHERE)];
    explore("refused mails in different budgets release their sends", &beginning, &clients, 0, |end| {
        assert_eq!(count(&end.answers, &["service_unavailable"]), 2);
        let [known, other] = [0, 1].map(|client| end.done(client, UPDATE_CODE));
        let sends = (end.sends_of("known") - before.0, end.sends_of("other") - before.1);
        let tries = (end.tries_of("known"), end.tries_of("other"));
        if known.len() + other.len() == 4 {
            assert_eq!(end.code()["code_id"], earlier);
            assert_eq!((sends, tries), ((0, 0), (2, 3)));
        } else {
            // The first send stays counted.
            assert_eq!(sends, if known[0] < other[0] { (1, 0) } else { (0, 1) });
            assert_eq!(tries, (0, 0));
        }
    });
}

#[test]
fn refused_mails_release_their_sends_unless_they_overlap() {
    let (beginning, _) = with_tries(2);
    let earlier = beginning.code_id();
    beginning.refuse_mails();
    let clients = [Client::sends(), Client::sends()];
    explore("refused mails release their sends", &beginning, &clients, 0, |end| {
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
        // In one of 900,000 runs, the new code equals the old one.
        if new == old {
            return;
        }
        assert_among(std::slice::from_ref(reset), &[CODE_INCORRECT]);
        assert_changed(end, reset);
        // Each comparison with the new code has used one of its tries.
        let sending = end.done(0, UPDATE_CODE)[0];
        let compared = [(1, wrong), (2, reset)].into_iter().filter(|(client, answer)| {
            let compared = !answer.is_success() && answer.error() == CODE_INCORRECT;
            compared && end.done(*client, UPDATE_CODE).last() > Some(&sending)
        });
        assert_eq!(end.tries(), compared.count());
        assert_eq!(end.sends(), 2);
        // The reset also revokes a code that is being sent at the same time.
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
            // A used code cannot expire.
            assert_eq!(reset.is_success(), !expired.is_success());
            assert_changed(end, reset);
            assert!(end.tries() == 0 || end.lost(1, UPDATE_CODE));
        });
    }
}
