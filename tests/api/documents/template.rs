//! `template.yaml`, the code and README.md agree on functions, routes, settings and rights.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use aws_sdk_dynamodb::config::BehaviorVersion;
use aws_types::SdkConfig;
use serde_json::{Value, json};
use shared::settings::{ConfigError, Settings};
use support::Permission;
use support::template::{Function, Parameter, Template};
use uuid::Uuid;

use crate::answers::{
    CHANGED_PASSWORD, CODE_CORRECT, CODE_INCORRECT, LOGGED_OUT, NEW_PASSWORD_SET, PASSWORD_CHANGED,
    PASSWORD_CORRECT, PASSWORD_INCORRECT, SESSION_DELETED, USERNAME_OR_PASSWORD_INCORRECT,
};
use crate::documents::events::read;
use crate::helpers::{
    ApiResponse, CHANGE_MY_PASSWORD, CHANGE_PASSWORD, CHANGE_PASSWORD_AFTER_SIGNIN, CHANGE_PASSWORD_URL,
    CHECK_CODE, CHECK_OLD_PASSWORD, KEY_SET, LOG_OUT, METADATA, NEW_PASSWORD, OTHER_ARGON2_HASH, PASSWORD,
    RESET_PASSWORD, SEND_EMAIL, SESSION_INFORMATION, SESSION_SIGNIN, SESSIONS, SIGNIN, Service, User,
    WRONG_CODE, WRONG_PASSWORD, unknown_username,
};
use crate::rules::rotation::{STEPS, step};

/// The documented routes: method, path, and the function that answers.
const ROUTES: [(&str, &str, &str); 20] = [
    ("DELETE", "/api/v1/user/myself/session/{id}", "sessions"),
    ("GET", "/", "pages"),
    ("GET", "/assets/{name}", "pages"),
    ("GET", "/change-password", "pages"),
    ("GET", "/forgot-password", "pages"),
    ("GET", "/sessions", "pages"),
    ("GET", CHANGE_PASSWORD_URL, "well_known"),
    ("GET", KEY_SET, "well_known"),
    ("GET", METADATA, "well_known"),
    ("GET", SESSIONS, "sessions"),
    ("POST", SESSION_SIGNIN, "session_signin"),
    ("POST", CHANGE_PASSWORD_AFTER_SIGNIN, "change_password_after_signin"),
    ("POST", CHECK_CODE, "forgot_password_check_code"),
    ("POST", RESET_PASSWORD, "forgot_password_reset_password"),
    ("POST", SEND_EMAIL, "forgot_password_send_email"),
    ("POST", SIGNIN, "signin"),
    ("POST", CHANGE_PASSWORD, "change_password"),
    ("POST", CHECK_OLD_PASSWORD, "change_my_password"),
    ("POST", CHANGE_MY_PASSWORD, "change_my_password"),
    ("POST", LOG_OUT, "sessions"),
];
/// Settings that are not parameters, because they name resources of the stack.
const OWN: [&str; 9] = [
    "ATTEMPTS_TABLE",
    "CODE_KEY_SECRET_ID",
    "JWT_KEY_SET_ID",
    "JWT_SECRET_ID",
    "MAIL_CONFIGURATION_SET",
    "ORIGIN_SECRET_ID",
    "RESET_CODES_TABLE",
    "SESSIONS_TABLE",
    "SOURCE_IPS_TABLE",
];
/// The functions that verify passwords.
const VERIFY_PASSWORDS: [&str; 4] =
    ["change_my_password", "change_password", "change_password_after_signin", "signin"];
/// The functions whose log no function of the API may write.
pub(super) const ADMINISTRATION: [&str; 3] = ["export_users", "manage_users", "rotate_jwt_secret"];
/// A setting of API Gateway, which no function reads.
pub(crate) const READ_BY_API: &str = "CORS_ALLOW_HEADERS";
/// Texts of which each setting that is a text takes one at least.
pub(super) const TEXTS: [&str; 5] = [
    "any.text",
    "any.text@example.com",
    "https://app.example.com",
    "#2563eb",
    r#"<svg xmlns="http://www.w3.org/2000/svg"></svg>"#,
];
/// The beginning of the variables that one function alone has, because they name parts of the stack to it.
const OF_SMOKE_TEST: &str = "SMOKE_TEST_";
/// A variable that is no setting, but stands for what else a version is made of.
pub(super) const CONFIGURATION: &str = "CONFIGURATION";

/// The stack with the default of every parameter that has one.
pub(crate) fn template() -> Template {
    with_parameters(&[])
}

/// The stack with these parameters, which are named like settings.
pub(crate) fn with_parameters(parameters: &'static [(&'static str, &'static str)]) -> Template {
    let value = |setting: &str| {
        let sender = [("MAIL_FROM", "no-reply@example.com")];
        let mut all = parameters.iter().chain(&sender);
        all.find(|(name, _)| *name == setting).map(|(_, value)| (*value).to_owned())
    };
    Template::for_stack("postern", &Settings::new(value)).unwrap()
}

pub(crate) fn functions() -> Vec<Function> {
    template().functions().unwrap()
}

/// Starts a function and returns its debug form, which shows its settings.
fn start(function: &str, settings: &Settings) -> Result<String, ConfigError> {
    let aws = &SdkConfig::builder().behavior_version(BehaviorVersion::latest()).build();
    let function = functions::find(function).expect("a function of this name");
    Ok(format!("{:?}", function.start(settings, aws)?))
}

/// The variables of a function, with those that Lambda sets.
fn variables_of(function: &Function) -> BTreeMap<String, String> {
    let of_lambda = ["AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
    let of_lambda = of_lambda.map(|name| (name.to_owned(), "any".to_owned()));
    function.variables.clone().into_iter().chain(of_lambda).collect()
}

/// Starts a function with its variables, one of which has this value or is not there.
fn start_with(function: &Function, setting: &str, value: Option<&str>) -> Result<String, ConfigError> {
    let mut variables = variables_of(function);
    variables.remove(setting);
    if setting == "JWT_ALGORITHM" {
        // Public keys need one.
        variables.insert("JWT_ISSUER".to_owned(), "https://auth.example.com".to_owned());
    }
    variables.extend(value.map(|value| (setting.to_owned(), value.to_owned())));
    start(&function.name, &Settings::new(move |name| variables.get(name).cloned()))
}

/// The settings that a function looks up when it is started.
fn read_by(function: &Function) -> BTreeSet<String> {
    let (variables, read) = (variables_of(function), Arc::new(Mutex::new(BTreeSet::new())));
    let noted = Arc::clone(&read);
    let settings = Settings::new(move |name| {
        // Lambda sets the variables that start with AWS.
        if !name.starts_with("AWS_") {
            noted.lock().unwrap().insert(name.to_owned());
        }
        variables.get(name).cloned()
    });
    start(&function.name, &settings).unwrap();
    drop(settings);
    Arc::into_inner(read).unwrap().into_inner().unwrap()
}

/// Every setting that is read, with a function that reads it.
pub(crate) fn readers() -> BTreeMap<String, Function> {
    let readers = functions()
        .into_iter()
        .flat_map(|function| read_by(&function).into_iter().map(move |setting| (setting, function.clone())));
    readers.filter(|(setting, _)| !setting.starts_with(OF_SMOKE_TEST)).collect()
}

/// Returns whether the pattern of a parameter accepts a text.
pub(crate) fn matches_pattern(parameter: &Parameter, text: &str) -> bool {
    let Some(pattern) = &parameter.allowed_pattern else { return true };
    jsonschema::is_valid(&json!({"pattern": format!("^(?:{pattern})$")}), &json!(text))
}

/// The folders in a folder of the project.
fn folders_in(folder: &str) -> BTreeSet<String> {
    let entries =
        std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder)).unwrap();
    let folders = entries.map(Result::unwrap).filter(|entry| entry.file_type().unwrap().is_dir());
    folders.map(|folder| folder.file_name().into_string().unwrap()).collect()
}

#[test]
fn every_function_is_deployed_and_has_its_events() {
    let deployed: BTreeSet<String> = functions().into_iter().map(|function| function.name).collect();
    assert_eq!(deployed, folders_in("functions"));
    assert_eq!(deployed, folders_in("events"));
}

#[test]
fn every_documented_route_leads_to_its_function() {
    let mut deployed = BTreeSet::new();
    for function in functions() {
        for route in function.routes {
            deployed.insert((route.method, route.path, function.name.clone()));
        }
    }
    let documented = ROUTES.map(|(method, path, name)| (method.to_owned(), path.to_owned(), name.to_owned()));
    assert_eq!(deployed, BTreeSet::from(documented));
}

#[test]
fn functions_get_the_settings_that_are_read() {
    let mut read: BTreeSet<String> = readers().into_keys().collect();
    read.insert(CONFIGURATION.to_owned());
    for function in functions() {
        let mut expected = read.clone();
        if function.name == "smoke_test" {
            expected.extend(read_by(&function));
            assert_eq!(expected.len(), read.len() + 6, "{expected:?}");
        }
        assert_eq!(function.variables.into_keys().collect::<BTreeSet<_>>(), expected, "{}", function.name);
    }
}

#[test]
fn parameters_have_the_defaults_and_the_limits_of_the_code() {
    let template = template();
    let (parameters, own): (Vec<_>, Vec<_>) =
        readers().into_iter().partition(|(setting, _)| template.parameter(setting).is_some());
    assert_eq!(own.iter().map(|(setting, _)| setting.as_str()).collect::<Vec<_>>(), OWN);
    for (setting, function) in parameters {
        let parameter = template.parameter(&setting).unwrap();
        let started = |value: Option<&str>| start_with(&function, &setting, value);
        let limits = (parameter.min_value, parameter.max_value, &parameter.allowed_values[..]);
        let texts = |numbers: [i64; 2]| numbers.iter().map(i64::to_string).collect();
        let (taken, refused): (Vec<String>, Vec<String>) = match limits {
            (Some(min), Some(max), []) => (texts([min, max]), texts([min - 1, max + 1])),
            (None, None, []) => {
                let taken = TEXTS.iter().filter(|text| matches_pattern(parameter, text));
                (taken.map(|text| (*text).to_owned()).collect(), Vec::new())
            }
            (None, None, values) => (values.to_vec(), vec!["none of these".to_owned()]),
            _ => panic!("half a limit of {setting}"),
        };
        for value in &refused {
            assert!(started(Some(value)).is_err(), "{setting} may not be {value}");
        }
        if parameter.default.is_some() {
            assert_eq!(
                started(None),
                started(Some(&function.variables[&setting])),
                "the default of {setting}"
            );
            assert!(
                taken.iter().any(|value| started(Some(value)) != started(None)),
                "{setting} changes nothing"
            );
        } else {
            assert!(started(None).is_err(), "{setting} has a default");
        }
        for value in &taken {
            started(Some(value)).unwrap();
        }
    }
}

#[test]
fn the_readme_lists_every_setting_with_its_default() {
    let (_, section) = include_str!("../../../README.md").split_once("\n## Configure\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let mut listed = BTreeMap::new();
    for row in section.lines().filter(|line| line.starts_with("| `")) {
        let [_, names, defaults, ..] = row.split('|').collect::<Vec<_>>()[..] else { panic!("{row}") };
        let [names, defaults] =
            [names, defaults].map(|cell| cell.trim().split(", ").map(|item| item.trim_matches('`')));
        assert_eq!(names.clone().count(), defaults.clone().count(), "{row}");
        listed.extend(names.zip(defaults));
    }

    let readers = readers();
    let mut settings: BTreeSet<&str> = readers.keys().map(String::as_str).collect();
    settings.insert(READ_BY_API);
    assert_eq!(listed.keys().copied().collect::<BTreeSet<_>>(), settings);
    for (setting, function) in &readers {
        // One that is empty counts as one that is not set.
        let default =
            if listed[setting.as_str()].starts_with("none") { "" } else { listed[setting.as_str()] };
        assert_eq!(
            start_with(function, setting, Some(default)),
            start_with(function, setting, None),
            "the default of {setting}"
        );
    }
    let headers = template().parameter(READ_BY_API).unwrap().default.clone();
    assert_eq!(headers.as_deref(), Some(listed[READ_BY_API]));
}

/// Uses every function in every way.
async fn use_everything(service: &Service) {
    let user = service.user().with("password_hash", OTHER_ARGON2_HASH).with("locale", "de").create().await;
    service.signin(&user.username, WRONG_PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
    let (_, session_token) = service.session_of(&user).await;
    service.fill_sessions(&user, 100).await;
    let (token, _) = service.session_of(&user).await;
    let shown = json!({"session_token": session_token, "session_information": SESSION_INFORMATION});
    service.post_json(SESSION_SIGNIN, &shown).await.token_of_session();
    service.log_out(&token, &session_token).await.is(LOGGED_OUT);
    let ids = service.session_ids(&token).await;
    service.delete_session(&token, &ids[0]).await.is(SESSION_DELETED);
    assert_eq!(service.authorize(&token).await.unwrap()["isAuthorized"], true);
    service.check_old_password(&token, PASSWORD).await.is(PASSWORD_CORRECT);
    service.change_my_password(&token, PASSWORD, NEW_PASSWORD).await.is(PASSWORD_CHANGED);
    service.change_password(&token, NEW_PASSWORD, PASSWORD).await.is(NEW_PASSWORD_SET);
    // Wrong passwords from a known network, from elsewhere, and for an unknown username.
    for client in [service, &service.seen_from_elsewhere()] {
        for username in [&user.username, &unknown_username()] {
            let wrong = client.signin(username, WRONG_PASSWORD).await;
            wrong.is(USERNAME_OR_PASSWORD_INCORRECT);
            let wrong = client.change_password_after_signin(username, WRONG_PASSWORD, NEW_PASSWORD).await;
            wrong.is(USERNAME_OR_PASSWORD_INCORRECT);
        }
        client.check_old_password(&token, WRONG_PASSWORD).await.is(PASSWORD_INCORRECT);
        let wrong = client.change_password(&token, WRONG_PASSWORD, NEW_PASSWORD).await;
        assert_eq!(wrong.status, 422, "{wrong:?}");
    }

    let line = json!({
        "event": "signin",
        "outcome": "signed_in",
        "new_network": true,
        "user_id": user.id,
        "source_ip": "203.0.113.9",
    });
    service.notify(&[(0, line.to_string())]).await.unwrap();

    let code = service.code_for(&user).await;
    service.check_code(&user.username, &code).await.is(CODE_CORRECT);
    service.check_code(&user.username, WRONG_CODE).await.is(CODE_INCORRECT);
    service.reset_password(&user.username, WRONG_CODE, PASSWORD).await.is(CODE_INCORRECT);
    service.reset_password(&user.username, &code, PASSWORD).await.is(CHANGED_PASSWORD);

    let due = service.user().due_a_password_change().create().await;
    service.session_of_forced_change(&due).await;

    let update = json!({
        "activated": true,
        "must_change_password": true,
        "email_addresses": [user.email],
        "locale": "en",
    });
    service.update(&user, update).await;
    let set_password = json!({"action": "set_password", "username": user.username, "password": NEW_PASSWORD});
    assert_eq!(service.manage(&set_password).await["ok"], true);
    let renamed = format!("{}-maier", user.username);
    for new_username in [&user.username.to_uppercase(), &renamed] {
        let rename = json!({"action": "rename", "username": user.username, "new_username": new_username});
        assert_eq!(service.manage(&rename).await["ok"], true);
    }
    assert_eq!(service.manage(&json!({"action": "get", "user_id": user.id})).await["ok"], true);
    let user = User { username: renamed, ..user };
    for action in ["get", "revoke_sessions", "unlock", "delete"] {
        assert_eq!(service.manage_user(action, &user).await["ok"], true, "{action}");
    }
    assert_eq!(service.manage(&json!({"action": "list"})).await["ok"], true);
    assert_eq!(service.manage(&json!({"action": "count_outdated_hashes"})).await["ok"], true);
    assert_eq!(service.invoke("export_users", &json!({})).await["ok"], true);
    for path in [KEY_SET, METADATA, CHANGE_PASSWORD_URL, "/"] {
        ApiResponse::to(service.request("GET", path)).await;
    }
    // Another test is running.
    let probe = json!({"action": "create", "username": "smoke-test-other", "user_id": "smoke-test-0"});
    assert_eq!(service.manage(&probe).await["ok"], true);
    service.invoke("smoke_test", &json!({})).await;
    service.invoke("smoke_test", &read("smoke_test/deployment")).await;
    let version = Uuid::new_v4().to_string();
    for next in STEPS {
        step(service, next, &version).await.unwrap();
    }
    step(service, "revokeKeys", &Uuid::new_v4().to_string()).await.unwrap();
}

fn permissions(function: &Function) -> Vec<Permission> {
    function.statements.iter().flat_map(|statement| statement.permissions(&function.function_name)).collect()
}

fn is_for_lambda(permission: &Permission) -> bool {
    ["logs:CreateLogStream", "logs:PutLogEvents"].contains(&permission.action.as_str())
        || permission.action.starts_with("xray:")
}

/// Asserts that the functions used all that their roles allow. (IAM refused anything more.)
fn assert_nothing_else_is_allowed(service: &Service) {
    let stack = service.stack.as_ref().unwrap();
    let functions = stack.template().functions().unwrap();
    let mut allowed: BTreeSet<Permission> = functions.iter().flat_map(permissions).collect();
    // Lambda itself uses these.
    allowed.retain(|permission| !is_for_lambda(permission));
    // These are used to open connections early, and to look up an outcome after a lost response or a race.
    let is_spare = |permission: &Permission| {
        let function = permission.function.rsplit('-').next();
        let verifies = VERIFY_PASSWORDS.iter().any(|name| Some(*name) == function);
        let reads_user =
            permission.action == "dynamodb:GetItem" && !permission.resource.ends_with("-sessions");
        verifies && reads_user && permission.attribute.is_some()
    };
    // The version before this one uses the tables that others replace.
    let is_of_replaced = |permission: &Permission| {
        [("-users", &service.tables.users), ("-user-ids", &service.tables.user_ids)]
            .iter()
            .any(|(own, used)| permission.resource.ends_with(own) && !permission.resource.ends_with(*used))
    };
    allowed.retain(|permission| !is_spare(permission) && !is_of_replaced(permission));
    let used = stack.permissions_used();
    assert_eq!(used.difference(&allowed).collect::<Vec<_>>(), [] as [&Permission; 0]);
    assert_eq!(allowed.difference(&used).collect::<Vec<_>>(), [] as [&Permission; 0], "never used");
}

#[tokio::test]
async fn functions_have_exactly_the_permissions_that_they_use() {
    // Where the edge is not required, as the smoke test comes to the API without one here.
    for (algorithm, edge) in [("HS256", "off"), ("ES256", "optional")] {
        let interval = ("JWT_ROTATION_MIN_INTERVAL_SECONDS", "0");
        let mut service =
            Service::with_settings([interval, ("JWT_ALGORITHM", algorithm), ("EDGE", edge)]).await;
        if edge == "optional" {
            let secret = service.secret(&service.origin_secret_id).await;
            service = service.through_edge(&secret.value);
        }
        use_everything(&service).await;
        assert_nothing_else_is_allowed(&service);
    }
}

#[tokio::test]
async fn roles_allow_no_more_attributes_of_a_user_than_the_functions_use() {
    let service = Service::with_settings([]).await;
    let stack = service.stack.as_ref().unwrap();
    let mut users = stack.template().functions().unwrap();
    // The others may not touch this user.
    users.retain(|function| !["rotate_jwt_secret", "well_known"].contains(&function.name.as_str()));
    let request = |operation: &'static str, mut parameters: Value| {
        parameters["TableName"] = json!(service.tables.users);
        if operation != "Scan" {
            parameters["Key"] = json!({"username": {"S": "st.huber"}});
        }
        (operation, parameters)
    };
    let update = |attribute: &str, returned: &str| {
        let parameters = json!({
            "UpdateExpression": format!("SET {attribute} = :value"),
            "ConditionExpression": "attribute_exists(username)",
            "ExpressionAttributeValues": {":value": {"S": "value"}},
            "ReturnValues": returned,
        });
        request("UpdateItem", parameters)
    };
    let set_passwords = [&VERIFY_PASSWORDS[..], &["forgot_password_reset_password", "manage_users"]].concat();
    let batch = |attributes: &str| {
        let mut keys = json!({"Keys": [{"username": {"S": "st.huber"}}]});
        if !attributes.is_empty() {
            keys["ProjectionExpression"] = json!(attributes);
        }
        ("BatchGetItem", json!({"RequestItems": {service.tables.users.as_str(): keys}}))
    };
    let projection = |attributes: &str| json!({"ProjectionExpression": attributes});
    for ((operation, parameters), expected) in [
        (batch("username, password_hash"), &VERIFY_PASSWORDS[..]),
        // To rename a user is to move the whole item.
        (request("GetItem", projection("username, password_hash")), &["manage_users"]),
        (batch(""), &[]),
        (request("GetItem", json!({})), &[]),
        (request("Scan", projection("password_hash")), &["export_users", "manage_users"]),
        (request("Scan", json!({})), &[]),
        (update("password_hash", "NONE"), &set_passwords),
        (update("password_hash", "UPDATED_OLD"), &[]),
        (update("password_hash", "ALL_NEW"), &[]),
        (update("email_addresses", "NONE"), &["manage_users"]),
        (update("activated", "NONE"), &["manage_users"]),
    ] {
        let mut allowed = BTreeSet::new();
        for function in &users {
            if is_allowed(&stack.aws_url(), function, operation, &parameters).await {
                allowed.insert(function.name.as_str());
            }
        }
        assert_eq!(allowed, expected.iter().copied().collect(), "{operation} {parameters}");
    }
}

/// Returns whether the function's role allows a call of DynamoDB.
async fn is_allowed(aws_url: &str, function: &Function, operation: &str, parameters: &Value) -> bool {
    let credential =
        format!("Credential={}/20261121/eu-central-1/dynamodb/aws4_request", function.function_name);
    let request = reqwest::Client::new()
        .post(aws_url)
        .header("authorization", format!("AWS4-HMAC-SHA256 {credential}, SignedHeaders=host, Signature=0"))
        .header("x-amz-target", format!("DynamoDB_20120810.{operation}"))
        .header("content-type", "application/x-amz-json-1.0")
        .body(parameters.to_string());
    !request.send().await.unwrap().text().await.unwrap().contains("AccessDeniedException")
}

#[tokio::test]
async fn the_smoke_test_may_touch_its_own_users_only() {
    let service = Service::with_settings([]).await;
    let stack = service.stack.as_ref().unwrap();
    let functions = stack.template().functions().unwrap();
    let smoke_test = functions.iter().find(|function| function.name == "smoke_test").unwrap();
    for (name, expected) in [("smoke-test-a", true), ("st.huber", false), ("a-smoke-test-", false)] {
        for (table, key) in [(&service.tables.users, "username"), (&service.tables.user_ids, "user_id")] {
            let read = json!({"ProjectionExpression": key});
            let write = json!({"Item": {"username": {"S": name}, "user_id": {"S": name}}});
            for (operation, mut parameters) in
                [("GetItem", read), ("DeleteItem", json!({})), ("PutItem", write)]
            {
                parameters["TableName"] = json!(table);
                if operation != "PutItem" {
                    parameters["Key"] = json!({key: {"S": name}});
                }
                let allowed = is_allowed(&stack.aws_url(), smoke_test, operation, &parameters).await;
                assert_eq!(allowed, expected, "{operation} {name} in {table}");
            }
        }
    }
}

#[tokio::test]
async fn restored_tables_replace_the_original_ones() {
    let [users, user_ids] = [(); 2].map(|()| format!("restored-{}", Uuid::new_v4().simple()));
    let service = Service::with_settings([
        ("JWT_ROTATION_MIN_INTERVAL_SECONDS", "0"),
        ("USERS_TABLE", &users),
        ("USER_IDS_TABLE", &user_ids),
    ])
    .await;
    use_everything(&service).await;
    assert_nothing_else_is_allowed(&service);
    assert_eq!((&service.tables.users, &service.tables.user_ids), (&users, &user_ids));
}

#[test]
fn the_example_of_another_service_finds_the_authorizer() {
    let example = include_str!("../../../functions/authorizer/example/template.yaml");
    let (template, tokens) = (include_str!("../../../template.yaml"), include_str!("../../../TOKENS.md"));
    assert!(template.contains("Name: !Sub /${AWS::StackName}/authorizer-function-arn\n"));
    assert!(example.contains("Default: /postern/authorizer-function-arn\n"));
    assert!(tokens.contains("`/postern/authorizer-function-arn`"));
}

#[test]
fn functions_may_write_their_traces_and_only_their_own_log() {
    for function in functions() {
        let name = function.name.as_str();
        let log = if ADMINISTRATION.contains(&name) || name == "smoke_test" {
            "postern-administration"
        } else {
            "postern"
        };
        assert_eq!(function.log_group, format!("/aws/lambda/{log}"), "{}", function.name);
        let allowed = permissions(&function).into_iter().filter(is_for_lambda);
        let mut allowed: Vec<_> =
            allowed.map(|permission| (permission.action, permission.resource)).collect();
        allowed.sort_unstable();
        let log = format!("arn:aws:logs:eu-central-1:000000000000:log-group:/aws/lambda/{log}:*");
        let expected = [
            ("logs:CreateLogStream", &*log),
            ("logs:PutLogEvents", &*log),
            ("xray:PutTelemetryRecords", "*"),
            ("xray:PutTraceSegments", "*"),
        ];
        assert_eq!(allowed, expected.map(|(action, resource)| (action.to_owned(), resource.to_owned())));
    }
}
