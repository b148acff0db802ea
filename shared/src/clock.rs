//! The time.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::domain::Timestamp;

/// This instant, as the machine's clock has it.
#[must_use]
pub fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
}
