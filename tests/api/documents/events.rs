//! Every file in `events/`, invoked as `sam local invoke` does, gives the documented answer.

use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::answers::{
    CHANGED_PASSWORD, CODE_CORRECT, CODE_INCORRECT, Documented, LOGGED_OUT, MALFORMED_JSON, NEW_PASSWORD_SET,
    NO_SESSION_TO_LOG_OUT, NO_SESSIONS, PASSWORD_CHANGED, PASSWORD_CORRECT, PASSWORD_INCORRECT, SENT,
    SESSION_DELETED, SESSION_NOT_FOUND, SESSION_TOKEN_INCORRECT, TOKEN_NOT_PROVIDED, UNAUTHORIZED,
    UNKNOWN_USERNAME, USERNAME_OR_PASSWORD_INCORRECT, change_password_errors,
};
use crate::documents::template;
use crate::helpers::{NEW_PASSWORD, PASSWORD, PASSWORD_HASH, Service, User, unknown_username};

// The values in the files, which the tests replace by their own.
const USERNAME: &str = "st.huber";
const CODE: &str = "482901";
const SESSION_TOKEN: &str = "2XRq1yubqq53A347PcWLRVlOj1rArsvx5u4keovU1T20FG51vXyVzNU73K1RDBhh";
const JWT_SECRET_ID: &str = "postern/jwt-secret";
const SESSION_ID: &str = "1837402653";
pub(crate) const TOKEN: &str = "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJsdW1lbi1qd3QiLCJzdWIiOjMzLCJpYXQiOjE1NjkyN\
     TQ0MzcsImV4cCI6MTU2OTI1ODAzN30.8fCp9Jdgbz8BotM6bW_OuRLb4Zl36YcKS9eo8pbVbwQ";

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../events")
}

/// The event `<function>/<case>`.
pub(crate) fn read(name: &str) -> Value {
    let file = directory().join(format!("{name}.json"));
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

/// Invokes a function with an event and returns the status and body of its answer. The event comes from the
/// client's own address, so that the failures of many runs do not add up.
pub(crate) async fn invoke(service: &Service, function: &str, mut event: Value) -> (u64, String) {
    if let Some(address) = service.address {
        event["requestContext"]["http"]["sourceIp"] = json!(address);
    }
    let answer = service.invoke(function, &event).await;
    assert_eq!(answer["headers"]["content-type"], "application/json", "{answer}");
    assert_ne!(answer["isBase64Encoded"], true, "{answer}");
    (answer["statusCode"].as_u64().unwrap(), answer["body"].as_str().unwrap().to_owned())
}

/// A documented answer, as [`invoke`] returns it.
pub(crate) fn documented((status, body): Documented) -> (u64, String) {
    (status.into(), body.to_owned())
}

/// Replaces the example's values wherever they are, in an encoded body too.
pub(crate) fn with_own(event: &Value, own: &[(&str, &str)]) -> Value {
    let replace = |text: &str| own.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
    let mut replaced: Value = serde_json::from_str(&replace(&event.to_string())).unwrap();
    if event["isBase64Encoded"] == true {
        let body = BASE64_STANDARD.decode(event["body"].as_str().unwrap()).unwrap();
        replaced["body"] = BASE64_STANDARD.encode(replace(&String::from_utf8(body).unwrap())).into();
    }
    replaced
}

/// The cases of a function, by the files there are.
fn cases(function: &str) -> Vec<String> {
    let files = std::fs::read_dir(directory().join(function)).unwrap();
    let mut cases: Vec<String> =
        files.map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    cases.sort_unstable();
    cases
}

#[test]
fn every_http_event_has_payload_format_2_and_a_route_of_its_function() {
    for function in template::functions().iter().filter(|function| !function.routes.is_empty()) {
        for case in cases(&function.name) {
            let event = read(&format!("{}/{case}", function.name));
            let request = lambda_http::request::from_str(&event.to_string()).unwrap();
            let mut routes = function
                .routes
                .iter()
                .filter(|route| event["routeKey"] == format!("{} {}", route.method, route.path));
            let route =
                routes.next().unwrap_or_else(|| panic!("{}/{case}: {}", function.name, event["routeKey"]));
            assert_eq!(request.method().as_str(), route.method, "{}/{case}", function.name);
        }
    }
}

/// Asserts that a function has exactly these cases.
#[track_caller]
pub(crate) fn assert_cases(function: &str, expected: &[&str]) {
    assert_eq!(cases(function), expected, "each needs its documented answer below");
}

/// Asserts a success whose body has exactly these fields, and returns the token.
#[track_caller]
fn token((status, body): &(u64, String), fields: &[&str]) -> String {
    assert_eq!(*status, 200, "{body}");
    let body: Value = serde_json::from_str(body).unwrap();
    let mut present: Vec<&str> = body.as_object().unwrap().keys().map(String::as_str).collect();
    present.sort_unstable();
    assert_eq!(present, fields);
    body["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn signin() {
    assert_cases(
        "signin",
        &["base64_body", "malformed_json", "stay_logged_in", "without_session", "wrong_password"],
    );
    let service = Service::new();
    let user = service.user().create().await;
    let answer = async |case: &str| {
        let event = with_own(&read(&format!("signin/{case}")), &[(USERNAME, &user.username)]);
        invoke(&service, "signin", event).await
    };

    token(&answer("base64_body").await, &["token"]);
    assert_eq!(answer("malformed_json").await, documented(MALFORMED_JSON));
    token(&answer("stay_logged_in").await, &["session_token", "token"]);
    token(&answer("without_session").await, &["token"]);
    assert_eq!(answer("wrong_password").await, documented(USERNAME_OR_PASSWORD_INCORRECT));
}

#[tokio::test]
async fn change_password_after_signin() {
    let function = "change_password_after_signin";
    assert_cases(function, &["stay_logged_in", "trailing_comma", "without_session", "wrong_password"]);
    let service = Service::new();
    let answer = async |case: &str| {
        let user = service.user().due_a_password_change().create().await;
        let event = with_own(&read(&format!("{function}/{case}")), &[(USERNAME, &user.username)]);
        let answer = invoke(&service, function, event).await;
        let changed = service.signin(&user.username, "SaverPassword1234!").await.status == 200;
        assert_eq!(changed, answer.0 == 200, "{case}");
        answer
    };

    token(&answer("stay_logged_in").await, &["session_token", "token"]);
    assert_eq!(answer("trailing_comma").await, documented(MALFORMED_JSON));
    token(&answer("without_session").await, &["token"]);
    assert_eq!(answer("wrong_password").await, documented(USERNAME_OR_PASSWORD_INCORRECT));
}

#[tokio::test]
async fn forgot_password_send_email() {
    let function = "forgot_password_send_email";
    assert_cases(function, &["known_username", "unknown_username"]);
    let service = Service::new();
    let user = service.user().create().await;
    let answer = async |case: &str| {
        let event = with_own(&read(&format!("{function}/{case}")), &[(USERNAME, &user.username)]);
        invoke(&service, function, event).await
    };

    assert_eq!(answer("known_username").await, documented(SENT));
    assert_eq!(service.mails_to(&user.email).await.len(), 1);
    assert_eq!(answer("unknown_username").await, documented(UNKNOWN_USERNAME));
}

/// The answer to an event of a user who has requested a code.
async fn with_code(service: &Service, user: &User, function: &str, case: &str) -> (u64, String) {
    let code = service.code_for(user).await;
    let event = with_own(&read(&format!("{function}/{case}")), &[(USERNAME, &user.username), (CODE, &code)]);
    invoke(service, function, event).await
}

#[tokio::test]
async fn forgot_password_check_code() {
    let function = "forgot_password_check_code";
    assert_cases(function, &["integer_code", "string_code", "wrong_code"]);
    let service = Service::new();
    let user = service.user().create().await;
    let answer = async |case: &str| with_code(&service, &user, function, case).await;

    assert_eq!(answer("integer_code").await, documented(CODE_CORRECT));
    assert_eq!(answer("string_code").await, documented(CODE_CORRECT));
    assert_eq!(answer("wrong_code").await, documented(CODE_INCORRECT));
}

#[tokio::test]
async fn forgot_password_reset_password() {
    let function = "forgot_password_reset_password";
    assert_cases(function, &["right_code", "wrong_code"]);
    let service = Service::new();
    let user = service.user().create().await;
    let answer = async |case: &str| with_code(&service, &user, function, case).await;

    assert_eq!(answer("wrong_code").await, documented(CODE_INCORRECT));
    assert_eq!(answer("right_code").await, documented(CHANGED_PASSWORD));
    service.signin(&user.username, NEW_PASSWORD).await.token();
}

#[tokio::test]
async fn change_password() {
    let function = "change_password";
    assert_cases(function, &["bearer", "bearer_colon", "bearer_null", "nothing_provided"]);
    let service = Service::new();
    let answer = async |case: &str| {
        let user = service.user().create().await;
        let event =
            with_own(&read(&format!("{function}/{case}")), &[(TOKEN, &service.token_of(&user).await)]);
        invoke(&service, function, event).await
    };

    assert_eq!(answer("bearer").await, documented(NEW_PASSWORD_SET));
    assert_eq!(answer("bearer_colon").await, documented(NEW_PASSWORD_SET));
    assert_eq!(answer("bearer_null").await, documented(UNAUTHORIZED));
    assert_eq!(answer("nothing_provided").await, (422, change_password_errors(&[1, 2, 3])));
}

#[tokio::test]
async fn change_my_password() {
    let function = "change_my_password";
    assert_cases(
        function,
        &[
            "change_with_header",
            "change_with_two_tokens",
            "change_without_token",
            "check_old_password",
            "check_wrong_password",
        ],
    );
    let service = Service::new();
    let answer = async |case: &str| {
        let user = service.user().create().await;
        let event =
            with_own(&read(&format!("{function}/{case}")), &[(TOKEN, &service.token_of(&user).await)]);
        let answer = invoke(&service, function, event).await;
        let changed = service.signin(&user.username, NEW_PASSWORD).await.status == 200;
        assert_eq!(changed, answer == documented(PASSWORD_CHANGED), "{case}");
        answer
    };

    assert_eq!(answer("change_with_header").await, documented(PASSWORD_CHANGED));
    assert_eq!(answer("change_with_two_tokens").await, documented(PASSWORD_CHANGED));
    assert_eq!(answer("change_without_token").await, documented(TOKEN_NOT_PROVIDED));
    assert_eq!(answer("check_old_password").await, documented(PASSWORD_CORRECT));
    assert_eq!(answer("check_wrong_password").await, documented(PASSWORD_INCORRECT));
}

#[tokio::test]
async fn manage_users() {
    assert_cases(
        "manage_users",
        &[
            "count_outdated_hashes",
            "create",
            "create_with_bcrypt_hash",
            "create_with_times",
            "create_without_password",
            "delete",
            "get",
            "get_by_id",
            "import",
            "list",
            "list_by_address",
            "rename",
            "revoke_sessions",
            "set_password",
            "unlock",
            "update",
            "update_without_locale",
        ],
    );
    let service = Service::new();
    let username = unknown_username();
    let answer = async |case: &str, username: &str| {
        let payload = with_own(&read(&format!("manage_users/{case}")), &[(USERNAME, username)]);
        service.manage(&payload).await
    };

    let created = answer("create", &username).await;
    assert_eq!(created["ok"], true, "{created}");
    assert_eq!(created["user"]["email_addresses"], json!([format!("{username}@example.com")]));
    let token = service.signin(&username, PASSWORD).await.token();
    let got = answer("get", &username).await;
    assert_eq!((&got["ok"], &got["user"]["user_id"]), (&json!(true), &created["user"]["user_id"]));

    let set = answer("set_password", &username).await;
    assert_eq!((&set["ok"], &set["user"]["must_change_password"]), (&json!(true), &json!(true)));
    assert!(!service.takes(&token).await);
    assert_eq!(answer("unlock", &username).await, json!({"ok": true}));
    let updated = answer("update", &username).await;
    assert_eq!((&updated["ok"], &updated["user"]["activated"]), (&json!(true), &json!(false)));

    let imported = unknown_username();
    let created = answer("create_with_bcrypt_hash", &imported).await;
    assert_eq!((&created["ok"], &created["user"]["must_change_password"]), (&json!(true), &json!(true)));
    service.change_password_after_signin(&imported, PASSWORD, NEW_PASSWORD).await.token();

    let imported = unknown_username();
    let answer_of_import = answer("import", &imported).await;
    let failed = json!([{
        "username": format!("{imported}.3"),
        "error_code": "validation_failed",
        "errors": {"password": ["The password must be at least 8 characters."]},
    }]);
    assert_eq!(answer_of_import, json!({"ok": true, "created": 2, "failed": failed}));
    let by_id = answer("get_by_id", &imported).await;
    assert_eq!(by_id["user"]["username"], json!(imported), "{by_id}");
    let token = service.signin(&imported, PASSWORD).await.token();
    assert_eq!(answer("revoke_sessions", &imported).await, json!({"ok": true}));
    assert!(!service.takes(&token).await);

    let cleared = answer("update_without_locale", &imported).await;
    assert_eq!((&cleared["ok"], &cleared["user"]["locale"]), (&json!(true), &Value::Null));

    let older = unknown_username();
    let created = answer("create_with_times", &older).await;
    assert_eq!(created["user"]["created_at"], "2020-06-11T17:48:13.000000Z", "{created}");
    service.signin(&older, PASSWORD).await.token();
    let renamed = answer("rename", &older).await;
    assert_eq!(renamed["user"]["user_id"], created["user"]["user_id"], "{renamed}");
    service.signin(&format!("{older}-maier"), PASSWORD).await.token();
    assert_eq!(answer("create_without_password", &older).await["ok"], true);
    let by_address = answer("list_by_address", &older).await;
    assert!(by_address["users"].as_array().is_some_and(|users| users.len() <= 1), "{by_address}");

    let listed = answer("list", &imported).await;
    let users = listed["users"].as_array().unwrap().len();
    assert!(listed["ok"] == true && (1..=50).contains(&users), "{listed}");
    let counted = answer("count_outdated_hashes", &imported).await;
    assert_eq!(counted["ok"], true, "{counted}");
    assert!(counted["outdated"].as_u64() <= counted["users"].as_u64(), "{counted}");

    assert_eq!(answer("delete", &imported).await, json!({"ok": true}));
    assert_eq!(answer("get", &imported).await["error_code"], "unknown_username");
}

#[tokio::test]
async fn session_signin() {
    let function = "session_signin";
    assert_cases(function, &["good_token", "unknown_token"]);
    let service = Service::new();
    let user = service.user().create().await;
    let (token, session_token) = service.session_of(&user).await;
    let answer = async |case: &str| {
        let event = with_own(&read(&format!("{function}/{case}")), &[(SESSION_TOKEN, &session_token)]);
        invoke(&service, function, event).await
    };

    let (status, body) = answer("good_token").await;
    assert_eq!(status, 202, "{body}");
    let new: Value = serde_json::from_str(&body).unwrap();
    assert!(service.takes(new["token"].as_str().unwrap()).await);
    let listed = service.sessions(&token).await.json();
    assert_eq!(listed["sessions"][0]["information"], "Firefox: 70; Mobile: true;");
    assert_eq!(answer("unknown_token").await, documented(SESSION_TOKEN_INCORRECT));
}

#[tokio::test]
async fn sessions() {
    let function = "sessions";
    assert_cases(
        function,
        &["delete", "list_with_header", "list_with_query", "list_without_token", "log_out"],
    );
    let service = Service::new();
    let user = service.user().create().await;
    let (_, session_token) = service.session_of(&user).await;
    service.session_of(&user).await;
    let token = service.token_of(&user).await;
    let ids = service.session_ids(&token).await;
    let answer = async |case: &str| {
        let own = [(TOKEN, &*token), (SESSION_TOKEN, &session_token), (SESSION_ID, &ids[1])];
        invoke(&service, function, with_own(&read(&format!("{function}/{case}")), &own)).await
    };

    let list = (200, service.sessions(&token).await.body);
    assert_eq!(answer("list_with_header").await, list);
    assert_eq!(answer("list_with_query").await, list);
    assert_eq!(answer("list_without_token").await, documented(TOKEN_NOT_PROVIDED));
    assert_eq!(answer("log_out").await, documented(LOGGED_OUT));
    assert_eq!(answer("delete").await, documented(SESSION_DELETED));
    assert_eq!(answer("list_with_query").await, documented(NO_SESSIONS));
    assert_eq!(answer("log_out").await, documented(NO_SESSION_TO_LOG_OUT));
    assert_eq!(answer("delete").await, documented(SESSION_NOT_FOUND));
}

#[tokio::test]
async fn export_users() {
    assert_cases("export_users", &["first_page"]);
    let service = Service::with_settings([]).await;
    let user = service.user().create().await;

    let answer = service.invoke("export_users", &read("export_users/first_page")).await;

    assert_eq!((&answer["ok"], &answer["cursor"]), (&json!(true), &Value::Null));
    let [exported] = &answer["users"].as_array().unwrap()[..] else { panic!("not one user: {answer}") };
    assert_eq!(exported["username"], json!(user.username));
    assert_eq!(exported["password_hash"], PASSWORD_HASH);
}

#[tokio::test]
async fn authorizer() {
    let function = "authorizer";
    assert_cases(
        function,
        &[
            "appsync",
            "appsync_malformed_token",
            "http_api",
            "http_api_payload_1",
            "http_api_without_token",
            "rest_request",
            "rest_request_without_token",
            "rest_token",
            "rest_token_malformed",
            "websocket_connect",
        ],
    );
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    let answer = async |case: &str| {
        let event = with_own(&read(&format!("{function}/{case}")), &[(TOKEN, &token)]);
        service.try_invoke(function, &event).await.map_err(|error| error["errorMessage"].clone())
    };

    for case in ["appsync", "http_api"] {
        assert_eq!(answer(case).await.unwrap()["isAuthorized"], true, "{case}");
    }
    for case in ["http_api_payload_1", "rest_request", "rest_token", "websocket_connect"] {
        let answer = answer(case).await.unwrap();
        assert_eq!(answer["policyDocument"]["Statement"][0]["Effect"], "Allow", "{case}");
    }
    for case in ["appsync_malformed_token", "http_api_without_token"] {
        assert_eq!(answer(case).await, Ok(json!({"isAuthorized": false})), "{case}");
    }
    for case in ["rest_request_without_token", "rest_token_malformed"] {
        assert_eq!(answer(case).await, Err(json!("Unauthorized")), "{case}");
    }
}

#[tokio::test]
async fn well_known() {
    assert_cases("well_known", &["change_password", "key_set", "metadata"]);
    let service = Service::with_settings([("JWT_ALGORITHM", "ES256")]).await;
    for case in ["key_set", "metadata"] {
        let (status, body) = invoke(&service, "well_known", read(&format!("well_known/{case}"))).await;
        assert!(status == 200 && body.contains("ES256"), "{body}");
    }
    let redirect = service.invoke("well_known", &read("well_known/change_password")).await;
    assert_eq!(
        (&redirect["statusCode"], &redirect["headers"]["location"]),
        (&json!(302), &json!("/change-password"))
    );
}

#[tokio::test]
async fn pages() {
    assert_cases("pages", &["change_password", "forgot_password", "sessions", "sign_in", "unknown_asset"]);
    let service = Service::new();
    for (case, status, language, text) in [
        ("change_password", 200, Some("en"), "Change your password"),
        ("forgot_password", 200, Some("de"), "Passwort zurücksetzen"),
        ("sessions", 200, Some("en"), "Your sessions"),
        ("sign_in", 200, Some("de"), "Anmelden"),
        ("unknown_asset", 404, None, "Not Found"),
    ] {
        let answer = service.invoke("pages", &read(&format!("pages/{case}"))).await;
        assert_eq!(answer["statusCode"], status, "{case}");
        assert_eq!(answer["headers"]["content-language"].as_str(), language, "{case}");
        assert!(answer["body"].as_str().unwrap().contains(text), "{answer}");
    }
}

#[tokio::test]
async fn smoke_test() {
    assert_cases("smoke_test", &["deployment"]);
    let service = Service::with_settings([]).await;
    let report = service.invoke("smoke_test", &read("smoke_test/deployment")).await;
    assert_eq!(report["ok"], true, "{report}");
}

#[tokio::test]
async fn rotate_jwt_secret() {
    let function = "rotate_jwt_secret";
    let steps = ["1_create_secret", "2_set_secret", "3_test_secret", "4_finish_secret"];
    assert_cases(function, &steps);
    let service = Service::with_settings([("JWT_ROTATION_MIN_INTERVAL_SECONDS", "0")]).await;

    let before = service.jwt_secret().await.version_id;
    for step in steps {
        let event =
            with_own(&read(&format!("{function}/{step}")), &[(JWT_SECRET_ID, &service.jwt_secret_id)]);
        let version = event["ClientRequestToken"].as_str().unwrap();
        assert_ne!(version, before);
        service.invoke(function, &event).await;
        // The first step replaces the key, and the others do not change it.
        assert_eq!(service.jwt_secret().await.version_id, version, "{step}");
    }
}
