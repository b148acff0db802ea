//! Sessions: their use, their ends and their number.

use serde_json::json;

use crate::beginning::Beginning;
use crate::clients::{Client, PASSWORD};
use crate::explorer::explore;
use crate::scenarios::NEW_PASSWORD;

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
