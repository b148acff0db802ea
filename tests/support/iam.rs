//! The stand-in for IAM: a function may do only what its role in `template.yaml` allows. The access key of a call
//! identifies the function. Other callers may do everything. Wildcards in a policy match nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use crate::aws::{self, arn};
use crate::lambda;
use crate::secrets_manager::SecretsManager;
use crate::ses;
use crate::template::{ATTRIBUTES, Function, LEADING_KEYS, Statement, is_match};

/// The roles of the functions, and the permissions that they have used.
#[derive(Debug)]
pub(crate) struct Iam {
    /// The statements of each role, by the name of the function, which is its access key.
    statements: HashMap<String, Vec<Statement>>,
    used: Mutex<BTreeSet<Permission>>,
}

/// A permission of a function.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Permission {
    /// The name of the function in Lambda.
    pub function: String,
    /// The action, for example `dynamodb:GetItem`.
    pub action: String,
    /// The ARN of the resource.
    pub resource: String,
    /// The attribute of the table, if the role restricts attributes.
    pub attribute: Option<String>,
}

/// An action on a resource, as policies describe it. A call consists of one or more.
struct Access {
    action: String,
    resource: String,
    /// Condition keys and their values.
    context: BTreeMap<&'static str, BTreeSet<String>>,
}

impl Iam {
    pub(crate) fn new(functions: &[Function]) -> Self {
        let statements =
            functions.iter().map(|function| (function.function_name.clone(), function.statements.clone()));
        Self { statements: statements.collect(), used: Mutex::default() }
    }

    /// Returns all permissions that have been used so far.
    pub(crate) fn used(&self) -> BTreeSet<Permission> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the function that sent a request, if a function did.
    pub(crate) fn function<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        caller(headers).filter(|key| self.statements.contains_key(*key))
    }

    /// Records the permissions that `function` uses, or returns the first access that is not allowed.
    fn check(&self, function: &str, call: Vec<Access>) -> Result<(), Access> {
        let statements = self.statements.get(function).map(Vec::as_slice).unwrap_or_default();
        let mut used = Vec::new();
        for access in call {
            let allowing = statements.iter().find_map(|statement| {
                let resource =
                    statement.resources.iter().find(|resource| is_match(resource, &access.resource))?;
                let is_allowed =
                    statement.actions.contains(&access.action) && statement.condition.holds(&access.context);
                is_allowed.then_some((statement, resource))
            });
            let Some((statement, resource)) = allowing else {
                return Err(access);
            };
            let named = access.context.get(ATTRIBUTES).into_iter().flatten().cloned().map(Some);
            let attributes =
                if statement.condition.attributes().is_some() { named.collect() } else { vec![None] };
            used.extend(attributes.into_iter().map(|attribute| Permission {
                function: function.to_owned(),
                action: access.action.clone(),
                resource: resource.clone(),
                attribute,
            }));
        }
        self.used.lock().unwrap_or_else(PoisonError::into_inner).extend(used);
        Ok(())
    }
}

/// Refuses a call of a function that its role does not allow.
pub(crate) async fn authorize(
    State((iam, secrets)): State<(Arc<Iam>, Arc<SecretsManager>)>,
    request: Request,
    next: Next,
) -> Response {
    let Some(function) = iam.function(request.headers()).map(str::to_owned) else {
        return next.run(request).await;
    };
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, aws::BODY_LIMIT).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    // A body that is not JSON names no resource, so no statement allows it.
    let json = serde_json::from_slice(&body).unwrap_or_default();
    let (call, refused) = read(&parts, &json, &secrets);
    match iam.check(&function, call) {
        Ok(()) => next.run(Request::from_parts(parts, Body::from(body))).await,
        Err(Access { action, resource, context }) => {
            tracing::error!(function, action, resource, ?context, "not allowed by the function's role");
            let message = format!(
                "User: {function} is not authorized to perform: {action} on resource: {resource} because no \
                 identity-based policy allows the {action} action"
            );
            aws::refuse(refused, "AccessDeniedException", &message)
        }
    }
}

/// Extracts the access key from the signature of a request: `Credential=KEY/DATE/REGION/SERVICE/aws4_request`.
fn caller(headers: &HeaderMap) -> Option<&str> {
    let authorization = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (_, credential) = authorization.split_once("Credential=")?;
    credential.split('/').next()
}

impl Access {
    fn new(action: String, resource: String) -> Self {
        Self { action, resource, context: BTreeMap::new() }
    }
}

/// Returns the accesses of a request, and the status to refuse it with.
fn read(parts: &Parts, request: &Value, secrets: &SecretsManager) -> (Vec<Access>, StatusCode) {
    match aws::target(&parts.headers) {
        Some(("secretsmanager", operation)) => {
            (of_secrets_manager(operation, request, secrets), StatusCode::BAD_REQUEST)
        }
        Some((service, operation)) if service.starts_with("DynamoDB") => {
            (of_dynamodb(operation, request), StatusCode::BAD_REQUEST)
        }
        Some(target) => (of_operations(target, request, caller(&parts.headers)), StatusCode::BAD_REQUEST),
        None if parts.uri.path() == ses::SEND_EMAIL => (of_ses(request), StatusCode::FORBIDDEN),
        None => (of_lambda(parts), StatusCode::FORBIDDEN),
    }
}

/// Returns the access of an invocation, whose path has the ARN of a version. Functions use no other service.
fn of_lambda(parts: &Parts) -> Vec<Access> {
    let path = parts.uri.path();
    let version = path.strip_prefix(lambda::FUNCTIONS).and_then(|path| path.strip_suffix("/invocations"));
    vec![match version {
        Some(arn) => {
            Access::new("lambda:InvokeFunction".to_owned(), arn.replace("%3A", ":").replace("%24", "$"))
        }
        None => Access::new(parts.method.to_string(), path.to_owned()),
    }]
}

fn of_operations((service, operation): (&str, &str), request: &Value, function: Option<&str>) -> Vec<Access> {
    let named = |name: &str| request[name].as_str().unwrap_or_default().to_owned();
    let (service, resource) = match service {
        "AmazonSSM" => ("ssm", format!("parameter{}", named("Name"))),
        "Logs_20140328" => ("logs", format!("log-group:{}:*", named("logGroupName"))),
        // The group of a deployment, as CloudFormation names it for the stack of the function.
        _ => {
            let stack = function.and_then(|function| function.rsplit_once('-')).unwrap_or_default().0;
            ("codedeploy", format!("deploymentgroup:{stack}-ServerlessDeploymentApplication-1/{stack}-1"))
        }
    };
    vec![Access::new(format!("{service}:{operation}"), arn(service, &resource))]
}

fn of_dynamodb(operation: &str, request: &Value) -> Vec<Access> {
    if let Some(tables) = request["RequestItems"].as_object() {
        return tables.iter().map(|(table, request)| of_keys(operation, table, request)).collect();
    }
    // A transaction needs the permissions for all its parts.
    match request["TransactItems"].as_array() {
        Some(items) => items
            .iter()
            .filter_map(Value::as_object)
            .flatten()
            .map(|(part, request)| match part.as_str() {
                "ConditionCheck" => of_item("ConditionCheckItem", request),
                part => of_item(&format!("{part}Item"), request),
            })
            .collect(),
        None => vec![of_item(operation, request)],
    }
}

/// Returns the access of a batch to one table.
fn of_keys(operation: &str, table: &str, request: &Value) -> Access {
    let mut request = request.clone();
    request["TableName"] = table.into();
    request["Key"] = request["Keys"][0].clone();
    of_item(operation, &request)
}

fn of_item(operation: &str, request: &Value) -> Access {
    let table = format!("table/{}", request["TableName"].as_str().unwrap_or_default());
    // An item does not tell which of its attributes is the key.
    let key = if table.contains("user-ids") { "user_id" } else { "username" };
    let resource = match request["IndexName"].as_str() {
        Some(index) => format!("{table}/index/{index}"),
        None => table,
    };
    let mut access = Access::new(format!("dynamodb:{operation}"), arn("dynamodb", &resource));
    access.context.insert(ATTRIBUTES, attributes(request));
    let leading = request["Key"].get(key).or(request["Item"].get(key));
    let leading = leading.and_then(|value| value["S"].as_str()).map(str::to_owned);
    access.context.insert(LEADING_KEYS, leading.into_iter().collect());
    let mut note = |key, values: &[&str]| {
        access.context.insert(key, values.iter().map(|value| (*value).to_owned()).collect());
    };
    let text = |name: &str| request[name].as_str();
    if ["BatchGetItem", "GetItem", "Query", "Scan"].contains(&operation) {
        // Without a projection, all attributes are returned, even though none is named.
        let projected = text("ProjectionExpression").map_or("ALL_ATTRIBUTES", |_| "SPECIFIC_ATTRIBUTES");
        note("dynamodb:Select", &[text("Select").unwrap_or(projected)]);
    } else {
        // AWS does not document whether this key covers the second parameter. Checking both is the strict choice.
        let returned = ["ReturnValues", "ReturnValuesOnConditionCheckFailure"];
        note("dynamodb:ReturnValues", &returned.map(|name| text(name).unwrap_or("NONE")));
    }
    access
}

/// Returns the attributes that a request to DynamoDB names in its key, item and expressions.
fn attributes(request: &Value) -> BTreeSet<String> {
    let items = ["Key", "Item"].into_iter().filter_map(|name| request[name].as_object());
    let mut attributes: BTreeSet<String> = items.flat_map(|item| item.keys().cloned()).collect();
    for kind in ["Projection", "Update", "Condition", "KeyCondition", "Filter"] {
        let expression = request[format!("{kind}Expression")].as_str().unwrap_or_default();
        attributes.extend(named_in(expression, &request["ExpressionAttributeNames"]));
    }
    attributes
}

/// Returns the attributes in an expression, with placeholders resolved by `names`.
fn named_in(expression: &str, names: &Value) -> Vec<String> {
    const KEYWORDS: [&str; 9] = ["SET", "REMOVE", "ADD", "DELETE", "AND", "OR", "NOT", "BETWEEN", "IN"];
    let mut attributes = Vec::new();
    let mut rest = expression;
    let is_word = |character: char| character.is_ascii_alphanumeric() || "_#:.[]".contains(character);
    while let Some(start) = rest.find(is_word) {
        let word_on = &rest[start..];
        let (word, after) = word_on.split_at(word_on.find(|c| !is_word(c)).unwrap_or(word_on.len()));
        rest = after;
        // The attribute is the first part of a path such as `a.b[0]`.
        let attribute = word.split(['.', '[']).next().unwrap_or_default();
        let is_function = after.trim_start().starts_with('(');
        if attribute.starts_with('#') {
            attributes.push(names[attribute].as_str().unwrap_or(attribute).to_owned());
        } else if !attribute.starts_with(':')
            && !is_function
            && !KEYWORDS.contains(&attribute.to_ascii_uppercase().as_str())
        {
            attributes.push(attribute.to_owned());
        }
    }
    attributes
}

fn of_secrets_manager(operation: &str, request: &Value, secrets: &SecretsManager) -> Vec<Access> {
    let id = request["SecretId"].as_str().unwrap_or_default();
    let resource = secrets.arn(id).unwrap_or_else(|| id.to_owned());
    vec![Access::new(format!("secretsmanager:{operation}"), resource)]
}

/// Returns the accesses of a mail. SES uses the identity of the sender's address if it exists, and otherwise that of its
/// domain, so both must be allowed.
fn of_ses(request: &Value) -> Vec<Access> {
    let sender = ses::bare(request["FromEmailAddress"].as_str().unwrap_or_default());
    let domain = sender.rsplit('@').next().unwrap_or_default();
    let mut resources = vec![format!("identity/{sender}"), format!("identity/{domain}")];
    if let Some(set) = request["ConfigurationSetName"].as_str() {
        resources.push(format!("configuration-set/{set}"));
    }
    let access = |resource: &String| Access {
        context: BTreeMap::from([("ses:FromAddress", BTreeSet::from([sender.to_owned()]))]),
        ..Access::new("ses:SendEmail".to_owned(), arn("ses", resource))
    };
    resources.iter().map(access).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const STATEMENTS: &str = r#"[
        {
            "Effect": "Allow",
            "Action": ["dynamodb:GetItem", "dynamodb:UpdateItem"],
            "Resource": "arn:aws:dynamodb:eu-central-1:000000000000:table/users"
        },
        {
            "Effect": "Allow",
            "Action": ["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Scan", "dynamodb:UpdateItem"],
            "Resource": "arn:aws:dynamodb:eu-central-1:000000000000:table/parts",
            "Condition": {
                "ForAllValues:StringEquals": {"dynamodb:Attributes": ["id", "a", "b"]},
                "StringEqualsIfExists": {
                    "dynamodb:Select": "SPECIFIC_ATTRIBUTES",
                    "dynamodb:ReturnValues": ["NONE", "UPDATED_NEW"]
                }
            }
        },
        {
            "Effect": "Allow",
            "Action": "dynamodb:Query",
            "Resource": "arn:aws:dynamodb:eu-central-1:000000000000:table/sessions/index/by_user"
        },
        {
            "Effect": "Allow",
            "Action": "ses:SendEmail",
            "Resource": [
                "arn:aws:ses:eu-central-1:000000000000:identity/*@example.com",
                "arn:aws:ses:eu-central-1:000000000000:identity/example.com",
                "arn:aws:ses:eu-central-1:000000000000:configuration-set/set"
            ],
            "Condition": {"StringLike": {"ses:FromAddress": "a*@example.com"}}
        }
    ]"#;

    fn is_allowed(call: Vec<Access>) -> bool {
        let statements = serde_json::from_str(STATEMENTS).unwrap();
        let iam = Iam { statements: HashMap::from([("f".to_owned(), statements)]), used: Mutex::default() };
        assert!(iam.used().is_empty());
        let allowed = iam.check("f", call).is_ok();
        assert_eq!(iam.used().is_empty(), !allowed);
        allowed
    }

    #[test]
    fn permissions_distinguish_tables_and_their_indexes() {
        let users = json!({"TableName": "users"});
        let sessions = json!({"TableName": "sessions", "IndexName": "by_user"});
        for (operation, request, allowed) in [
            ("GetItem", &users, true),
            ("DeleteItem", &users, false),
            ("Query", &users, false),
            ("Query", &sessions, true),
            ("Query", &json!({"TableName": "sessions"}), false),
            ("GetItem", &json!({"TableName": "others"}), false),
            ("ListTables", &json!({}), false),
        ] {
            assert_eq!(is_allowed(of_dynamodb(operation, request)), allowed, "{operation} {request}");
        }
    }

    #[test]
    fn a_transaction_needs_the_permissions_of_its_parts() {
        let transaction = |part: &str| {
            let items = json!([{"Update": {"TableName": "users"}}, {part: {"TableName": "users"}}]);
            is_allowed(of_dynamodb("TransactWriteItems", &json!({"TransactItems": items})))
        };
        assert!(transaction("Update"));
        for part in ["Put", "Delete", "ConditionCheck"] {
            assert!(!transaction(part), "{part}");
        }
    }

    #[test]
    fn only_the_allowed_attributes_of_a_table_can_be_used() {
        let key = json!({"id": {"S": "1"}});
        let with = |field: &str, value: Value| {
            let mut request = json!({"TableName": "parts", "Key": key});
            request[field] = value;
            request
        };
        let update = |expression: &str| with("UpdateExpression", expression.into());
        let mut returning = update("SET a = :a");
        let mut named = with("ProjectionExpression", "#1".into());
        named["ExpressionAttributeNames"] = json!({"#1": "secret"});
        for (operation, request, allowed) in [
            ("GetItem", with("ProjectionExpression", "id, a, b".into()), true),
            ("GetItem", with("ProjectionExpression", "a, secret".into()), false),
            ("GetItem", named.clone(), false),
            ("GetItem", with("ConsistentRead", true.into()), false),
            ("Scan", json!({"TableName": "parts"}), false),
            ("Scan", json!({"TableName": "parts", "ProjectionExpression": "a"}), true),
            (
                "Scan",
                json!({"TableName": "parts", "ProjectionExpression": "a", "Select": "ALL_ATTRIBUTES"}),
                false,
            ),
            (
                "Scan",
                json!({"TableName": "parts", "ProjectionExpression": "a", "FilterExpression": "secret = :s"}),
                false,
            ),
            ("UpdateItem", update("SET a = if_not_exists(b, :b), b.c[0].d = :d REMOVE a ADD b :n"), true),
            ("UpdateItem", update("SET a = secret"), false),
            ("UpdateItem", update("REMOVE secret"), false),
            (
                "UpdateItem",
                with("ConditionExpression", "attribute_exists (id) AND NOT a IN (:a, b)".into()),
                true,
            ),
            ("UpdateItem", with("ConditionExpression", "begins_with(secret, :s)".into()), false),
            ("PutItem", json!({"TableName": "parts", "Item": {"id": {"S": "1"}, "a": {"S": "1"}}}), true),
            (
                "PutItem",
                json!({"TableName": "parts", "Item": {"id": {"S": "1"}, "secret": {"S": "1"}}}),
                false,
            ),
        ] {
            assert_eq!(is_allowed(of_dynamodb(operation, &request)), allowed, "{operation} {request}");
        }
        named["ExpressionAttributeNames"] = json!({"#1": "a"});
        assert!(is_allowed(of_dynamodb("GetItem", &named)));
        for (field, value, allowed) in [
            ("ReturnValues", "UPDATED_NEW", true),
            ("ReturnValues", "ALL_OLD", false),
            ("ReturnValuesOnConditionCheckFailure", "NONE", true),
            ("ReturnValuesOnConditionCheckFailure", "ALL_OLD", false),
        ] {
            returning[field] = value.into();
            assert_eq!(is_allowed(of_dynamodb("UpdateItem", &returning)), allowed, "{returning}");
            let transaction = json!({"TransactItems": [{"Update": returning}]});
            assert_eq!(is_allowed(of_dynamodb("TransactWriteItems", &transaction)), allowed, "{transaction}");
            returning.as_object_mut().unwrap().remove(field);
        }
    }

    #[test]
    fn a_mail_needs_its_identities_its_configuration_set_and_its_sender() {
        let mail = |from: &str, set: &str| {
            is_allowed(of_ses(&json!({"FromEmailAddress": from, "ConfigurationSetName": set})))
        };
        assert!(mail("a@example.com", "set"));
        assert!(mail("A <another@example.com>", "set"));
        assert!(!mail("a@example.com", "other"));
        assert!(!mail("b@example.com", "set"));
        assert!(!mail("a@elsewhere.example.com", "set"));
    }

    #[test]
    fn the_access_key_identifies_the_caller() {
        let signed = |authorization: &str| {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, authorization.parse().unwrap())]);
            caller(&headers).map(str::to_owned)
        };
        let signature = "AWS4-HMAC-SHA256 Credential=postern-signin/20261121/eu-central-1/ses/aws4_request, \
                         SignedHeaders=host, Signature=0";
        assert_eq!(signed(signature).as_deref(), Some("postern-signin"));
        assert_eq!(signed("Bearer token"), None);
    }
}
