//! The few calls of Lambda, `CodeDeploy`, `CloudWatch` Logs, Systems Manager and Secrets Manager that this function makes. Clients of the
//! SDK for them would take longer to compile than all else, and be larger than the rest of the function.

use std::time::{Duration, SystemTime};

use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use aws_smithy_runtime_api::client::identity::Identity;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use secrecy::SecretString;
use serde_json::{Value, json};
use shared::aws::credentials;
use shared::domain::Timestamp;
use shared::http_client::{HttpClient, HttpResponse};
use shared::settings::{ConfigError, Settings};
use tokio::time::{sleep, timeout};

use crate::Hook;

/// The time for a call other than of Lambda.
const CALL_LIMIT: Duration = Duration::from_secs(3);
/// The largest response that is read, in bytes: that of Lambda.
const MAX_RESPONSE: usize = 6 * 1024 * 1024;
/// The number of attempts to tell `CodeDeploy` the result, without which it would wait for an hour.
const ATTEMPTS: usize = 3;
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// The time between two looks into the log of mails.
const PAUSE: Duration = Duration::from_secs(2);

/// The calls, with the rights of the function's role.
#[derive(Debug)]
pub(crate) struct AwsApi {
    http: HttpClient,
    identity: Identity,
    region: String,
    /// The URL of all of AWS, if it is not that of each service.
    endpoint: Option<String>,
}

/// A service with the protocol `awsJson1_1`.
struct JsonService {
    /// The name in URLs and in signatures.
    name: &'static str,
    /// The name in the header that names the operation.
    target: &'static str,
}

const CODE_DEPLOY: JsonService = JsonService { name: "codedeploy", target: "CodeDeploy_20141006" };
const SYSTEMS_MANAGER: JsonService = JsonService { name: "ssm", target: "AmazonSSM" };
const SECRETS_MANAGER: JsonService = JsonService { name: "secretsmanager", target: "secretsmanager" };
const LOGS: JsonService = JsonService { name: "logs", target: "Logs_20140328" };

impl AwsApi {
    pub(crate) fn new(settings: &Settings) -> Result<Self, ConfigError> {
        Ok(Self {
            http: HttpClient::for_aws(settings)?,
            identity: credentials(settings)?.into(),
            region: settings.required("AWS_REGION")?,
            endpoint: settings.optional("AWS_ENDPOINT_URL").map(|url| url.trim_end_matches('/').to_owned()),
        })
    }

    /// Invokes a version of a function, and returns its response.
    pub(crate) async fn invoke(&self, version: &str, payload: &Value) -> Result<Value, String> {
        let version = version.replace(':', "%3A").replace('$', "%24");
        let path = format!("/2015-03-31/functions/{version}/invocations");
        let response = self.call("lambda", &path, &[], payload).await?;
        match response.headers.get("x-amz-function-error") {
            None => serde_json::from_slice(&response.body).map_err(|_| "the response is no JSON".to_owned()),
            Some(kind) => Err(format!("the function failed: {kind}")),
        }
    }

    /// Reads a parameter of Systems Manager.
    pub(crate) async fn parameter(&self, name: &str) -> Result<String, String> {
        let answer = self.json(&SYSTEMS_MANAGER, "GetParameter", &json!({ "Name": name })).await?;
        answer["Parameter"]["Value"]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| "GetParameter: no value".to_owned())
    }

    /// Reads the current version of a secret.
    pub(crate) async fn secret(&self, id: &str) -> Result<SecretString, String> {
        let answer = self.json(&SECRETS_MANAGER, "GetSecretValue", &json!({ "SecretId": id })).await?;
        answer["SecretString"].as_str().map(Into::into).ok_or_else(|| "GetSecretValue: no value".to_owned())
    }

    /// Tells `CodeDeploy` the result of a test that it has started.
    pub(crate) async fn finish_hook(&self, hook: &Hook, has_passed: bool) -> Result<(), String> {
        let mut body = json!(hook);
        body["status"] = if has_passed { "Succeeded" } else { "Failed" }.into();
        for attempt in 1.. {
            let told = self.json(&CODE_DEPLOY, "PutLifecycleEventHookExecutionStatus", &body).await;
            let Err(cause) = told else { break };
            match (attempt, cause.contains("AlreadyCompleted")) {
                // The response to an earlier attempt was lost.
                (2.., true) => break,
                (1, true) | (ATTEMPTS.., _) => return Err(format!("CodeDeploy was not told: {cause}")),
                _ => sleep(RETRY_PAUSE).await,
            }
        }
        Ok(())
    }

    /// Waits until the log has an event of the mail to this address, which was sent after `since`. Fails if the mail was
    /// not delivered.
    pub(crate) async fn delivered(&self, log: &str, address: &str, since: Timestamp) -> Result<(), String> {
        let start_time = (since - Duration::from_mins(1)).as_micros() / 1000;
        let filter = format!("\"{address}\"");
        let first = json!({ "logGroupName": log, "filterPattern": filter, "startTime": start_time });
        let mut next = first.clone();
        loop {
            let page = self.json(&LOGS, "FilterLogEvents", &next).await?;
            let events = page["events"].as_array().into_iter().flatten();
            for event in events.filter_map(|event| event["message"].as_str()) {
                let event: Value = serde_json::from_str(event).unwrap_or_default();
                match event["detail-type"].as_str() {
                    Some("Email Delivered") => return Ok(()),
                    // It is on its way.
                    Some("Email Delivery Delayed") | None => {}
                    Some(other) => return Err(other.to_owned()),
                }
            }
            // A page without events is not the end if there is a token.
            if let Some(token) = page["nextToken"].as_str() {
                next["nextToken"] = token.into();
            } else {
                next = first.clone();
                sleep(PAUSE).await;
            }
        }
    }

    async fn json(&self, service: &JsonService, operation: &str, body: &Value) -> Result<Value, String> {
        let target = format!("{}.{operation}", service.target);
        let headers = [("x-amz-target", &*target), ("content-type", "application/x-amz-json-1.1")];
        let response = match timeout(CALL_LIMIT, self.call(service.name, "/", &headers, body)).await {
            Ok(response) => response.map_err(|cause| format!("{operation}: {cause}"))?,
            Err(_) => return Err(format!("{operation}: timed out")),
        };
        Ok(serde_json::from_slice(&response.body).unwrap_or_default())
    }

    /// Signs and sends a call, and returns the response unless it is an error.
    async fn call(
        &self,
        service: &'static str,
        path: &str,
        headers: &[(&'static str, &str)],
        body: &Value,
    ) -> Result<HttpResponse, String> {
        let request =
            self.signed(service, path, headers, &body.to_string()).map_err(|error| error.to_string())?;
        let response = self.http.send(request, MAX_RESPONSE).await?;
        if response.status < 300 {
            return Ok(response);
        }
        let error: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        let code = response.headers.get("x-amzn-errortype").or(error["__type"].as_str());
        Err(format!("status {}, {}", response.status, code.unwrap_or("without an error code")))
    }

    fn signed(
        &self,
        service: &'static str,
        path: &str,
        headers: &[(&'static str, &str)],
        body: &str,
    ) -> Result<HttpRequest, shared::function::Error> {
        let url = format!("{}{path}", self.endpoint_of(service));
        let signing = SigningParams::builder()
            .identity(&self.identity)
            .region(&self.region)
            .name(service)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()?
            .into();
        let signable = SignableBody::Bytes(body.as_bytes());
        let signable = SignableRequest::new("POST", &url, headers.iter().copied(), signable)?;
        let (signature, _) = sign(signable, &signing)?.into_parts();
        let mut request = HttpRequest::new(body.into());
        request.set_method("POST")?;
        request.set_uri(url)?;
        for (name, value) in headers.iter().copied().chain(signature.headers()) {
            request.headers_mut().insert(name.to_owned(), value.to_owned());
        }
        Ok(request)
    }
    fn endpoint_of(&self, service: &str) -> String {
        let suffix = if self.region.starts_with("cn-") { ".cn" } else { "" };
        let of_aws = || format!("https://{service}.{}.amazonaws.com{suffix}", self.region);
        self.endpoint.clone().unwrap_or_else(of_aws)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aws(region: &'static str, endpoint: Option<&'static str>) -> AwsApi {
        let settings = Settings::new(move |name| match name {
            "AWS_REGION" => Some(region.to_owned()),
            "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" | "AWS_SESSION_TOKEN" => Some("test".to_owned()),
            "AWS_ENDPOINT_URL" => endpoint.map(str::to_owned),
            _ => None,
        });
        AwsApi::new(&settings).unwrap()
    }

    #[test]
    fn a_call_is_signed_with_all_that_decides_what_it_does() {
        let headers =
            [("x-amz-target", "AmazonSSM.GetParameter"), ("content-type", "application/x-amz-json-1.1")];
        let request = aws("eu-central-1", None).signed("ssm", "/", &headers, "{}").unwrap();
        assert_eq!((request.method(), request.uri()), ("POST", "https://ssm.eu-central-1.amazonaws.com/"));
        let authorization = request.headers().get("authorization").unwrap();
        assert!(authorization.contains("/eu-central-1/ssm/aws4_request"), "{authorization}");
        let signed = "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target";
        assert!(authorization.contains(signed), "{authorization}");
        assert_eq!(request.headers().get("x-amz-target"), Some("AmazonSSM.GetParameter"));
    }

    #[test]
    fn a_call_goes_to_the_endpoint_of_its_service() {
        for (region, endpoint, url) in [
            ("us-east-1", None, "https://lambda.us-east-1.amazonaws.com"),
            ("cn-north-1", None, "https://lambda.cn-north-1.amazonaws.com.cn"),
            ("us-east-1", Some("http://127.0.0.1:4566/"), "http://127.0.0.1:4566"),
        ] {
            assert_eq!(aws(region, endpoint).endpoint_of("lambda"), url);
        }
    }
}
