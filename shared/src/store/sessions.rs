use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};
use futures_util::{StreamExt, stream};

use super::Store;
use super::item::{Item, bytes, condition_failure, instant, number, text, ttl};
use crate::aws::Dependency::DynamoDb;
use crate::domain::{
    LiveSessions, MAX_SESSIONS, SecurityStamp, SessionId, SessionInformation, SessionKey, SessionOwner,
    SessionToken, Timestamp, User, Username, idle_session_end,
};
use crate::failure::{Failure, MAX_CONFLICT_RETRIES};
use crate::{random, telemetry};

/// From how many sessions on the rows are counted when one more is opened. It is less than [`MAX_SESSIONS`], because
/// sign-ins overtake each other: one that is counted early and writes its session late is not seen by those that
/// count meanwhile, and has to count by itself.
const COUNTED_SESSIONS: u32 = 50;

/// How many sessions of a user who is gone to delete at the same time.
const DELETIONS_AT_ONCE: usize = 10;

/// For how long the row of a session that was ended stays: longer than any request lasts.
const ENDED_ROW_LIFETIME: Duration = Duration::from_hours(1);

/// A session that begins.
#[derive(Debug)]
pub struct NewSession<'a> {
    /// Its token, which names its owner.
    pub token: &'a SessionToken,
    /// The key of its user in the users table.
    pub username: &'a Username,
    /// The user's stamp. The session ends when it is replaced.
    pub security_stamp: &'a SecurityStamp,
    /// The client's information about itself.
    pub information: Option<&'a SessionInformation>,
    /// When it begins.
    pub created_at: Timestamp,
}

/// A session that has not ended.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// The client's information about itself.
    pub information: Option<String>,
    /// When it began.
    pub created_at: Timestamp,
    /// When its token was last shown.
    pub last_used_at: Timestamp,
}

/// A session as stored, live or not.
struct Row {
    session: Session,
    is_live: bool,
}

/// The condition that a session of a user is live.
const LIVE: &str = "stamp_hash = :stamp_hash AND created_at > :created_after AND last_used_at > :used_after";

impl NewSession<'_> {
    pub(super) fn to_item(&self) -> HashMap<String, AttributeValue> {
        let mut item = key(self.token.key());
        item.extend([
            ("token_hash".to_owned(), bytes(self.token.hash().as_bytes())),
            ("username".to_owned(), text(self.username.normalised())),
            ("stamp_hash".to_owned(), bytes(&self.security_stamp.hash())),
            ("created_at".to_owned(), instant(self.created_at)),
            ("last_used_at".to_owned(), instant(self.created_at)),
            ("ttl".to_owned(), ttl(idle_session_end(self.created_at))),
        ]);
        if let Some(information) = self.information {
            item.insert("information".to_owned(), text(information.as_str()));
        }
        item
    }
}

impl Store {
    /// Opens a session. False when another session of the user has its id: another token has to be drawn.
    pub async fn create_session(&self, session: NewSession<'_>) -> Result<bool, Failure> {
        let token = session.token;
        let put = self
            .client
            .put_item()
            .table_name(&self.tables.sessions)
            .set_item(Some(session.to_item()))
            .condition_expression("attribute_not_exists(session_id)")
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        let Err(error) = put else {
            return Ok(true);
        };
        match error.as_service_error() {
            Some(PutItemError::ConditionalCheckFailedException(failed)) => {
                // It may be this session, after a lost response. If it has ended since, it stays so.
                let present = Item(failed.item.clone().unwrap_or_default());
                Ok(present.bytes("token_hash")? == token.hash().as_bytes())
            }
            _ => Err(DynamoDb.record_failure("PutItem sessions", &error)),
        }
    }

    /// Notes that a session's token was used, and the client's new information about itself, if any. Returns the
    /// user, and `None` if the session is unknown or has ended. A session that its user's stamp has ended is noted as
    /// used all the same, which brings it no further.
    pub async fn use_session(
        &self,
        token: &SessionToken,
        information: Option<&SessionInformation>,
        now: Timestamp,
    ) -> Result<Option<User>, Failure> {
        let live = LiveSessions::at(now);
        let request = self
            .client
            .update_item()
            .table_name(&self.tables.sessions)
            .set_key(Some(key(token.key())))
            .condition_expression(
                "token_hash = :token_hash AND created_at > :created_after AND last_used_at > :used_after",
            )
            .expression_attribute_names("#ttl", "ttl")
            .expression_attribute_values(":token_hash", bytes(token.hash().as_bytes()))
            .expression_attribute_values(":created_after", instant(live.created_after))
            .expression_attribute_values(":used_after", instant(live.used_after))
            .expression_attribute_values(":now", instant(now))
            .expression_attribute_values(":ttl", ttl(idle_session_end(now)))
            .return_values(ReturnValue::AllNew);
        let assignments = "SET last_used_at = :now, #ttl = :ttl";
        let request = match information {
            Some(information) => request
                .update_expression(format!("{assignments}, information = :information"))
                .expression_attribute_values(":information", text(information.as_str())),
            None => request.update_expression(assignments),
        };
        let session = match request.send().await {
            Ok(output) => Item(output.attributes.unwrap_or_default()),
            Err(error) if condition_failure(&error).is_some() => return Ok(None),
            Err(error) => return Err(DynamoDb.record_failure("UpdateItem sessions", &error)),
        };
        let user = self.user_by_key(session.text("username")?).await?;
        let stamp_hash = session.bytes("stamp_hash")?;
        Ok(user.filter(|user| user.security_stamp.hash() == stamp_hash))
    }

    /// Returns whether a session has ended neither by time nor by itself. Its user's stamp is not looked at.
    pub async fn session_is_live(&self, session: &SessionKey, now: Timestamp) -> Result<bool, Failure> {
        let output = self
            .client
            .get_item()
            .table_name(&self.tables.sessions)
            .set_key(Some(key(session)))
            .projection_expression("created_at, last_used_at")
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| DynamoDb.record_failure("GetItem sessions", &error))?;
        let Some(item) = output.item.map(Item) else {
            return Ok(false);
        };
        Ok(LiveSessions::at(now).include(item.instant("created_at")?, item.instant("last_used_at")?))
    }

    /// The live sessions of `user`, oldest first.
    pub async fn sessions(&self, user: &User, now: Timestamp) -> Result<Vec<Session>, Failure> {
        let rows = self.session_rows(user, now).await?;
        let mut sessions: Vec<Session> =
            rows.into_iter().filter(|row| row.is_live).map(|row| row.session).collect();
        sessions.sort_by_key(|session| (session.created_at, session.id));
        Ok(sessions)
    }

    /// Ends a session of `user` by its id. False when there is no live one.
    pub async fn end_session(&self, user: &User, id: SessionId, now: Timestamp) -> Result<bool, Failure> {
        self.end(user, id, None, now).await
    }

    /// Ends the session of `user` that has this token. False when there is no live one.
    pub async fn log_out(&self, user: &User, token: &SessionToken, now: Timestamp) -> Result<bool, Failure> {
        self.end(user, token.key().id, Some(token), now).await
    }

    /// Leaves a row that has ended, with nothing of its client, for as long as a late retry of the session's creation
    /// could bring it back.
    async fn end(
        &self,
        user: &User,
        id: SessionId,
        token: Option<&SessionToken>,
        now: Timestamp,
    ) -> Result<bool, Failure> {
        let key = key(&SessionKey { owner: user.session_owner.clone(), id });
        let live = LiveSessions::at(now);
        let request = self
            .client
            .update_item()
            .table_name(&self.tables.sessions)
            .set_key(Some(key))
            .update_expression(
                "SET created_at = :never, ended_by = :request, #ttl = :ttl REMOVE username, information",
            )
            .expression_attribute_names("#ttl", "ttl")
            .expression_attribute_values(":never", number(0))
            // Recognises a retry of this request after a lost response.
            .expression_attribute_values(":request", text(random::unique()))
            .expression_attribute_values(":ttl", ttl(now + ENDED_ROW_LIFETIME))
            .expression_attribute_values(":stamp_hash", bytes(&user.security_stamp.hash()))
            .expression_attribute_values(":created_after", instant(live.created_after))
            .expression_attribute_values(":used_after", instant(live.used_after));
        let request = match token {
            Some(token) => request
                .condition_expression(format!("(token_hash = :token_hash AND {LIVE}) OR ended_by = :request"))
                .expression_attribute_values(":token_hash", bytes(token.hash().as_bytes())),
            None => request.condition_expression(format!("({LIVE}) OR ended_by = :request")),
        };
        match request.send().await {
            Ok(_) => Ok(true),
            Err(error) if condition_failure(&error).is_some() => Ok(false),
            Err(error) => Err(DynamoDb.record_failure("UpdateItem sessions", &error)),
        }
    }

    /// Ends the least recently used sessions of `user` beyond a hundred, after the one was written that was
    /// counted as number `opened`. The user's count is an upper bound of the rows: it does not go down when sessions
    /// end, and is put right here. Nothing is read while it is small.
    pub async fn limit_sessions(&self, user: &User, opened: u32, now: Timestamp) -> Result<(), Failure> {
        if opened <= COUNTED_SESSIONS {
            return Ok(());
        }
        for _ in 0..MAX_CONFLICT_RETRIES {
            let mut rows = self.session_rows(user, now).await?;
            // The dead ones go first. All sign-ins of the moment choose the same.
            rows.sort_by_key(|row| (row.is_live, row.session.last_used_at, row.session.id));
            let surplus = rows.len().saturating_sub(MAX_SESSIONS);
            let mut gone = 0;
            for Row { session, .. } in rows.iter().take(surplus) {
                gone += usize::from(self.delete_unused_since(user, session).await?);
            }
            if gone == surplus {
                return self.put_count_right(user, opened, rows.len() - surplus).await;
            }
        }
        Ok(())
    }

    /// Deletes a session's row. False when the session was used since it was read.
    async fn delete_unused_since(&self, user: &User, session: &Session) -> Result<bool, Failure> {
        let deleted = self
            .client
            .delete_item()
            .table_name(&self.tables.sessions)
            .set_key(Some(key(&SessionKey { owner: user.session_owner.clone(), id: session.id })))
            .condition_expression("attribute_not_exists(session_id) OR last_used_at = :last_used_at")
            .expression_attribute_values(":last_used_at", instant(session.last_used_at))
            .send()
            .await;
        match deleted {
            Ok(_) => Ok(true),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(DeleteItemError::is_conditional_check_failed_exception) =>
            {
                Ok(false)
            }
            Err(error) => Err(DynamoDb.record_failure("DeleteItem sessions", &error)),
        }
    }

    /// Replaces the count of a user's sessions, unless more were opened since: the last one to be opened does it.
    async fn put_count_right(&self, user: &User, opened: u32, rows: usize) -> Result<(), Failure> {
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        if rows == opened {
            return Ok(());
        }
        let request = self
            .client
            .update_item()
            .table_name(&self.tables.users)
            .key("username", text(user.username.normalised()))
            .condition_expression("session_owner = :owner AND sessions_opened = :opened")
            .update_expression("SET sessions_opened = :rows")
            .expression_attribute_values(":owner", text(user.session_owner.as_str()))
            .expression_attribute_values(":opened", number(opened))
            .expression_attribute_values(":rows", number(rows));
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) if condition_failure(&error).is_some() => Ok(()),
            Err(error) => Err(DynamoDb.record_failure("UpdateItem users", &error)),
        }
    }

    /// Deletes all that is stored of an owner's sessions, whose user was deleted or renamed. If that fails, it is
    /// logged: they count for nothing any more, and expire.
    pub(super) async fn delete_sessions(&self, owner: &SessionOwner) {
        if let Err(failure) = self.try_to_delete_sessions(owner).await {
            telemetry::warn("sessions of a deleted or renamed user not deleted", failure);
        }
    }

    async fn try_to_delete_sessions(&self, owner: &SessionOwner) -> Result<(), Failure> {
        let rows = self.session_items(owner, "session_owner, session_id").await?;
        let deletions = rows.into_iter().map(|row| {
            self.client.delete_item().table_name(&self.tables.sessions).set_key(Some(row.0)).send()
        });
        let mut deleted = stream::iter(deletions).buffer_unordered(DELETIONS_AT_ONCE);
        while let Some(outcome) = deleted.next().await {
            outcome.map_err(|error| DynamoDb.record_failure("DeleteItem sessions", &error))?;
        }
        Ok(())
    }

    async fn session_rows(&self, user: &User, now: Timestamp) -> Result<Vec<Row>, Failure> {
        let attributes = "session_id, stamp_hash, information, created_at, last_used_at";
        let items = self.session_items(&user.session_owner, attributes).await?;
        let (live, stamp_hash) = (LiveSessions::at(now), user.security_stamp.hash());
        let row = |item: &Item| {
            let session = session(item)?;
            let is_live = live.include(session.created_at, session.last_used_at)
                && item.bytes("stamp_hash")? == stamp_hash;
            Ok(Row { session, is_live })
        };
        items.iter().map(row).collect()
    }

    async fn session_items(&self, owner: &SessionOwner, attributes: &str) -> Result<Vec<Item>, Failure> {
        let mut pages = self
            .client
            .query()
            .table_name(&self.tables.sessions)
            .key_condition_expression("session_owner = :owner")
            .expression_attribute_values(":owner", text(owner.as_str()))
            .projection_expression(attributes)
            .consistent_read(true)
            .into_paginator()
            .items()
            .send();
        let mut items = Vec::new();
        while let Some(item) = pages.next().await {
            items.push(Item(item.map_err(|error| DynamoDb.record_failure("Query sessions", &error))?));
        }
        Ok(items)
    }
}

fn key(session: &SessionKey) -> HashMap<String, AttributeValue> {
    HashMap::from([
        ("session_owner".to_owned(), text(session.owner.as_str())),
        ("session_id".to_owned(), number(session.id.as_number())),
    ])
}

fn session(item: &Item) -> Result<Session, Failure> {
    Ok(Session {
        id: SessionId::from_number(item.count("session_id")?)
            .ok_or_else(|| Item::unreadable("session_id"))?,
        information: item.optional_text("information").map(str::to_owned),
        created_at: item.instant("created_at")?,
        last_used_at: item.instant("last_used_at")?,
    })
}
