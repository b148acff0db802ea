use super::{Field, Payload, Validator};
use crate::domain::Username;

/// A page of users.
#[derive(Debug)]
pub struct Page {
    /// How many at most.
    pub limit: i32,
    /// The name of the last user before the page.
    pub cursor: Option<String>,
}

/// The most users of one page. DynamoDB ends a page after 1 MiB in any case.
const MAX_LIMIT: u16 = 1000;

/// The users of one page when no limit is given.
const DEFAULT_LIMIT: u16 = 100;

impl Validator {
    /// The `limit` and `cursor` of a request for some of all users.
    pub fn page(&mut self, payload: &mut Payload) -> Option<Page> {
        let limit = match &payload.field("limit") {
            Field::Absent => Some(DEFAULT_LIMIT),
            Field::Integer(limit) => {
                u16::try_from(*limit).ok().filter(|limit| (1..=MAX_LIMIT).contains(limit))
            }
            _ => None,
        };
        let limit = limit.or_else(|| self.refuse("limit", &format!("must be between 1 and {MAX_LIMIT}")));
        let cursor = match payload.field("cursor") {
            Field::Absent => Some(None),
            // A cursor is the last username of its page; anything else was never handed out.
            cursor => match self.text("cursor", cursor).map(|text| (Username::parse(&text), text)) {
                Some((Ok(username), text)) if username.normalised() == text => Some(Some(text)),
                Some(_) => self.refuse("cursor", "is not one of a previous answer"),
                None => None,
            },
        };
        Some(Page { limit: i32::from(limit?), cursor: cursor? })
    }
}
