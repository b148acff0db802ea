//! A deployment of `template.yaml` over an older one: what reaches the alias `live`, and with what.

use functions::Started;
use lambda_http::Context;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use shared::settings::Settings;
use support::template::{Function, Parameter, Statement, Template};
use uuid::Uuid;

use super::operations::KEY;
use super::template::{CONFIGURATION, TEXTS, functions, matches_pattern, template};
use crate::answers::USERNAME_OR_PASSWORD_INCORRECT;
use crate::helpers::{PASSWORD, Service, aws_config_as, unknown_username};

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

/// A valid value of a parameter, other than its default.
fn another_value(parameter: &Parameter) -> String {
    let default = parameter.default.as_deref().unwrap_or_default();
    let number = default.parse().map_or(1, |number: i64| number + 1).to_string();
    let texts = TEXTS.into_iter().chain([KEY]).map(str::to_owned);
    let mut values = parameter.allowed_values.iter().cloned().chain([number]).chain(texts);
    let is_other = |value: &String| value != default && matches_pattern(parameter, value);
    values.find(is_other).expect("a valid value")
}

/// The functions when the parameter `changed` has another value.
fn with_another(changed: &str, parameter: &Parameter) -> Vec<Function> {
    let (changed, value) = (changed.to_owned(), another_value(parameter));
    let settings = Settings::new(move |setting| match setting {
        _ if setting == changed => Some(value.clone()),
        "MAIL_FROM" => Some("no-reply@example.com".to_owned()),
        _ => None,
    });
    Template::for_stack("postern", &settings).unwrap().functions().unwrap()
}

/// Returns whether one of the statements allows an action on a resource under the same condition.
fn is_allowed(statements: &[Statement], action: &String, resource: &String, before: &Statement) -> bool {
    statements.iter().any(|after| {
        after.actions.contains(action)
            && after.resources.contains(resource)
            && after.condition == before.condition
    })
}

/// A deployment changes a role before its function, and all versions have the same role.
#[test]
fn roles_allow_the_version_that_still_serves_what_it_needs_while_a_parameter_changes() {
    for (name, parameter) in template().parameters() {
        for (before, after) in functions().iter().zip(with_another(&name, parameter)) {
            for statement in &before.statements {
                for (action, resource) in statement
                    .actions
                    .iter()
                    .flat_map(|action| statement.resources.iter().map(move |resource| (action, resource)))
                {
                    assert!(
                        is_allowed(&after.statements, action, resource, statement),
                        "{name} takes {action} on {resource} from {}",
                        before.name
                    );
                }
            }
        }
    }
}

/// Starts a function as the version before had it, but with the rights that its role has now.
fn version_before(service: &Service, name: &str) -> Box<dyn Started> {
    let functions = service.stack.as_ref().unwrap().template().functions().unwrap();
    let now = functions.into_iter().find(|function| function.name == name).unwrap();
    let aws = aws_config_as(&now.function_name, &service.stack.as_ref().unwrap().aws_url(), None).unwrap();
    let stack = now.function_name.strip_suffix(&format!("-{name}")).unwrap();
    let mut variables = now.variables.clone();
    variables.insert("USERS_TABLE".to_owned(), format!("{stack}-users"));
    variables.insert("USER_IDS_TABLE".to_owned(), format!("{stack}-user-ids"));
    variables.insert("MAIL_FROM".to_owned(), "before@example.com".to_owned());
    let settings = Settings::new(move |setting| variables.get(setting).cloned());
    functions::find(name).unwrap().start(&settings, &aws).unwrap()
}

async fn invoke(function: &dyn Started, event: &Value) -> Value {
    let answer = function.invoke(event.to_string().as_bytes(), Context::default()).await;
    serde_json::from_slice(&answer.unwrap()).unwrap()
}

#[tokio::test]
async fn the_version_that_still_serves_works_while_tables_and_sender_are_replaced() {
    let [users, user_ids] = [(); 2].map(|()| format!("restored-{}", Uuid::new_v4().simple()));
    let replaced =
        [("USERS_TABLE", &*users), ("USER_IDS_TABLE", &*user_ids), ("MAIL_FROM", "after@example.com")];
    let service = Service::with_settings(replaced).await;
    let username = unknown_username();
    let user = json!({
        "action": "create",
        "username": username,
        "password": PASSWORD,
        "email_addresses": ["st.huber@example.com"],
        "activated": true,
    });
    let created = invoke(&*version_before(&service, "manage_users"), &user).await;
    assert_eq!(created["ok"], true, "{created}");
    for (function, event) in [
        ("signin", include_str!("../../../events/signin/without_session.json")),
        (
            "forgot_password_send_email",
            include_str!("../../../events/forgot_password_send_email/known_username.json"),
        ),
    ] {
        let mut event: Value = serde_json::from_str(event).unwrap();
        event["body"] = json!({"username": username, "password": PASSWORD}).to_string().into();
        let answer = invoke(&*version_before(&service, function), &event).await;
        assert_eq!(answer["statusCode"], 200, "{function}: {answer}");
    }
    service.signin(&username, PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
}
