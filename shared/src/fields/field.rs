use serde::de::{Deserialize, Deserializer, Error as _};
use serde_json::value::RawValue;

/// A field of a body before its constraints are checked. A value of an unexpected type is a failed constraint and
/// not a malformed body, hence no stricter type.
#[derive(Default)]
pub enum Field {
    /// Not there, or null.
    #[default]
    Absent,
    /// A string.
    Text(String),
    /// `true` or `false`.
    Boolean(bool),
    /// A number without sign, fraction and exponent.
    Integer(u64),
    /// Anything else.
    Other,
}

impl Field {
    /// Reads a JSON value. A string that is no text, for a lone surrogate in it, is none of a known type.
    #[must_use]
    pub fn parse(json: &RawValue) -> Self {
        Self::read(json).unwrap_or(Self::Other)
    }

    fn read(json: &RawValue) -> serde_json::Result<Self> {
        let json = json.get();
        match json.as_bytes().first() {
            Some(b'"') => serde_json::from_str(json).map(Self::Text),
            Some(b'0'..=b'9') => Ok(json.parse().map_or(Self::Other, Self::Integer)),
            Some(b't') => Ok(Self::Boolean(true)),
            Some(b'f') => Ok(Self::Boolean(false)),
            Some(b'n') => Ok(Self::Absent),
            _ => Ok(Self::Other),
        }
    }
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(&Box::<RawValue>::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
