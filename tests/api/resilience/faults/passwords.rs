//! Sign-ins and changes of the password.

use serde_json::json;

use super::{
    Account, CHARGE_ADDRESS, COMMIT, DELETE_SESSION, FAILURES, GET_SESSION, GET_USER_ID, JWT_SECRET,
    KEEP_SESSION, LAST_FAILURES, LIST_SESSIONS, READ_CANDIDATE, REPLACE_HASH, Scenario, Struck, TRANSACTION,
    assert_failures, assert_notices, assert_password, available, available_profile, let_fail, stamp,
};
use crate::answers::{
    CHANGE_PASSWORD, NEW_PASSWORD_SET, PASSWORD_CHANGED, PASSWORD_CORRECT, PASSWORD_INCORRECT,
    RATE_LIMIT_EXCEEDED, USERNAME_OR_PASSWORD_INCORRECT, change_password_errors,
};
use crate::helpers::{
    CHANGE_PASSWORD_AFTER_SIGNIN, MINUTE, NEW_PASSWORD, OTHER_ARGON2_HASH, PASSWORD, SIGNIN, Service, User,
    WRONG_PASSWORD,
};

/// A sign-in with the right password, to stay logged in, whose stored hash is outdated.
pub(super) struct SigningIn(User);

impl Scenario for SigningIn {
    type Reply = (String, String);

    const NEEDS: &[&str] = &[READ_CANDIDATE, COMMIT, JWT_SECRET, KEEP_SESSION];

    async fn prepare(service: &Service) -> Self {
        let user = service.user().with("password_hash", OTHER_ARGON2_HASH).create().await;
        let_fail(service, &user).await;
        Self(user)
    }

    async fn request(&self, service: &Service) -> Option<Self::Reply> {
        let body = json!({"username": self.0.username, "password": PASSWORD, "stay_logged_in": true});
        let answer = available(service.post_json(SIGNIN, &body).await)?;
        Some(answer.token_and_session_token())
    }

    async fn check(self, service: &Service, reply: Option<Self::Reply>, struck: &Struck) {
        let user = self.0;
        let signed_in = reply.is_some();
        assert_failures(service, &user, struck.failures_after_right(&[READ_CANDIDATE]), 0).await;

        // After a lost response, a session is stored whose token no client has.
        let kept = signed_in || struck.lost(KEEP_SESSION);
        assert_eq!(service.stored_sessions(&user).await.len(), usize::from(kept));
        let rehashed = (signed_in || struck.fails(KEEP_SESSION)) && struck.applied(REPLACE_HASH);
        assert_eq!(service.stored_hash(&user).await != OTHER_ARGON2_HASH, rehashed);
        let noted = service.stored_user(&user).await.contains_key("last_signin_at");
        assert_eq!(noted, struck.committed(&[READ_CANDIDATE]));

        if let Some((token, session_token)) = reply {
            assert!(service.takes(&token).await);
            service.session_signin(&session_token).await.token_of_session();
        } else {
            assert_password(service, &user, false).await;
        }
    }
}

/// A sign-in of a user who has as many sessions as there may be.
pub(super) struct SigningInOnceMore(User);

impl Scenario for SigningInOnceMore {
    type Reply = String;

    const NEEDS: &[&str] = &[READ_CANDIDATE, COMMIT, JWT_SECRET, KEEP_SESSION];

    async fn prepare(service: &Service) -> Self {
        let user = service.user().with_password(PASSWORD).create().await;
        service.session_of(&user).await;
        service.fill_sessions(&user, 100).await;
        Self(user)
    }

    async fn request(&self, service: &Service) -> Option<String> {
        let body = json!({"username": self.0.username, "password": PASSWORD, "stay_logged_in": true});
        Some(available(service.post_json(SIGNIN, &body).await)?.token_and_session_token().1)
    }

    async fn check(self, service: &Service, reply: Option<String>, struck: &Struck) {
        let user = self.0;
        let kept = reply.is_some() || struck.lost(KEEP_SESSION);
        let one_ended = reply.is_some() && !struck.fails(LIST_SESSIONS) && struck.applied(DELETE_SESSION);
        let sessions = 100 + usize::from(kept) - usize::from(one_ended);
        assert_eq!(service.stored_sessions(&user).await.len(), sessions);
        if let Some(session_token) = reply {
            service.session_signin(&session_token).await.token_of_session();
        }
        // The next sign-in removes the session that this one left.
        service.set_failures(&user.username, 0, MINUTE).await;
        service.session_of(&user).await;
        assert_eq!(service.stored_sessions(&user).await.len(), 100);
        let counted = service.stored_user(&user).await["sessions_opened"].as_n().unwrap().clone();
        assert_eq!(counted, "100");
    }
}

/// A sign-in with a wrong password, the last one before a wait.
pub(super) struct WrongPassword(User);

impl Scenario for WrongPassword {
    type Reply = ();

    const NEEDS: &[&str] = &[READ_CANDIDATE, COMMIT, CHARGE_ADDRESS];

    async fn prepare(service: &Service) -> Self {
        let user = service.user().with_password(PASSWORD).create().await;
        let_fail(service, &user).await;
        service.set_failures(&user.username, LAST_FAILURES, MINUTE).await;
        Self(user)
    }

    async fn request(&self, service: &Service) -> Option<()> {
        let answer = available(service.signin(&self.0.username, WRONG_PASSWORD).await)?;
        answer.is(USERNAME_OR_PASSWORD_INCORRECT);
        Some(())
    }

    async fn check(self, service: &Service, _: Option<()>, struck: &Struck) {
        let user = self.0;
        let failures = struck.failures_after_wrong(LAST_FAILURES, &[READ_CANDIDATE]);
        let of_address = struck.charged_to_address(&[READ_CANDIDATE]);
        assert_failures(service, &user, failures, of_address).await;
        let again = service.signin(&user.username, PASSWORD).await;
        if failures > LAST_FAILURES as usize {
            again.is_refused_for(RATE_LIMIT_EXCEEDED);
        } else {
            again.token();
        }
    }
}

/// A forced change of the password, to stay logged in.
pub(super) struct ForcedChange {
    user: User,
    stamp: String,
}

impl Scenario for ForcedChange {
    type Reply = (String, String);

    const NEEDS: &[&str] = &[READ_CANDIDATE, COMMIT, JWT_SECRET, TRANSACTION];
    const LOOKED_UP: &[&str] = &[TRANSACTION];

    async fn prepare(service: &Service) -> Self {
        let user = service.user().with_password(PASSWORD).due_a_password_change().create().await;
        let_fail(service, &user).await;
        Self { stamp: stamp(service, &user).await, user }
    }

    async fn request(&self, service: &Service) -> Option<Self::Reply> {
        let body = json!({
            "username": self.user.username,
            "old_password": PASSWORD,
            "new_password": NEW_PASSWORD,
            "stay_logged_in": true,
        });
        let answer = available(service.post_json(CHANGE_PASSWORD_AFTER_SIGNIN, &body).await)?;
        Some(answer.token_and_session_token())
    }

    async fn check(self, service: &Service, reply: Option<Self::Reply>, struck: &Struck) {
        let Self { user, stamp } = self;
        let changed = reply.is_some() || struck.lost(TRANSACTION);
        assert_failures(service, &user, struck.failures_after_right(&[READ_CANDIDATE]), 0).await;

        let stored = service.stored_user(&user).await;
        assert_eq!(self::stamp(service, &user).await != stamp, changed);
        assert_eq!(*stored["must_change_password"].as_bool().unwrap(), !changed);
        for instant in ["password_changed_at", "last_signin_at"] {
            assert_eq!(stored.contains_key(instant), changed, "{instant}");
        }
        assert_eq!(service.stored_sessions(&user).await.len(), usize::from(changed));
        assert_notices(service, &user, changed, struck).await;

        if let Some((token, session_token)) = &reply {
            assert!(service.takes(token).await);
            service.session_signin(session_token).await.token_of_session();
        }
        if !changed {
            service.set_failures(&user.username, 0, MINUTE).await;
            service.signin(&user.username, PASSWORD).await.is(CHANGE_PASSWORD);
            service.session_of_forced_change(&user).await;
        } else if reply.is_none() {
            assert_password(service, &user, true).await;
        }
    }
}

/// A change of the password by its user.
pub(super) struct Change(Account);

/// The operations before the commit of an attempt by a signed-in user.
const BEFORE: [&str; 4] = [JWT_SECRET, GET_USER_ID, GET_SESSION, READ_CANDIDATE];
const RIGHT_NEEDS: [&str; 5] = [JWT_SECRET, GET_USER_ID, GET_SESSION, READ_CANDIDATE, COMMIT];
const WRONG_NEEDS: [&str; 6] = [JWT_SECRET, GET_USER_ID, GET_SESSION, READ_CANDIDATE, COMMIT, CHARGE_ADDRESS];

impl Scenario for Change {
    type Reply = ();

    const NEEDS: &[&str] = &[JWT_SECRET, GET_USER_ID, GET_SESSION, READ_CANDIDATE, COMMIT, TRANSACTION];
    const LOOKED_UP: &[&str] = &[TRANSACTION];

    async fn prepare(service: &Service) -> Self {
        Self(Account::new(service).await)
    }

    async fn request(&self, service: &Service) -> Option<()> {
        let changed = service.change_password(&self.0.token, PASSWORD, NEW_PASSWORD).await;
        available_profile(changed)?.is(NEW_PASSWORD_SET);
        Some(())
    }

    async fn check(self, service: &Service, reply: Option<()>, struck: &Struck) {
        let account = self.0;
        assert_failures(service, &account.user, struck.failures_after_right(&BEFORE), 0).await;
        let changed = reply.is_some() || struck.lost(TRANSACTION);
        account.assert_changed(service, changed, true, struck).await;
    }
}

/// A password change with a wrong old password.
pub(super) struct WrongOldPassword(Account);

impl Scenario for WrongOldPassword {
    type Reply = ();

    const NEEDS: &[&str] = &WRONG_NEEDS;

    async fn prepare(service: &Service) -> Self {
        Self(Account::new(service).await)
    }

    async fn request(&self, service: &Service) -> Option<()> {
        let changed = service.change_password(&self.0.token, WRONG_PASSWORD, NEW_PASSWORD).await;
        let changed = available_profile(changed)?;
        assert_eq!((changed.status, changed.body), (422, change_password_errors(&[4])));
        Some(())
    }

    async fn check(self, service: &Service, _: Option<()>, struck: &Struck) {
        let account = self.0;
        let failures = struck.failures_after_wrong(FAILURES, &BEFORE);
        assert_failures(service, &account.user, failures, struck.charged_to_address(&BEFORE)).await;
        account.assert_changed(service, false, false, struck).await;
    }
}

/// A change of the password by its user, as the original clients make it.
pub(super) struct ChangeInSettings(Change);

impl Scenario for ChangeInSettings {
    type Reply = ();

    const NEEDS: &[&str] = Change::NEEDS;
    const LOOKED_UP: &[&str] = Change::LOOKED_UP;

    async fn prepare(service: &Service) -> Self {
        Self(Change::prepare(service).await)
    }

    async fn request(&self, service: &Service) -> Option<()> {
        let Change(account) = &self.0;
        let changed = service.change_my_password(&account.token, PASSWORD, NEW_PASSWORD).await;
        available(changed)?.is(PASSWORD_CHANGED);
        Some(())
    }

    async fn check(self, service: &Service, reply: Option<()>, struck: &Struck) {
        self.0.check(service, reply, struck).await;
    }
}

/// A check of the right password.
pub(super) struct RightCheck(Account);

impl Scenario for RightCheck {
    type Reply = ();

    const NEEDS: &[&str] = &RIGHT_NEEDS;

    async fn prepare(service: &Service) -> Self {
        Self(Account::new(service).await)
    }

    async fn request(&self, service: &Service) -> Option<()> {
        available(service.check_old_password(&self.0.token, PASSWORD).await)?.is(PASSWORD_CORRECT);
        Some(())
    }

    async fn check(self, service: &Service, _: Option<()>, struck: &Struck) {
        let account = self.0;
        assert_failures(service, &account.user, struck.failures_after_right(&BEFORE), 0).await;
        account.assert_changed(service, false, false, struck).await;
    }
}

/// A check of a wrong password.
pub(super) struct WrongCheck(WrongOldPassword);

impl Scenario for WrongCheck {
    type Reply = ();

    const NEEDS: &[&str] = WrongOldPassword::NEEDS;

    async fn prepare(service: &Service) -> Self {
        Self(WrongOldPassword::prepare(service).await)
    }

    async fn request(&self, service: &Service) -> Option<()> {
        let WrongOldPassword(account) = &self.0;
        let checked = service.check_old_password(&account.token, WRONG_PASSWORD).await;
        available(checked)?.is(PASSWORD_INCORRECT);
        Some(())
    }

    async fn check(self, service: &Service, reply: Option<()>, struck: &Struck) {
        self.0.check(service, reply, struck).await;
    }
}
