//! Secrets Manager: keys with versions, kept in memory for a limited time.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::SdkError;
use aws_sdk_secretsmanager::operation::get_secret_value::{GetSecretValueError, GetSecretValueOutput};
use aws_types::SdkConfig;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;

use crate::aws::Dependency::SecretsManager;
use crate::aws::{Lazy, lazy};
use crate::clock;
use crate::domain::Timestamp;
use crate::failure::Failure;
use crate::settings::{ConfigError, Settings};
use crate::telemetry;

/// The shortest key: as long as HMAC-SHA-256's output (RFC 7518 §3.2).
const MIN_KEY_BYTES: usize = 32;

/// The least time between two look-ups of ids that no cached version has. Anyone can make up such an id, and each
/// look-up is two calls that are paid for.
const LOOK_UP_INTERVAL: Duration = Duration::from_secs(1);

/// The key in one secret: its current version, and the one before, which still counts while the secret rotates.
#[derive(Debug)]
pub struct SecretKeys {
    client: Lazy<Client>,
    secret_id: String,
    cache: RwLock<Cache>,
    /// Held during a look-up. Requests whose version is cached do not wait for it.
    looking_up: Mutex<()>,
}

/// One version of a key.
pub struct SecretKey {
    version: String,
    key: SecretString,
    signs_until: Option<Timestamp>,
}

/// The versions of a key that are in memory.
#[derive(Debug)]
struct Cache {
    time_to_live: Duration,
    keys: Option<Keys>,
    /// When a look-up last found no version with the id that it was for, and why it failed if it did.
    missed: Option<(Timestamp, Option<Failure>)>,
}

#[derive(Clone, Debug)]
struct Keys {
    current: Arc<SecretKey>,
    /// Absent also if no version but the current one was asked for yet.
    previous: Option<Arc<SecretKey>>,
    fetched: Timestamp,
}

/// The result of searching the cache for a version.
#[derive(Debug)]
enum Cached {
    Found(Arc<SecretKey>),
    /// It was looked up, in vain, less than [`LOOK_UP_INTERVAL`] ago.
    Unknown,
    /// Looking it up failed less than [`LOOK_UP_INTERVAL`] ago.
    Failed(Failure),
    /// Only Secrets Manager can tell.
    Absent,
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

    /// The last instant at which a function may have signed with this version: when it was replaced, plus
    /// `SECRETS_CACHE_SECONDS`. `None` for the current version.
    #[must_use]
    pub fn signs_until(&self) -> Option<Timestamp> {
        self.signs_until
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SecretKey").field("version", &self.version).finish_non_exhaustive()
    }
}

impl SecretKeys {
    /// The key that signs JSON Web Tokens, in the secret named by `JWT_SECRET_ID`.
    pub fn for_tokens(settings: &Settings, aws: &SdkConfig) -> Result<Self, ConfigError> {
        Self::new(settings, aws, settings.text("JWT_SECRET_ID", "postern/jwt-secret"))
    }

    /// The key that hashes reset codes, in the secret named by `CODE_KEY_SECRET_ID`.
    pub fn for_codes(settings: &Settings, aws: &SdkConfig) -> Result<Self, ConfigError> {
        Self::new(settings, aws, settings.text("CODE_KEY_SECRET_ID", "postern/code-key"))
    }

    fn new(settings: &Settings, aws: &SdkConfig, secret_id: String) -> Result<Self, ConfigError> {
        let seconds = settings.number("SECRETS_CACHE_SECONDS", 300, 0..=3600)?;
        Ok(Self {
            client: lazy(aws, Client::new),
            secret_id,
            cache: RwLock::new(Cache::new(Duration::from_secs(seconds.into()))),
            looking_up: Mutex::new(()),
        })
    }

    /// Fetches the current version before it is needed. If that fails, it is logged, and tried again when it is needed.
    pub async fn prefetch(&self) {
        if let Err(failure) = self.current().await {
            telemetry::warn("key not fetched ahead", failure);
        }
    }

    /// The current version, at most `SECRETS_CACHE_SECONDS` old.
    pub async fn current(&self) -> Result<Arc<SecretKey>, Failure> {
        if let Some(keys) = self.read(|cache| cache.fresh(clock::now()).cloned()) {
            return Ok(keys.current);
        }
        let _looking_up = self.looking_up.lock().await;
        // Another request may have fetched it meanwhile.
        if let Some(keys) = self.read(|cache| cache.fresh(clock::now()).cloned()) {
            return Ok(keys.current);
        }
        let (keys, _) = self.fetch_current().await?;
        Ok(self.keep(keys).current)
    }

    /// The version with this id, if it is the current or the previous one.
    ///
    /// An id that is not cached may be that of a newer version, so the secret is fetched again before the id counts as
    /// unknown, but not within a second after the last time that this was in vain.
    pub async fn version(&self, id: &str) -> Result<Option<Arc<SecretKey>>, Failure> {
        if let Cached::Found(key) = self.read(|cache| cache.find(id, clock::now())) {
            return Ok(Some(key));
        }
        let _looking_up = self.looking_up.lock().await;
        // Another request may have fetched it meanwhile.
        match self.read(|cache| cache.find(id, clock::now())) {
            Cached::Found(key) => return Ok(Some(key)),
            Cached::Unknown => return Ok(None),
            Cached::Failed(failure) => return Err(failure),
            Cached::Absent => {}
        }
        let looked_up = clock::now();
        let found = self.look_up(id).await;
        if let Err(failure) = &found {
            self.change(|cache| cache.missed = Some((looked_up, Some(failure.clone()))));
        }
        found
    }

    /// The version with this id, if it is in memory. No more is fetched than [`current`](Self::current) would fetch.
    pub async fn version_in_memory(&self, id: &str) -> Result<Option<Arc<SecretKey>>, Failure> {
        let current = self.current().await?;
        if current.version == id {
            return Ok(Some(current));
        }
        Ok(match self.read(|cache| cache.find(id, clock::now())) {
            Cached::Found(key) => Some(key),
            Cached::Unknown | Cached::Failed(_) | Cached::Absent => None,
        })
    }

    async fn look_up(&self, id: &str) -> Result<Option<Arc<SecretKey>>, Failure> {
        let (keys, created) = self.fetch_current().await?;
        if keys.current.version == id {
            return Ok(Some(self.keep(keys).current));
        }
        // After the current one, so that a rotation between the two shows its version twice rather than not at all.
        let previous = match self.stage("AWSPREVIOUS").await {
            Ok(value) => Some(value),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(GetSecretValueError::is_resource_not_found_exception) =>
            {
                None
            }
            Err(error) => return Err(SecretsManager.record_failure("GetSecretValue", &error)),
        };
        let signs_until = Some(created + self.read(|cache| cache.time_to_live));
        let previous = previous.map(|value| self.key(value, signs_until)).transpose()?.map(Arc::new);
        let keys = self.keep(Keys { previous, ..keys });
        let found = keys.version(id);
        if found.is_none() {
            self.change(|cache| cache.missed = Some((keys.fetched, None)));
        }
        Ok(found)
    }

    /// Fetches the current version, and when it was created, which is when it replaced the previous one.
    async fn fetch_current(&self) -> Result<(Keys, Timestamp), Failure> {
        let fetched = clock::now();
        let current = self
            .stage("AWSCURRENT")
            .await
            .map_err(|error| SecretsManager.record_failure("GetSecretValue", &error))?;
        let created = current.created_date.and_then(|created| i64::try_from(created.as_nanos() / 1000).ok());
        let created = created.map(Timestamp::from_micros).ok_or_else(|| {
            Failure::Defect(format!("the current version of {} has no creation date", self.secret_id))
        })?;
        let current = Arc::new(self.key(current, None)?);
        Ok((Keys { current, previous: None, fetched }, created))
    }

    fn keep(&self, keys: Keys) -> Keys {
        self.change(|cache| cache.keys = Some(keys.clone()));
        keys
    }

    async fn stage(&self, stage: &str) -> Result<GetSecretValueOutput, SdkError<GetSecretValueError>> {
        self.client.get_secret_value().secret_id(&self.secret_id).version_stage(stage).send().await
    }

    fn key(&self, value: GetSecretValueOutput, signs_until: Option<Timestamp>) -> Result<SecretKey, Failure> {
        match (value.version_id, value.secret_string) {
            (Some(version), Some(key)) if key.len() >= MIN_KEY_BYTES => {
                Ok(SecretKey { version, key: SecretString::from(key), signs_until })
            }
            _ => Err(Failure::Defect(format!(
                "{} is not a string of {MIN_KEY_BYTES} bytes or more",
                self.secret_id
            ))),
        }
    }

    fn read<T>(&self, read: impl FnOnce(&Cache) -> T) -> T {
        read(&self.cache.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut Cache)) {
        change(&mut self.cache.write().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Cache {
    fn new(time_to_live: Duration) -> Self {
        Self { time_to_live, keys: None, missed: None }
    }

    /// The versions, unless they were fetched more than the time to live ago. A clock that was set back does not make
    /// them live longer.
    fn fresh(&self, now: Timestamp) -> Option<&Keys> {
        self.keys.as_ref().filter(|keys| now.abs_diff(keys.fetched) <= self.time_to_live)
    }

    fn find(&self, id: &str, now: Timestamp) -> Cached {
        let Some(keys) = self.fresh(now) else {
            return Cached::Absent;
        };
        if let Some(key) = keys.version(id) {
            return Cached::Found(key);
        }
        match &self.missed {
            // Versions that were fetched later may lack the previous one, which a good token can be signed with.
            Some((last, failure)) if keys.fetched <= *last && now.abs_diff(*last) < LOOK_UP_INTERVAL => {
                failure.clone().map_or(Cached::Unknown, Cached::Failed)
            }
            _ => Cached::Absent,
        }
    }
}

impl Keys {
    fn version(&self, id: &str) -> Option<Arc<SecretKey>> {
        [Some(&self.current), self.previous.as_ref()]
            .into_iter()
            .flatten()
            .find(|key| key.version == id)
            .cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MICROSECOND: Duration = Duration::from_micros(1);
    const TIME_TO_LIVE: Duration = Duration::from_mins(5);

    fn key(version: &str) -> Arc<SecretKey> {
        let key = SecretString::from("k".repeat(MIN_KEY_BYTES));
        Arc::new(SecretKey { version: version.to_owned(), key, signs_until: None })
    }

    /// A cache with the versions `new` and `old`, and when they were fetched.
    fn cache() -> (Cache, Timestamp) {
        let fetched = Timestamp::from_micros(1_764_190_000_000_000);
        let keys = Keys { current: key("new"), previous: Some(key("old")), fetched };
        (Cache { keys: Some(keys), ..Cache::new(TIME_TO_LIVE) }, fetched)
    }

    fn is_found(cache: &Cache, id: &str, now: Timestamp) -> bool {
        matches!(cache.find(id, now), Cached::Found(key) if key.version() == id)
    }

    #[test]
    fn versions_are_kept_for_the_time_to_live() {
        let (cache, fetched) = cache();
        for id in ["new", "old"] {
            for now in [fetched, fetched + TIME_TO_LIVE, fetched - SECOND] {
                assert!(is_found(&cache, id, now));
            }
            // The last one is a clock that was set back.
            for now in [fetched + TIME_TO_LIVE + MICROSECOND, fetched - TIME_TO_LIVE - MICROSECOND] {
                assert!(matches!(cache.find(id, now), Cached::Absent));
            }
        }
        assert!(matches!(Cache::new(TIME_TO_LIVE).find("new", fetched), Cached::Absent));
    }

    #[test]
    fn unknown_ids_are_looked_up_once_a_second() {
        let (mut cache, fetched) = cache();
        assert!(matches!(cache.find("a", fetched), Cached::Absent));

        cache.missed = Some((fetched, None));
        for now in [fetched, fetched + SECOND - MICROSECOND] {
            assert!(matches!(cache.find("a", now), Cached::Unknown));
            assert!(matches!(cache.find("b", now), Cached::Unknown));
            assert!(is_found(&cache, "old", now));
        }
        assert!(matches!(cache.find("a", fetched + SECOND), Cached::Absent));
    }

    #[test]
    fn a_failed_look_up_is_not_repeated_within_the_second() {
        let (mut cache, fetched) = cache();
        let (failed, failure) = (fetched + SECOND, Failure::Unavailable("throttled".to_owned()));
        cache.missed = Some((failed, Some(failure.clone())));

        let now = failed + SECOND - MICROSECOND;
        assert!(matches!(cache.find("a", now), Cached::Failed(seen) if seen == failure));
        assert!(is_found(&cache, "new", now));
        assert!(matches!(cache.find("a", failed + SECOND), Cached::Absent));
    }

    #[test]
    fn the_previous_version_is_looked_up_whatever_was_looked_up_before() {
        let (mut cache, fetched) = cache();
        cache.missed = Some((fetched - MICROSECOND, None));
        cache.keys = Some(Keys { current: key("new"), previous: None, fetched });

        assert!(matches!(cache.find("old", fetched), Cached::Absent));
    }
}
