//! The service that is tested: the API at its public URL, or new versions of its functions.

use std::time::Duration;

use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use shared::http_client::HttpClient;
use shared::random;
use shared::settings::{ConfigError, Settings};
use tokio::time::timeout;

use crate::aws_api::AwsApi;

/// The time for one request: as long as API Gateway waits.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
/// The largest response that is read, in bytes.
const MAX_RESPONSE: usize = 64 * 1024;

/// The functions whose new versions are tested, and the variables that name these versions.
const FUNCTIONS: [(&str, &str); 4] = [
    ("signin", "SMOKE_TEST_SIGNIN"),
    ("sessions", "SMOKE_TEST_SESSIONS"),
    ("session_signin", "SMOKE_TEST_SESSION_SIGNIN"),
    ("forgot_password_send_email", "SMOKE_TEST_SEND_EMAIL"),
];

/// The service that is tested.
#[derive(Debug)]
pub(crate) enum Service<'a> {
    Api(Api),
    Versions {
        versions: &'a Versions,
        aws: &'a AwsApi,
        /// The secret that the edge sends, if there is one.
        origin_secret: Option<SecretString>,
    },
}

/// The API as clients reach it.
#[derive(Debug)]
pub(crate) struct Api {
    url: String,
    http: HttpClient,
}

/// The ARNs of the versions, by the names of their functions.
#[derive(Debug)]
pub(crate) struct Versions(Vec<(&'static str, String)>);

/// A request to the API.
pub(crate) struct Request<'a> {
    /// The function that answers.
    function: &'static str,
    method: &'static str,
    path: &'static str,
    token: Option<&'a str>,
    body: Option<&'a Value>,
}

/// The answer of the API.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The body as JSON, or null if it is none.
    pub(crate) body: Value,
}

impl<'a> Request<'a> {
    pub(crate) fn get(function: &'static str, path: &'static str, token: &'a str) -> Self {
        Self { function, method: "GET", path, token: Some(token), body: None }
    }

    pub(crate) fn post(function: &'static str, path: &'static str, body: &'a Value) -> Self {
        Self { function, method: "POST", path, token: None, body: Some(body) }
    }

    fn headers(&self) -> impl Iterator<Item = (&'static str, String)> {
        let token = self.token.map(|token| ("authorization", format!("Bearer {token}")));
        let body = self.body.map(|_| ("content-type", "application/json".to_owned()));
        token.into_iter().chain(body)
    }
}

impl Service<'_> {
    pub(crate) async fn send(&self, request: Request<'_>) -> Result<Answer, String> {
        let answered = async {
            match self {
                Self::Api(api) => api.send(&request).await,
                Self::Versions { versions, aws, origin_secret } => {
                    versions.send(&request, aws, origin_secret.as_ref()).await
                }
            }
        };
        timeout(REQUEST_LIMIT, answered).await.unwrap_or_else(|_| Err("timed out".to_owned()))
    }
}

impl Api {
    /// The API at this URL. A new client connects anew, as those of users do.
    pub(crate) fn new(url: &str) -> Result<Self, String> {
        let http = HttpClient::for_url("the URL of the API", url).map_err(|error| error.to_string())?;
        Ok(Self { url: url.trim_end_matches('/').to_owned(), http })
    }

    async fn send(&self, request: &Request<'_>) -> Result<Answer, String> {
        let body = request.body.map(Value::to_string).unwrap_or_default();
        let mut sent = HttpRequest::new(body.into());
        sent.set_method(request.method).map_err(|error| error.to_string())?;
        sent.set_uri(format!("{}{}", self.url, request.path)).map_err(|error| error.to_string())?;
        for (name, value) in request.headers() {
            sent.headers_mut().insert(name, value);
        }
        let response = self.http.send(sent, MAX_RESPONSE).await?;
        let body = serde_json::from_slice(&response.body).unwrap_or_default();
        Ok(Answer { status: response.status, body })
    }
}

impl Versions {
    pub(crate) fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        let arns = FUNCTIONS.map(|(function, variable)| Ok((function, settings.required(variable)?)));
        arns.into_iter().collect::<Result<_, _>>().map(Self)
    }

    async fn send(
        &self,
        request: &Request<'_>,
        aws: &AwsApi,
        origin_secret: Option<&SecretString>,
    ) -> Result<Answer, String> {
        let version = self.0.iter().find(|(function, _)| *function == request.function);
        let (_, version) = version.ok_or("there is no such version")?;
        let response = aws.invoke(version, &event(request, origin_secret)).await?;
        let status = response["statusCode"].as_u64().and_then(|status| status.try_into().ok());
        let body = response["body"].as_str().and_then(|body| serde_json::from_str(body).ok());
        Ok(Answer { status: status.ok_or("the response has no status")?, body: body.unwrap_or_default() })
    }
}

/// The event of an HTTP API, in payload format 2.0, for a request of a client at an address for documentation
/// (RFC 3849), which no other client has. It is random, lest tests at the same time count against one another's budgets.
fn event(request: &Request<'_>, origin_secret: Option<&SecretString>) -> Value {
    let Request { method, path, .. } = request;
    let random = random::user_id();
    let (first, second) = random.as_str().get(..8).unwrap_or("00000000").split_at(4);
    let address = format!("2001:db8:{first}:{second}::1");
    let edge = origin_secret.map(|secret| {
        let secret = secret.expose_secret().to_owned();
        [("x-origin-secret", secret), ("cloudfront-viewer-address", format!("{address}:443"))]
    });
    let headers = request.headers().chain(edge.into_iter().flatten());
    let headers: serde_json::Map<_, _> =
        headers.map(|(name, value)| (name.to_owned(), value.into())).collect();
    json!({
        "version": "2.0",
        "routeKey": format!("{method} {path}"),
        "rawPath": path,
        "rawQueryString": "",
        "headers": headers,
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "smoke-test",
            "domainName": "smoke-test.invalid",
            "domainPrefix": "smoke-test",
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": address,
                "userAgent": "smoke_test",
            },
            "requestId": random.as_str(),
            "routeKey": format!("{method} {path}"),
            "stage": "$default",
            "time": "01/Jan/1970:00:00:00 +0000",
            "timeEpoch": 0,
        },
        "body": request.body.map(Value::to_string),
        "isBase64Encoded": false,
    })
}
