use std::collections::HashMap;

use aws_sdk_dynamodb::types::{AttributeValue, Delete, TransactWriteItem};

use super::Store;
use super::item::{Item, condition_failure, instant, text, ttl};
use super::users::defect;
use crate::aws::Dependency::DynamoDb;
use crate::domain::{
    SecurityStamp, SessionId, SessionInformation, Timestamp, User, UserId, Username, session_end,
};
use crate::error::Failure;

/// A session that begins.
#[derive(Debug)]
pub struct NewSession<'a> {
    /// The hash of its token.
    pub session_id: SessionId,
    /// Whose it is.
    pub user_id: &'a UserId,
    /// Whose it is, as the key of the users table.
    pub username: &'a Username,
    /// The user's stamp; the session ends when it is replaced.
    pub security_stamp: &'a SecurityStamp,
    /// What the client says about itself.
    pub information: Option<&'a SessionInformation>,
    /// When it begins.
    pub created_at: Timestamp,
}

/// A session that has not ended.
#[derive(Clone, Debug)]
pub struct Session {
    /// The hash of its token.
    pub session_id: SessionId,
    /// What the client says about itself.
    pub information: Option<String>,
    /// When it began.
    pub created_at: Timestamp,
    /// When its token was last shown.
    pub last_used_at: Timestamp,
}

/// That a session has not ended: neither by time, nor by what revokes all of a user's sessions.
const LIVE: &str = "security_stamp = :stamp AND expires_at > :now";

impl NewSession<'_> {
    pub(super) fn into_item(self) -> HashMap<String, AttributeValue> {
        let ends_at = session_end(self.created_at, self.created_at);
        let mut item = HashMap::from([
            ("session_id".to_owned(), text(self.session_id.as_str())),
            ("user_id".to_owned(), text(self.user_id.as_str())),
            ("username".to_owned(), text(self.username.normalised())),
            ("security_stamp".to_owned(), text(self.security_stamp.as_str())),
            ("created_at".to_owned(), instant(self.created_at)),
            ("last_used_at".to_owned(), instant(self.created_at)),
            ("expires_at".to_owned(), instant(ends_at)),
            ("ttl".to_owned(), ttl(ends_at)),
        ]);
        if let Some(information) = self.information {
            item.insert("information".to_owned(), text(information.as_str()));
        }
        item
    }
}

impl Store {
    /// Keeps a new session.
    pub async fn create_session(&self, session: NewSession<'_>) -> Result<(), Failure> {
        self.client
            .put_item()
            .table_name(&self.tables.sessions)
            .set_item(Some(session.into_item()))
            .send()
            .await
            .map(drop)
            .map_err(|error| DynamoDb.failure("PutItem sessions", &error))
    }

    /// The session with this id and its user, if it has not ended.
    pub async fn session(
        &self,
        session_id: &SessionId,
        now: Timestamp,
    ) -> Result<Option<(Session, User)>, Failure> {
        let output = self
            .client
            .get_item()
            .table_name(&self.tables.sessions)
            .key("session_id", text(session_id.as_str()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| DynamoDb.failure("GetItem sessions", &error))?;
        let Some(item) = output.item.map(Item) else {
            return Ok(None);
        };
        if item.instant("expires_at")? <= now {
            return Ok(None);
        }
        let Some(user) = self.user_by_key(item.text("username")?).await? else {
            return Ok(None);
        };
        let live = item.text("security_stamp")? == user.security_stamp.as_str();
        Ok(live.then_some((session(&item)?, user)))
    }

    /// Notes that the token of a session was shown, and what its client now says about itself, if anything. False
    /// when the session ended meanwhile.
    pub async fn use_session(
        &self,
        session: &Session,
        security_stamp: &SecurityStamp,
        information: Option<&SessionInformation>,
        now: Timestamp,
    ) -> Result<bool, Failure> {
        let ends_at = session_end(session.created_at, now);
        let request = self
            .client
            .update_item()
            .table_name(&self.tables.sessions)
            .key("session_id", text(session.session_id.as_str()))
            .condition_expression(LIVE)
            .expression_attribute_names("#ttl", "ttl")
            .expression_attribute_values(":stamp", text(security_stamp.as_str()))
            .expression_attribute_values(":now", instant(now))
            .expression_attribute_values(":ends_at", instant(ends_at))
            .expression_attribute_values(":ttl", ttl(ends_at));
        let used = "SET last_used_at = :now, expires_at = :ends_at, #ttl = :ttl";
        let request = match information {
            Some(information) => request
                .update_expression(format!("{used}, information = :information"))
                .expression_attribute_values(":information", text(information.as_str())),
            None => request.update_expression(used),
        };
        match request.send().await {
            Ok(_) => Ok(true),
            Err(error) if condition_failure(&error).is_some() => Ok(false),
            Err(error) => Err(DynamoDb.failure("UpdateItem sessions", &error)),
        }
    }

    /// The sessions of `user` that have not ended, oldest first.
    pub async fn sessions(&self, user: &User, now: Timestamp) -> Result<Vec<Session>, Failure> {
        let mut pages = self
            .client
            .query()
            .table_name(&self.tables.sessions)
            .index_name("by_user")
            .key_condition_expression("user_id = :user_id")
            .filter_expression(LIVE)
            .expression_attribute_values(":user_id", text(user.user_id.as_str()))
            .expression_attribute_values(":stamp", text(user.security_stamp.as_str()))
            .expression_attribute_values(":now", instant(now))
            .into_paginator()
            .items()
            .send();
        let mut sessions = Vec::new();
        while let Some(item) = pages.next().await {
            let item = Item(item.map_err(|error| DynamoDb.failure("Query sessions", &error))?);
            sessions.push(session(&item)?);
        }
        Ok(sessions)
    }

    /// Ends a session of `user`. False when there is none with this id that has not ended.
    pub async fn delete_session(
        &self,
        session_id: &SessionId,
        user: &User,
        now: Timestamp,
    ) -> Result<bool, Failure> {
        let deletion = Delete::builder()
            .table_name(&self.tables.sessions)
            .key("session_id", text(session_id.as_str()))
            .condition_expression(format!("user_id = :user_id AND {LIVE}"))
            .expression_attribute_values(":user_id", text(user.user_id.as_str()))
            .expression_attribute_values(":stamp", text(user.security_stamp.as_str()))
            .expression_attribute_values(":now", instant(now))
            .build()
            .map_err(defect)?;
        // A transaction of one, for its token: repeated because its answer got lost, it still finds the session.
        let deletion = TransactWriteItem::builder().delete(deletion).build();
        self.transact("delete session", vec![deletion]).await
    }
}

fn session(item: &Item) -> Result<Session, Failure> {
    Ok(Session {
        session_id: SessionId::parse(item.text("session_id")?)
            .ok_or_else(|| Item::unreadable("session_id"))?,
        information: item.optional_text("information").map(str::to_owned),
        created_at: item.instant("created_at")?,
        last_used_at: item.instant("last_used_at")?,
    })
}
