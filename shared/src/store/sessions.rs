use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;

use super::Store;
use super::item::{instant, text, ttl};
use crate::aws;
use crate::domain::{SecurityStamp, SessionId, SessionInformation, Timestamp, UserId, Username, session_end};
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
            .map_err(|error| aws::failure("PutItem sessions", &error))
    }
}
