//! DynamoDB: the six tables, and every operation on them.
//!
//! # Tables
//!
//! | Table | Key | Holds | TTL |
//! |---|---|---|---|
//! | users | `username` (normalised) | `user_id`, `display_username`, `password_hash`, `security_stamp`, `recovery_stamp`, `kept_jti`?, `session_owner`, `sessions_opened`, `email_addresses`, `locale`?, `activated`, `must_change_password`, `created_at`, `password_changed_at`?, `own_changes` (the latest ten), `last_signin_at`?, `networks`? (the last five from which the password came); and the failed sign-ins of two budgets, `known_…` and `other_…`: `…_failures`?, `…_attempt`?, `…_attempt_at`? | |
//! | user ids | `user_id` | `username`: reserves the id, and finds the user of a token | |
//! | reset codes | `username_hash` | the live code: `code_id`, `code_holder` (a hash of the user's `recovery_stamp`), `code_hash`, `key_version`, `expires_at`, and its tries of two budgets, `known_tries`? and `other_tries`?; and the last ten sends of both, newest first: `known_0` … `known_9`, `other_0` … `other_9` | a day after the last send |
//! | sessions | `session_owner`, `session_id` | `token_hash`, `username`, `stamp_hash`, `information`?, `created_at`, `last_used_at`; or, once it was ended, `ended_by` in place of the attributes that name its user | 30 days after the last use, an hour after the end |
//! | attempts | `subject`: `username#` and a hash of an unknown username | `other_failures`, `other_attempt`, `other_attempt_at` | when they are forgotten |
//! | | or `notice#` and a user id | the notices to the user: `failures`, `attempt`, `window_ends_at` | at the end of the window |
//! | source IPs | `subject`: `signin#`, `code#` or `mail#`, and the address or its /64 | `failures`, `attempt`, `window_ends_at` | at the end of the window |
//!
//! A reset code's item never exceeds 1 KB, so that each write of it costs one unit. That is why its names are short and
//! why its key is a hash: a username has up to 760 bytes.
//!
//! Instants are numbers, in microseconds since the Unix epoch; `ttl`, which DynamoDB's time to live reads, is in
//! seconds. DynamoDB deletes late, by days at times: nothing here relies on it, every expiry is a condition.
//!
//! # Access patterns
//!
//! Every request of a user is a fixed number of operations on single items, however many users there are. Only the
//! sessions of one user are read by a query, which is consistent and of one partition. Operations that a comma
//! separates run at the same time, those that a dot separates one after the other. Retries after a race are not shown.
//!
//! | Endpoint | Before the decision | After it |
//! |---|---|---|
//! | signin | batch: user, username's attempts, source IP · charge or clear | put session, replace an outdated hash; beyond 50 sessions: query them · delete those beyond 100 · correct the count; or charge source IP |
//! | changePasswordAfterSignin | the same | transaction: user, session; or charge source IP |
//! | sendEmail | charge source IP · get user · write code and send | restore the code before, if SES refused all mails |
//! | checkCode | get source IP, get user · reserve try | release try; or charge source IP, if the code was wrong |
//! | resetPassword | get source IP, get user · reserve try | transaction: user, code; or as checkCode |
//! | `IamLoggedIn` | update session · get user | |
//! | sessions | get user id, get session · get user | query sessions, or end one |
//! | `authorizer` | get user id, get session · get user | |
//! | `notify_sign_in` | get user id · get user · charge notice | |
//! | `change_password` | get user id, get session · batch: user, source IP · charge or clear | transaction: user; or charge source IP |
//! | changePassword | the same | the same |
//! | checkOldPassword | the same | nothing; or charge source IP |
//! | `manage_users` create, and import for each user | | transaction: user, user id |
//! | `manage_users` get by id | | get user id · get user |
//! | `manage_users` rename | get user | transaction: user twice, user id, codes · query sessions · delete them |
//! | `manage_users` get | | get user |
//! | `manage_users` update, `set_password`, `revoke_sessions` | get user | transaction: user |
//! | `manage_users` unlock | get user | one transaction |
//! | `manage_users` delete | get user | one transaction · query sessions · delete them |
//! | `manage_users` list, `count_outdated_hashes`, `export_users` | | one page of a scan |
//!
//! # Guarantees under concurrent calls
//!
//! - A try of a code is *reserved* before anything is compared, by one conditional write. There are as many comparisons
//!   as reservations, never more, and each of the two budgets of a code allows the same number. A try or a send counts
//!   in the budget of its network as of the reading of the user; a sign-in that makes the network known meanwhile does
//!   not move it.
//! - An attempt to sign in is *charged before its outcome is revealed*: the password is compared first; then one
//!   conditional write charges or clears the attempt and decides whether it was allowed. No answer leaves before that.
//!   Writes of one item are ordered, and each answer is the one that the sequential rule gives at that point of the
//!   order. So any number of wrong passwords at once reveal as many outcomes as the rule allows, and any number of
//!   right ones succeed. The condition includes the security stamp and the networks that were read. If it fails,
//!   DynamoDB returns the item, and the attempt is decided anew by that; if the stamp differs, the password is compared
//!   again. Tries of codes cannot be charged this way: a right code continues with a transaction, which takes longer
//!   than an update, so that refused right codes and refused wrong codes would differ in time.
//! - The failures of an unknown username, or of a user with a damaged row, are not those of a user who gets the name
//!   later: creation and deletion give the name a fresh budget.
//! - A password changes only under the condition that the user's security stamp is the one that was read, in one
//!   transaction with everything that changes with it. Of several changes at once one wins; the others find another
//!   stamp. This also makes the limit on the user's own changes exact: any change that is missing in the list that was
//!   read has replaced the stamp.
//! - A reset code carries the recovery stamp of the user who was read for its sending, and is compared with the stamp
//!   of the user who is read for its use. So a new stamp revokes every code that was sent before, and one that is being
//!   sent. A reset succeeds only under the condition that the stamp is still the one that was read. Stamps never come
//!   back, so a revoked code stays revoked. The addresses change only under the condition that the recovery stamp is
//!   the one that was read, so that the new addresses are compared with exactly those that they replace.
//! - The SDK retries when a response is lost. Retries are idempotent, because tries are sets of names, codes and
//!   attempts carry an id, and transactions a token. The exceptions:
//!   - An attempt can count twice, for a username and for an address, if another one came in between. This is the safe
//!     side.
//!   - A code that another send overtook is written again with fresh tries. It counts as two sends, or is refused as
//!     one too many.
//!   - A right password that is cleared twice also clears the failures that came in between.
//! - The retry of a commit may find a user whose stamp was replaced after the commit. The attempt came first: its
//!   tokens and its session are issued under the stamp that it was committed with, and so are revoked.
//! - A code whose mails SES refused is undone by one write that is conditional on that code, or by two if it was tried
//!   in either budget; its send then stays counted. The exceptions err on the strict side: if the response with the
//!   earlier code was lost, that code is gone; if two sends overlap and SES refuses both, the first of them stays
//!   counted, and neither its code nor the earlier one can be used.
//! - A token is read together with its session, if it has one, and is valid only while the session is live. A session
//!   is ended by an update, not by a deletion: the row that remains keeps a retry of its creation from reviving it, and
//!   lets the retry of its end succeed.
//! - A user's `sessions_opened` is at least the number of rows. A sign-in counts its session before it writes it, and
//!   reads the rows afterwards if the count is beyond 50: of several at once, one sees all rows. Only a sign-in that
//!   fifty others overtake between its two writes can leave a row too many, until the next sign-in. A session is
//!   deleted under the condition that it was not used since it was read.
//! - If all responses to a change of a password are lost, the user is read again: the new stamp proves the change.

mod attempts;
mod item;
mod password_change;
mod reset_codes;
mod sessions;
mod source_ips;
mod transaction;
mod user_row;
mod users;

use std::sync::Arc;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::Builder;
use aws_sdk_dynamodb::config::interceptors::InterceptorContext;
use aws_sdk_dynamodb::config::retry::{ClassifyRetry, RetryAction};
use aws_sdk_dynamodb::types::AttributeValue;
use aws_types::SdkConfig;

pub use self::attempts::{Attempt, Candidate, Commit};
pub use self::password_change::PasswordChange;
pub use self::reset_codes::{LiveCode, NewCode, ReplacedCode, ReservedTry, TryError};
pub use self::sessions::{NewSession, Session};
pub use self::source_ips::{AddressBudget, AddressLimit};
pub use self::users::{CreateUserError, RenameUserError, UserUpdate};
use crate::aws::Dependency::DynamoDb;
use crate::aws::{FixedUserAgent, Lazy, lazy};
use crate::settings::Settings;
use crate::telemetry;

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
    /// `SOURCE_IPS_TABLE`
    pub source_ips: String,
}

impl TableNames {
    /// The names of this deployment's tables.
    #[must_use]
    pub fn from_settings(settings: &Settings) -> Self {
        Self {
            users: settings.text("USERS_TABLE", "postern-users"),
            user_ids: settings.text("USER_IDS_TABLE", "postern-user-ids"),
            reset_codes: settings.text("RESET_CODES_TABLE", "postern-reset-codes"),
            sessions: settings.text("SESSIONS_TABLE", "postern-sessions"),
            attempts: settings.text("ATTEMPTS_TABLE", "postern-attempts"),
            source_ips: settings.text("SOURCE_IPS_TABLE", "postern-source-ips"),
        }
    }
}

impl Store {
    /// The deployment's data.
    #[must_use]
    pub fn new(settings: &Settings, aws: &SdkConfig) -> Self {
        let client = lazy(aws, |aws| {
            let config = Builder::from(aws).retry_classifier(TransactionConflicts);
            Client::from_conf(config.interceptor(FixedUserAgent).build())
        });
        Self { client: Arc::new(client), tables: TableNames::from_settings(settings) }
    }

    /// Opens a connection by asking for a user with a name that no user can have. If that fails, it is logged,
    /// and tried again when a request needs it.
    pub async fn connect(&self) {
        let unused_name = AttributeValue::S(" ".to_owned());
        let asked = self
            .client
            .get_item()
            .table_name(&self.tables.users)
            .key("username", unused_name)
            .projection_expression("username")
            .send()
            .await;
        if let Err(error) = asked {
            telemetry::warn("not connected ahead", DynamoDb.record_failure("GetItem", &error));
        }
    }
}

/// Retries a write that met another transaction on the same item: nothing was written, and that transaction is over
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
