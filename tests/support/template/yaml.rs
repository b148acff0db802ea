//! The document `template.yaml`: YAML with short tags for the intrinsic functions.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::{Parameter, Result, not_understood};

/// The template before evaluation, with intrinsic functions in their long form.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Document {
    pub(super) parameters: BTreeMap<String, Parameter>,
    #[serde(default)]
    pub(super) rules: BTreeMap<String, Rule>,
    pub(super) conditions: BTreeMap<String, Value>,
    pub(super) globals: Globals,
    pub(super) resources: BTreeMap<String, Resource>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Globals {
    pub(super) function: Value,
}

/// A rule for the values of parameters.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Rule {
    /// The condition under which the assertions have to hold.
    pub(super) rule_condition: Value,
    pub(super) assertions: Vec<Assertion>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Assertion {
    pub(super) assert: Value,
    pub(super) assert_description: String,
}

/// The declaration of a resource, with intrinsic functions in their long form.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Resource {
    /// The type, for example `AWS::DynamoDB::Table`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// The condition under which the resource exists.
    pub condition: Option<String>,
    /// The action when the resource is removed from the stack, or the stack is deleted.
    pub deletion_policy: Option<String>,
    /// The action when another resource replaces this one.
    pub update_replace_policy: Option<String>,
    /// The properties.
    #[serde(default)]
    pub properties: Value,
}

/// Parses a template, and replaces each short tag, such as `!Ref Name`, by its long form.
pub(super) fn parse(yaml: &str) -> Result<Document, String> {
    Document::deserialize(parse_other(yaml)?).map_err(|error| error.to_string())
}

/// Parses another template than `template.yaml`, of which nothing is known.
pub fn parse_other(yaml: &str) -> Result<Value, String> {
    let mut value: yaml_serde::Value = yaml_serde::from_str(yaml).map_err(|error| error.to_string())?;
    value.apply_merge().map_err(|error| error.to_string())?;
    long_form(value)
}

pub(super) fn long_form(value: yaml_serde::Value) -> Result<Value, String> {
    use yaml_serde::Value as Yaml;
    match value {
        Yaml::Tagged(tagged) => {
            let tag = tagged.tag.to_string();
            let name = tag.trim_start_matches('!');
            let name =
                if ["Ref", "Condition"].contains(&name) { name.to_owned() } else { format!("Fn::{name}") };
            Ok(Value::Object(Map::from_iter([(name, long_form(tagged.value)?)])))
        }
        Yaml::Sequence(sequence) => sequence.into_iter().map(long_form).collect(),
        Yaml::Mapping(mapping) => {
            let members = mapping.into_iter().map(|(key, value)| match key {
                Yaml::String(key) => Ok((key, long_form(value)?)),
                key => Err(format!("the key {key:?} is not a string")),
            });
            Ok(Value::Object(members.collect::<Result<_, _>>()?))
        }
        scalar => serde_json::to_value(scalar).map_err(|error| error.to_string()),
    }
}

/// Merges the globals with the properties of a resource: mappings are merged, lists are joined, and other values are
/// replaced.
pub(super) fn merge(global: &Value, own: &Value) -> Value {
    match (global, own) {
        (Value::Object(global), Value::Object(own)) => {
            let mut merged = global.clone();
            for (name, own) in own {
                let value = global.get(name).map_or_else(|| own.clone(), |global| merge(global, own));
                merged.insert(name.clone(), value);
            }
            Value::Object(merged)
        }
        (Value::Array(global), Value::Array(own)) => global.iter().chain(own).cloned().collect(),
        _ => own.clone(),
    }
}

pub(super) fn elements(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Converts a scalar to a string, as AWS does.
pub(super) fn text(value: &Value) -> Result<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        _ => Err(not_understood("no scalar", value)),
    }
}

pub(super) fn optional_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    text(&Value::deserialize(deserializer)?).map(Some).map_err(serde::de::Error::custom)
}

/// Reads one scalar or a list of scalars.
pub(super) fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let values = if let Value::Array(values) = value { values } else { vec![value] };
    values.iter().map(text).collect::<Result<_>>().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn globals_are_merged() {
        let global = json!({"Timeout": 20, "Environment": {"Variables": {"A": 1, "B": 1}}, "Layers": [1]});
        let own = json!({"Timeout": 29, "Environment": {"Variables": {"B": 2}}, "Layers": [2], "Role": "r"});
        assert_eq!(
            merge(&global, &own),
            json!({"Timeout": 29, "Environment": {"Variables": {"A": 1, "B": 2}}, "Layers": [1, 2], "Role": "r"})
        );
    }
}
