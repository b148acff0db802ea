//! The use, end and number of sessions.

use serde_json::json;

use crate::beginning::Beginning;
use crate::clients::{Client, PASSWORD};
use crate::explorer::explore;
use crate::scenarios::NEW_PASSWORD;

/// A user who signed in twice, with the token without a session, and the token and session token of the session.
fn with_session() -> (Beginning, String, [String; 2]) {
    let beginning = Beginning::with_user(&json!({}));
    let token = beginning.after(&Client::signs_in_once(PASSWORD)).token().to_owned();
    let session = beginning.after(&Client::signs_in(PASSWORD));
    let session = [session.token().to_owned(), session.session_token().to_owned()];
    (beginning, token, session)
}

#[test]
fn no_token_of_a_session_outlives_its_end() {
    let (beginning, token, [of_session, session_token]) = with_session();
    let clients = [Client::resumes(&session_token), Client::logs_out(&token, &session_token)];
    explore("no token of a session outlives its end", &beginning, &clients, 1, |end| {
        let [returned, ended] = &end.answers[..] else { panic!("two clients") };
        // A retry after a lost response succeeds too.
        assert!(ended.is_success(), "{ended:?}");
        match returned.status {
            202 => assert!(!end.accepts_token(returned.token())),
            _ => assert_eq!(returned.error(), "session_token_incorrect"),
        }
        assert!(!end.accepts_token(&of_session) && end.accepts_token(&token));
        assert_eq!(end.after(&Client::resumes(&session_token)).status, 400);
        assert_eq!(end.sessions(), 0);
    });
}

#[test]
fn a_session_cannot_be_used_after_its_revocation() {
    let (beginning, token, [_, session_token]) = with_session();
    let clients = [Client::resumes(&session_token), Client::changes(&token, NEW_PASSWORD)];
    explore("a session cannot be used after its revocation", &beginning, &clients, 1, |end| {
        let [returned, change] = &end.answers[..] else { panic!("two clients") };
        assert!(change.is_success(), "{change:?}");
        match returned.status {
            202 => assert!(!end.accepts_token(returned.token())),
            _ => assert_eq!(returned.error(), "session_token_incorrect"),
        }
        assert_eq!(end.after(&Client::resumes(&session_token)).status, 400);
        assert!(end.accepts_token(&token));
    });
}

#[test]
fn a_session_stays_ended_while_its_creation_is_retried() {
    let beginning = Beginning::with_user(&json!({}));
    let token = beginning.after(&Client::signs_in_once(PASSWORD)).token().to_owned();
    let clients = [Client::signs_in(PASSWORD), Client::ends_sessions(&token)];
    let scenario = "a session stays ended while its creation is retried";
    explore(scenario, &beginning, &clients, 1, |end| {
        let [signed_in, ended] = &end.answers[..] else { panic!("two clients") };
        assert!(signed_in.is_success(), "{signed_in:?}");
        assert_eq!(end.accepts(signed_in), ended.body == 0);
        assert_eq!(end.sessions() + usize::from(ended.body == 1), 1);
    });
}

#[test]
fn concurrent_sign_ins_keep_at_most_a_hundred_sessions() {
    let (beginning, _, _) = with_session();
    beginning.fill_sessions(99, true);
    let clients = [Client::signs_in(PASSWORD), Client::signs_in(PASSWORD)];
    explore("concurrent sign-ins keep at most a hundred sessions", &beginning, &clients, 0, |end| {
        // Only the least recently used one of 101 sessions was removed.
        let mut added: Vec<usize> = end.session_ids().into_iter().filter(|id| *id < 99).collect();
        added.sort_unstable();
        assert_eq!(added, (1..98).collect::<Vec<_>>());
        assert_eq!(end.sessions(), 100);
        assert!(end.answers.iter().all(|answer| end.accepts(answer)));
    });
}

#[test]
fn a_session_that_was_just_used_is_not_evicted() {
    let (beginning, _, [_, session_token]) = with_session();
    beginning.fill_sessions(100, false);
    let clients = [Client::signs_in(PASSWORD), Client::resumes(&session_token)];
    explore("a session that was just used is not evicted", &beginning, &clients, 0, |end| {
        let [signed_in, returned] = &end.answers[..] else { panic!("two clients") };
        assert!(end.accepts(signed_in));
        let lives = end.after(&Client::resumes(&session_token)).status == 202;
        assert_eq!(returned.status, if lives { 202 } else { 400 });
        assert_eq!(end.sessions(), 100);
    });
}
