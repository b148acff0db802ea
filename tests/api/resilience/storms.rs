//! Storms of parallel requests on one user: the guarantees that hold, seen by clients and in the tables.

use std::time::Instant;

use futures_util::future::join_all;
use serde_json::json;

use crate::answers::{
    CHANGE_PASSWORD, CHANGED_PASSWORD, CODE_CORRECT, CODE_INCORRECT, Documented, NEW_PASSWORD_SET,
    NO_CODE_REQUESTED, NO_PASSWORD_CHANGE_NEEDED, NOT_ACTIVATED, RATE_LIMIT_EXCEEDED, SENT,
    SERVICE_UNAVAILABLE, TOO_MANY_ATTEMPTS, UNAUTHORIZED, USERNAME_OR_PASSWORD_INCORRECT,
    change_password_errors,
};
use crate::helpers::{
    ApiResponse, CHANGE_PASSWORD_AFTER_SIGNIN, PASSWORD, SIGNIN, Service, User, WRONG_CODE, WRONG_PASSWORD,
};

/// The purpose of a request in a storm.
#[derive(Clone, Debug)]
enum Purpose {
    Send,
    /// To check a wrong code.
    Guess,
    /// To check the code that was sent first.
    Check,
    Reset {
        new: String,
    },
    SignIn,
    /// To sign in with a wrong password.
    Fail,
    /// To make a forced change, if one is pending.
    DueChange {
        new: String,
    },
    Change {
        token: String,
        new: String,
    },
    SetPassword {
        new: String,
    },
    /// To force a password change.
    Demand,
    /// To deactivate the user and activate the user again.
    Deactivate,
    Rotate,
}

/// A request of a storm and its outcome.
struct Outcome {
    purpose: Purpose,
    started: Instant,
    ended: Instant,
    /// True if the request was acknowledged.
    done: bool,
    /// The response of the API; `None` for requests to other services.
    answer: Option<ApiResponse>,
}

impl Outcome {
    /// The new password, if this is a change of it that was acknowledged.
    fn new_password(&self) -> Option<&str> {
        match &self.purpose {
            Purpose::Reset { new }
            | Purpose::DueChange { new }
            | Purpose::Change { new, .. }
            | Purpose::SetPassword { new } => self.done.then_some(new),
            _ => None,
        }
    }
}

#[tokio::test]
async fn a_storm_of_resets_changes_and_guesses() {
    let service = Service::new();
    for _ in 0..3 {
        storm(&service, &[]).await;
    }
}

#[tokio::test]
async fn a_storm_with_new_codes() {
    let service = Service::new();
    for _ in 0..3 {
        storm(&service, &vec![Purpose::Send; 6]).await;
    }
}

#[tokio::test]
async fn a_storm_with_deactivations() {
    let service = Service::new();
    for _ in 0..3 {
        storm(&service, &[Purpose::Deactivate, Purpose::Demand, Purpose::Deactivate]).await;
    }
}

#[tokio::test]
async fn a_storm_while_the_secret_rotates() {
    let service = Service::with_settings([("SECRETS_CACHE_SECONDS", "0")]).await;
    for _ in 0..2 {
        storm(&service, &[Purpose::Rotate, Purpose::Send, Purpose::Demand]).await;
    }
}

/// Sends all requests at once, those of `more` among them.
async fn storm(service: &Service, more: &[Purpose]) {
    let user = service.user().create().await;
    let code = service.code_for(&user).await;
    let (early_token, early_session) = service.session_of(&user).await;
    let token = service.token_of(&user).await;

    let new = |name: &str| format!("{name}Password1234!");
    let purposes = [
        vec![Purpose::Guess; 15],
        vec![Purpose::Check, Purpose::SignIn, Purpose::Fail, Purpose::Check, Purpose::SignIn],
        vec![Purpose::Reset { new: new("Reset") }, Purpose::Reset { new: new("OtherReset") }],
        vec![
            Purpose::Change { token: token.clone(), new: new("Change") },
            Purpose::Change { token: early_token.clone(), new: new("OtherChange") },
            Purpose::DueChange { new: new("DueChange") },
            Purpose::SetPassword { new: new("Set") },
        ],
        more.to_vec(),
    ];
    let requests = purposes.concat().into_iter().map(|purpose| request(service, &user, &code, purpose));
    let outcomes = join_all(requests).await;

    assert_answers(&outcomes);
    assert_codes(service, &user, &outcomes).await;

    let changes: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.new_password().is_some()).collect();
    // The first change replaces the password that the others of these show.
    let by_password =
        |change: &&&Outcome| matches!(change.purpose, Purpose::Change { .. } | Purpose::DueChange { .. });
    assert!(changes.iter().filter(by_password).count() <= 1);
    let mails = service.mails_to(&user.email).await;
    let notices = mails.iter().filter(|mail| mail.subject.contains("password was changed")).count();
    assert_eq!(notices, changes.len());

    // One password is right, and no other change began after its own was acknowledged.
    service.update(&user, json!({"activated": true, "must_change_password": false})).await;
    service.manage_user("unlock", &user).await;
    let mut right = Vec::new();
    for &change in &changes {
        let answer = service.signin(&user.username, change.new_password().unwrap()).await;
        match answer.status {
            200 => right.push(change),
            _ => answer.is(USERNAME_OR_PASSWORD_INCORRECT),
        }
    }
    let [last] = right[..] else { panic!("{} passwords are right", right.len()) };
    assert!(changes.iter().all(|change| change.started < last.ended));
    service.signin(&user.username, PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);

    // Nothing counts but what the last change issued or kept, unless a deactivation came after it.
    let is_last = |change: &Outcome| std::ptr::eq(change, last);
    let deactivations = || outcomes.iter().filter(|outcome| matches!(outcome.purpose, Purpose::Deactivate));
    let kept = deactivations().count() == 0;
    let ended = deactivations().any(|deactivation| deactivation.started > last.ended);
    for change in &changes {
        let (token, session) = match &change.purpose {
            Purpose::Change { token, .. } => (token.clone(), None),
            Purpose::DueChange { .. } => {
                let (token, session) = change.answer.as_ref().unwrap().token_and_session_token();
                (token, Some(session))
            }
            _ => continue,
        };
        let counts = service.takes(&token).await;
        assert!(!counts || is_last(change) && !ended, "{:?}", change.purpose);
        assert!(counts || !is_last(change) || !kept, "{:?}", change.purpose);
        if let Some(session) = session {
            assert_eq!(service.session_signin(&session).await.status, if counts { 202 } else { 400 });
        }
    }
    for lost in [token, early_token] {
        let keeper = matches!(&last.purpose, Purpose::Change { token, .. } if *token == lost);
        assert!(keeper || !service.takes(&lost).await);
    }
    assert_eq!(service.session_signin(&early_session).await.status, 400);
    for outcome in
        outcomes.iter().filter(|outcome| matches!(outcome.purpose, Purpose::SignIn) && outcome.done)
    {
        let (token, session) = outcome.answer.as_ref().unwrap().token_and_session_token();
        assert!(!service.takes(&token).await);
        assert_eq!(service.session_signin(&session).await.status, 400);
    }
}

/// Makes one request of a storm.
async fn request(service: &Service, user: &User, code: &str, purpose: Purpose) -> Outcome {
    let username = &user.username;
    let started = Instant::now();
    let answer = match &purpose {
        Purpose::Send => Ok(service.send_email(username).await),
        Purpose::Guess => Ok(service.check_code(username, WRONG_CODE).await),
        Purpose::Check => Ok(service.check_code(username, code).await),
        Purpose::Reset { new } => Ok(service.reset_password(username, code, new).await),
        Purpose::SignIn => {
            let body = json!({"username": username, "password": PASSWORD, "stay_logged_in": true});
            Ok(service.post_json(SIGNIN, &body).await)
        }
        Purpose::Fail => Ok(service.signin(username, WRONG_PASSWORD).await),
        Purpose::DueChange { new } => {
            let body = json!({
                "username": username,
                "old_password": PASSWORD,
                "new_password": new,
                "stay_logged_in": true,
            });
            Ok(service.post_json(CHANGE_PASSWORD_AFTER_SIGNIN, &body).await)
        }
        Purpose::Change { token, new } => Ok(service.change_password(token, PASSWORD, new).await),
        Purpose::SetPassword { new } => {
            let set = json!({"action": "set_password", "username": username, "password": new});
            let answer = service.manage(&set).await;
            assert!(answer["ok"] == true || answer["error_code"] == "service_unavailable", "{answer}");
            Err(answer["ok"] == true)
        }
        Purpose::Demand => {
            service.update(user, json!({"must_change_password": true})).await;
            Err(true)
        }
        Purpose::Deactivate => {
            service.update(user, json!({"activated": false})).await;
            service.update(user, json!({"activated": true})).await;
            Err(true)
        }
        Purpose::Rotate => {
            service.rotate(&service.jwt_secret_id).await;
            Err(true)
        }
    };
    let ended = Instant::now();
    let (answer, done) = match answer {
        Ok(answer) => {
            let done = answer.status == 200;
            (Some(answer), done)
        }
        Err(done) => (None, done),
    };
    Outcome { purpose, started, ended, done, answer }
}

/// Asserts that every answer is one that is documented for what was asked.
#[track_caller]
fn assert_answers(outcomes: &[Outcome]) {
    let revocations = outcomes
        .iter()
        .filter(|outcome| outcome.new_password().is_some() || matches!(outcome.purpose, Purpose::Deactivate));
    // A request starts over when another one changed the user meanwhile, and gives up the third time.
    let contended = revocations.count() >= 3;
    let incorrect_password = change_password_errors(&[4]);
    for Outcome { purpose, answer, done, .. } in outcomes {
        let Some(answer) = answer else {
            assert!(*done || contended, "{purpose:?}");
            continue;
        };
        let documented: &[(u16, &str)] = match purpose {
            Purpose::Send => &[SENT, RATE_LIMIT_EXCEEDED],
            Purpose::Guess => &[CODE_INCORRECT, NO_CODE_REQUESTED, RATE_LIMIT_EXCEEDED],
            Purpose::Check => &[CODE_CORRECT, CODE_INCORRECT, NO_CODE_REQUESTED, RATE_LIMIT_EXCEEDED],
            Purpose::Reset { .. } => {
                &[CHANGED_PASSWORD, CODE_INCORRECT, NO_CODE_REQUESTED, RATE_LIMIT_EXCEEDED]
            }
            Purpose::SignIn | Purpose::DueChange { .. } if *done => continue,
            Purpose::SignIn => {
                &[USERNAME_OR_PASSWORD_INCORRECT, NOT_ACTIVATED, CHANGE_PASSWORD, RATE_LIMIT_EXCEEDED]
            }
            Purpose::Fail => &[USERNAME_OR_PASSWORD_INCORRECT, RATE_LIMIT_EXCEEDED],
            Purpose::DueChange { .. } => &[
                USERNAME_OR_PASSWORD_INCORRECT,
                NOT_ACTIVATED,
                NO_PASSWORD_CHANGE_NEEDED,
                RATE_LIMIT_EXCEEDED,
            ],
            Purpose::Change { .. } => {
                &[NEW_PASSWORD_SET, UNAUTHORIZED, (422, &incorrect_password), TOO_MANY_ATTEMPTS]
            }
            _ => &[],
        };
        let known = documented.contains(&(answer.status, &answer.body));
        assert!(known || contended && answer.body == SERVICE_UNAVAILABLE.1, "{purpose:?}: {answer:?}");
    }
}

/// Asserts that no code had more than its tries, that no more were sent than may be, and that a used one is gone. The
/// requests of a storm count in both budgets, because changes of the password in it change the known networks.
async fn assert_codes(service: &Service, user: &User, outcomes: &[Outcome]) {
    let answered = |documented: Documented| {
        let answers = outcomes.iter().filter_map(|outcome| outcome.answer.as_ref());
        answers.filter(|answer| (answer.status, answer.body.as_str()) == documented).count()
    };
    // The first one was sent before the storm.
    let sent = 1 + answered(SENT);
    assert!(sent <= 10, "{sent} codes were sent");
    assert!(answered(CODE_INCORRECT) <= 24 * sent);
    let resets = answered(CHANGED_PASSWORD);
    assert!(resets <= 1, "one code made {resets} resets");
    let code = service.stored_code(user).await.unwrap();
    let tries = ["known_tries", "other_tries"]
        .map(|tries| code.get(tries).map_or(0, |tries| tries.as_ss().unwrap().len()));
    assert!(tries.iter().all(|tries| *tries <= 12));
    if sent == 1 {
        assert_eq!(code.contains_key("code_id"), resets == 0);
        let right = if resets == 0 { answered(CODE_INCORRECT) } else { 0 };
        assert_eq!(tries.iter().sum::<usize>(), right);
    }
}
