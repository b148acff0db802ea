//! Changes that an operator makes to users.

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Value, json};
use uuid::Uuid;

use super::codes::LastTry;
use super::{
    Account, DELETE_SESSION, FAILURES, GET_USER, LIST_SESSIONS, Scenario, Struck, TRANSACTION, TRIES,
    assert_password, available_management, stamp,
};
use crate::helpers::{NEW_PASSWORD, PASSWORD, Service, User, unknown_username};

/// A new user.
pub(super) struct Create {
    username: String,
    user_id: String,
}

impl Create {
    fn payload(&self) -> Value {
        let Self { username, user_id } = self;
        json!({
            "action": "create", "username": username, "user_id": user_id, "password": PASSWORD, "activated": true,
        })
    }
}

impl Scenario for Create {
    type Reply = Value;

    const NEEDS: &[&str] = &[TRANSACTION];

    async fn prepare(_: &Service) -> Self {
        Self { username: unknown_username(), user_id: Uuid::new_v4().to_string() }
    }

    async fn request(&self, service: &Service) -> Option<Value> {
        available_management(service.manage(&self.payload()).await)
    }

    async fn check(self, service: &Service, reply: Option<Value>, struck: &Struck) {
        let created = reply.is_some() || struck.lost(TRANSACTION);
        let user = service.item(&service.tables.users, "username", &self.username).await;
        let user_id = service.item(&service.tables.user_ids, "user_id", &self.user_id).await;
        assert_eq!((user.is_some(), user_id.is_some()), (created, created));
        let again = service.manage(&self.payload()).await;
        assert_eq!(again["error_code"].as_str(), created.then_some("user_exists"), "{again}");
        service.signin(&self.username, PASSWORD).await.token();
    }
}

/// Two new users at once.
pub(super) struct Import([String; 2]);

impl Scenario for Import {
    type Reply = Value;

    const NEEDS: &[&str] = &[];

    async fn prepare(_: &Service) -> Self {
        Self([unknown_username(), unknown_username()])
    }

    async fn request(&self, service: &Service) -> Option<Value> {
        let users = self.0.each_ref().map(|username| json!({"username": username, "password": PASSWORD}));
        available_management(service.manage(&json!({"action": "import", "users": users})).await)
    }

    async fn check(self, service: &Service, reply: Option<Value>, struck: &Struck) {
        let reply = reply.unwrap();
        let failed = reply["failed"].as_array().unwrap();
        let (first, second) = (TRANSACTION.to_owned(), format!("{TRANSACTION} 2"));
        assert_eq!(failed.len(), usize::from(struck.fails_any(&[&first, &second])), "{reply}");
        assert_eq!(reply["created"], 2 - failed.len());
        for username in &self.0 {
            let refused = failed.iter().find(|failed| failed["username"] == **username);
            assert!(refused.is_none_or(|refused| refused["error_code"] == "service_unavailable"));
            let lost = struck.lost(&first) || struck.lost(&second);
            let stored = service.item(&service.tables.users, "username", username).await;
            assert_eq!(stored.is_some(), refused.is_none() || lost);
        }
    }
}

/// A user who may no longer sign in.
pub(super) struct Deactivate(Account);

impl Scenario for Deactivate {
    type Reply = Value;

    const NEEDS: &[&str] = &[GET_USER, TRANSACTION];

    async fn prepare(service: &Service) -> Self {
        Self(Account::new(service).await)
    }

    async fn request(&self, service: &Service) -> Option<Value> {
        let username = &self.0.user.username;
        let update = json!({"action": "update", "username": username, "activated": false});
        available_management(service.manage(&update).await)
    }

    async fn check(self, service: &Service, reply: Option<Value>, struck: &Struck) {
        let Account { user, token, session_token, stamp } = &self.0;
        let done = reply.is_some() || struck.lost(TRANSACTION);
        assert_eq!(self::stamp(service, user).await != *stamp, done);
        assert_eq!(*service.stored_user(user).await["activated"].as_bool().unwrap(), !done);
        assert_eq!(service.takes(token).await, !done);
        service.update(user, json!({"activated": true})).await;
        assert_eq!(service.takes(token).await, !done);
        assert_eq!(service.session_signin(session_token).await.status == 202, !done);
        assert_password(service, user, false).await;
    }
}

/// A password that an operator sets.
pub(super) struct SetPassword(Account);

impl Scenario for SetPassword {
    type Reply = Value;

    const NEEDS: &[&str] = &[GET_USER, TRANSACTION];
    const LOOKED_UP: &[&str] = &[TRANSACTION];

    async fn prepare(service: &Service) -> Self {
        Self(Account::new(service).await)
    }

    async fn request(&self, service: &Service) -> Option<Value> {
        let username = &self.0.user.username;
        let set = json!({"action": "set_password", "username": username, "password": NEW_PASSWORD});
        available_management(service.manage(&set).await)
    }

    async fn check(self, service: &Service, reply: Option<Value>, struck: &Struck) {
        if let Some(reply) = &reply {
            let shown = service.manage_user("get", &self.0.user).await;
            assert_eq!(reply["user"], shown["user"]);
            assert!(shown["user"]["password_changed_at"].is_string(), "{shown}");
        }
        let changed = reply.is_some() || struck.lost(TRANSACTION);
        self.0.assert_changed(service, changed, false, struck).await;
    }
}

/// The end of all of a user's sessions.
pub(super) struct RevokeSessions(Account);

impl Scenario for RevokeSessions {
    type Reply = Value;

    const NEEDS: &[&str] = &[GET_USER, TRANSACTION];

    async fn prepare(service: &Service) -> Self {
        Self(Account::new(service).await)
    }

    async fn request(&self, service: &Service) -> Option<Value> {
        available_management(service.manage_user("revoke_sessions", &self.0.user).await)
    }

    async fn check(self, service: &Service, reply: Option<Value>, struck: &Struck) {
        let Account { user, token, session_token, stamp } = &self.0;
        let done = reply.is_some() || struck.lost(TRANSACTION);
        assert_eq!(self::stamp(service, user).await != *stamp, done);
        assert_eq!(service.takes(token).await, !done);
        assert_eq!(service.session_signin(session_token).await.status == 202, !done);
        assert_password(service, user, false).await;
    }
}

/// A user whose failures, tries and sends are forgotten.
pub(super) struct Unlock(Account, LastTry);

impl Scenario for Unlock {
    type Reply = Value;

    const NEEDS: &[&str] = &[GET_USER, TRANSACTION];

    async fn prepare(service: &Service) -> Self {
        let account = Account::new(service).await;
        let code = LastTry::new(service, &account.user).await;
        Self(account, code)
    }

    async fn request(&self, service: &Service) -> Option<Value> {
        available_management(service.manage_user("unlock", &self.0.user).await)
    }

    async fn check(self, service: &Service, reply: Option<Value>, struck: &Struck) {
        let user = &self.0.user;
        let done = reply.is_some() || struck.lost(TRANSACTION);
        assert_eq!(service.failures(&user.username).await, if done { 0 } else { FAILURES as usize });
        assert_eq!(service.sends(user).await, usize::from(!done));
        self.1.assert_tries(service, user, if done { 0 } else { TRIES }).await;
    }
}

/// A user who gets another name while a code is live.
pub(super) struct Rename {
    account: Account,
    new_username: String,
    session_owner: AttributeValue,
}

impl Rename {
    async fn rename(&self, service: &Service) -> Value {
        let (old, new) = (&self.account.user.username, &self.new_username);
        service.manage(&json!({"action": "rename", "username": old, "new_username": new})).await
    }
}

impl Scenario for Rename {
    type Reply = Value;

    const NEEDS: &[&str] = &[GET_USER, TRANSACTION];

    async fn prepare(service: &Service) -> Self {
        let account = Account::new(service).await;
        service.code_for(&account.user).await;
        let session_owner = service.stored_user(&account.user).await["session_owner"].clone();
        Self { account, new_username: unknown_username(), session_owner }
    }

    async fn request(&self, service: &Service) -> Option<Value> {
        available_management(self.rename(service).await)
    }

    async fn check(self, service: &Service, reply: Option<Value>, struck: &Struck) {
        let Account { user, token, session_token, .. } = &self.account;
        let done = reply.is_some() || struck.lost(TRANSACTION);
        let renamed =
            User { username: self.new_username.clone(), id: user.id.clone(), email: user.email.clone() };
        let (present, former) = if done { (&renamed, user) } else { (user, &renamed) };
        let stored =
            async |user: &User| service.item(&service.tables.users, "username", &user.username).await;
        assert!(stored(present).await.is_some() && stored(former).await.is_none());
        let id = service.item(&service.tables.user_ids, "user_id", &user.id).await.unwrap();
        assert_eq!(*id["username"].as_s().unwrap(), present.username);
        // Codes and failures belong to a name.
        assert_eq!(service.stored_code(user).await.is_none(), done);
        assert!(service.stored_code(&renamed).await.is_none());
        let failures = if done { 0 } else { FAILURES as usize };
        assert_eq!(service.failures(&present.username).await, failures);

        assert_eq!(service.takes(token).await, !done);
        assert_eq!(service.session_signin(session_token).await.status == 202, !done);
        // Deletion of the sessions is tried once. Those that remain expire.
        let tidied = reply.is_some() && !struck.fails(LIST_SESSIONS) && struck.applied(DELETE_SESSION);
        assert_eq!(service.session_rows(self.session_owner.clone()).await.is_empty(), tidied);
        assert_password(service, present, false).await;
        let again = self.rename(service).await;
        assert_eq!(again["error_code"].as_str(), done.then_some("unknown_username"), "{again}");
    }
}

/// A user who is deleted while a code is live.
pub(super) struct Delete(Account, AttributeValue);

impl Scenario for Delete {
    type Reply = Value;

    const NEEDS: &[&str] = &[GET_USER, TRANSACTION];

    async fn prepare(service: &Service) -> Self {
        let account = Account::new(service).await;
        service.code_for(&account.user).await;
        let owner = service.stored_user(&account.user).await["session_owner"].clone();
        Self(account, owner)
    }

    async fn request(&self, service: &Service) -> Option<Value> {
        available_management(service.manage_user("delete", &self.0.user).await)
    }

    async fn check(self, service: &Service, reply: Option<Value>, struck: &Struck) {
        let Account { user, token, session_token, .. } = &self.0;
        let done = reply.is_some() || struck.lost(TRANSACTION);
        // Deletion of the sessions is tried once. Those that remain expire.
        let tidied = reply.is_some() && !struck.fails(LIST_SESSIONS) && struck.applied(DELETE_SESSION);
        assert_eq!(service.session_rows(self.1).await.is_empty(), tidied);
        let stored = [
            service.item(&service.tables.users, "username", &user.username).await,
            service.item(&service.tables.user_ids, "user_id", &user.id).await,
            service.stored_code(user).await,
        ];
        assert_eq!(stored.map(|item| item.is_none()), [done; 3]);
        assert_eq!(service.takes(token).await, !done);
        assert_eq!(service.session_signin(session_token).await.status == 202, !done);
        let again = service.manage_user("delete", user).await;
        assert_eq!(again["error_code"].as_str(), done.then_some("unknown_username"), "{again}");
    }
}
