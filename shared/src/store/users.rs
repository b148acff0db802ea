use std::collections::HashMap;

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::builders::UpdateBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, Delete, Put, TransactWriteItem, Update};

use super::attempts::username_subject;
use super::item::{Item, boolean, condition_failure, instant, text};
use super::{NewSession, Store};
use crate::aws::Dependency::DynamoDb;
use crate::domain::{
    CodeId, EmailAddress, Locale, PasswordHash, SecurityStamp, Timestamp, User, UserId, UserWithHash,
    Username,
};
use crate::error::Failure;
use crate::random;

/// Why a user was not created.
#[derive(Debug)]
pub enum CreateUserError {
    /// Somebody has the username.
    UsernameTaken,
    /// Somebody has the user id.
    UserIdTaken,
    /// It could not be told.
    Failure(Failure),
}

/// What an administrator changes about a user; what is `None` stays.
#[derive(Debug, Default)]
pub struct UserUpdate {
    /// Whether the user may sign in. Deactivating revokes all tokens and sessions.
    pub activated: Option<bool>,
    /// Whether the user has to change the password at the next sign-in.
    pub must_change_password: Option<bool>,
    /// Where codes and notices go.
    pub email_addresses: Option<Vec<EmailAddress>>,
    /// The language to write in.
    pub locale: Option<Locale>,
}

/// A change of a user's password, with all that changes along with it.
#[derive(Debug)]
pub struct PasswordChange<'a> {
    /// The user as read before. If the security stamp is another one by now, nothing is changed.
    pub user: &'a User,
    /// The new hash.
    pub password_hash: &'a PasswordHash,
    /// The stamp that replaces the user's, and thereby revokes all tokens and sessions bound to that.
    pub security_stamp: &'a SecurityStamp,
    /// Whether the new password has to be changed in turn.
    pub must_change_password: bool,
    /// The `jti` of the token that stays valid although it is bound to the replaced stamp.
    pub kept_jti: Option<&'a str>,
    /// The reset code that the change uses up; without it being live, nothing is changed. A change by reset code
    /// also forgets the failed sign-ins.
    pub used_code: Option<&'a CodeId>,
    /// The session that begins with the change.
    pub session: Option<NewSession<'a>>,
    /// Whether the change is a sign-in.
    pub signs_in: bool,
    /// The time.
    pub now: Timestamp,
}

impl<'a> PasswordChange<'a> {
    /// A change that revokes everything, and that nothing else goes along with.
    #[must_use]
    pub fn new(
        user: &'a User,
        password_hash: &'a PasswordHash,
        security_stamp: &'a SecurityStamp,
        now: Timestamp,
    ) -> Self {
        Self {
            user,
            password_hash,
            security_stamp,
            must_change_password: false,
            kept_jti: None,
            used_code: None,
            session: None,
            signs_in: false,
            now,
        }
    }
}

/// A row of the users table, as much of it as is read.
trait Row: Sized {
    /// The attributes that are read, as a projection expression.
    const ATTRIBUTES: &str;

    fn from_item(item: &Item) -> Result<Self, Failure>;
    fn user(&self) -> &User;
}

/// The attributes of a [`User`].
macro_rules! user_attributes {
    () => {
        "username, display_username, user_id, security_stamp, kept_jti, email_addresses, locale, activated, \
         must_change_password, created_at, password_changed_at, last_signin_at"
    };
}

impl Row for User {
    const ATTRIBUTES: &str = user_attributes!();

    fn from_item(item: &Item) -> Result<Self, Failure> {
        let addresses = item.list("email_addresses")?.iter().map(|address| {
            let address = address.as_s().ok().and_then(|address| EmailAddress::from_stored(address));
            address.ok_or_else(|| Item::unreadable("email_addresses"))
        });
        Ok(Self {
            username: Username::from_stored(item.text("username")?, item.text("display_username")?),
            user_id: UserId::parse(item.text("user_id")?).ok_or_else(|| Item::unreadable("user_id"))?,
            security_stamp: SecurityStamp::new(item.text("security_stamp")?.to_owned()),
            kept_jti: item.optional_text("kept_jti").map(str::to_owned),
            email_addresses: addresses.collect::<Result<_, _>>()?,
            locale: item.optional_text("locale").and_then(Locale::parse),
            activated: item.boolean("activated")?,
            must_change_password: item.boolean("must_change_password")?,
            created_at: item.instant("created_at")?,
            password_changed_at: item.optional_instant("password_changed_at")?,
            last_signin_at: item.optional_instant("last_signin_at")?,
        })
    }

    fn user(&self) -> &User {
        self
    }
}

impl Row for UserWithHash {
    const ATTRIBUTES: &str = concat!(user_attributes!(), ", password_hash");

    fn from_item(item: &Item) -> Result<Self, Failure> {
        Ok(Self {
            user: User::from_item(item)?,
            password_hash: PasswordHash::parse(item.text("password_hash")?).ok(),
        })
    }

    fn user(&self) -> &User {
        &self.user
    }
}

impl Store {
    /// The user who has this name.
    pub fn user(&self, username: &Username) -> impl Future<Output = Result<Option<User>, Failure>> {
        self.row(username.normalised())
    }

    /// The user who has this name, with the hash of the password.
    pub fn user_with_hash(
        &self,
        username: &Username,
    ) -> impl Future<Output = Result<Option<UserWithHash>, Failure>> {
        self.row(username.normalised())
    }

    /// The user who has this id.
    pub fn user_by_id(&self, user_id: &UserId) -> impl Future<Output = Result<Option<User>, Failure>> {
        self.row_by_id(user_id)
    }

    /// The user who has this id, with the hash of the password.
    pub fn user_by_id_with_hash(
        &self,
        user_id: &UserId,
    ) -> impl Future<Output = Result<Option<UserWithHash>, Failure>> {
        self.row_by_id(user_id)
    }

    async fn row_by_id<R: Row>(&self, user_id: &UserId) -> Result<Option<R>, Failure> {
        let reservation = self
            .client
            .get_item()
            .table_name(&self.tables.user_ids)
            .key("user_id", text(user_id.as_str()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| DynamoDb.failure("GetItem user ids", &error))?;
        let Some(item) = reservation.item else {
            return Ok(None);
        };
        let row: Option<R> = self.row(Item(item).text("username")?).await?;
        // Between the two reads the user could have been deleted and the name given to somebody else.
        Ok(row.filter(|row| row.user().user_id == *user_id))
    }

    pub(super) fn user_by_key(
        &self,
        normalised_username: &str,
    ) -> impl Future<Output = Result<Option<User>, Failure>> {
        self.row(normalised_username)
    }

    async fn row<R: Row>(&self, normalised_username: &str) -> Result<Option<R>, Failure> {
        let output = self
            .client
            .get_item()
            .table_name(&self.tables.users)
            .key("username", text(normalised_username))
            .projection_expression(R::ATTRIBUTES)
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| DynamoDb.failure("GetItem users", &error))?;
        output.item.map(|item| R::from_item(&Item(item))).transpose()
    }

    /// Creates a user, with a reservation of the id.
    pub async fn create_user(&self, user: &UserWithHash) -> Result<(), CreateUserError> {
        let put = |table: &str, item, key: &str| {
            Put::builder()
                .table_name(table)
                .set_item(Some(item))
                .condition_expression(format!("attribute_not_exists({key})"))
                .build()
                .map_err(defect)
        };
        let reservation = HashMap::from([
            ("user_id".to_owned(), text(user.user.user_id.as_str())),
            ("username".to_owned(), text(user.user.username.normalised())),
        ]);
        let user = put(&self.tables.users, item(user), "username")?;
        let user_id = put(&self.tables.user_ids, reservation, "user_id")?;
        let outcome = self
            .client
            .transact_write_items()
            .transact_items(TransactWriteItem::builder().put(user).build())
            .transact_items(TransactWriteItem::builder().put(user_id).build())
            .send()
            .await;
        let Err(error) = outcome else {
            return Ok(());
        };
        match error.as_service_error().map(failed_conditions).as_deref() {
            Some([true, ..]) => Err(CreateUserError::UsernameTaken),
            Some([_, true]) => Err(CreateUserError::UserIdTaken),
            _ => Err(DynamoDb.failure("TransactWriteItems create user", &error).into()),
        }
    }

    /// Changes what an administrator may change. `None` when nobody has this name.
    pub async fn update_user(
        &self,
        username: &Username,
        update: &UserUpdate,
    ) -> Result<Option<User>, Failure> {
        let mut values = Vec::new();
        if let Some(activated) = update.activated {
            values.push(("activated", boolean(activated)));
            if !activated {
                values.push(("security_stamp", text(random::security_stamp().as_str())));
            }
        }
        if let Some(must_change_password) = update.must_change_password {
            values.push(("must_change_password", boolean(must_change_password)));
        }
        if let Some(addresses) = &update.email_addresses {
            values.push(("email_addresses", address_list(addresses)));
        }
        if let Some(locale) = &update.locale {
            values.push(("locale", text(locale.as_str())));
        }
        if values.is_empty() {
            return self.user(username).await;
        }
        let assignments =
            values.iter().map(|(name, _)| format!("{name} = :{name}")).collect::<Vec<_>>().join(", ");
        let remove_kept = if update.activated == Some(false) { " REMOVE kept_jti" } else { "" };
        let request = values.into_iter().fold(Update::builder(), |request, (name, value)| {
            request.expression_attribute_values(format!(":{name}"), value)
        });
        self.update_once(username, request.update_expression(format!("SET {assignments}{remove_kept}"))).await
    }

    /// Updates the user who has this name, if anybody does, in a transaction of one, for its token: repeated because
    /// its answer got lost, it would bring back a stamp that was replaced meanwhile, and all that was issued under it.
    async fn update_once(&self, username: &Username, update: UpdateBuilder) -> Result<Option<User>, Failure> {
        let update = update
            .table_name(&self.tables.users)
            .key("username", text(username.normalised()))
            .condition_expression("attribute_exists(username)")
            .build()
            .map_err(defect)?;
        let update = TransactWriteItem::builder().update(update).build();
        if self.transact("update user", vec![update]).await? { self.user(username).await } else { Ok(None) }
    }

    /// At most `limit` users, beginning after the one whose name is `after`, and the name to go on from if there may
    /// be more. The order is the table's: users who come or go meanwhile move none of the others.
    pub fn users(
        &self,
        after: Option<&str>,
        limit: i32,
    ) -> impl Future<Output = Result<(Vec<User>, Option<String>), Failure>> {
        self.rows(after, limit)
    }

    /// The same page as [`Self::users`], with the hashes of the passwords.
    pub fn users_with_hashes(
        &self,
        after: Option<&str>,
        limit: i32,
    ) -> impl Future<Output = Result<(Vec<UserWithHash>, Option<String>), Failure>> {
        self.rows(after, limit)
    }

    async fn rows<R: Row>(
        &self,
        after: Option<&str>,
        limit: i32,
    ) -> Result<(Vec<R>, Option<String>), Failure> {
        let start = after.map(|name| HashMap::from([("username".to_owned(), text(name))]));
        let page = self
            .client
            .scan()
            .table_name(&self.tables.users)
            .projection_expression(R::ATTRIBUTES)
            .set_exclusive_start_key(start)
            .limit(limit)
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| DynamoDb.failure("Scan users", &error))?;
        let rows = page.items.unwrap_or_default().into_iter().map(|item| R::from_item(&Item(item)));
        let next = page.last_evaluated_key.map(Item);
        let next = next.map(|key| key.text("username").map(str::to_owned)).transpose()?;
        Ok((rows.collect::<Result<_, _>>()?, next))
    }

    /// Revokes all tokens and sessions of a user. `None` when nobody has this name.
    pub async fn revoke_sessions(&self, username: &Username) -> Result<Option<User>, Failure> {
        let update = Update::builder()
            .update_expression("SET security_stamp = :stamp REMOVE kept_jti")
            .expression_attribute_values(":stamp", text(random::security_stamp().as_str()));
        self.update_once(username, update).await
    }

    /// Deletes a user, with the reservation of the id and the reset code. False when the user is another one than
    /// was read. The sessions count for nothing without their user, and expire.
    pub async fn delete_user(&self, user: &User) -> Result<bool, Failure> {
        let delete =
            |table: &str, key: &str, value: &str| Delete::builder().table_name(table).key(key, text(value));
        let username = user.username.normalised();
        let deletions = [
            delete(&self.tables.users, "username", username)
                .condition_expression("user_id = :user_id")
                .expression_attribute_values(":user_id", text(user.user_id.as_str())),
            delete(&self.tables.user_ids, "user_id", user.user_id.as_str()),
            delete(&self.tables.reset_codes, "username", username),
        ];
        let deletions = deletions.into_iter().map(|deletion| {
            Ok(TransactWriteItem::builder().delete(deletion.build().map_err(defect)?).build())
        });
        self.transact("delete user", deletions.collect::<Result<_, Failure>>()?).await
    }

    /// Notes a sign-in, and replaces an outdated hash. Does nothing when the password was changed or the user
    /// deactivated meanwhile: the sign-in is void then.
    pub async fn record_signin(
        &self,
        user: &User,
        rehashed: Option<&PasswordHash>,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let request = self
            .client
            .update_item()
            .table_name(&self.tables.users)
            .key("username", text(user.username.normalised()))
            .condition_expression("security_stamp = :stamp")
            .expression_attribute_values(":stamp", text(user.security_stamp.as_str()))
            .expression_attribute_values(":now", instant(now));
        let request = match rehashed {
            Some(hash) => request
                .update_expression("SET last_signin_at = :now, password_hash = :hash")
                .expression_attribute_values(":hash", text(hash.expose())),
            None => request.update_expression("SET last_signin_at = :now"),
        };
        match request.send().await {
            Ok(_) => {
                if rehashed.is_some() {
                    metrics::counter!("Rehashes").increment(1);
                }
                Ok(())
            }
            Err(error) if condition_failure(&error).is_some() => Ok(()),
            Err(error) => Err(DynamoDb.failure("UpdateItem users", &error)),
        }
    }

    /// Changes a password, in one transaction. False when the user or the code is not as it was read, in which
    /// case nothing is changed. After an error, it may still change if a call of it is on its way.
    pub async fn change_password(&self, change: PasswordChange<'_>) -> Result<bool, Failure> {
        let username = &change.user.username;
        let user = self.password_update(&change)?;
        let mut items = vec![TransactWriteItem::builder().update(user).build()];
        if let Some(code_id) = change.used_code {
            let code = Update::builder()
                .table_name(&self.tables.reset_codes)
                .key("username", text(username.normalised()))
                .condition_expression("code_id = :code_id AND expires_at > :now")
                .update_expression("REMOVE code_id, code_hash, key_version, expires_at, tries")
                .expression_attribute_values(":code_id", text(code_id.as_str()))
                .expression_attribute_values(":now", instant(change.now))
                .build()
                .map_err(defect)?;
            let failures = Delete::builder()
                .table_name(&self.tables.attempts)
                .key("subject", text(username_subject(username)))
                .build()
                .map_err(defect)?;
            items.push(TransactWriteItem::builder().update(code).build());
            items.push(TransactWriteItem::builder().delete(failures).build());
        }
        if let Some(session) = change.session {
            let session = Put::builder()
                .table_name(&self.tables.sessions)
                .set_item(Some(session.into_item()))
                .build()
                .map_err(defect)?;
            items.push(TransactWriteItem::builder().put(session).build());
        }
        match self.transact("change password", items).await {
            // Perhaps all that failed were the answers. No other change makes this stamp.
            Err(failure) => match self.user(username).await {
                Ok(Some(user)) if user.security_stamp == *change.security_stamp => Ok(true),
                _ => Err(failure),
            },
            changed => changed,
        }
    }

    /// Writes all `items` or none; false when a condition of theirs does not hold. To repeat it because its answer got
    /// lost is harmless: the SDK gives it a token.
    pub(super) async fn transact(&self, name: &str, items: Vec<TransactWriteItem>) -> Result<bool, Failure> {
        match self.client.transact_write_items().set_transact_items(Some(items)).send().await {
            Ok(_) => Ok(true),
            Err(error) if has_failed_condition(&error) => Ok(false),
            Err(error) => Err(DynamoDb.failure(&format!("TransactWriteItems {name}"), &error)),
        }
    }

    fn password_update(&self, change: &PasswordChange<'_>) -> Result<Update, Failure> {
        let mut assignments = "password_hash = :hash, security_stamp = :new_stamp, \
                               must_change_password = :must_change, password_changed_at = :now"
            .to_owned();
        let mut update = Update::builder()
            .table_name(&self.tables.users)
            .key("username", text(change.user.username.normalised()))
            .condition_expression("security_stamp = :stamp")
            .expression_attribute_values(":stamp", text(change.user.security_stamp.as_str()))
            .expression_attribute_values(":hash", text(change.password_hash.expose()))
            .expression_attribute_values(":new_stamp", text(change.security_stamp.as_str()))
            .expression_attribute_values(":must_change", boolean(change.must_change_password))
            .expression_attribute_values(":now", instant(change.now));
        if change.signs_in {
            assignments += ", last_signin_at = :now";
        }
        match change.kept_jti {
            Some(jti) => {
                assignments += ", kept_jti = :jti";
                update = update.expression_attribute_values(":jti", text(jti));
            }
            None => assignments += " REMOVE kept_jti",
        }
        update.update_expression(format!("SET {assignments}")).build().map_err(defect)
    }
}

impl From<Failure> for CreateUserError {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

pub(super) fn defect(error: impl std::fmt::Display) -> Failure {
    Failure::Defect(format!("building a transaction: {error}"))
}

/// Which of a transaction's conditions did not hold, in the order of its items; empty when it failed otherwise.
fn failed_conditions(error: &TransactWriteItemsError) -> Vec<bool> {
    let TransactWriteItemsError::TransactionCanceledException(cancelled) = error else {
        return Vec::new();
    };
    cancelled
        .cancellation_reasons()
        .iter()
        .map(|reason| reason.code() == Some("ConditionalCheckFailed"))
        .collect()
}

/// Whether a transaction was cancelled because a condition did not hold.
fn has_failed_condition<R>(error: &SdkError<TransactWriteItemsError, R>) -> bool {
    error.as_service_error().is_some_and(|error| failed_conditions(error).contains(&true))
}

fn address_list(addresses: &[EmailAddress]) -> AttributeValue {
    AttributeValue::L(addresses.iter().map(|address| text(address.as_str())).collect())
}

fn item(UserWithHash { user, password_hash }: &UserWithHash) -> HashMap<String, AttributeValue> {
    let mut item = HashMap::from([
        ("username".to_owned(), text(user.username.normalised())),
        ("display_username".to_owned(), text(user.username.display())),
        ("user_id".to_owned(), text(user.user_id.as_str())),
        ("security_stamp".to_owned(), text(user.security_stamp.as_str())),
        ("email_addresses".to_owned(), address_list(&user.email_addresses)),
        ("activated".to_owned(), boolean(user.activated)),
        ("must_change_password".to_owned(), boolean(user.must_change_password)),
        ("created_at".to_owned(), instant(user.created_at)),
    ]);
    let optional = [
        ("password_hash", password_hash.as_ref().map(|hash| text(hash.expose()))),
        ("locale", user.locale.as_ref().map(|locale| text(locale.as_str()))),
        ("kept_jti", user.kept_jti.as_deref().map(text)),
        ("password_changed_at", user.password_changed_at.map(instant)),
        ("last_signin_at", user.last_signin_at.map(instant)),
    ];
    item.extend(optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    item
}
