use std::collections::HashMap;

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::domain::Timestamp;
use crate::failure::Failure;

/// An item's attributes, read by name and type. One that is missing or of another type is a defect: only this
/// service writes these tables.
pub(super) struct Item(pub(super) HashMap<String, AttributeValue>);

impl Item {
    pub(super) fn text(&self, name: &str) -> Result<&str, Failure> {
        self.read(name, |value| value.as_s().ok().map(String::as_str))
    }

    pub(super) fn optional_text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_s().ok().map(String::as_str)
    }

    pub(super) fn boolean(&self, name: &str) -> Result<bool, Failure> {
        self.read(name, |value| value.as_bool().ok().copied())
    }

    pub(super) fn bytes(&self, name: &str) -> Result<&[u8], Failure> {
        self.read(name, |value| value.as_b().ok().map(AsRef::as_ref))
    }

    pub(super) fn list(&self, name: &str) -> Result<&[AttributeValue], Failure> {
        self.read(name, |value| value.as_l().ok().map(Vec::as_slice))
    }

    /// The texts of a list; none if the attribute is missing.
    pub(super) fn optional_texts(&self, name: &str) -> Result<Vec<String>, Failure> {
        if !self.0.contains_key(name) {
            return Ok(Vec::new());
        }
        let texts = self.list(name)?.iter();
        texts.map(|text| text.as_s().cloned().map_err(|_| Self::unreadable(name))).collect()
    }

    pub(super) fn optional_count(&self, name: &str) -> Result<Option<u32>, Failure> {
        if self.0.contains_key(name) { self.count(name).map(Some) } else { Ok(None) }
    }

    pub(super) fn count(&self, name: &str) -> Result<u32, Failure> {
        self.read(name, |value| value.as_n().ok()?.parse().ok())
    }

    pub(super) fn instant(&self, name: &str) -> Result<Timestamp, Failure> {
        self.read(name, instant_of)
    }

    pub(super) fn optional_instant(&self, name: &str) -> Result<Option<Timestamp>, Failure> {
        if self.0.contains_key(name) { self.instant(name).map(Some) } else { Ok(None) }
    }

    pub(super) fn instants(&self, name: &str) -> Result<Vec<Timestamp>, Failure> {
        let instants =
            self.list(name)?.iter().map(|value| instant_of(value).ok_or_else(|| Self::unreadable(name)));
        instants.collect()
    }

    /// Names the attribute `name` as the one that makes this item unreadable.
    pub(super) fn unreadable(name: &str) -> Failure {
        Failure::Defect(format!("the attribute {name} of an item is missing or malformed"))
    }

    fn read<'item, T>(
        &'item self,
        name: &str,
        read: impl FnOnce(&'item AttributeValue) -> Option<T>,
    ) -> Result<T, Failure> {
        self.0.get(name).and_then(read).ok_or_else(|| Self::unreadable(name))
    }
}

pub(super) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

pub(super) fn texts<'a>(values: impl Iterator<Item = &'a str>) -> AttributeValue {
    AttributeValue::L(values.map(text).collect())
}

pub(super) fn number(value: impl Into<i64>) -> AttributeValue {
    AttributeValue::N(value.into().to_string())
}

pub(super) fn instant(value: Timestamp) -> AttributeValue {
    number(value.as_micros())
}

pub(super) fn instants(values: &[Timestamp]) -> AttributeValue {
    AttributeValue::L(values.iter().copied().map(instant).collect())
}

fn instant_of(value: &AttributeValue) -> Option<Timestamp> {
    value.as_n().ok()?.parse().ok().map(Timestamp::from_micros)
}

/// A value for DynamoDB's time to live: the first whole second that is not before `value`.
pub(super) fn ttl(value: Timestamp) -> AttributeValue {
    number(value.as_seconds().saturating_add(1))
}

pub(super) fn boolean(value: bool) -> AttributeValue {
    AttributeValue::Bool(value)
}

pub(super) fn bytes(value: &[u8]) -> AttributeValue {
    AttributeValue::B(Blob::new(value))
}

/// The SHA-256 of a normalised username, for keys that must not show the name: if it is unknown, it may be a password
/// that was typed into the wrong field.
pub(super) fn name_hash(username: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(username))
}

/// The item as it was, empty if there was none, when an update's condition did not hold.
pub(super) fn condition_failure<R>(error: &SdkError<UpdateItemError, R>) -> Option<Item> {
    match error.as_service_error() {
        Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
            Some(Item(failed.item.clone().unwrap_or_default()))
        }
        _ => None,
    }
}
