//! The AWS SDK: its configuration (short time-outs, few retries, nothing that slows a cold start), and its errors as
//! [`Failure`](crate::failure::Failure)s.

mod dependency;
mod user_agent;

use std::fs;
use std::sync::LazyLock;
use std::time::Duration;

use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_types::SdkConfig;

pub use self::dependency::{Dependency, had_no_effect};
pub use self::user_agent::{FixedUserAgent, USER_AGENT};
use crate::settings::{ConfigError, Settings};

/// The authorities that AWS's endpoints have certificates of.
const AMAZON_ROOTS: &[u8] = include_bytes!("amazon_roots.pem");

/// A service's client, made when it is first used.
pub type Lazy<Client> = LazyLock<Client, Box<dyn FnOnce() -> Client + Send>>;

/// A client that `make` makes of `aws`.
pub fn lazy<Client: 'static>(aws: &SdkConfig, make: fn(&SdkConfig) -> Client) -> Lazy<Client> {
    let aws = aws.clone();
    LazyLock::new(Box::new(move || make(&aws)))
}

/// The credentials of the function's role, from the variables that Lambda sets. They are read once: an environment must
/// not outlive them.
pub fn credentials(settings: &Settings) -> Result<Credentials, ConfigError> {
    Ok(Credentials::new(
        settings.required("AWS_ACCESS_KEY_ID")?,
        settings.required("AWS_SECRET_ACCESS_KEY")?,
        settings.optional("AWS_SESSION_TOKEN"),
        None,
        "Environment",
    ))
}

/// The authorities to trust for AWS's endpoints: Amazon's, or those in the file of certificates in PEM that
/// `AWS_CA_BUNDLE` names. Fails if the file cannot be read.
pub(crate) fn tls(settings: &Settings) -> Result<TlsContext, ConfigError> {
    let refused =
        |error: &dyn std::fmt::Display| ConfigError::new("AWS_CA_BUNDLE", &format!("is refused: {error}"));
    let roots = match settings.optional("AWS_CA_BUNDLE") {
        Some(file) => fs::read(file).map_err(|error| refused(&error))?,
        None => AMAZON_ROOTS.to_vec(),
    };
    let roots = TrustStore::empty().with_pem_certificate(roots);
    TlsContext::builder().with_trust_store(roots).build().map_err(|error| refused(&error))
}

/// The SDK's configuration from the variables that Lambda sets. If `AWS_ENDPOINT_URL` is set, all of AWS is there.
/// Fails if a variable that Lambda always sets is missing, or the authorities cannot be read.
///
/// Three attempts of at most a second keep a call within three seconds; the SDK itself would wait a second before its
/// first retry and never give up.
pub fn config(settings: &Settings) -> Result<SdkConfig, ConfigError> {
    let credentials = credentials(settings)?;
    let tls = tls(settings)?;
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

/// The memory size that gives an invocation a whole core, in MB
/// (<https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html>).
pub const WHOLE_CORE_MB: u32 = 1769;
