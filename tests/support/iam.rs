//! IAM: a function may do what its role in `template.yaml` allows, and nothing else. A call is a function's if its
//! access key says so; whoever else calls may do everything. Wildcards in a policy match nothing here.

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
use crate::secrets_manager::SecretsManager;
use crate::ses;
use crate::template::{Function, Statement};

/// What the functions may do, and what they did.
#[derive(Debug)]
pub(crate) struct Iam {
    /// By the functions' names, which are their access keys.
    statements: HashMap<String, Vec<Statement>>,
    used: Mutex<BTreeSet<Permission>>,
}

/// What a function was allowed to do.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Permission {
    /// The name that Lambda knows the function by.
    pub function: String,
    /// Such as `dynamodb:GetItem`.
    pub action: String,
    /// The ARN that it was done to.
    pub resource: String,
}

/// A call as policies see it.
#[derive(Default)]
struct Call {
    /// Actions, and what they are done to.
    accesses: Vec<(String, String)>,
    /// Condition keys and their values.
    context: BTreeMap<&'static str, String>,
}

impl Iam {
    pub(crate) fn new(functions: &[Function]) -> Self {
        let statements =
            functions.iter().map(|function| (function.function_name.clone(), function.statements.clone()));
        Self { statements: statements.collect(), used: Mutex::default() }
    }

    /// Every permission that was made use of so far.
    pub(crate) fn used(&self) -> BTreeSet<Permission> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The function that a request is from, if it is from one.
    pub(crate) fn function<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        caller(headers).filter(|key| self.statements.contains_key(*key))
    }

    /// Notes what `function` does, or returns the first thing that it may not do.
    fn check(&self, function: &str, call: Call) -> Result<(), Permission> {
        let statements = self.statements.get(function).map(Vec::as_slice).unwrap_or_default();
        let Call { accesses, context } = call;
        let is_allowed = |permission: &Permission| {
            statements.iter().any(|statement| {
                let mut condition = statement.condition.string_equals.iter();
                statement.actions.contains(&permission.action)
                    && statement.resources.contains(&permission.resource)
                    && condition.all(|(key, value)| context.get(key.as_str()) == Some(value))
            })
        };
        let permissions = accesses.into_iter().map(|(action, resource)| {
            let permission = Permission { function: function.to_owned(), action, resource };
            if is_allowed(&permission) { Ok(permission) } else { Err(permission) }
        });
        let permissions = permissions.collect::<Result<Vec<_>, _>>()?;
        self.used.lock().unwrap_or_else(PoisonError::into_inner).extend(permissions);
        Ok(())
    }
}

/// Lets a call through unless it is a function's that is not allowed to make it.
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
    // What is no JSON names no resource, and is refused as a call that names another one's.
    let json = serde_json::from_slice(&body).unwrap_or_default();
    let (call, refused) = Call::read(&parts, &json, &secrets);
    match iam.check(&function, call) {
        Ok(()) => next.run(Request::from_parts(parts, Body::from(body))).await,
        Err(Permission { function, action, resource }) => {
            tracing::error!(function, action, resource, "not allowed by the function's role");
            let message = format!(
                "User: {function} is not authorized to perform: {action} on resource: {resource} because no \
                 identity-based policy allows the {action} action"
            );
            aws::refuse(refused, "AccessDeniedException", &message)
        }
    }
}

/// The access key of who signed the request: `Credential=KEY/DATE/REGION/SERVICE/aws4_request`.
fn caller(headers: &HeaderMap) -> Option<&str> {
    let authorization = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (_, credential) = authorization.split_once("Credential=")?;
    credential.split('/').next()
}

impl Call {
    /// What a request does, and the status of its refusal.
    fn read(parts: &Parts, request: &Value, secrets: &SecretsManager) -> (Self, StatusCode) {
        match aws::target(&parts.headers) {
            Some(("secretsmanager", operation)) => {
                (Self::of_secrets_manager(operation, request, secrets), StatusCode::BAD_REQUEST)
            }
            Some((_, operation)) => (Self::of_dynamodb(operation, request), StatusCode::BAD_REQUEST),
            None if parts.uri.path() == ses::SEND_EMAIL => (Self::of_ses(request), StatusCode::FORBIDDEN),
            // No other service has anything for a function.
            None => {
                let accesses = vec![(parts.method.to_string(), parts.uri.path().to_owned())];
                (Self { accesses, ..Self::default() }, StatusCode::FORBIDDEN)
            }
        }
    }

    fn of_dynamodb(operation: &str, request: &Value) -> Self {
        let access = |operation: &str, request: &Value| {
            let table = format!("table/{}", request["TableName"].as_str().unwrap_or_default());
            let resource = match request["IndexName"].as_str() {
                Some(index) => format!("{table}/index/{index}"),
                None => table,
            };
            (format!("dynamodb:{operation}"), arn("dynamodb", &resource))
        };
        // A transaction needs the permissions of its parts.
        let accesses = match request["TransactItems"].as_array() {
            Some(items) => items
                .iter()
                .filter_map(Value::as_object)
                .flatten()
                .map(|(part, request)| match part.as_str() {
                    "ConditionCheck" => access("ConditionCheckItem", request),
                    part => access(&format!("{part}Item"), request),
                })
                .collect(),
            None => vec![access(operation, request)],
        };
        Self { accesses, ..Self::default() }
    }

    fn of_secrets_manager(operation: &str, request: &Value, secrets: &SecretsManager) -> Self {
        let id = request["SecretId"].as_str().unwrap_or_default();
        let resource = secrets.arn(id).unwrap_or_else(|| id.to_owned());
        Self { accesses: vec![(format!("secretsmanager:{operation}"), resource)], ..Self::default() }
    }

    /// A mail. SES takes the identity of the sender's address if there is one, and else that of its domain: both
    /// have to be allowed.
    fn of_ses(request: &Value) -> Self {
        let sender = ses::bare(request["FromEmailAddress"].as_str().unwrap_or_default());
        let domain = sender.rsplit('@').next().unwrap_or_default();
        let mut resources = vec![format!("identity/{sender}"), format!("identity/{domain}")];
        if let Some(set) = request["ConfigurationSetName"].as_str() {
            resources.push(format!("configuration-set/{set}"));
        }
        let access = |resource: &String| ("ses:SendEmail".to_owned(), arn("ses", resource));
        let context = BTreeMap::from([("ses:FromAddress", sender.to_owned())]);
        Self { accesses: resources.iter().map(access).collect(), context }
    }
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
            "Action": "dynamodb:Query",
            "Resource": "arn:aws:dynamodb:eu-central-1:000000000000:table/sessions/index/by_user"
        },
        {
            "Effect": "Allow",
            "Action": "ses:SendEmail",
            "Resource": [
                "arn:aws:ses:eu-central-1:000000000000:identity/a@example.com",
                "arn:aws:ses:eu-central-1:000000000000:identity/b@example.com",
                "arn:aws:ses:eu-central-1:000000000000:identity/example.com",
                "arn:aws:ses:eu-central-1:000000000000:configuration-set/set"
            ],
            "Condition": {"StringEquals": {"ses:FromAddress": "a@example.com"}}
        }
    ]"#;

    fn is_allowed(call: Call) -> bool {
        let statements = serde_json::from_str(STATEMENTS).unwrap();
        let iam = Iam { statements: HashMap::from([("f".to_owned(), statements)]), used: Mutex::default() };
        assert!(iam.used().is_empty());
        let allowed = iam.check("f", call).is_ok();
        assert_eq!(iam.used().is_empty(), !allowed);
        allowed
    }

    #[test]
    fn a_table_its_indexes_and_another_table_are_apart() {
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
            assert_eq!(is_allowed(Call::of_dynamodb(operation, request)), allowed, "{operation} {request}");
        }
    }

    #[test]
    fn a_transaction_needs_the_permissions_of_its_parts() {
        let transaction = |part: &str| {
            let items = json!([{"Update": {"TableName": "users"}}, {part: {"TableName": "users"}}]);
            is_allowed(Call::of_dynamodb("TransactWriteItems", &json!({"TransactItems": items})))
        };
        assert!(transaction("Update"));
        for part in ["Put", "Delete", "ConditionCheck"] {
            assert!(!transaction(part), "{part}");
        }
    }

    #[test]
    fn a_mail_needs_its_identities_its_configuration_set_and_its_sender() {
        let mail = |from: &str, set: &str| {
            is_allowed(Call::of_ses(&json!({"FromEmailAddress": from, "ConfigurationSetName": set})))
        };
        assert!(mail("a@example.com", "set"));
        assert!(mail("A <a@example.com>", "set"));
        assert!(!mail("a@example.com", "other"));
        assert!(!mail("b@example.com", "set"));
        assert!(!mail("a@elsewhere.example.com", "set"));
    }

    #[test]
    fn the_caller_is_named_by_the_access_key() {
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
