//! Events of gateways: the authorizer lets a request pass if and only if the valid token stands where the form of the event
//! has it, and a policy covers one stage of the API that asked.
//!
//! An input is an event. `TOKEN` in it is replaced with a valid token, and `KIND` with the type `TOKEN`.
#![no_main]

use fuzz::{SERVICE, USER_ID, valid_token};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

fuzz_target!(|text: &str| {
    let valid = valid_token();
    let Ok(event) = serde_json::from_str::<Value>(&text.replace("TOKEN", &valid).replace("KIND", "TOKEN"))
    else {
        return;
    };

    let answer = SERVICE.invoke("authorizer", &event).map_err(|error| match error {
        functions::Error::Function(error) => error.to_string(),
        functions::Error::Json(error) => panic!("{error}"),
    });

    let is_rest = event["type"] == "TOKEN" || event["version"] != "2.0" && event["type"] == "REQUEST";
    let is_valid = written(&event).and_then(without_scheme) == Some(&*valid);
    let context = json!({"user_id": USER_ID, "username": "st.huber"});
    match answer {
        Ok(answer) if answer["policyDocument"].is_object() => {
            assert!(is_rest && is_valid && answer["context"] == context, "{answer}");
            assert_is_stage(&answer["policyDocument"]["Statement"][0]["Resource"], &event["methodArn"]);
        }
        Ok(answer) if answer["isAuthorized"] == true => {
            let told = if event["type"].is_null() { &answer["resolverContext"] } else { &answer["context"] };
            assert!(!is_rest && is_valid && *told == context, "{answer}");
        }
        Ok(answer) => assert!(answer == json!({"isAuthorized": false}) && !is_rest && !is_valid, "{answer}"),
        Err(message) if message == "Unauthorized" => assert!(is_rest && !is_valid),
        Err(message) if message == "The methodArn cannot be parsed" => assert!(is_rest),
        Err(message) => assert_eq!(message, "The event has no known form"),
    }
});

/// Asserts that a resource is all of the stage that a method's ARN names.
fn assert_is_stage(resource: &Value, method_arn: &Value) {
    let stage = resource.as_str().and_then(|resource| resource.strip_suffix('*')).unwrap();
    assert!(method_arn.as_str().unwrap().starts_with(stage), "{stage}");
    assert!(stage.ends_with('/') && stage.matches('/').count() == 2, "{stage}");
    assert!(stage.starts_with("arn:") && stage.matches(':').count() == 5, "{stage}");
    assert!(!stage.contains(['*', '?', '{', ' ']), "{stage}");
}

/// The text in which the form of an event has the token.
fn written(event: &Value) -> Option<&str> {
    let sources = event["identitySource"].as_array().filter(|sources| !sources.is_empty());
    match (event["type"].as_str(), sources) {
        (Some("REQUEST"), Some(sources)) if event["version"] == "2.0" => sources[0].as_str(),
        (Some("REQUEST"), _) => {
            let mut values = headers(event);
            values.dedup();
            if let [value] = values[..] { Some(value) } else { None }
        }
        _ => event["authorizationToken"].as_str(),
    }
}

/// The values of all headers with the token's name.
fn headers(event: &Value) -> Vec<&str> {
    let mut values = Vec::new();
    for member in ["headers", "multiValueHeaders"] {
        for (name, value) in event[member].as_object().into_iter().flatten() {
            if !name.eq_ignore_ascii_case("authorization") {
                continue;
            }
            match value {
                Value::String(value) if member == "headers" => values.push(&**value),
                Value::Array(several) if member != "headers" => {
                    values.extend(several.iter().filter_map(Value::as_str));
                }
                _ => {}
            }
        }
    }
    values
}

/// The token behind `Bearer`, which a colon may follow, or the whole text if there is only one word.
fn without_scheme(text: &str) -> Option<&str> {
    let text = text.trim();
    let Some(end) = text.find([' ', '\t']) else { return Some(text) };
    let scheme = text[..end].trim_end_matches(':').to_ascii_lowercase();
    (scheme == "bearer").then(|| text[end..].trim())
}
