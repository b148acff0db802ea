//! Administrative actions concurrent with sign-ins, resets and other uses of what they change or revoke.

use serde_json::{Value, json};

use crate::beginning::{Beginning, code};
use crate::clients::{Client, PASSWORD, USERNAME, WRONG_CODE};
use crate::explorer::explore;
use crate::run::End;
use crate::scenarios::{
    CODE_INCORRECT, COMMIT, ELSEWHERE, GET_USER, HERE, INCORRECT, NEW_PASSWORD, NO_CODE, OTHER_PASSWORD,
    RATE_LIMIT, UPDATE_CODE, WRONG_PASSWORD, assert_among, assert_changed, assert_password, with_tries,
};

/// A hash of [`PASSWORD`] with outdated parameters, so that a sign-in replaces it.
const OTHER_HASH: &str =
    "$argon2id$v=19$m=8192,t=1,p=1$HzosdDbuv3YvnpWKb+wgvA$feshGaSVCLv1CefRiXf8ta76paVBB9P7Zf9s6lKnb9U";

#[test]
fn a_sign_in_is_not_valid_for_a_new_user_of_the_same_name() {
    let beginning = Beginning::with_user(&json!({}));
    let clients = [
        Client::manages("delete", json!({})).without_losses(),
        Client::manages("create", json!({"password": OTHER_PASSWORD, "activated": true})).without_losses(),
        Client::signs_in_from(HERE, USERNAME, PASSWORD),
    ];
    explore("a sign-in is not valid for a new user of the same name", &beginning, &clients, 1, |end| {
        let [deleted, created, signed_in] = &end.answers[..] else { panic!("three clients") };
        assert_eq!(deleted.body["ok"], true, "{deleted:?}");
        assert_among(std::slice::from_ref(signed_in), &[INCORRECT]);
        assert!(!signed_in.is_success() || !end.accepts_token(signed_in.token()));
        assert_eq!(end.password_is(OTHER_PASSWORD), created.body["ok"] == true);
        assert!(!end.password_is(PASSWORD));
    });
}

#[test]
fn a_sign_in_is_consistent_with_the_creation_or_deletion_of_its_user() {
    let beginning = Beginning::with_user(&json!({}));
    let clients = [Client::manages("delete", json!({})), Client::signs_in_from(HERE, USERNAME, PASSWORD)];
    explore("a sign-in is consistent with the deletion of its user", &beginning, &clients, 1, |end| {
        assert_eq!(end.answers[0].body, json!({"ok": true}));
        assert_among(&end.answers[1..], &[INCORRECT]);
        // At most the counter of a user who is unknown by then.
        assert_eq!(end.items(), end.failures_of_stub());
    });
    assert_eq!(beginning.after(&Client::manages("delete", json!({}))).body, json!({"ok": true}));
    let clients = [
        Client::manages("create", json!({"password": PASSWORD, "activated": true})),
        Client::signs_in_from(HERE, USERNAME, PASSWORD),
    ];
    explore("a sign-in is consistent with the creation of its user", &beginning, &clients, 1, |end| {
        assert_eq!(end.answers[0].body["ok"], true, "{:?}", end.answers);
        assert_among(&end.answers[1..], &[INCORRECT]);
        assert_eq!(end.failures_of_stub(), usize::from(!end.answers[1].is_success()));
        assert!(end.password_is(PASSWORD));
    });
}

#[test]
fn a_sign_in_is_consistent_with_the_rename_of_its_user() {
    const NEW_NAME: &str = "st.meier";
    let beginning = Beginning::with_user(&json!({}));
    for password in [PASSWORD, WRONG_PASSWORD] {
        let clients = [
            Client::manages("rename", json!({"new_username": NEW_NAME})),
            Client::signs_in(password),
            Client::signs_in_from(ELSEWHERE, NEW_NAME, password).without_losses(),
        ];
        explore("a sign-in is consistent with the rename of its user", &beginning, &clients, 1, |end| {
            let [renamed, former, present] = &end.answers[..] else { panic!("three clients") };
            assert_eq!(renamed.body["user"]["username"], NEW_NAME, "{renamed:?}");
            let renaming = end.done(0, "TransactWriteItems")[0];
            for (answer, client, is_former) in [(former, 1, true), (present, 2, false)] {
                if answer.is_success() {
                    // The old name works for commits before the rename, and the new one for commits after it.
                    assert_eq!(password, PASSWORD);
                    assert_eq!(end.done(client, COMMIT)[0] < renaming, is_former);
                } else {
                    assert_eq!(answer.error(), INCORRECT);
                }
            }
            // The rename revokes the tokens of a sign-in with the old name.
            assert!(!former.is_success() || !end.accepts(former));
            assert!(!present.is_success() || end.accepts_token(present.token()));
            // The budgets start again with the rename, so earlier failures make no attempt wait.
            let after = |address| end.after(&Client::signs_in_from(address, NEW_NAME, PASSWORD)).is_success();
            assert!(after(HERE) && after(ELSEWHERE));
            assert_eq!(end.after(&Client::signs_in_from(HERE, USERNAME, PASSWORD)).error(), INCORRECT);
        });
    }
}

/// The administrative actions that revoke a code, with their fields.
fn revocations() -> [(&'static str, Value); 5] {
    [
        ("set_password", json!({"password": OTHER_PASSWORD})),
        ("revoke_sessions", json!({})),
        ("update", json!({"activated": false})),
        ("update", json!({"email_addresses": ["elsewhere@example.com"]})),
        ("update", json!({"email_addresses": [], "activated": true})),
    ]
}

/// Asserts that the second client did not use the code after the first one had revoked it: its answer is a success only
/// if its `decisive` call came before the revocation, and otherwise says that there is no code.
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
fn a_revoked_code_cannot_reset_the_password() {
    let (beginning, code) = with_tries(0);
    for (action, fields) in revocations() {
        let clients = [Client::manages(action, fields), Client::resets(&code, NEW_PASSWORD)];
        explore("a revoked code cannot reset the password", &beginning, &clients, 1, |end| {
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
fn a_revoked_code_is_rejected() {
    for used in [11, 12] {
        let (beginning, code) = with_tries(used);
        for (action, fields) in revocations() {
            let clients = [Client::manages(action, fields), Client::checks(&code)];
            explore("a revoked code is rejected", &beginning, &clients, 1, |end| {
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
fn a_revoked_code_uses_no_try_of_its_successor() {
    let (beginning, old) = with_tries(0);
    for wrong in [WRONG_CODE, old.as_str()] {
        let clients = [Client::checks(wrong), Client::manages("revoke_sessions", json!({})), Client::sends()];
        explore("a revoked code uses no try of its successor", &beginning, &clients, 1, |end| {
            let new = code(end.mails_with_codes()[0]);
            // In one of 900,000 runs, the new code equals the old one.
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
            // The new code is revoked too if the user was read before the revocation.
            let is_live = place(2, GET_USER) > place(1, "TransactWriteItems");
            assert_eq!(end.after(&Client::checks(&new)).is_success(), is_live);
        });
    }
}

#[test]
fn a_code_sent_to_former_addresses_is_rejected() {
    let beginning = Beginning::with_user(&json!({}));
    let addresses = json!({"email_addresses": ["elsewhere@example.com"]});
    let clients = [Client::sends(), Client::manages("update", addresses)];
    explore("a code sent to former addresses is rejected", &beginning, &clients, 1, |end| {
        assert!(end.answers[0].is_success() && end.answers[1].body["ok"] == true, "{:?}", end.answers);
        let mail = end.mails_with_codes()[0];
        let is_live = end.after(&Client::checks(&code(mail))).is_success();
        assert_eq!(mail["Destination"].to_string().contains("elsewhere@example.com"), is_live);
    });
}

#[test]
fn updates_of_the_addresses_are_applied_in_sequence() {
    let beginning = Beginning::with_user(&json!({}));
    let update = |address: &str| Client::manages("update", json!({"email_addresses": [address]}));
    // The second update changes nothing if it comes first.
    let clients = [update("elsewhere@example.com"), update("st.huber@example.com"), Client::sends()];
    explore("updates of the addresses are applied in sequence", &beginning, &clients, 1, |end| {
        let addresses = |user: &Value| user["user"]["email_addresses"][0].as_str().unwrap().to_owned();
        assert_eq!(addresses(&end.answers[0].body), "elsewhere@example.com");
        assert_eq!(addresses(&end.answers[1].body), "st.huber@example.com");
        let shown = end.after(&Client::manages("get", json!({})));
        let mail = end.mails_with_codes()[0];
        // A valid code was sent to the current address.
        if end.after(&Client::checks(&code(mail))).is_success() {
            assert!(mail["Destination"].to_string().contains(&addresses(&shown.body)));
        }
    });
}

/// A lost response can cause a retry of the sign-in's commit after the revocation.
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
                assert!(!signed_in.is_success() || end.accepts(signed_in) != came_first);
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
fn no_token_outlives_the_revocation_of_all_sessions() {
    let beginning = Beginning::with_user(&json!({}));
    let token = beginning.after(&Client::signs_in(PASSWORD)).token().to_owned();
    for (action, fields) in [("revoke_sessions", json!({})), ("update", json!({"activated": false}))] {
        let clients = [Client::manages(action, fields), Client::changes(&token, NEW_PASSWORD)];
        explore("no token outlives the revocation of all sessions", &beginning, &clients, 1, |end| {
            let [ended, change] = &end.answers[..] else { panic!("two clients") };
            assert_eq!(ended.body["ok"], true);
            assert!([200, 401, 422].contains(&change.status), "{change:?}");
            // The token stays revoked when the user is activated again.
            end.after(&Client::manages("update", json!({"activated": true})));
            assert!(!end.accepts_token(&token));
            assert_changed(end, change);
        });
    }
}

#[test]
fn a_retried_revocation_undoes_no_later_change() {
    let beginning = Beginning::with_user(&json!({}));
    let clients = [
        Client::manages("revoke_sessions", json!({})),
        Client::signs_in(PASSWORD).without_losses(),
        Client::manages("set_password", json!({"password": NEW_PASSWORD})).without_losses(),
    ];
    explore("a retried revocation undoes no later change", &beginning, &clients, 1, |end| {
        let [revoked, signed_in, set] = &end.answers[..] else { panic!("three clients") };
        assert!(revoked.body["ok"] == true && set.body["ok"] == true);
        assert_among(std::slice::from_ref(signed_in), &[INCORRECT]);
        assert!(!signed_in.is_success() || !end.accepts(signed_in));
        assert_password(end, NEW_PASSWORD, 1);
    });
}

#[test]
fn a_concurrent_deletion_leaves_no_items_of_the_user() {
    let (beginning, code) = with_tries(0);
    for client in [Client::checks(&code), Client::resets(&code, NEW_PASSWORD)] {
        let clients = [Client::manages("delete", json!({})), client];
        explore("a concurrent deletion leaves no items of the user", &beginning, &clients, 1, |end| {
            assert_eq!(end.answers[0].body, json!({"ok": true}));
            assert_among(&end.answers[1..], &["unknown_username", NO_CODE, CODE_INCORRECT]);
            assert_eq!(end.items(), 0);
        });
    }
}
