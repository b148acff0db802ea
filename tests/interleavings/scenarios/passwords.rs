//! Concurrent changes of the password, and changes concurrent with sign-ins.

use serde_json::json;

use crate::beginning::Beginning;
use crate::clients::{Answer, Client, PASSWORD, WRONG_CODE};
use crate::explorer::explore;
use crate::scenarios::{
    CODE_INCORRECT, INCORRECT, NEW_PASSWORD, NO_CODE, OTHER_PASSWORD, RATE_LIMIT, WRONG_PASSWORD,
    assert_among, assert_password, count, with_tries,
};

#[test]
fn one_of_two_resets_succeeds() {
    for (used, guesses, losses) in [(11, 1, 0), (10, 0, 1), (11, 0, 1)] {
        let (beginning, code) = with_tries(used);
        let mut clients = vec![Client::resets(&code, NEW_PASSWORD), Client::resets(&code, OTHER_PASSWORD)];
        clients.extend((0..guesses).map(|_| Client::checks(WRONG_CODE)));
        explore("one of two resets succeeds", &beginning, &clients, losses, |end| {
            let (resets, wrong) = end.answers.split_at(2);
            assert_among(resets, &[NO_CODE, RATE_LIMIT]);
            assert_eq!(count(wrong, &[CODE_INCORRECT, NO_CODE, RATE_LIMIT]), guesses);
            match [resets[0].is_success(), resets[1].is_success()] {
                [true, true] => panic!("both succeeded"),
                [false, false] => {
                    // Both fail only if the wrong code used the last try.
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
fn one_of_two_due_changes_succeeds() {
    let beginning = Beginning::with_user(&json!({"must_change_password": true}));
    for (signins, losses) in [(1, 0), (0, 1)] {
        let mut clients = vec![
            Client::makes_due_change(NEW_PASSWORD),
            Client::makes_due_change(OTHER_PASSWORD).without_losses(),
        ];
        clients.extend((0..signins).map(|_| Client::signs_in(PASSWORD)));
        explore("one of two due changes succeeds", &beginning, &clients, losses, |end| {
            let (changes, signed_in) = end.answers.split_at(2);
            assert_eq!(count(signed_in, &[INCORRECT, "change_password"]), signins);
            assert_among(changes, &[INCORRECT, "no_password_change_needed_for_user"]);
            let winners: Vec<&Answer> = changes.iter().filter(|answer| answer.is_success()).collect();
            assert!(winners.len() == 1 && end.accepts(winners[0]), "{changes:?}");
            assert_eq!(end.sessions(), 1);
            let first = changes[0].is_success();
            assert_password(end, if first { NEW_PASSWORD } else { OTHER_PASSWORD }, 1);
        });
    }
}

#[test]
fn one_of_two_changes_with_the_same_token_succeeds() {
    let beginning = Beginning::with_user(&json!({}));
    let token = beginning.after(&Client::signs_in(PASSWORD)).token().to_owned();
    let clients =
        [Client::changes(&token, OTHER_PASSWORD), Client::changes_in_settings(&token, NEW_PASSWORD)];
    explore("one of two changes with the same token succeeds", &beginning, &clients, 0, |end| {
        let [change, in_settings] = &end.answers[..] else { panic!("two clients") };
        assert_ne!(change.is_success(), in_settings.is_success());
        assert!([200, 422].contains(&change.status), "{change:?}");
        assert_among(std::slice::from_ref(in_settings), &["password_incorrect"]);
        assert!(end.accepts_token(&token));
        assert_password(end, if change.is_success() { OTHER_PASSWORD } else { NEW_PASSWORD }, 1);
    });
}

#[test]
fn either_a_reset_or_a_change_by_the_user_succeeds() {
    let (beginning, code) = with_tries(0);
    let token = beginning.after(&Client::signs_in(PASSWORD)).token().to_owned();
    let clients = [Client::changes(&token, OTHER_PASSWORD), Client::resets(&code, NEW_PASSWORD)];
    explore("either a reset or a change by the user succeeds", &beginning, &clients, 1, |end| {
        let [change, reset] = &end.answers[..] else { panic!("two clients") };
        assert!([200, 401, 422].contains(&change.status), "{change:?}");
        assert_among(std::slice::from_ref(reset), &[NO_CODE]);
        assert_ne!(change.is_success(), reset.is_success());
        assert_eq!(end.accepts_token(&token), change.is_success());
        assert_password(end, if change.is_success() { OTHER_PASSWORD } else { NEW_PASSWORD }, 1);
        assert_eq!(end.after(&Client::checks(&code)).error(), NO_CODE);
    });
}

#[test]
fn either_a_reset_or_a_due_change_succeeds() {
    let beginning = Beginning::with_user(&json!({"must_change_password": true}));
    let code = beginning.code();
    let clients = [Client::makes_due_change(OTHER_PASSWORD), Client::resets(&code, NEW_PASSWORD)];
    explore("either a reset or a due change succeeds", &beginning, &clients, 1, |end| {
        let [change, reset] = &end.answers[..] else { panic!("two clients") };
        assert_among(std::slice::from_ref(change), &[INCORRECT, "no_password_change_needed_for_user"]);
        assert_among(std::slice::from_ref(reset), &[NO_CODE]);
        assert_ne!(change.is_success(), reset.is_success());
        assert_password(end, if change.is_success() { OTHER_PASSWORD } else { NEW_PASSWORD }, 1);
        assert_eq!(end.after(&Client::checks(&code)).error(), NO_CODE);
    });
}

#[test]
fn concurrent_changes_stay_within_the_daily_limit() {
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
        explore("concurrent changes stay within the daily limit", &beginning, &clients, 1, |end| {
            let [first, second] = &end.answers[..] else { panic!("two clients") };
            assert!(first.is_success(), "{first:?}");
            // The old password of the second change is right only after the first one.
            let refused = if made == 9 { 429 } else { 200 };
            assert!([422, refused].contains(&second.status), "{second:?}");
            assert_eq!(end.own_changes(), made + 1 + usize::from(second.is_success()));
        });
    }
}

#[test]
fn a_reset_revokes_the_tokens_of_a_concurrent_sign_in() {
    let (beginning, code) = with_tries(0);
    let clients = [Client::signs_in(PASSWORD), Client::resets(&code, NEW_PASSWORD)];
    explore("a reset revokes the tokens of a concurrent sign-in", &beginning, &clients, 1, |end| {
        let [signed_in, reset] = &end.answers[..] else { panic!("two clients") };
        assert_among(std::slice::from_ref(signed_in), &[INCORRECT]);
        assert!(reset.is_success(), "{reset:?}");
        assert!(!signed_in.is_success() || !end.accepts(signed_in));
        assert_password(end, NEW_PASSWORD, 1);
    });
}

#[test]
fn a_due_change_fails_after_its_old_password_was_replaced() {
    let beginning = Beginning::with_user(&json!({"must_change_password": true}));
    let set = json!({"password": OTHER_PASSWORD, "must_change_password": true});
    let clients =
        [Client::makes_due_change(NEW_PASSWORD), Client::manages("set_password", set).without_losses()];
    explore("a due change fails after its old password was replaced", &beginning, &clients, 1, |end| {
        let [change, set] = &end.answers[..] else { panic!("two clients") };
        assert_eq!(set.body["ok"], true, "{set:?}");
        assert_among(std::slice::from_ref(change), &[INCORRECT]);
        let [changed, set] = [0, 1].map(|client| end.done(client, "TransactWriteItems"));
        assert_eq!(change.is_success(), !changed.is_empty());
        assert!(changed.first() < set.first(), "{changed:?}, {set:?}");
        assert!(!change.is_success() || !end.accepts(change));
        assert_password(end, OTHER_PASSWORD, 1 + usize::from(change.is_success()));
    });
}
