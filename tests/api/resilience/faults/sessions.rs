//! Sessions: used, listed, ended, and authorized elsewhere.

use serde_json::json;

use super::{
    Account, END_SESSION, GET_SESSION, GET_USER, GET_USER_ID, JWT_SECRET, LIST_SESSIONS, Scenario, Struck,
    USE_SESSION, available,
};
use crate::answers::{LOGGED_OUT, NO_SESSION_TO_LOG_OUT, SESSION_DELETED, SESSION_NOT_FOUND};
use crate::helpers::{SESSION_SIGNIN, Service};

/// A session token for a new token.
pub(super) struct SessionSignin(Account);

impl Scenario for SessionSignin {
    type Reply = String;

    const NEEDS: &[&str] = &[USE_SESSION, GET_USER, JWT_SECRET];

    async fn prepare(service: &Service) -> Self {
        Self(Account::new(service).await)
    }

    async fn request(&self, service: &Service) -> Option<String> {
        let body = json!({"session_token": self.0.session_token, "session_information": "Chrome"});
        Some(available(service.post_json(SESSION_SIGNIN, &body).await)?.token_of_session())
    }

    async fn check(self, service: &Service, reply: Option<String>, struck: &Struck) {
        let Account { user, session_token, .. } = self.0;
        let [session] = &service.stored_sessions(&user).await[..] else { panic!("not one session") };
        let noted = struck.applied(USE_SESSION);
        assert_eq!(session["information"].as_s().unwrap() == "Chrome", noted);
        if let Some(token) = reply {
            assert!(service.takes(&token).await);
        }
        service.session_signin(&session_token).await.token_of_session();
    }
}

/// A token of a session, shown to another service.
pub(super) struct Authorize(Account);

impl Scenario for Authorize {
    type Reply = ();

    const NEEDS: &[&str] = &[JWT_SECRET, GET_USER_ID, GET_SESSION, GET_USER];

    async fn prepare(service: &Service) -> Self {
        Self(Account::new(service).await)
    }

    async fn request(&self, service: &Service) -> Option<()> {
        match service.authorize(&self.0.token).await {
            Ok(answer) => {
                let Account { user, .. } = &self.0;
                let context = json!({"user_id": user.id, "username": user.username});
                assert_eq!(answer, json!({"isAuthorized": true, "context": context}));
                Some(())
            }
            Err(error) => {
                assert_eq!(error["errorMessage"], "Service unavailable, try again later");
                None
            }
        }
    }

    async fn check(self, service: &Service, _: Option<()>, _: &Struck) {
        assert_eq!(service.authorize(&self.0.token).await.unwrap()["isAuthorized"], true);
    }
}

/// The list of sessions.
pub(super) struct ListSessions(Account);

impl Scenario for ListSessions {
    type Reply = usize;

    const NEEDS: &[&str] = &[JWT_SECRET, GET_USER_ID, GET_SESSION, GET_USER, LIST_SESSIONS];

    async fn prepare(service: &Service) -> Self {
        Self(Account::new(service).await)
    }

    async fn request(&self, service: &Service) -> Option<usize> {
        let answer = available(service.sessions(&self.0.token).await)?;
        assert_eq!(answer.status, 200, "{answer:?}");
        Some(answer.json()["sessions"].as_array().unwrap().len())
    }

    async fn check(self, service: &Service, reply: Option<usize>, _: &Struck) {
        assert_eq!(reply.unwrap_or(1), 1);
        assert_eq!(service.session_ids(&self.0.token).await.len(), 1);
    }
}

const END_SESSION_NEEDS: [&str; 5] = [JWT_SECRET, GET_USER_ID, GET_SESSION, GET_USER, END_SESSION];

/// The end of a session, by its id.
pub(super) struct DeleteSession {
    account: Account,
    id: String,
}

impl Scenario for DeleteSession {
    type Reply = ();

    const NEEDS: &[&str] = &END_SESSION_NEEDS;

    async fn prepare(service: &Service) -> Self {
        let account = Account::new(service).await;
        let id = service.session_ids(&account.token).await.remove(0);
        Self { account, id }
    }

    async fn request(&self, service: &Service) -> Option<()> {
        available(service.delete_session(&self.account.token, &self.id).await)?.is(SESSION_DELETED);
        Some(())
    }

    async fn check(self, service: &Service, reply: Option<()>, struck: &Struck) {
        let Account { user, token, .. } = &self.account;
        let ended = reply.is_some() || struck.lost(END_SESSION);
        assert_eq!(service.stored_sessions(user).await.is_empty(), ended);
        assert_eq!(service.takes(token).await, !ended);
        let again = service.delete_session(&service.token_of(user).await, &self.id).await;
        again.is(if ended { SESSION_NOT_FOUND } else { SESSION_DELETED });
    }
}

/// The end of a session, by its token.
pub(super) struct LogOut(Account);

impl Scenario for LogOut {
    type Reply = ();

    const NEEDS: &[&str] = &END_SESSION_NEEDS;

    async fn prepare(service: &Service) -> Self {
        Self(Account::new(service).await)
    }

    async fn request(&self, service: &Service) -> Option<()> {
        available(service.log_out(&self.0.token, &self.0.session_token).await)?.is(LOGGED_OUT);
        Some(())
    }

    async fn check(self, service: &Service, reply: Option<()>, struck: &Struck) {
        let Account { user, token, session_token, .. } = &self.0;
        let ended = reply.is_some() || struck.lost(END_SESSION);
        assert_eq!(service.stored_sessions(user).await.is_empty(), ended);
        assert_eq!(service.takes(token).await, !ended);
        let again = service.log_out(&service.token_of(user).await, session_token).await;
        again.is(if ended { NO_SESSION_TO_LOG_OUT } else { LOGGED_OUT });
    }
}
