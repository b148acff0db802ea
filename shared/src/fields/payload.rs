use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Field, Validator};

/// The payload of a function that is invoked directly, or an object in one: its fields in the order in which they were
/// written, repeated ones included.
///
/// Payloads are written by hand, so a field that is misspelt or given twice must not pass in silence: a function takes
/// out the fields that it knows, and [`Payload::finish`] refuses the rest.
#[derive(Default)]
pub struct Payload {
    fields: Vec<(String, Box<RawValue>)>,
    known: Vec<&'static str>,
}

impl Payload {
    /// Reads a JSON object; anything else is an object without fields.
    #[must_use]
    pub fn parse(json: &RawValue) -> Self {
        serde_json::from_str(json.get()).unwrap_or_default()
    }

    /// Takes out a field, as JSON. A field that is null counts as absent everywhere but here.
    pub fn json(&mut self, name: &'static str) -> Option<Box<RawValue>> {
        self.known.push(name);
        let position = self.fields.iter().position(|(written, _)| written == name)?;
        Some(self.fields.remove(position).1)
    }

    /// The first value of a field, which is not taken out; null if there is none.
    #[must_use]
    pub fn value(&self, name: &str) -> Value {
        let written = self.fields.iter().find(|(written, _)| written == name);
        written.and_then(|(_, json)| serde_json::from_str(json.get()).ok()).unwrap_or_default()
    }

    /// Takes out a field of a simple type.
    pub fn field(&mut self, name: &'static str) -> Field {
        self.json(name).map_or(Field::Absent, |json| Field::parse(&json))
    }

    /// Takes out a field that is a list. `Err` if it is of another type.
    pub fn list(&mut self, name: &'static str) -> Result<Option<Vec<Box<RawValue>>>, NotAList> {
        match self.json(name) {
            None => Ok(None),
            Some(json) if json.get() == "null" => Ok(None),
            Some(json) => serde_json::from_str(json.get()).map(Some).map_err(|_| NotAList),
        }
    }

    /// Refuses the fields that are left: those that nothing took out, and those that are given twice.
    pub fn finish(self, fields: &mut Validator) {
        for (name, _) in self.fields {
            match self.known.iter().find(|known| **known == name) {
                Some(known) => fields.refuse::<()>(*known, "field is given twice"),
                None => fields.refuse(name, "field is not known here"),
            };
        }
    }
}

/// A field that should be a list is of another type.
#[derive(Debug)]
pub struct NotAList;

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Payload;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Payload, A::Error> {
                let mut payload = Payload::default();
                while let Some(field) = map.next_entry()? {
                    payload.fields.push(field);
                }
                Ok(payload)
            }
        }

        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The errors of a payload of which `a` and `b` are known.
    fn errors(json: &str) -> String {
        let (mut payload, mut fields) =
            (Payload::parse(&RawValue::from_string(json.to_owned()).unwrap()), Validator::default());
        payload.field("a");
        payload.field("b");
        payload.finish(&mut fields);
        serde_json::to_string(&fields.into_errors()).unwrap()
    }

    #[test]
    fn unknown_and_repeated_fields_are_refused() {
        for json in ["{}", r#"{"a":1}"#, r#"{"b":null,"a":{"a":1}}"#, "[]", "null", "33"] {
            assert_eq!(errors(json), "{}", "{json}");
        }
        for (json, expected) in [
            (r#"{"a":1,"c":2}"#, r#"{"c":["The c field is not known here."]}"#),
            (r#"{"a":1,"A":2}"#, r#"{"A":["The A field is not known here."]}"#),
            (r#"{"a":1,"a":1}"#, r#"{"a":["The a field is given twice."]}"#),
            // Escaped, it is the same name.
            (r#"{"a":1,"\u0061":null}"#, r#"{"a":["The a field is given twice."]}"#),
            (r#"{"c":1,"c":2,"c":3}"#, r#"{"c":["The c field is not known here."]}"#),
        ] {
            assert_eq!(errors(json), expected, "{json}");
        }
    }
}
