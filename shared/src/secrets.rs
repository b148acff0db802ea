//! Secrets Manager: keys with versions, kept in memory for a limited time.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::SdkError;
use aws_sdk_secretsmanager::operation::get_secret_value::{GetSecretValueError, GetSecretValueOutput};
use aws_types::SdkConfig;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;

use crate::aws::Dependency::SecretsManager;
use crate::aws::{Lazy, lazy};
use crate::config::{ConfigError, Environment};
use crate::error::Failure;

/// The shortest key: as long as HMAC-SHA-256's output (RFC 7518 §3.2).
const MIN_KEY_BYTES: usize = 32;

/// The key in one secret: its current version, and the one before, which still counts while the secret rotates.
#[derive(Debug)]
pub struct SecretKeys {
    client: Lazy<Client>,
    secret_id: String,
    time_to_live: Duration,
    cached: Mutex<Option<Cached>>,
}

/// One version of a key.
pub struct SecretKey {
    version: String,
    key: SecretString,
}

#[derive(Clone, Debug)]
struct Cached {
    current: Arc<SecretKey>,
    /// Looked up only once a version is asked for that is not the current one.
    previous: Option<Arc<SecretKey>>,
    with_previous: bool,
    fetched: Instant,
}

impl SecretKey {
    /// The version's id in Secrets Manager.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The key's bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.key.expose_secret().as_bytes()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SecretKey").field("version", &self.version).finish_non_exhaustive()
    }
}

impl SecretKeys {
    /// The key that signs JSON Web Tokens, in the secret named by `JWT_SECRET_ID`.
    pub fn for_tokens(environment: &Environment, aws: &SdkConfig) -> Result<Self, ConfigError> {
        Self::new(environment, aws, environment.text("JWT_SECRET_ID", "postern/jwt-secret"))
    }

    /// The key that hashes reset codes, in the secret named by `CODE_KEY_SECRET_ID`.
    pub fn for_codes(environment: &Environment, aws: &SdkConfig) -> Result<Self, ConfigError> {
        Self::new(environment, aws, environment.text("CODE_KEY_SECRET_ID", "postern/code-key"))
    }

    fn new(environment: &Environment, aws: &SdkConfig, secret_id: String) -> Result<Self, ConfigError> {
        let seconds = environment.number("SECRETS_CACHE_SECONDS", 300, 0..=3600)?;
        Ok(Self {
            client: lazy(aws, Client::new),
            secret_id,
            time_to_live: Duration::from_secs(seconds.into()),
            cached: Mutex::new(None),
        })
    }

    /// Fetches the current version before it is needed. If that fails, it is logged, and tried again when it is needed.
    pub async fn prefetch(&self) {
        if let Err(failure) = self.current().await {
            tracing::warn!(cause = %failure, "key not fetched ahead");
        }
    }

    /// The current version, at most `SECRETS_CACHE_SECONDS` old.
    pub async fn current(&self) -> Result<Arc<SecretKey>, Failure> {
        Ok(self.fetched(Instant::now().checked_sub(self.time_to_live), false).await?.current)
    }

    /// The version with this id, if it is the current or the previous one. An id that is not among the cached
    /// ones could have come into being since, so it is looked for once more before it counts as unknown.
    pub async fn version(&self, id: &str) -> Result<Option<Arc<SecretKey>>, Failure> {
        let asked = Instant::now();
        let cached = self.fetched(asked.checked_sub(self.time_to_live), false).await?;
        if let Some(key) = cached.version(id) {
            return Ok(Some(key));
        }
        Ok(self.fetched(Some(asked), true).await?.version(id))
    }

    /// The versions as they were at `oldest` or later; whoever waited while another fetched them shares these.
    async fn fetched(&self, oldest: Option<Instant>, with_previous: bool) -> Result<Cached, Failure> {
        let mut cached = self.cached.lock().await;
        match &*cached {
            Some(fresh)
                if oldest.is_none_or(|oldest| fresh.fetched >= oldest)
                    && (fresh.with_previous || !with_previous) =>
            {
                Ok(fresh.clone())
            }
            _ => Ok(cached.insert(self.fetch(with_previous).await?).clone()),
        }
    }

    async fn fetch(&self, with_previous: bool) -> Result<Cached, Failure> {
        let failure = |error| SecretsManager.failure("GetSecretValue", &error);
        let fetched = Instant::now();
        let current = self.key(self.stage("AWSCURRENT").await.map_err(failure)?)?;
        // After the current one, so that a rotation between the two shows its version twice rather than not at all.
        let previous = if with_previous { Some(self.stage("AWSPREVIOUS").await) } else { None };
        let previous = match previous {
            Some(Err(error))
                if error
                    .as_service_error()
                    .is_some_and(GetSecretValueError::is_resource_not_found_exception) =>
            {
                None
            }
            previous => previous.transpose().map_err(failure)?,
        };
        let previous = previous.map(|value| self.key(value)).transpose()?;
        Ok(Cached { current, previous, with_previous, fetched })
    }

    async fn stage(&self, stage: &str) -> Result<GetSecretValueOutput, SdkError<GetSecretValueError>> {
        self.client.get_secret_value().secret_id(&self.secret_id).version_stage(stage).send().await
    }

    fn key(&self, value: GetSecretValueOutput) -> Result<Arc<SecretKey>, Failure> {
        match (value.version_id, value.secret_string) {
            (Some(version), Some(key)) if key.len() >= MIN_KEY_BYTES => {
                Ok(Arc::new(SecretKey { version, key: SecretString::from(key) }))
            }
            _ => Err(Failure::Defect(format!(
                "{} is not a string of {MIN_KEY_BYTES} bytes or more",
                self.secret_id
            ))),
        }
    }
}

impl Cached {
    fn version(&self, id: &str) -> Option<Arc<SecretKey>> {
        [Some(&self.current), self.previous.as_ref()]
            .into_iter()
            .flatten()
            .find(|key| key.version == id)
            .cloned()
    }
}
