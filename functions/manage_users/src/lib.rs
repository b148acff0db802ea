//! `manage_users`: the administration of users. It has no route. IAM decides who may invoke it, and every invoker may
//! do everything.

mod payload;

use aws_types::SdkConfig;
use futures_util::{StreamExt, stream};
use lambda_runtime::LambdaEvent;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use shared::administration::{Outcome, Refusal, UserView, answer, with_cursor};
use shared::domain::{
    EmailAddress, Networks, NewPassword, OwnChanges, PasswordHash, TooCommon, User, UserWithHash, Username,
};
use shared::failure::{Failure, MAX_CONFLICT_RETRIES};
use shared::fields::Validator;
use shared::function::{Error, Function};
use shared::hashing::PasswordHasher;
use shared::new_passwords::NewPasswords;
use shared::password_changes::PasswordChanges;
use shared::settings::{ConfigError, Settings};
use shared::store::{CreateUserError, PasswordChange, RenameUserError, Store, UserUpdate};
use shared::telemetry::{self, identify};
use shared::{clock, random};

use crate::payload::{Command, Constraints, Credential, ImportedUser, NewUser};

/// How many users of an import are created at the same time.
const IMPORTED_AT_A_TIME: usize = 10;

/// The function `manage_users`.
#[derive(Debug)]
pub struct ManageUsers {
    new_passwords: NewPasswords,
    store: Store,
    hasher: PasswordHasher,
    changes: PasswordChanges,
}

const UNKNOWN_USERNAME: Refusal =
    Refusal::Conflict { error_code: "unknown_username", msg: "Unknown username" };
const UNKNOWN_USER_ID: Refusal = Refusal::Conflict { error_code: "unknown_username", msg: "Unknown user id" };
const USER_EXISTS: Refusal =
    Refusal::Conflict { error_code: "user_exists", msg: "A user with this username exists" };
const USER_ID_EXISTS: Refusal =
    Refusal::Conflict { error_code: "user_id_exists", msg: "A user with this user id exists" };

impl Function for ManageUsers {
    const NAME: &'static str = "manage_users";

    type Event = Box<RawValue>;

    fn new(settings: &Settings, aws: &SdkConfig) -> Result<Self, ConfigError> {
        let store = Store::new(settings, aws);
        Ok(Self {
            new_passwords: NewPasswords::new(settings)?,
            changes: PasswordChanges::new(settings, aws, store.clone())?,
            store,
            hasher: PasswordHasher::from_settings(settings)?,
        })
    }

    /// Carries out one command.
    async fn invoke(&self, event: LambdaEvent<Box<RawValue>>) -> Result<impl Serialize + Send, Error> {
        let LambdaEvent { payload, context } = event;
        let command = async {
            let constraints = Constraints { policy: self.new_passwords.policy(), now: clock::now() };
            let (action, command) = Command::parse(&payload, constraints);
            let outcome = match command {
                Ok(command) => self.execute(command).await,
                Err(errors) => Err(errors.into()),
            };
            (action, outcome)
        };
        Ok(answer(Self::NAME, &context, command).await)
    }
}

impl ManageUsers {
    /// Carries out a command.
    async fn execute(&self, command: Command) -> Outcome {
        let done = json!({ "ok": true });
        Ok(match command {
            Command::Create(user) => ("created", show(&self.create(*user).await?)),
            Command::Get { username } => ("shown", show(&self.user(&username).await?)),
            Command::GetById { user_id } => {
                let user = self.store.user_by_id(&user_id).await?;
                ("shown", show(&user.ok_or(UNKNOWN_USER_ID)?))
            }
            Command::Rename { username, new_username } => {
                ("renamed", show(&self.rename(&username, &new_username).await?))
            }
            Command::Update { username, update } => {
                ("updated", show(&self.update(&username, &update).await?))
            }
            Command::SetPassword { username, password, must_change_password } => {
                let user = self.set_password(&username, &password, must_change_password).await?;
                ("password_set", show(&user))
            }
            Command::Unlock { username } => {
                self.unlock(&username).await?;
                ("unlocked", done)
            }
            Command::RevokeSessions { username } => {
                self.revoke_sessions(&username).await?;
                ("sessions_revoked", done)
            }
            Command::Delete { username } => {
                self.delete(&username).await?;
                ("deleted", done)
            }
            Command::List { page, email_address } => {
                let (users, cursor) = self.store.users(page.cursor.as_deref(), page.limit).await?;
                let users: Vec<_> = users
                    .iter()
                    .filter(|user| has_address(user, email_address.as_ref()))
                    .map(UserView::from)
                    .collect();
                ("listed", with_cursor(json!({ "ok": true, "users": users }), cursor))
            }
            Command::CountOutdatedHashes(page) => {
                let (users, cursor) =
                    self.store.users_with_hashes(page.cursor.as_deref(), page.limit).await?;
                let outdated = users.iter().filter(|user| self.is_outdated(user)).count();
                let answer = json!({ "ok": true, "users": users.len(), "outdated": outdated });
                ("outdated_hashes_counted", with_cursor(answer, cursor))
            }
            Command::Import { users } => ("imported", self.import(users).await),
        })
    }

    /// Hashes a password for a user with these addresses, if it meets all requirements. A refusal may reveal an address:
    /// operators know them.
    async fn hash(&self, password: NewPassword, addresses: &[EmailAddress]) -> Result<PasswordHash, Refusal> {
        let refuse = |TooCommon| Refusal::Validation(Validator::too_common("password"));
        let uncommon = self.new_passwords.policy().check_addresses(password, addresses).map_err(refuse)?;
        let approved = self.new_passwords.approve(uncommon).await.map_err(refuse)?;
        Ok(self.hasher.hash(&approved).await?)
    }

    async fn user(&self, username: &Username) -> Result<User, Refusal> {
        let user = self.store.user(username).await?.ok_or(UNKNOWN_USERNAME)?;
        identify(&user.user_id);
        Ok(user)
    }

    async fn create(&self, new: NewUser) -> Result<User, Refusal> {
        let password_hash = match new.credential {
            Some(Credential::Password(password)) => Some(self.hash(password, &new.email_addresses).await?),
            Some(Credential::Hash(hash)) => Some(hash),
            None => None,
        };
        let user = User {
            username: new.username,
            user_id: new.user_id.unwrap_or_else(random::user_id),
            security_stamp: random::security_stamp(),
            recovery_stamp: random::recovery_stamp(),
            session_owner: random::session_owner(),
            kept_jti: None,
            email_addresses: new.email_addresses,
            activated: new.activated,
            must_change_password: new.must_change_password,
            locale: new.locale,
            created_at: new.created_at,
            password_changed_at: new.password_changed_at,
            own_changes: OwnChanges::default(),
            last_signin_at: new.last_signin_at,
            networks: Networks::default(),
        };
        let user = UserWithHash { user, password_hash: password_hash.map(Ok) };
        self.store.create_user(&user).await.map_err(not_created)?;
        Ok(user.user)
    }

    /// Creates all users that can be created, several at a time, and lists the others in the order of the payload.
    async fn import(&self, users: Vec<ImportedUser>) -> Value {
        let created = stream::iter(users).map(async |ImportedUser { written_username, user }| match user {
            Ok(user) => (written_username, self.create(user).await.map(drop)),
            Err(errors) => (written_username, Err(Refusal::Validation(errors))),
        });
        let mut answers = created.buffered(IMPORTED_AT_A_TIME);
        let (mut created, mut failed) = (0, Vec::new());
        while let Some((username, outcome)) = answers.next().await {
            match outcome {
                Ok(()) => created += 1,
                Err(refusal) => {
                    if let Refusal::Failure(failure) = &refusal {
                        telemetry::warn("user not imported", failure);
                    }
                    let mut failure = json!({ "username": username, "error_code": refusal.error_code() });
                    if let Refusal::Validation(errors) = refusal {
                        failure["errors"] = json!(errors);
                    }
                    failed.push(failure);
                }
            }
        }
        json!({ "ok": true, "created": created, "failed": failed })
    }

    fn is_outdated(&self, user: &UserWithHash) -> bool {
        match &user.password_hash {
            Some(Ok(hash)) => self.hasher.is_outdated(hash),
            Some(Err(_)) => true,
            None => false,
        }
    }

    /// Updates a user. A change of the addresses is told at the old and the new ones.
    async fn update(&self, username: &Username, update: &UserUpdate) -> Result<User, Refusal> {
        for _ in 0..MAX_CONFLICT_RETRIES {
            let user = self.user(username).await?;
            if let Some(updated) = self.store.update_user(&user, update).await? {
                let mailer = self.changes.mailer();
                mailer.notify_addresses_changed(&updated, &user.email_addresses, clock::now()).await;
                return Ok(updated);
            }
        }
        Err(contended())
    }

    async fn revoke_sessions(&self, username: &Username) -> Result<(), Refusal> {
        for _ in 0..MAX_CONFLICT_RETRIES {
            let user = self.user(username).await?;
            if self.store.revoke_sessions(&user).await? {
                return Ok(());
            }
        }
        Err(contended())
    }

    async fn rename(&self, username: &Username, new_username: &Username) -> Result<User, Refusal> {
        for _ in 0..MAX_CONFLICT_RETRIES {
            match self.store.rename_user(username, new_username).await {
                Ok(user) => return Ok(user),
                Err(RenameUserError::UnknownUsername) => return Err(UNKNOWN_USERNAME),
                Err(RenameUserError::UsernameTaken) => return Err(USER_EXISTS),
                Err(RenameUserError::Changed) => {}
                Err(RenameUserError::Failure(failure)) => return Err(failure.into()),
            }
        }
        Err(contended())
    }

    async fn unlock(&self, username: &Username) -> Result<(), Refusal> {
        for _ in 0..MAX_CONFLICT_RETRIES {
            let user = self.user(username).await?;
            if self.store.unlock(&user, clock::now()).await? {
                return Ok(());
            }
        }
        Err(contended())
    }

    async fn delete(&self, username: &Username) -> Result<(), Refusal> {
        for _ in 0..MAX_CONFLICT_RETRIES {
            let user = self.user(username).await?;
            if self.store.delete_user(&user).await? {
                return Ok(());
            }
        }
        Err(contended())
    }

    async fn set_password(
        &self,
        username: &Username,
        password: &NewPassword,
        must_change_password: bool,
    ) -> Result<User, Refusal> {
        let mut hash = None;
        for _ in 0..MAX_CONFLICT_RETRIES {
            let user = self.user(username).await?;
            let password_hash = match &hash {
                Some(password_hash) => password_hash,
                None => hash.insert(self.hash(password.clone(), &user.email_addresses).await?),
            };
            let now = clock::now();
            let change = PasswordChange::set(&user, password_hash, must_change_password, now);
            if self.changes.make(&change).await? {
                return Ok(User { must_change_password, password_changed_at: Some(now), ..user });
            }
        }
        Err(contended())
    }
}

fn contended() -> Refusal {
    Failure::conflict().into()
}

/// Returns whether the user has this address, without regard to case.
fn has_address(user: &User, wanted: Option<&EmailAddress>) -> bool {
    wanted.is_none_or(|wanted| {
        user.email_addresses.iter().any(|address| address.as_str().eq_ignore_ascii_case(wanted.as_str()))
    })
}

/// The answer that shows one user.
fn show(user: &User) -> Value {
    identify(&user.user_id);
    json!({ "ok": true, "user": UserView::from(user) })
}

fn not_created(error: CreateUserError) -> Refusal {
    match error {
        CreateUserError::UsernameTaken => USER_EXISTS,
        CreateUserError::UserIdTaken => USER_ID_EXISTS,
        CreateUserError::Failure(failure) => failure.into(),
    }
}
