//! DynamoDB: the five tables, and every operation on them.
//!
//! # Tables
//!
//! | Table | Key | Holds | TTL |
//! |---|---|---|---|
//! | users | `username` (normalised) | `user_id`, `display_username`, `password_hash`, `security_stamp`, `recovery_stamp`, `kept_jti`?, `email_addresses`, `locale`?, `activated`, `must_change_password`, `created_at`, `password_changed_at`?, `own_changes` (the latest ten), `last_signin_at`? | |
//! | user ids | `user_id` | `username`: reserves the id, and finds the user of a token | |
//! | reset codes | `username` | the live code: `code_id`, `code_holder` (a hash of the user's `recovery_stamp`), `code_hash`, `key_version`, `expires_at`, `tries`; and `sent_0` … `sent_9`, the last ten sends, newest first | a day after the last send |
//! | sessions | `session_id`; index `by_user` on `user_id`, `created_at` | `username`, `security_stamp`, `information`?, `created_at`, `last_used_at`, `expires_at` | at its end |
//! | attempts | `subject`: `username#…` or `ip#…` | `failures` with `attempt`, `last_attempt_at`, or with `window_ends_at` | when they are forgotten |
//!
//! Instants are numbers, in microseconds since the Unix epoch; `ttl`, which DynamoDB's time to live reads, is in
//! seconds. DynamoDB deletes late, by days at times: nothing here relies on it, every expiry is a condition.
//!
//! # Access patterns
//!
//! Every request of a user is a fixed number of operations on single items, whatever the number of users; only the
//! list of sessions is a query, whose index follows the table within moments. Operations that a comma separates run
//! at the same time, those that a dot separates one after the other; what starts over because of a race is not shown.
//!
//! | Endpoint | Before the decision | After it |
//! |---|---|---|
//! | signin | reserve IP, get user · reserve username | release both, record sign-in, put session |
//! | changePasswordAfterSignin | the same | release both, transaction: user, session |
//! | sendEmail | get user · write code and send | restore the code before, if SES refused all mails |
//! | checkCode | get user, reserve try | give back try, unless the code was wrong |
//! | resetPassword | get user, reserve try | transaction: user, code, username's failures; or as checkCode |
//! | `IamLoggedIn` | get session · get user | update session |
//! | sessions | get user id · get user | query `by_user`, or delete session |
//! | `change_password` | get user id · get user · reserve IP · reserve username | release both, transaction: user |
//! | changePassword | the same | the same |
//! | checkOldPassword | the same | release both |
//! | `manage_users` create, and import for each user | | transaction: user, user id |
//! | `manage_users` get | | get user |
//! | `manage_users` update, `set_password`, `revoke_sessions` | get user | transaction: user |
//! | `manage_users` unlock, delete | get user | one transaction |
//! | `manage_users` list, `count_outdated_hashes`, `export_users` | | one page of a scan |
//!
//! # What holds when calls race
//!
//! - A try or an attempt is *reserved* before anything is compared, by one conditional write; as many are let
//!   through as there are reservations, never more.
//! - A password changes only under the condition that the user's security stamp is the one that was read, in one
//!   transaction with all that has to change with it. Of several at once one wins; the others find the stamp
//!   changed. So the user's own changes, which are limited, are counted exactly by what was read: a change that is not
//!   in the list that was read replaced the stamp.
//! - A reset code carries the recovery stamp of the user who was read for its sending, and is compared with the stamp of
//!   the user who is read for its use. Whatever replaces the stamp thus revokes a code that was sent, and one that is
//!   being sent. A reset succeeds only under the condition that the stamp is still the one that was read. A stamp never
//!   comes back, so a revoked code stays revoked. The addresses change only under the condition that the recovery stamp
//!   is the one that was read: what is compared with the new ones are the addresses that they replace.
//! - An answer that got lost makes the SDK repeat the call. Repeating is harmless: tries are a set of names, codes
//!   and attempts are told by theirs, a transaction has a token. There are exceptions: an attempt from an address may
//!   count twice or not be given back, and so may one of a username that another overtook before it was repeated,
//!   which is the safe side; a code so overtaken is written again with fresh tries, but counts as two of those that
//!   may be sent; and a right password whose clearing of the failures is repeated clears those of the meantime.
//! - A code whose mails SES refused is undone by one write that is conditional on that code, or by two if it was
//!   tried. What it cannot undo errs on the strict side: if the response was lost that had the code before it, that
//!   code is gone; if two sends overlap and SES refuses both, the first of them stays counted, and neither its code
//!   nor the one before can be used.
//! - Where all answers to a change of a password got lost, the user is read again: the new stamp shows the change.

mod attempts;
mod item;
mod reset_codes;
mod sessions;
mod users;

use std::sync::Arc;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::Builder;
use aws_sdk_dynamodb::config::interceptors::InterceptorContext;
use aws_sdk_dynamodb::config::retry::{ClassifyRetry, RetryAction};
use aws_sdk_dynamodb::types::AttributeValue;
use aws_types::SdkConfig;

pub use self::attempts::AddressReservation;
pub use self::reset_codes::{LiveCode, NewCode, ReplacedCode, ReservedTry, TryError};
pub use self::sessions::{NewSession, Session};
pub use self::users::{CreateUserError, PasswordChange, UserUpdate};
use crate::aws::Dependency::DynamoDb;
use crate::aws::{Lazy, lazy};
use crate::config::Environment;

/// The deployment's data.
#[derive(Clone, Debug)]
pub struct Store {
    client: Arc<Lazy<Client>>,
    tables: TableNames,
}

/// The names of the tables.
#[derive(Clone, Debug)]
pub struct TableNames {
    /// `USERS_TABLE`
    pub users: String,
    /// `USER_IDS_TABLE`
    pub user_ids: String,
    /// `RESET_CODES_TABLE`
    pub reset_codes: String,
    /// `SESSIONS_TABLE`
    pub sessions: String,
    /// `ATTEMPTS_TABLE`
    pub attempts: String,
}

impl TableNames {
    /// The names of this deployment's tables.
    #[must_use]
    pub fn from_environment(environment: &Environment) -> Self {
        Self {
            users: environment.text("USERS_TABLE", "postern-users"),
            user_ids: environment.text("USER_IDS_TABLE", "postern-user-ids"),
            reset_codes: environment.text("RESET_CODES_TABLE", "postern-reset-codes"),
            sessions: environment.text("SESSIONS_TABLE", "postern-sessions"),
            attempts: environment.text("ATTEMPTS_TABLE", "postern-attempts"),
        }
    }
}

impl Store {
    /// The deployment's data.
    #[must_use]
    pub fn new(environment: &Environment, aws: &SdkConfig) -> Self {
        let client = lazy(aws, |aws| {
            Client::from_conf(Builder::from(aws).retry_classifier(TransactionConflicts).build())
        });
        Self { client: Arc::new(client), tables: TableNames::from_environment(environment) }
    }

    /// Opens a connection, by asking for a user whose name nobody can have. If that fails, it is logged,
    /// and tried again when a request needs it.
    pub async fn connect(&self) {
        let nobody = AttributeValue::S(" ".to_owned());
        let asked = self
            .client
            .get_item()
            .table_name(&self.tables.users)
            .key("username", nobody)
            .projection_expression("username")
            .send()
            .await;
        if let Err(error) = asked {
            tracing::warn!(cause = %DynamoDb.failure("GetItem", &error), "not connected ahead");
        }
    }
}

/// Retries what met somebody else's transaction on the same item: nothing was written, and the transaction is over
/// in milliseconds. The SDK leaves this to its user.
#[derive(Debug)]
struct TransactionConflicts;

impl ClassifyRetry for TransactionConflicts {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        // The body names it either way: as the error, or as the reason that one item cancelled a transaction.
        let conflict = b"TransactionConflict";
        let body = context.response().and_then(|response| response.body().bytes());
        let failed = context.output_or_error().is_some_and(|outcome| outcome.is_err());
        if failed && body.is_some_and(|body| body.windows(conflict.len()).any(|window| window == conflict)) {
            RetryAction::transient_error()
        } else {
            RetryAction::NoActionIndicated
        }
    }

    fn name(&self) -> &'static str {
        "transaction conflicts"
    }
}
