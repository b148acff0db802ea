//! A deployment of `template.yaml` over an older one: what reaches the alias `live`, and with what.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::template::{CONFIGURATION, functions, template};

/// The properties at whose change SAM publishes a version by itself, those that are no part of a version, and the name and
/// the role, which stay the same.
const OTHERS: [&str; 10] = [
    "AutoPublishAlias",
    "CodeUri",
    "DeploymentPreference",
    "Environment",
    "Events",
    "FunctionName",
    "MemorySize",
    "ReservedConcurrentExecutions",
    "Role",
    "Tags",
];

/// The part of these properties that SAM does not look at when it decides on a new version.
fn unseen(properties: &Value) -> Map<String, Value> {
    let mut properties = properties.as_object().unwrap().clone();
    properties.retain(|name, _| !OTHERS.contains(&name.as_str()));
    properties
}

/// If it fails, a deployment would leave `live` with the old value of what was changed.
#[test]
fn a_change_of_the_configuration_of_functions_publishes_a_version() {
    let template = template();
    let mut unseen_of_all = Map::from_iter([("Globals".to_owned(), unseen(template.globals()).into())]);
    for (id, resource) in template.resources().unwrap() {
        let own = if resource.kind == "AWS::Serverless::Function" {
            unseen(&resource.properties)
        } else {
            Map::new()
        };
        if !own.is_empty() {
            unseen_of_all.insert(id.clone(), own.into());
        }
    }
    let hash = Sha256::digest(Value::Object(unseen_of_all).to_string());
    let expected = format!("arm64 PassThrough {:02x}{:02x}{:02x}{:02x}", hash[0], hash[1], hash[2], hash[3]);
    for function in functions() {
        assert_eq!(function.variables[CONFIGURATION], expected, "change CONFIGURATION in template.yaml");
    }
}
