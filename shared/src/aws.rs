//! How the AWS SDK is used: short time-outs, because a person waits for the answer, and few retries; no more of it
//! than a start needs; and what its errors come to.

use std::error::Error;
use std::fs;
use std::sync::LazyLock;
use std::time::Duration;

use aws_runtime::user_agent::UserAgentInterceptor;
use aws_sdk_dynamodb::config::interceptors::{
    BeforeSerializationInterceptorContextRef, BeforeTransmitInterceptorContextMut,
};
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{
    BehaviorVersion, ConfigBag, Credentials, Intercept, Region, RuntimeComponents, SharedCredentialsProvider,
};
use aws_sdk_dynamodb::error::{BoxError, ConnectorError, ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::interceptors::disable_interceptor;
use aws_types::SdkConfig;

use crate::failure::Failure;
use crate::settings::{ConfigError, Settings};
use crate::telemetry;

/// The authorities that AWS's endpoints have certificates of.
const AMAZON_ROOTS: &[u8] = include_bytes!("amazon_roots.pem");

/// The name and the version of this service, as AWS logs them.
const USER_AGENT: &str = concat!("postern/", env!("CARGO_PKG_VERSION"));

/// A service's client, made when it is first used.
pub type Lazy<Client> = LazyLock<Client, Box<dyn FnOnce() -> Client + Send>>;

/// A client that `make` makes of `aws`.
pub fn lazy<Client: 'static>(aws: &SdkConfig, make: fn(&SdkConfig) -> Client) -> Lazy<Client> {
    let aws = aws.clone();
    LazyLock::new(Box::new(move || make(&aws)))
}

/// The SDK's configuration from the variables that Lambda sets. If `AWS_ENDPOINT_URL` is set, all of AWS is there;
/// `AWS_CA_BUNDLE`, a file of certificates in PEM, names other authorities to trust than Amazon's. Credentials are read
/// once: an environment must not outlive them. Fails where a variable that Lambda always sets is missing, or the file
/// cannot be read.
///
/// Three attempts of at most a second keep a call within three seconds; the SDK itself would wait a second before its
/// first retry and never give up.
pub fn config(settings: &Settings) -> Result<SdkConfig, ConfigError> {
    let credentials = Credentials::new(
        settings.required("AWS_ACCESS_KEY_ID")?,
        settings.required("AWS_SECRET_ACCESS_KEY")?,
        settings.optional("AWS_SESSION_TOKEN"),
        None,
        "Environment",
    );
    let refused =
        |error: &dyn std::fmt::Display| ConfigError::new("AWS_CA_BUNDLE", &format!("is refused: {error}"));
    let roots = match settings.optional("AWS_CA_BUNDLE") {
        Some(file) => fs::read(file).map_err(|error| refused(&error))?,
        None => AMAZON_ROOTS.to_vec(),
    };
    let roots = TrustStore::empty().with_pem_certificate(roots);
    let tls = TlsContext::builder().with_trust_store(roots).build().map_err(|error| refused(&error))?;
    // One for all services, or each would make its own.
    let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).tls_context(tls).build_https();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(1))
        .operation_attempt_timeout(Duration::from_secs(1))
        .operation_timeout(Duration::from_secs(3))
        .build();
    let retries = RetryConfig::standard()
        .with_max_attempts(3)
        .with_initial_backoff(Duration::from_millis(50))
        .with_max_backoff(Duration::from_millis(100));
    let mut config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(settings.required("AWS_REGION")?))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .http_client(http)
        .timeout_config(timeouts)
        .retry_config(retries);
    config.set_endpoint_url(settings.optional("AWS_ENDPOINT_URL"));
    Ok(config.build())
}

/// `aws` for a function whose clients take an error for the end of a session: it tries for up to six seconds, with
/// eight attempts, and so outlasts most outages of a second or two. Its requests make at most three calls one after
/// the other, which together have to be over before the function's time-out.
#[must_use]
pub fn patient(aws: &SdkConfig) -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(1))
        .operation_attempt_timeout(Duration::from_secs(1))
        .operation_timeout(Duration::from_secs(6))
        .build();
    let retries = RetryConfig::standard()
        .with_max_attempts(8)
        .with_initial_backoff(Duration::from_millis(50))
        .with_max_backoff(Duration::from_secs(1));
    aws.to_builder().timeout_config(timeouts).retry_config(retries).build()
}

/// `aws` for a service whose operations must not be repeated, since each repetition would show: one attempt, which may
/// take as long as several of the others together.
#[must_use]
pub fn single_attempt(aws: &SdkConfig) -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(1))
        .operation_attempt_timeout(Duration::from_secs(3))
        .operation_timeout(Duration::from_secs(3))
        .build();
    aws.to_builder().timeout_config(timeouts).retry_config(RetryConfig::disabled()).build()
}

/// Sends the same `User-Agent` with every request. The SDK would build two such headers for each, which is 6 % of the
/// instructions of a request that computes no hash.
#[derive(Debug)]
pub struct FixedUserAgent;

impl Intercept for FixedUserAgent {
    fn name(&self) -> &'static str {
        "FixedUserAgent"
    }

    fn read_before_execution(
        &self,
        _: &BeforeSerializationInterceptorContextRef<'_>,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let disabled = disable_interceptor::<UserAgentInterceptor>("the header is fixed");
        config.interceptor_state().store_put(disabled);
        Ok(())
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        context.request_mut().headers_mut().insert("user-agent", USER_AGENT);
        Ok(())
    }
}

/// Returns whether the only attempt of an operation certainly had no effect: the service refused it with a status of
/// 4xx, or there was no connection to send it on. After a time-out, a lost response or a status of 5xx it may have had
/// one.
pub fn had_no_effect<E>(error: &SdkError<E>) -> bool {
    match error {
        SdkError::ConstructionFailure(_) => true,
        SdkError::ServiceError(service) => service.raw().status().is_client_error(),
        SdkError::DispatchFailure(dispatch) => {
            dispatch.is_user() || dispatch.as_connector_error().is_some_and(never_connected)
        }
        _ => false,
    }
}

fn never_connected(error: &ConnectorError) -> bool {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<hyper_util::client::legacy::Error>() {
            return error.is_connect();
        }
        source = error.source();
    }
    false
}

/// The memory size that gives an invocation a whole core, in MB
/// (<https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html>).
pub const WHOLE_CORE_MB: u32 = 1769;

/// An AWS service that requests depend on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dependency {
    /// Where users, codes, sessions and counters are.
    DynamoDb,
    /// Which sends the mails.
    Ses,
    /// Where the keys are.
    SecretsManager,
}

impl Dependency {
    /// Counts one of its operations as failed, and says which `operation` and why. Only the service's error code and
    /// message are kept: the error's other parts can hold whole items, hashes among them.
    pub fn failure<E, R>(self, operation: &str, error: &SdkError<E, R>) -> Failure
    where
        E: ProvideErrorMetadata + Error + 'static,
        R: std::fmt::Debug,
    {
        telemetry::operation_failed(self);
        let cause = match error {
            SdkError::ServiceError(service) => {
                let error = service.err();
                let code = error.code().unwrap_or("unknown code");
                match (self, code) {
                    // Its messages can name addresses.
                    (Self::Ses, _) => code.to_owned(),
                    // It will not be better next time: the request is wrong, or the function's rights are.
                    (_, "ValidationException" | "AccessDeniedException") => {
                        return Failure::Defect(format!("{operation}: {code}"));
                    }
                    _ => format!("{code}: {}", error.message().unwrap_or("no message")),
                }
            }
            SdkError::DispatchFailure(dispatch) => {
                let mut cause = "the request was not answered".to_owned();
                let mut source = dispatch.as_connector_error().and_then(Error::source);
                while let Some(error) = source {
                    cause = format!("{cause}: {error}");
                    source = error.source();
                }
                cause
            }
            // `TimeoutError`, `ConstructionFailure` and `ResponseError` say no more than their kind when displayed.
            other => other.to_string(),
        };
        Failure::Unavailable(format!("{operation}: {cause}"))
    }
}
