//! First deployments, several environments, and deployments over what an earlier stack left.

use std::collections::BTreeMap;

use serde_json::json;
use support::template::Template;

use super::template::{functions, matches_pattern, template, with_parameters};

const CONFIGURATION: &str = include_str!("../../../samconfig.toml");
const TEMPLATE: &str = include_str!("../../../template.yaml");
const DEPLOYMENT: &str = include_str!("../../../DEPLOYMENT.md");
/// Lambda's limit for the name of a function.
const LONGEST_FUNCTION_NAME: usize = 64;

/// The parameters of each section of `samconfig.toml` that has some.
fn overrides() -> BTreeMap<&'static str, BTreeMap<&'static str, &'static str>> {
    let mut overrides = BTreeMap::new();
    for section in CONFIGURATION.split("\n[").skip(1) {
        let (name, section) = section.split_once(']').unwrap();
        if let Some((_, list)) = section.split_once("parameter_overrides = [") {
            let list = list.split_once(']').unwrap().0.split(',').map(|item| item.trim().trim_matches('"'));
            let parameters = list.filter(|item| !item.is_empty()).map(|item| item.split_once('=').unwrap());
            overrides.insert(name, parameters.collect());
        }
    }
    overrides
}

/// The name of a parameter for a setting: `MailFrom` for `MAIL_FROM`.
fn parameter_of(setting: &str) -> String {
    let words = setting.split('_').map(|word| format!("{}{}", &word[..1], word[1..].to_lowercase()));
    words.collect()
}

#[test]
fn all_commands_of_sam_read_the_same_parameters() {
    let sections: Vec<_> = overrides().into_keys().collect();
    assert_eq!(sections, ["default", "prod", "staging"].map(|name| format!("{name}.global.parameters")));
}

#[test]
fn environments_have_valid_parameters() {
    let parameters: BTreeMap<_, _> =
        template().parameters().into_iter().map(|(setting, it)| (parameter_of(&setting), it)).collect();
    for (name, value) in overrides().into_values().flatten() {
        let parameter = parameters.get(name).unwrap_or_else(|| panic!("there is no parameter {name}"));
        let is_among = parameter.allowed_values.is_empty()
            || parameter.allowed_values.iter().any(|allowed| allowed == value);
        let is_in_range = parameter.min_value.is_none_or(|min| value.parse::<i64>().unwrap() >= min)
            && parameter.max_value.is_none_or(|max| value.parse::<i64>().unwrap() <= max);
        assert!(is_among && is_in_range && matches_pattern(parameter, value), "{name}={value}");
    }
}

/// An account has one identity for a domain.
#[test]
fn one_environment_creates_the_mail_identity() {
    let creates = |overrides: &BTreeMap<&str, &str>| overrides.get("CreateMailIdentity") != Some(&"none");
    let overrides = overrides().into_iter();
    let creators: Vec<_> = overrides.filter(|(_, own)| creates(own)).map(|(name, _)| name).collect();
    assert_eq!(creators, ["default.global.parameters"]);
}

#[test]
fn tables_are_protected_from_deletion_unless_a_parameter_says_otherwise() {
    let default = template().parameter("DELETION_PROTECTION").unwrap().default.clone();
    assert_eq!(default.as_deref(), Some("true"));
    let resources = template().resources().unwrap().into_iter();
    let tables: Vec<_> = resources.filter(|(_, table)| table.kind == "AWS::DynamoDB::Table").collect();
    assert_eq!(tables.len(), 6);
    for (id, table) in tables {
        assert_eq!(
            table.properties["DeletionProtectionEnabled"],
            json!({"Ref": "DeletionProtection"}),
            "{id}"
        );
    }
}

#[test]
fn half_a_configuration_is_refused() {
    let domain = ("DOMAIN_NAME", "auth.example.com");
    let certificate = ("CERTIFICATE_ARN", "arn:aws:acm:eu-central-1:000000000000:certificate/0");
    let refusals = |template: Template| template.refusals().unwrap().len();
    assert_eq!(refusals(template()), 0);
    assert_eq!(refusals(with_parameters(Vec::leak(vec![domain]))), 1);
    assert_eq!(refusals(with_parameters(Vec::leak(vec![certificate]))), 1);
    assert_eq!(refusals(with_parameters(Vec::leak(vec![domain, certificate]))), 0);
    assert_eq!(refusals(with_parameters(&[("CLOSE_API_ENDPOINT", "true")])), 1);
    let closed = ("CLOSE_API_ENDPOINT", "true");
    assert_eq!(refusals(with_parameters(Vec::leak(vec![domain, certificate, closed]))), 0);
    let public = ("JWT_ALGORITHM", "RS256");
    assert_eq!(refusals(with_parameters(&[("JWT_ALGORITHM", "RS256")])), 1);
    assert_eq!(refusals(with_parameters(Vec::leak(vec![domain, certificate, public]))), 0);
    assert_eq!(
        refusals(with_parameters(&[("JWT_ALGORITHM", "RS256"), ("JWT_ISSUER", "https://auth.example.com")])),
        0
    );
}

#[test]
fn a_domain_is_reached_by_ipv6_and_can_be_the_only_way_in() {
    let resources = with_parameters(&[("DOMAIN_NAME", "auth.example.com")]).resources().unwrap();
    let domain = &resources[&"ApiDomain".to_owned()].properties["DomainNameConfigurations"][0];
    assert_eq!(domain["IpAddressType"], "dualstack");
    let closed = &resources[&"Api".to_owned()].properties["DisableExecuteApiEndpoint"];
    assert_eq!(*closed, json!({"Fn::If": ["ClosesApiEndpoint", true, false]}));
    for output in ["ApiDomainTarget", "ApiDomainHostedZoneId"] {
        assert!(
            TEMPLATE.contains(&format!("\n  {output}:\n")) && DEPLOYMENT.contains(&format!("`{output}`"))
        );
    }
}

#[test]
fn the_longest_name_of_a_stack_leaves_room_for_the_names_of_functions() {
    let names = functions().into_iter().map(|function| function.function_name.len() - "postern".len());
    let longest = LONGEST_FUNCTION_NAME - names.max().unwrap();
    assert!(DEPLOYMENT.contains(&format!("at most {longest} characters")), "{longest}");
}

#[test]
fn the_delivery_of_mails_is_logged_by_the_name_of_the_group() {
    let resources = template().resources().unwrap();
    let target = &resources[&"MailEventsToLog".to_owned()].properties["Targets"][0]["Arn"]["Fn::Sub"];
    assert!(target.as_str().unwrap().ends_with(":log-group:${MailLogGroup}"), "{target}");
}

/// Throttles of an index would be metrics of their own.
#[test]
fn throttles_of_every_table_raise_an_alarm() {
    let resources = template().resources().unwrap();
    let watched = resources[&"DynamoDbThrottles".to_owned()].properties["Metrics"].to_string();
    for (id, table) in resources.iter().filter(|(_, table)| table.kind == "AWS::DynamoDB::Table") {
        assert!(watched.contains(&format!("{{\"Ref\":\"{id}\"}}")), "{id}");
        assert!(table.properties["GlobalSecondaryIndexes"].is_null(), "{id}");
    }
}
