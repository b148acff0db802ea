//! Secrets Manager: secrets with versions, kept in memory for a limited time.

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

/// The length in bytes of the shortest HMAC key: that of HMAC-SHA-256's output (RFC 7518 §3.2).
const MIN_HMAC_KEY_BYTES: usize = 32;

/// The least time between two look-ups of ids that no cached version has. Anyone can make up such an id, and each
/// look-up is two calls that are paid for.
const LOOK_UP_INTERVAL: Duration = Duration::from_secs(1);

/// The value of one version of a secret.
pub trait SecretValue: fmt::Debug + Sized + Send + Sync {
    /// Reads the value of the version with this id. The error describes the form that the value should have.
    fn parse(version: String, value: SecretString) -> Result<Self, &'static str>;

    /// The id by which the value is found: the version's, unless the value has one of its own.
    fn id(&self) -> &str;
}

/// One secret: its current version, and the one before, which still counts while the secret rotates.
#[derive(Debug)]
pub struct Secret<V> {
    client: Lazy<Client>,
    id: String,
    cache: RwLock<Cache<V>>,
    /// Held during a look-up. Requests whose version is cached do not wait for it.
    looking_up: Mutex<()>,
}

/// One version of a secret.
#[derive(Debug)]
pub struct Version<V> {
    value: V,
    used_until: Option<Timestamp>,
}

/// A key of HMAC-SHA-256.
pub struct HmacKey {
    version: String,
    key: SecretString,
}

/// The versions of a secret that are in memory.
#[derive(Debug)]
struct Cache<V> {
    time_to_live: Duration,
    versions: Option<Versions<V>>,
    /// When a look-up last found no version with the id that it was for, and why it failed if it did.
    missed: Option<(Timestamp, Option<Failure>)>,
}

#[derive(Debug)]
struct Versions<V> {
    current: Arc<Version<V>>,
    /// Absent also if no version but the current one was asked for yet.
    previous: Option<Arc<Version<V>>>,
    fetched: Timestamp,
}

/// The result of searching the cache for a version.
#[derive(Debug)]
enum Cached<V> {
    Found(Arc<Version<V>>),
    /// It was looked up, in vain, less than [`LOOK_UP_INTERVAL`] ago.
    Unknown,
    /// Looking it up failed less than [`LOOK_UP_INTERVAL`] ago.
    Failed(Failure),
    /// Only Secrets Manager can tell.
    Absent,
}

impl<V> Version<V> {
    /// The value.
    #[must_use]
    pub fn value(&self) -> &V {
        &self.value
    }

    /// The last instant at which a function may have used this version as the current one: when it was replaced, plus
    /// `SECRETS_CACHE_SECONDS`. `None` for the current version.
    #[must_use]
    pub fn used_until(&self) -> Option<Timestamp> {
        self.used_until
    }
}

impl HmacKey {
    /// The key's bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.key.expose_secret().as_bytes()
    }
}

impl SecretValue for HmacKey {
    fn parse(version: String, key: SecretString) -> Result<Self, &'static str> {
        if key.expose_secret().len() < MIN_HMAC_KEY_BYTES {
            return Err("a string of 32 bytes or more");
        }
        Ok(Self { version, key })
    }

    fn id(&self) -> &str {
        &self.version
    }
}

impl fmt::Debug for HmacKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("HmacKey").field("version", &self.version).finish_non_exhaustive()
    }
}

impl Secret<HmacKey> {
    /// The key that hashes reset codes, in the secret named by `CODE_KEY_SECRET_ID`.
    pub fn code_key(settings: &Settings, aws: &SdkConfig) -> Result<Self, ConfigError> {
        Self::new(settings, aws, "CODE_KEY_SECRET_ID", "postern/code-key")
    }
}

impl<V: SecretValue> Secret<V> {
    /// The secret that the setting `variable` names, or else the one with the name `default`.
    pub fn new(
        settings: &Settings,
        aws: &SdkConfig,
        variable: &str,
        default: &str,
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            client: lazy(aws, Client::new),
            id: settings.text(variable, default),
            cache: RwLock::new(Cache::new(cache_time(settings)?)),
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
    pub async fn current(&self) -> Result<Arc<Version<V>>, Failure> {
        if let Some(current) = self.read(|cache| cache.current(clock::now())) {
            return Ok(current);
        }
        let _looking_up = self.looking_up.lock().await;
        // Another request may have fetched it meanwhile.
        if let Some(current) = self.read(|cache| cache.current(clock::now())) {
            return Ok(current);
        }
        let (versions, _) = self.fetch_current().await?;
        Ok(self.keep(versions))
    }

    /// The version with this id, if it is the current or the previous one.
    ///
    /// An id that is not cached may be that of a newer version, so the secret is fetched again before the id counts as
    /// unknown, but not within a second after the last time that this was in vain.
    pub async fn version(&self, id: &str) -> Result<Option<Arc<Version<V>>>, Failure> {
        if let Cached::Found(version) = self.read(|cache| cache.find(id, clock::now())) {
            return Ok(Some(version));
        }
        let _looking_up = self.looking_up.lock().await;
        // Another request may have fetched it meanwhile.
        match self.read(|cache| cache.find(id, clock::now())) {
            Cached::Found(version) => return Ok(Some(version)),
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
    pub async fn version_in_memory(&self, id: &str) -> Result<Option<Arc<Version<V>>>, Failure> {
        let current = self.current().await?;
        if current.value.id() == id {
            return Ok(Some(current));
        }
        Ok(match self.read(|cache| cache.find(id, clock::now())) {
            Cached::Found(version) => Some(version),
            Cached::Unknown | Cached::Failed(_) | Cached::Absent => None,
        })
    }

    async fn look_up(&self, id: &str) -> Result<Option<Arc<Version<V>>>, Failure> {
        let (versions, created) = self.fetch_current().await?;
        if versions.current.value.id() == id {
            return Ok(Some(self.keep(versions)));
        }
        // After the current one, so that a rotation between the two shows its version twice rather than not at all.
        let previous = match self.stage("AWSPREVIOUS").await {
            Ok(previous) => Some(previous),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(GetSecretValueError::is_resource_not_found_exception) =>
            {
                None
            }
            Err(error) => return Err(SecretsManager.record_failure("GetSecretValue", &error)),
        };
        let used_until = Some(created + self.read(|cache| cache.time_to_live));
        let previous = previous.map(|previous| self.parse(previous, used_until)).transpose()?.map(Arc::new);
        let versions = Versions { previous, ..versions };
        let (found, fetched) = (versions.find(id), versions.fetched);
        self.keep(versions);
        if found.is_none() {
            self.change(|cache| cache.missed = Some((fetched, None)));
        }
        Ok(found)
    }

    /// Fetches the current version, and when it was created, which is when it replaced the previous one.
    async fn fetch_current(&self) -> Result<(Versions<V>, Timestamp), Failure> {
        let fetched = clock::now();
        let current = self
            .stage("AWSCURRENT")
            .await
            .map_err(|error| SecretsManager.record_failure("GetSecretValue", &error))?;
        let created = current.created_date.and_then(|created| i64::try_from(created.as_nanos() / 1000).ok());
        let created = created.map(Timestamp::from_micros).ok_or_else(|| {
            Failure::Defect(format!("the current version of {} has no creation date", self.id))
        })?;
        let current = Arc::new(self.parse(current, None)?);
        Ok((Versions { current, previous: None, fetched }, created))
    }

    /// Keeps the versions in memory, and returns the current one.
    fn keep(&self, versions: Versions<V>) -> Arc<Version<V>> {
        let current = Arc::clone(&versions.current);
        self.change(|cache| cache.versions = Some(versions));
        current
    }

    async fn stage(&self, stage: &str) -> Result<GetSecretValueOutput, SdkError<GetSecretValueError>> {
        self.client.get_secret_value().secret_id(&self.id).version_stage(stage).send().await
    }

    fn parse(
        &self,
        output: GetSecretValueOutput,
        used_until: Option<Timestamp>,
    ) -> Result<Version<V>, Failure> {
        let parsed = output.version_id.zip(output.secret_string).ok_or("a string");
        let parsed = parsed.and_then(|(version, value)| V::parse(version, SecretString::from(value)));
        match parsed {
            Ok(value) => Ok(Version { value, used_until }),
            Err(form) => Err(Failure::Defect(format!("{} is not {form}", self.id))),
        }
    }

    fn read<T>(&self, read: impl FnOnce(&Cache<V>) -> T) -> T {
        read(&self.cache.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut Cache<V>)) {
        change(&mut self.cache.write().unwrap_or_else(PoisonError::into_inner));
    }
}

impl<V: SecretValue> Cache<V> {
    fn new(time_to_live: Duration) -> Self {
        Self { time_to_live, versions: None, missed: None }
    }

    /// The versions, unless they were fetched more than the time to live ago. A clock that was set back does not make
    /// them live longer.
    fn fresh(&self, now: Timestamp) -> Option<&Versions<V>> {
        self.versions.as_ref().filter(|versions| now.abs_diff(versions.fetched) <= self.time_to_live)
    }

    fn current(&self, now: Timestamp) -> Option<Arc<Version<V>>> {
        self.fresh(now).map(|versions| Arc::clone(&versions.current))
    }

    fn find(&self, id: &str, now: Timestamp) -> Cached<V> {
        let Some(versions) = self.fresh(now) else {
            return Cached::Absent;
        };
        if let Some(version) = versions.find(id) {
            return Cached::Found(version);
        }
        match &self.missed {
            // Versions that were fetched later may lack the previous one, which a good token can be signed with.
            Some((last, failure)) if versions.fetched <= *last && now.abs_diff(*last) < LOOK_UP_INTERVAL => {
                failure.clone().map_or(Cached::Unknown, Cached::Failed)
            }
            _ => Cached::Absent,
        }
    }
}

impl<V: SecretValue> Versions<V> {
    fn find(&self, id: &str) -> Option<Arc<Version<V>>> {
        [Some(&self.current), self.previous.as_ref()]
            .into_iter()
            .flatten()
            .find(|version| version.value.id() == id)
            .cloned()
    }
}

/// The time for which functions keep a secret in memory, by `SECRETS_CACHE_SECONDS`: at most an hour.
pub fn cache_time(settings: &Settings) -> Result<Duration, ConfigError> {
    let seconds = settings.number("SECRETS_CACHE_SECONDS", 300, 0..=3600)?;
    Ok(Duration::from_secs(seconds.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MICROSECOND: Duration = Duration::from_micros(1);
    const TIME_TO_LIVE: Duration = Duration::from_mins(5);

    fn version(id: &str) -> Arc<Version<HmacKey>> {
        let key = SecretString::from("k".repeat(MIN_HMAC_KEY_BYTES));
        let value = HmacKey::parse(id.to_owned(), key).unwrap();
        Arc::new(Version { value, used_until: None })
    }

    /// A cache with the versions `new` and `old`, and when they were fetched.
    fn cache() -> (Cache<HmacKey>, Timestamp) {
        let fetched = Timestamp::from_micros(1_764_190_000_000_000);
        let versions = Versions { current: version("new"), previous: Some(version("old")), fetched };
        (Cache { versions: Some(versions), ..Cache::new(TIME_TO_LIVE) }, fetched)
    }

    fn is_found(cache: &Cache<HmacKey>, id: &str, now: Timestamp) -> bool {
        matches!(cache.find(id, now), Cached::Found(found) if found.value.id() == id)
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
        assert!(matches!(Cache::<HmacKey>::new(TIME_TO_LIVE).find("new", fetched), Cached::Absent));
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
        cache.versions = Some(Versions { current: version("new"), previous: None, fetched });

        assert!(matches!(cache.find("old", fetched), Cached::Absent));
    }
}
