use std::collections::HashMap;

use aws_sdk_dynamodb::types::builders::UpdateBuilder;
use aws_sdk_dynamodb::types::{Delete, Put, TransactWriteItem, Update};

use super::Store;
use super::item::{Item, boolean, condition_failure, name_hash, number, text};
use super::reset_codes::{CODE_KEY, code_key};
use super::transaction::{defect, failed_conditions};
use super::user_row::{Row, address_list, new_item};
use crate::aws::Dependency::DynamoDb;
use crate::domain::{EmailAddress, Locale, PasswordHash, User, UserId, UserWithHash, Username};
use crate::failure::Failure;
use crate::{random, telemetry};

/// The reason why a user was not created.
#[derive(Debug)]
pub enum CreateUserError {
    /// Another user has the username.
    UsernameTaken,
    /// Another user has the user id.
    UserIdTaken,
    /// The user could not be created.
    Failure(Failure),
}

/// A change of a user by an administrator. `None` leaves an attribute as it is.
#[derive(Debug, Default)]
pub struct UserUpdate {
    /// True if the user may sign in. Deactivating revokes all tokens, all sessions and the reset code.
    pub activated: Option<bool>,
    /// True if the user has to change the password at the next sign-in.
    pub must_change_password: Option<bool>,
    /// The addresses for codes and notices. Other addresses than before revoke the reset code.
    pub email_addresses: Option<Vec<EmailAddress>>,
    /// The language to write in; `Some(None)` removes it.
    pub locale: Option<Option<Locale>>,
}

/// The reason why a user was not renamed.
#[derive(Debug)]
pub enum RenameUserError {
    /// No user has the old name.
    UnknownUsername,
    /// Another user has the new name.
    UsernameTaken,
    /// The user changed between the reading and the writing.
    Changed,
    /// A dependency failed.
    Failure(Failure),
}

impl Store {
    /// The user who has this name.
    pub fn user(&self, username: &Username) -> impl Future<Output = Result<Option<User>, Failure>> {
        self.row(username.normalised())
    }

    /// The user who has this id.
    pub async fn user_by_id(&self, user_id: &UserId) -> Result<Option<User>, Failure> {
        let Some(username) = self.username_of(user_id).await? else {
            return Ok(None);
        };
        let user = self.user_by_key(&username).await?;
        // Between the two reads the user could have been deleted and the name given to another user.
        Ok(user.filter(|user| user.user_id == *user_id))
    }

    /// The name, as the key of the users table, of the user who has this id.
    pub(super) async fn username_of(&self, user_id: &UserId) -> Result<Option<String>, Failure> {
        let reservation = self
            .client
            .get_item()
            .table_name(&self.tables.user_ids)
            .key("user_id", text(user_id.as_str()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| DynamoDb.record_failure("GetItem user ids", &error))?;
        reservation.item.map(|item| Item(item).text("username").map(str::to_owned)).transpose()
    }

    pub(super) fn user_by_key(
        &self,
        normalised_username: &str,
    ) -> impl Future<Output = Result<Option<User>, Failure>> {
        self.row(normalised_username)
    }

    async fn row<R: Row>(&self, normalised_username: &str) -> Result<Option<R>, Failure> {
        let item = self.item::<R>(normalised_username).await?;
        item.map(|item| R::from_item(&item)).transpose()
    }

    async fn item<R: Row>(&self, normalised_username: &str) -> Result<Option<Item>, Failure> {
        let output = self
            .client
            .get_item()
            .table_name(&self.tables.users)
            .key("username", text(normalised_username))
            .projection_expression(R::ATTRIBUTES)
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| DynamoDb.record_failure("GetItem users", &error))?;
        Ok(output.item.map(Item))
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
        let user = put(&self.tables.users, new_item(user), "username")?;
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
            _ => Err(DynamoDb.record_failure("TransactWriteItems create user", &error).into()),
        }
    }

    /// Changes the attributes that an administrator may change, and returns the user as changed. `None` if the user is
    /// not as read any more; nothing is changed then. Concurrent changes by other calls, such as the last sign-in, are
    /// not in the returned user.
    pub async fn update_user(&self, user: &User, update: &UserUpdate) -> Result<Option<User>, Failure> {
        let mut changed = user.clone();
        let (mut values, mut removals) = (Vec::new(), Vec::new());
        // Replaced by every change of the addresses, so that they too are as read where it is.
        let (mut recovery_stamp_is_read, mut ends_code) = (false, false);
        if let Some(activated) = update.activated {
            changed.activated = activated;
            values.push(("activated", boolean(activated)));
            if !activated {
                changed.security_stamp = random::security_stamp();
                changed.kept_jti = None;
                values.push(("security_stamp", text(changed.security_stamp.as_str())));
                removals.push("kept_jti");
                ends_code = true;
            }
        }
        if let Some(must_change_password) = update.must_change_password {
            changed.must_change_password = must_change_password;
            values.push(("must_change_password", boolean(must_change_password)));
        }
        if let Some(addresses) = &update.email_addresses {
            recovery_stamp_is_read = true;
            ends_code |= !same_addresses(addresses, &user.email_addresses);
            changed.email_addresses.clone_from(addresses);
            values.push(("email_addresses", address_list(addresses)));
        }
        if let Some(locale) = &update.locale {
            changed.locale.clone_from(locale);
            match locale {
                Some(locale) => values.push(("locale", text(locale.as_str()))),
                None => removals.push("locale"),
            }
        }
        if ends_code {
            changed.recovery_stamp = random::recovery_stamp();
            values.push(("recovery_stamp", text(changed.recovery_stamp.as_str())));
        }
        let assignments: Vec<_> = values.iter().map(|(name, _)| format!("{name} = :{name}")).collect();
        let clauses = [("SET", assignments.join(", ")), ("REMOVE", removals.join(", "))];
        let clauses = clauses.iter().filter(|(_, changes)| !changes.is_empty());
        let expression =
            clauses.map(|(verb, changes)| format!("{verb} {changes}")).collect::<Vec<_>>().join(" ");
        if expression.is_empty() {
            return Ok(Some(changed));
        }
        let mut request = values.into_iter().fold(self.update_of(user), |request, (name, value)| {
            request.expression_attribute_values(format!(":{name}"), value)
        });
        if recovery_stamp_is_read {
            request = request
                .condition_expression("user_id = :user_id AND recovery_stamp = :read_recovery_stamp")
                .expression_attribute_values(":read_recovery_stamp", text(user.recovery_stamp.as_str()));
        }
        let request = request.update_expression(expression);
        let updated = self.transact_one("update user", request).await?;
        Ok(updated.then_some(changed))
    }

    /// Revokes all tokens, all sessions and the reset code of a user. False when the user is another one than was read.
    pub async fn revoke_sessions(&self, user: &User) -> Result<bool, Failure> {
        let update = self
            .update_of(user)
            .update_expression(
                "SET security_stamp = :security_stamp, recovery_stamp = :recovery_stamp REMOVE kept_jti",
            )
            .expression_attribute_values(":security_stamp", text(random::security_stamp().as_str()))
            .expression_attribute_values(":recovery_stamp", text(random::recovery_stamp().as_str()));
        self.transact_one("revoke sessions", update).await
    }

    /// An update of the user who was read, and of no later one of the same name; its expression is still to be given.
    fn update_of(&self, user: &User) -> UpdateBuilder {
        Update::builder()
            .table_name(&self.tables.users)
            .key("username", text(user.username.normalised()))
            .condition_expression("user_id = :user_id")
            .expression_attribute_values(":user_id", text(user.user_id.as_str()))
    }

    /// Makes one update in a transaction, for its token: an update that is repeated because its response was lost would
    /// bring back a stamp that was replaced meanwhile, and all that was issued under it.
    async fn transact_one(&self, name: &str, update: UpdateBuilder) -> Result<bool, Failure> {
        let update = TransactWriteItem::builder().update(update.build().map_err(defect)?).build();
        self.transact(name, vec![update]).await
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
            .map_err(|error| DynamoDb.record_failure("Scan users", &error))?;
        let rows = page.items.unwrap_or_default().into_iter().map(|item| R::from_item(&Item(item)));
        let next = page.last_evaluated_key.map(Item);
        let next = next.map(|key| key.text("username").map(str::to_owned)).transpose()?;
        Ok((rows.collect::<Result<_, _>>()?, next))
    }

    /// Deletes a user, with the reservation of the id and the reset code. False when the user is another one than
    /// was read. The sessions, which count for nothing without their user, are deleted afterwards.
    pub async fn delete_user(&self, user: &User) -> Result<bool, Failure> {
        let delete =
            |table: &str, key: &str, value: &str| Delete::builder().table_name(table).key(key, text(value));
        let username = user.username.normalised();
        let deletions = [
            delete(&self.tables.users, "username", username)
                .condition_expression("user_id = :user_id")
                .expression_attribute_values(":user_id", text(user.user_id.as_str())),
            delete(&self.tables.user_ids, "user_id", user.user_id.as_str()),
            delete(&self.tables.reset_codes, CODE_KEY, &name_hash(username)),
        ];
        let deletions = deletions.into_iter().map(|deletion| {
            Ok(TransactWriteItem::builder().delete(deletion.build().map_err(defect)?).build())
        });
        let deleted = self.transact("delete user", deletions.collect::<Result<_, Failure>>()?).await?;
        if deleted {
            self.delete_sessions(&user.session_owner).await;
        }
        Ok(deleted)
    }

    /// Gives a user another name, in one transaction, and keeps everything else. It revokes all tokens, all sessions
    /// and the reset code. The name has fresh budgets. A change of the form for display alone is possible.
    pub async fn rename_user(
        &self,
        username: &Username,
        new_username: &Username,
    ) -> Result<User, RenameUserError> {
        let Some(read) = self.item::<UserWithHash>(username.normalised()).await? else {
            return Err(RenameUserError::UnknownUsername);
        };
        let old = User::from_item(&read)?;
        let old_owner = old.session_owner.clone();
        let user = User {
            username: new_username.clone(),
            security_stamp: random::security_stamp(),
            recovery_stamp: random::recovery_stamp(),
            session_owner: random::session_owner(),
            kept_jti: None,
            ..old
        };
        let (old_key, new_key) = (username.normalised(), new_username.normalised());
        let mut renamed = read.0.clone();
        renamed.remove("kept_jti");
        renamed.extend([
            ("username".to_owned(), text(new_key)),
            ("display_username".to_owned(), text(new_username.display())),
            ("security_stamp".to_owned(), text(user.security_stamp.as_str())),
            ("recovery_stamp".to_owned(), text(user.recovery_stamp.as_str())),
            ("session_owner".to_owned(), text(user.session_owner.as_str())),
            ("sessions_opened".to_owned(), number(0)),
        ]);
        // Without this condition, a change made meanwhile would be undone.
        let unchanged = UserWithHash::ATTRIBUTES.split(", ").map(|name| {
            let value = read.0.get(name).map(|_| format!("{name} = :{name}"));
            value.unwrap_or_else(|| format!("attribute_not_exists({name})"))
        });
        let unchanged = unchanged.collect::<Vec<_>>().join(" AND ");
        let values = Some(read.0.into_iter().map(|(name, value)| (format!(":{name}"), value)).collect());
        let put = Put::builder().table_name(&self.tables.users).set_item(Some(renamed));
        let delete_code = |key: &str| {
            Delete::builder().table_name(&self.tables.reset_codes).key(CODE_KEY, code_key(key)).build()
        };
        let (put, delete, reservation) = if old_key == new_key {
            (put.condition_expression(unchanged).set_expression_attribute_values(values), None, None)
        } else {
            let delete = Delete::builder()
                .table_name(&self.tables.users)
                .key("username", text(old_key))
                .condition_expression(unchanged)
                .set_expression_attribute_values(values);
            let reservation = Put::builder()
                .table_name(&self.tables.user_ids)
                .item("user_id", text(user.user_id.as_str()))
                .item("username", text(new_key))
                .condition_expression("username = :username")
                .expression_attribute_values(":username", text(old_key));
            (put.condition_expression("attribute_not_exists(username)"), Some(delete), Some(reservation))
        };
        let mut items = Vec::new();
        if let Some(delete) = delete {
            items.push(TransactWriteItem::builder().delete(delete.build().map_err(defect)?).build());
            items.push(TransactWriteItem::builder().delete(delete_code(new_key).map_err(defect)?).build());
        }
        for put in [Some(put), reservation].into_iter().flatten() {
            items.push(TransactWriteItem::builder().put(put.build().map_err(defect)?).build());
        }
        items.push(TransactWriteItem::builder().delete(delete_code(old_key).map_err(defect)?).build());
        let is_move = old_key != new_key;
        let Err(error) = self.client.transact_write_items().set_transact_items(Some(items)).send().await
        else {
            self.delete_sessions(&old_owner).await;
            return Ok(user);
        };
        match error.as_service_error().map(failed_conditions).as_deref() {
            Some([false, _, true, ..]) if is_move => Err(RenameUserError::UsernameTaken),
            Some(failed) if failed.contains(&true) => Err(RenameUserError::Changed),
            _ => Err(DynamoDb.record_failure("TransactWriteItems rename user", &error).into()),
        }
    }

    /// Replaces an outdated hash of the password. Does nothing if the password was changed or the user deactivated in
    /// the meantime.
    pub async fn replace_hash(&self, user: &User, hash: &PasswordHash) -> Result<(), Failure> {
        let replaced = self
            .client
            .update_item()
            .table_name(&self.tables.users)
            .key("username", text(user.username.normalised()))
            .condition_expression("security_stamp = :stamp")
            .update_expression("SET password_hash = :hash")
            .expression_attribute_values(":stamp", text(user.security_stamp.as_str()))
            .expression_attribute_values(":hash", text(hash.expose()))
            .send()
            .await;
        match replaced {
            Ok(_) => {
                telemetry::rehashed();
                Ok(())
            }
            Err(error) if condition_failure(&error).is_some() => Ok(()),
            Err(error) => Err(DynamoDb.record_failure("UpdateItem users", &error)),
        }
    }
}

impl From<Failure> for RenameUserError {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<Failure> for CreateUserError {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// Returns whether two lists have the same addresses, in any order.
fn same_addresses(some: &[EmailAddress], others: &[EmailAddress]) -> bool {
    some.iter().all(|address| others.contains(address)) && others.iter().all(|address| some.contains(address))
}
