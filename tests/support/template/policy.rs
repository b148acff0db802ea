//! The policies of roles.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::yaml::texts;
use crate::iam::Permission;

/// A statement of an IAM policy.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    #[serde(rename = "Effect")]
    _effect: Effect,
    /// The allowed actions, as `service:Action`.
    #[serde(rename = "Action", deserialize_with = "texts")]
    pub actions: Vec<String>,
    /// The ARNs of the resources on which they are allowed.
    #[serde(rename = "Resource", deserialize_with = "texts")]
    pub resources: Vec<String>,
    /// The condition under which they are allowed.
    #[serde(rename = "Condition", default)]
    pub condition: Condition,
}

#[derive(Clone, Debug, Deserialize)]
enum Effect {
    Allow,
}

impl Statement {
    /// Returns one permission for each combination of action, resource and, if attributes are restricted, attribute.
    pub fn permissions(&self, function: &str) -> Vec<Permission> {
        let attributes = match self.condition.attributes() {
            Some(attributes) => attributes.iter().cloned().map(Some).collect(),
            None => vec![None],
        };
        let mut permissions = Vec::new();
        for action in &self.actions {
            for resource in &self.resources {
                permissions.extend(attributes.iter().map(|attribute| Permission {
                    function: function.to_owned(),
                    action: action.clone(),
                    resource: resource.clone(),
                    attribute: attribute.clone(),
                }));
            }
        }
        permissions
    }
}

/// The condition of a statement: condition keys and their allowed values.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// Keys that a request must have.
    #[serde(rename = "StringEquals", default)]
    string_equals: BTreeMap<String, Texts>,
    /// Keys that a request must have, with patterns for their values.
    #[serde(rename = "StringLike", default)]
    string_like: BTreeMap<String, Texts>,
    /// Keys that a request may lack.
    #[serde(rename = "StringEqualsIfExists", default)]
    string_equals_if_exists: BTreeMap<String, Texts>,
    /// Keys for which a request may have several values.
    #[serde(rename = "ForAllValues:StringEquals", default)]
    for_all_values: BTreeMap<String, Texts>,
    /// The same, with patterns for their values.
    #[serde(rename = "ForAllValues:StringLike", default)]
    for_all_values_like: BTreeMap<String, Texts>,
}

/// Returns whether a text is like a pattern, in which a star stands for any characters. There can be one star.
pub(crate) fn is_match(pattern: &str, text: &str) -> bool {
    pattern.split_once('*').map_or(pattern == text, |(before, after)| {
        text.strip_prefix(before).is_some_and(|rest| rest.ends_with(after))
    })
}

/// One string or several.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
struct Texts(#[serde(deserialize_with = "texts")] Vec<String>);

/// The condition key for the attributes in a call to DynamoDB.
pub(crate) const ATTRIBUTES: &str = "dynamodb:Attributes";
/// The condition key for the values of the partition key in a call to DynamoDB.
pub(crate) const LEADING_KEYS: &str = "dynamodb:LeadingKeys";

impl Condition {
    /// Returns whether the condition holds for a call with these keys and values.
    #[must_use]
    pub fn holds(&self, context: &BTreeMap<&'static str, BTreeSet<String>>) -> bool {
        let allows = |(key, allowed): (&String, &Texts), without: bool| {
            context
                .get(key.as_str())
                .map_or(without, |values| values.iter().all(|value| allowed.0.contains(value)))
        };
        let is_like = |(key, patterns): (&String, &Texts)| {
            context.get(key.as_str()).is_some_and(|values| {
                values.iter().all(|value| patterns.0.iter().any(|pattern| is_match(pattern, value)))
            })
        };
        self.string_equals.iter().all(|key| allows(key, false))
            && self.string_like.iter().all(is_like)
            && self.string_equals_if_exists.iter().all(|key| allows(key, true))
            && self.for_all_values.iter().all(|key| allows(key, true))
            && self.for_all_values_like.iter().all(is_like)
    }

    /// Returns the allowed attributes, if attributes are restricted.
    pub(crate) fn attributes(&self) -> Option<&[String]> {
        self.for_all_values.get(ATTRIBUTES).map(|attributes| &*attributes.0)
    }
}
