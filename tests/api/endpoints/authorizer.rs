//! The Lambda authorizer: its answers to the events of each gateway, and the tokens that it refuses.

use serde_json::{Value, json};
use support::{Fault, Plan};

use crate::answers::{CHANGED_PASSWORD, LOGGED_OUT, NEW_PASSWORD_SET};
use crate::documents::events::{TOKEN, read, with_own};
use crate::helpers::{NEW_PASSWORD, PASSWORD, Service, User, claims, unknown_username};

/// The events of each gateway with a token, in `events/authorizer`.
const FORMS: [&str; 6] =
    ["appsync", "http_api", "http_api_payload_1", "rest_request", "rest_token", "websocket_connect"];
const API: &str = "arn:aws:execute-api:eu-central-1:123456789012:k5l6m7n8o9";

/// The event of a gateway to which a client sent this authorization.
fn event(form: &str, authorization: &str) -> Value {
    let bearer = format!("Bearer {TOKEN}");
    with_own(&read(&format!("authorizer/{form}")), &[(&bearer, authorization), (TOKEN, authorization)])
}

/// The event of a gateway to which a client sent no authorization at all.
fn event_without_token(form: &str) -> Value {
    let mut event = event(form, "");
    for member in ["authorizationToken", "identitySource"] {
        event.as_object_mut().unwrap().remove(member);
    }
    for headers in ["headers", "multiValueHeaders", "requestHeaders"] {
        if let Some(headers) = event[headers].as_object_mut() {
            headers.retain(|name, _| !name.eq_ignore_ascii_case("authorization"));
        }
    }
    event
}

/// The response to an event, or the message of its error.
async fn answer(service: &Service, event: &Value) -> Result<Value, String> {
    let answer = service.try_invoke("authorizer", event).await;
    answer.map_err(|error| error["errorMessage"].as_str().unwrap().to_owned())
}

/// The response that lets a user pass.
fn allowed(form: &str, user: &User, username: &str) -> Value {
    let context = json!({"user_id": user.id, "username": username});
    let stage = match form {
        "http_api" => return json!({"isAuthorized": true, "context": context}),
        "appsync" => return json!({"isAuthorized": true, "resolverContext": context}),
        "http_api_payload_1" => "$default",
        _ => "live",
    };
    let statement =
        json!({"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": format!("{API}/{stage}/*")});
    let policy = json!({"Version": "2012-10-17", "Statement": [statement]});
    json!({"principalId": user.id, "policyDocument": policy, "context": context})
}

/// The response to a refused token, or its error.
fn refused(form: &str) -> Result<Value, String> {
    match form {
        "appsync" | "http_api" => Ok(json!({"isAuthorized": false})),
        _ => Err("Unauthorized".to_owned()),
    }
}

/// Asserts that every gateway refuses a token.
async fn assert_refused(service: &Service, authorization: &str) {
    for form in FORMS {
        let answer = answer(service, &event(form, authorization)).await;
        assert_eq!(answer, refused(form), "{form}: {authorization}");
    }
}

/// Asserts that every gateway accepts a token.
async fn assert_allowed(service: &Service, authorization: &str, user: &User) {
    for form in FORMS {
        let answer = answer(service, &event(form, authorization)).await;
        assert_eq!(answer, Ok(allowed(form, user, &user.username)), "{form}: {authorization}");
    }
}

#[tokio::test]
async fn each_gateway_gets_the_user_in_its_own_form() {
    let service = Service::new();
    let username = unknown_username();
    let written = username.replace("st.huber", "St.Hüber");
    let user = service.user().with("username", written.clone()).create().await;
    let token = service.token_of(&user).await;

    for form in FORMS {
        let answer = answer(&service, &event(form, &format!("Bearer {token}"))).await;
        assert_eq!(answer, Ok(allowed(form, &user, &written)), "{form}");
    }
}

#[tokio::test]
async fn a_token_is_accepted_with_and_without_its_scheme() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;

    for authorization in
        [token.clone(), format!("bearer  {token}"), format!("Bearer: {token}"), format!(" {token} ")]
    {
        assert_allowed(&service, &authorization, &user).await;
    }
    assert_refused(&service, &format!("Basic {token}")).await;
    assert_refused(&service, &format!("Bearer {token}, Bearer {token}")).await;
}

#[tokio::test]
async fn a_missing_token_is_refused_by_every_gateway() {
    let service = Service::new();
    for form in FORMS {
        assert_eq!(answer(&service, &event_without_token(form)).await, refused(form), "{form}");
    }
    for authorization in ["", " ", "Bearer", "Bearer ", "Bearer:"] {
        assert_refused(&service, authorization).await;
    }
}

#[tokio::test]
async fn a_token_that_was_never_good_is_refused_by_every_gateway() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    let (start, _) = token.rsplit_once('.').unwrap();

    for authorization in ["null", "undefined", "a.b.c", "*", &format!("{start}."), &format!("{token}A")] {
        assert_refused(&service, authorization).await;
    }
}

#[tokio::test]
async fn an_expired_token_is_refused_by_every_gateway() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    let (header, mut claims) = (jsonwebtoken::decode_header(&token).unwrap(), claims(&token));
    let secret = service.jwt_secret().await;
    let issued = claims["iat"].as_i64().unwrap();
    claims["iat"] = json!(issued - 600);
    claims["exp"] = json!(issued + 3000);
    assert_allowed(&service, &secret.sign(&header, &claims), &user).await;

    claims["iat"] = json!(issued - 3600);
    claims["exp"] = json!(issued);
    assert_refused(&service, &secret.sign(&header, &claims)).await;
}

#[tokio::test]
async fn a_token_is_refused_after_its_session_has_ended() {
    let service = Service::new();
    let user = service.user().create().await;
    let (of_session, session_token) = service.session_of(&user).await;
    let token = service.token_of(&user).await;
    assert_allowed(&service, &of_session, &user).await;

    service.log_out(&token, &session_token).await.is(LOGGED_OUT);

    assert_refused(&service, &of_session).await;
    assert_allowed(&service, &token, &user).await;
}

#[tokio::test]
async fn a_token_is_refused_after_a_change_of_the_password_that_it_did_not_make() {
    let service = Service::new();
    let user = service.user().create().await;
    let (token, other) = (service.token_of(&user).await, service.token_of(&user).await);

    service.change_password(&token, PASSWORD, NEW_PASSWORD).await.is(NEW_PASSWORD_SET);
    assert_allowed(&service, &token, &user).await;
    assert_refused(&service, &other).await;

    let code = service.code_for(&user).await;
    service.reset_password(&user.username, &code, PASSWORD).await.is(CHANGED_PASSWORD);
    assert_refused(&service, &token).await;
}

#[tokio::test]
async fn a_token_is_refused_once_an_administrator_ends_it() {
    let service = Service::new();
    let deactivate = json!({"action": "update", "activated": false});
    let deletion = json!({"action": "delete"});
    let revocation = json!({"action": "revoke_sessions"});
    for mut action in [deactivate, deletion, revocation] {
        let user = service.user().create().await;
        let token = service.token_of(&user).await;
        action["username"] = json!(user.username);
        assert_eq!(service.manage(&action).await["ok"], true);

        assert_refused(&service, &token).await;
    }
}

#[tokio::test]
async fn the_new_name_of_a_renamed_user_is_told() {
    let service = Service::new();
    let user = service.user().create().await;
    let renamed = format!("{}-Maier", user.username);
    let rename = json!({"action": "rename", "username": user.username, "new_username": renamed});
    assert_eq!(service.manage(&rename).await["ok"], true);
    let user = User { username: renamed, ..user };
    assert_allowed(&service, &service.token_of(&user).await, &user).await;
}

#[tokio::test]
async fn members_that_do_not_decide_may_have_any_form() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    let odd =
        [json!(null), json!(true), json!(-1.5e300), json!("text"), json!([[]]), json!({"": [null, {}]})];
    for form in FORMS {
        for (number, odd) in odd.iter().enumerate() {
            let mut event = event(form, &token);
            for (name, member) in event.as_object_mut().unwrap() {
                let decides = [
                    "Arn",
                    "type",
                    "version",
                    "eaders",
                    "requestContext",
                    "authorizationToken",
                    "identitySource",
                ];
                if !decides.iter().any(|part| name.contains(part)) {
                    *member = odd.clone();
                }
            }
            event["addedLater"] = odd.clone();
            event["requestContext"]["http"] = odd.clone();
            event["requestContext"]["identity"] = odd.clone();
            let answer = answer(&service, &event).await;
            assert_eq!(answer, Ok(allowed(form, &user, &user.username)), "{form} {number}");
        }
    }
}

#[tokio::test]
async fn an_event_of_no_known_form_is_an_error_of_its_own() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    // A request to the API itself has an `apiId`, like an event of AppSync, and a good token.
    let request = with_own(&read("sessions/list_with_header"), &[(TOKEN, &token)]);
    for event in [json!(null), json!([]), json!("TOKEN"), json!({}), json!({"token": token}), request] {
        let answer = answer(&service, &event).await;
        assert_eq!(answer, Err("The event has no known form".to_owned()), "{event}");
    }
    let token_event = |arn: Value| json!({"type": "TOKEN", "authorizationToken": token, "methodArn": arn});
    for arn in [
        json!(null),
        json!(""),
        json!("*"),
        json!(API),
        json!(format!("{API}/live")),
        json!("arn:aws:execute-api:eu-central-1:123456789012:*/live/GET/"),
        json!("arn:aws:execute-api:eu-central-1:123456789012:k5l6m7n8o9/*/GET/"),
    ] {
        let answer = answer(&service, &token_event(arn.clone())).await;
        assert_eq!(answer, Err("The methodArn cannot be parsed".to_owned()), "{arn}");
    }
    for partition in ["aws", "aws-cn", "aws-us-gov"] {
        let stage = API.replace(":aws:", &format!(":{partition}:"));
        let answer = answer(&service, &token_event(json!(format!("{stage}/$default/GET/a/b/*/?c")))).await;
        let policy = answer.unwrap()["policyDocument"].clone();
        assert_eq!(policy["Statement"][0]["Resource"], format!("{stage}/$default/*"));
    }
}

#[tokio::test]
async fn a_failing_dependency_is_neither_a_yes_nor_a_no() {
    let service = Service::with_settings([("SECRETS_CACHE_SECONDS", "0")]).await;
    let user = service.user().create().await;
    let (token, _) = service.session_of(&user).await;
    let faults = service.stack.as_ref().unwrap().faults();
    for operation in ["GetSecretValue jwt-secret", "GetItem user-ids", "GetItem sessions", "GetItem users"] {
        for form in FORMS {
            let (operation, fault) = (operation.to_owned(), Fault::Unavailable);
            faults.begin(Some(Plan { operation, fault, attempts: Plan::EVERY_ATTEMPT }));
            let answer = answer(&service, &event(form, &token)).await;
            faults.end().await;
            assert_eq!(answer, Err("Service unavailable, try again later".to_owned()), "{form}");
        }
    }
    assert_allowed(&service, &token, &user).await;
}

#[tokio::test]
async fn a_damaged_user_is_neither_a_yes_nor_a_no() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    service.lose_attribute(&user, "activated").await;
    for form in FORMS {
        let answer = answer(&service, &event(form, &token)).await;
        assert_eq!(answer, Err("Internal error".to_owned()), "{form}");
    }
}
