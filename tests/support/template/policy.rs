//! The policies of roles: what a function may do.

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
    /// What is allowed, as `service:Action`,
    #[serde(rename = "Action", deserialize_with = "texts")]
    pub actions: Vec<String>,
    /// to any of these ARNs,
    #[serde(rename = "Resource", deserialize_with = "texts")]
    pub resources: Vec<String>,
    /// under this condition.
    #[serde(rename = "Condition", default)]
    pub condition: Condition,
}

#[derive(Clone, Debug, Deserialize)]
enum Effect {
    Allow,
}

impl Statement {
    /// Every single action on every single resource, and on every single attribute where these are restricted.
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

/// The condition of a statement: condition keys and the values that are allowed to them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// Keys that a request has to have.
    #[serde(rename = "StringEquals", default)]
    string_equals: BTreeMap<String, Texts>,
    /// Keys that a request need not have.
    #[serde(rename = "StringEqualsIfExists", default)]
    string_equals_if_exists: BTreeMap<String, Texts>,
    /// Keys of which a request may have several values.
    #[serde(rename = "ForAllValues:StringEquals", default)]
    for_all_values: BTreeMap<String, Texts>,
}

/// One text or several.
#[derive(Clone, Debug, Deserialize)]
struct Texts(#[serde(deserialize_with = "texts")] Vec<String>);

/// The condition key for the attributes that a call to DynamoDB names.
pub(crate) const ATTRIBUTES: &str = "dynamodb:Attributes";

impl Condition {
    /// Returns whether it holds for a call that has these keys and values.
    pub(crate) fn holds(&self, context: &BTreeMap<&'static str, BTreeSet<String>>) -> bool {
        let allows = |(key, allowed): (&String, &Texts), without: bool| {
            context
                .get(key.as_str())
                .map_or(without, |values| values.iter().all(|value| allowed.0.contains(value)))
        };
        self.string_equals.iter().all(|key| allows(key, false))
            && self.string_equals_if_exists.iter().all(|key| allows(key, true))
            && self.for_all_values.iter().all(|key| allows(key, true))
    }

    /// The attributes that it allows, where it restricts them.
    pub(crate) fn attributes(&self) -> Option<&[String]> {
        self.for_all_values.get(ATTRIBUTES).map(|attributes| &*attributes.0)
    }
}
