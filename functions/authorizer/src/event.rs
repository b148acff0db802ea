//! The events that gateways send to a Lambda authorizer. Only the members that decide are read, and all others may have
//! any form, because AWS adds some from time to time.

use serde_json::Value;
use shared::endpoint::token_in;

/// A gateway's question whether a request may pass.
pub(crate) struct AuthorizationRequest<'a> {
    /// The form of the event, which decides the form of the answer.
    pub(crate) form: Form,
    /// The token of the request; `None` if there is none.
    pub(crate) token: Option<&'a str>,
}

/// The forms of events.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Form {
    /// An HTTP API with payload 2.0, which expects a simple response
    /// (<https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-lambda-authorizer.html>).
    HttpApi,
    /// A `TOKEN` authorizer of a REST API
    /// (<https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-lambda-authorizer-input.html>).
    RestToken(StageResource),
    /// A `REQUEST` authorizer of a REST API or of a WebSocket API, or one of an HTTP API with payload 1.0.
    RestRequest(StageResource),
    /// `AppSync` (<https://docs.aws.amazon.com/appsync/latest/devguide/security-authz.html>).
    AppSync,
}

/// The resource of a policy that covers all methods and paths of one stage of one API. Gateways reuse a policy for other
/// methods than the one that they asked for, so it must not name a single method.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct StageResource(String);

/// The reason why an event is not understood.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum EventError {
    /// It is none of the forms.
    #[error("The event has no known form")]
    UnknownForm,
    /// Its `methodArn` is missing, or is not the ARN of one method of one stage.
    #[error("The methodArn cannot be parsed")]
    MethodArn,
}

impl<'a> AuthorizationRequest<'a> {
    /// Parses an event.
    pub(crate) fn parse(event: &'a Value) -> Result<Self, EventError> {
        let (kind, version) = (event["type"].as_str(), event["version"].as_str());
        let stage =
            || event["methodArn"].as_str().and_then(StageResource::parse).ok_or(EventError::MethodArn);
        let (form, written) = match (kind, version) {
            (Some("REQUEST"), Some("2.0")) => (Form::HttpApi, identity_source(event)),
            (Some("REQUEST"), Some("1.0") | None) => (Form::RestRequest(stage()?), authorization(event)),
            (Some("TOKEN"), _) => (Form::RestToken(stage()?), event["authorizationToken"].as_str()),
            (None, _) if is_of_appsync(event) => (Form::AppSync, event["authorizationToken"].as_str()),
            _ => return Err(EventError::UnknownForm),
        };
        Ok(Self { form, token: written.and_then(token_in) })
    }
}

impl Form {
    /// The name of the form in the log.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::HttpApi => "http_api",
            Self::RestToken(_) => "rest_token",
            Self::RestRequest(_) => "rest_request",
            Self::AppSync => "appsync",
        }
    }
}

impl StageResource {
    /// Takes everything up to the stage from `arn:PARTITION:execute-api:REGION:ACCOUNT:API/STAGE/METHOD/PATH`. For a
    /// WebSocket API, `$connect` stands in place of method and path. `None` if a part is missing or has a character that
    /// no such name has: with a wildcard, the policy would cover other APIs.
    fn parse(method_arn: &str) -> Option<Self> {
        let parts: Vec<&str> = method_arn.splitn(6, ':').collect();
        let ["arn", partition, "execute-api", region, account, method] = parts[..] else { return None };
        let parts: Vec<&str> = method.splitn(3, '/').collect();
        let [api, stage, _] = parts[..] else { return None };
        let is_name = |part: &str| {
            let mut bytes = part.bytes();
            !part.is_empty() && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-_$".contains(&byte))
        };
        let are_names = [partition, region, account, api, stage].into_iter().all(is_name);
        are_names.then(|| Self(format!("arn:{partition}:execute-api:{region}:{account}:{api}/{stage}/*")))
    }

    /// The resource itself.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns whether an event is one of `AppSync`. Requests that an API passes on have an `apiId` as well, but neither of the
/// two other members.
fn is_of_appsync(event: &Value) -> bool {
    let is_there = |member: &str| event.get(member).is_some();
    event["type"].is_null()
        && event["requestContext"]["apiId"].is_string()
        && (is_there("authorizationToken") || is_there("requestHeaders"))
}

/// The first identity source. The header counts only if there are no identity sources, because they are the key of the
/// gateway's cache: an answer for a token that is not part of the key would be given to other tokens too.
fn identity_source(event: &Value) -> Option<&str> {
    match event["identitySource"].as_array().and_then(|sources| sources.first()) {
        Some(source) => source.as_str(),
        None => authorization(event),
    }
}

/// The value of the header `authorization`, whose name is in the client's case. `None` if there are several that differ,
/// because the one that is the key of the gateway's cache is unknown.
fn authorization(event: &Value) -> Option<&str> {
    let headers = |member: &str| event[member].as_object().into_iter().flatten();
    let mut values = headers("headers")
        .map(|(name, value)| (name, std::slice::from_ref(value)))
        .chain(
            headers("multiValueHeaders").filter_map(|(name, values)| Some((name, &values.as_array()?[..]))),
        )
        .filter(|(name, _)| name.eq_ignore_ascii_case("authorization"))
        .flat_map(|(_, values)| values)
        .filter_map(Value::as_str);
    let value = values.next()?;
    values.all(|other| other == value).then_some(value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ARN: &str = "arn:aws:execute-api:eu-central-1:123456789012:a1b2c3d4e5/live/GET/pets";

    /// The form of an event and its token.
    fn parsed(event: &Value) -> Result<(&'static str, Option<String>), EventError> {
        let AuthorizationRequest { form, token } = AuthorizationRequest::parse(event)?;
        Ok((form.name(), token.map(str::to_owned)))
    }

    #[test]
    fn a_policy_covers_one_stage_of_one_api() {
        let stage = |arn: &str| StageResource::parse(arn).map(|stage| stage.as_str().to_owned());
        for (arn, expected) in [
            (ARN, "arn:aws:execute-api:eu-central-1:123456789012:a1b2c3d4e5/live/*"),
            (
                "arn:aws-cn:execute-api:cn-north-1:123456789012:a1b2c3d4e5/$default/POST/a/b:c/d/",
                "arn:aws-cn:execute-api:cn-north-1:123456789012:a1b2c3d4e5/$default/*",
            ),
            (
                "arn:aws-us-gov:execute-api:us-gov-west-1:123456789012:a1b2c3d4e5/v-1_2/GET/",
                "arn:aws-us-gov:execute-api:us-gov-west-1:123456789012:a1b2c3d4e5/v-1_2/*",
            ),
            (
                "arn:aws:execute-api:eu-central-1:123456789012:a1b2c3d4e5/live/$connect",
                "arn:aws:execute-api:eu-central-1:123456789012:a1b2c3d4e5/live/*",
            ),
        ] {
            assert_eq!(stage(arn).as_deref(), Some(expected), "{arn}");
        }
        for arn in [
            "",
            "*",
            "a1b2c3d4e5/live/GET/pets",
            "arn:aws:execute-api:eu-central-1:123456789012:a1b2c3d4e5",
            "arn:aws:execute-api:eu-central-1:123456789012:a1b2c3d4e5/live",
            "arn:aws:execute-api:eu-central-1:123456789012:a1b2c3d4e5//GET/pets",
            "arn:aws:execute-api:eu-central-1:123456789012:/live/GET/pets",
            "arn:aws:execute-api:eu-central-1:123456789012:*/live/GET/pets",
            "arn:aws:execute-api:eu-central-1:123456789012:a1b2c3d4e5/*/GET/pets",
            "arn:aws:execute-api:eu-central-1:123456789012:a1b2c3d4e?/live/GET/pets",
            "arn:aws:execute-api:eu-central-1:123456789012:a1b2c3d4e5/${aws:userid}/GET/pets",
            "arn:aws:execute-api:eu-central-1:123456789012/live:a1b2c3d4e5/GET/pets",
            "arn:aws:execute-api:eu-central-1::a1b2c3d4e5/live/GET/pets",
            "arn:aws:execute-api:*:123456789012:a1b2c3d4e5/live/GET/pets",
            "arn:aws:lambda:eu-central-1:123456789012:a1b2c3d4e5/live/GET/pets",
            " arn:aws:execute-api:eu-central-1:123456789012:a1b2c3d4e5/live/GET/pets",
        ] {
            assert_eq!(stage(arn), None, "{arn}");
        }
    }

    #[test]
    fn an_event_is_known_by_its_form() {
        let appsync = json!({"apiId": "a", "queryString": "query { pets }"});
        for (event, form) in [
            (json!({"version": "2.0", "type": "REQUEST"}), "http_api"),
            (json!({"version": "1.0", "type": "REQUEST", "methodArn": ARN}), "rest_request"),
            (json!({"version": null, "type": "REQUEST", "methodArn": ARN, "headers": []}), "rest_request"),
            (json!({"type": "TOKEN", "methodArn": ARN, "requestContext": {"apiId": "a"}}), "rest_token"),
            (json!({"authorizationToken": null, "requestContext": appsync}), "appsync"),
            (json!({"requestHeaders": {}, "requestContext": appsync}), "appsync"),
        ] {
            assert_eq!(parsed(&event), Ok((form, None)), "{event}");
        }
        let proxied = json!({"version": "2.0", "headers": {}, "requestContext": {"apiId": "a"}});
        for (event, error) in [
            (json!(null), EventError::UnknownForm),
            (json!([]), EventError::UnknownForm),
            (json!({}), EventError::UnknownForm),
            (proxied, EventError::UnknownForm),
            (json!({"requestContext": {"apiId": 1}, "authorizationToken": "a"}), EventError::UnknownForm),
            (json!({"version": "3.0", "type": "REQUEST", "methodArn": ARN}), EventError::UnknownForm),
            (json!({"type": "token", "methodArn": ARN}), EventError::UnknownForm),
            (json!({"type": "COGNITO", "methodArn": ARN}), EventError::UnknownForm),
            (json!({"type": 1, "requestContext": appsync, "requestHeaders": {}}), EventError::UnknownForm),
            (json!({"type": "TOKEN"}), EventError::MethodArn),
            (json!({"type": "REQUEST", "methodArn": "*"}), EventError::MethodArn),
        ] {
            assert_eq!(parsed(&event), Err(error), "{event}");
        }
    }

    #[test]
    fn the_first_identity_source_of_an_http_api_is_the_token() {
        for (sources, token) in [
            (json!(["Bearer a"]), Some("a")),
            (json!(["a", "GET /pets"]), Some("a")),
            (json!([]), Some("h")),
            (json!(null), Some("h")),
            // The gateway caches the answer under these, not under the header.
            (json!([""]), None),
            (json!([null, "a"]), None),
        ] {
            let event = json!({
                "version": "2.0",
                "type": "REQUEST",
                "identitySource": sources,
                "headers": {"authorization": "h"},
            });
            assert_eq!(parsed(&event), Ok(("http_api", token.map(str::to_owned))), "{event}");
        }
        let absent = json!({"version": "2.0", "type": "REQUEST", "headers": {"AUTHORIZATION": "h"}});
        assert_eq!(parsed(&absent), Ok(("http_api", Some("h".to_owned()))));
    }

    #[test]
    fn the_header_is_found_in_any_case_and_counts_only_if_it_is_the_only_one() {
        for (headers, multiple, token) in [
            (json!({"Authorization": "Bearer a"}), json!({"Authorization": ["Bearer a"]}), Some("a")),
            (json!({"authoriZation": "a", "Accept": "*/*"}), json!(null), Some("a")),
            (json!(null), json!({"AUTHORIZATION": ["a"]}), Some("a")),
            (json!({"Authorization": "a"}), json!({"Authorization": ["b", "a"]}), None),
            (json!({"Authorization": "a", "authorization": "b"}), json!(null), None),
            (json!({"Authorization": null}), json!({"Authorization": null}), None),
            (json!({"X-Authorization": "a"}), json!({"Accept": ["a"]}), None),
            (json!("Authorization"), json!([]), None),
        ] {
            let event = json!({
                "type": "REQUEST",
                "methodArn": ARN,
                "headers": headers,
                "multiValueHeaders": multiple,
            });
            assert_eq!(parsed(&event), Ok(("rest_request", token.map(str::to_owned))), "{event}");
        }
    }
}
