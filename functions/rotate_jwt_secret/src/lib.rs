//! `rotate_jwt_secret`: the rotation of the key that signs JSON Web Tokens, in the four steps in which Secrets
//! Manager asks for it. Each step is idempotent.
//!
//! The first step makes the new version the current one in the same call that creates it. There is nothing to prepare
//! or to test between the two, since functions look the key up, and so the version's creation date is the exact time
//! at which it replaced the one before: tokens signed with that one are accepted only if they were issued until then
//! (plus the time for which functions keep a key). A pending version that became current later would need a guess.
//!
//! Tokens signed with the previous version verify until they expire, and each version is the previous one until the
//! next rotation: so the next one must not come before the last such token expired.
//!
//! With a public key, a version has two key pairs, and a rotation promotes the second one. Its public key has been in
//! the published key set since the rotation before, so that verifiers elsewhere have it by the time it signs. The key
//! set is written before the keys are replaced, and again afterwards with the end of the replaced key: if something fails
//! in between, it has a key too many, never one too few.

mod key_pairs;

use std::time::{Duration, SystemTime};

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::operation::get_secret_value::{GetSecretValueError, GetSecretValueOutput};
use aws_types::SdkConfig;
use lambda_runtime::LambdaEvent;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use shared::aws::Dependency::SecretsManager;
use shared::aws::{Lazy, lazy};
use shared::failure::Failure;
use shared::function::{Error, Function};
use shared::settings::{ConfigError, Settings};
use shared::telemetry::{Audit, Summary};
use shared::tokens::{KeyPair, KeyPairs, KeySet, TokenSettings};
use shared::{clock, random, secrets};

use crate::key_pairs::generate;

/// The labels of the new version: the current one, and, as Secrets Manager wants it at the end of a rotation, not
/// pending elsewhere.
const STAGES: [&str; 2] = ["AWSCURRENT", "AWSPENDING"];

/// The longest that verifiers keep a key set: two hours in the HTTP APIs of API Gateway, after the five minutes of the
/// key set's `Cache-Control`.
const VERIFIERS_CACHE_TIME: Duration = Duration::from_mins(125);

/// The function `rotate_jwt_secret`.
#[derive(Debug)]
pub struct RotateJwtSecret {
    client: Lazy<Client>,
    tokens: TokenSettings,
    key_set_id: String,
    /// The time for which functions keep a key.
    cache_time: Duration,
    /// The least age of the current version at which it is replaced.
    min_interval: Duration,
}

/// A step that Secrets Manager asks for, or an operator.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Rotation {
    /// The step.
    pub step: Step,
    /// The secret's ARN.
    pub secret_id: String,
    /// The id of the new version.
    pub client_request_token: String,
}

/// The steps of a rotation, in their order, and one that operators take instead of them.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// Creates the new version and makes it the current one.
    CreateSecret,
    /// Nothing to do: functions look the key up.
    SetSecret,
    /// Fails unless the current version can be read. Secrets Manager takes this step alone, with a version that has no
    /// value, when the rotation is set up without a first one, and when its schedule changes.
    TestSecret,
    /// Fails unless the new version is the current one.
    FinishSecret,
    /// Replaces all keys at once, after a leak: the one in use, the next one, and the previous one. All tokens end.
    RevokeKeys,
}

/// The current version of the secret.
struct Current {
    version: String,
    age: Duration,
    value: SecretString,
}

impl Current {
    /// The key pairs. `None` if it is a key of HS256.
    fn key_pairs(&self) -> Result<Option<KeyPairs>, Failure> {
        // The error is left out, because it could quote the value.
        let unreadable = |_| Failure::Defect("the current version is not the JSON of key pairs".to_owned());
        KeyPairs::parse(self.value.expose_secret()).transpose().map_err(unreadable)
    }
}

impl Function for RotateJwtSecret {
    const NAME: &'static str = "rotate_jwt_secret";

    type Event = Rotation;

    /// Creates the function with the deployment's settings. `JWT_ROTATION_MIN_INTERVAL_SECONDS` is the life of a token
    /// and the longest that a function may go on signing with a replaced version, unless set. With public keys, the
    /// time for which verifiers keep a key set counts as well; 0 turns both off.
    fn new(settings: &Settings, aws: &SdkConfig) -> Result<Self, ConfigError> {
        let seconds = settings.number("JWT_ROTATION_MIN_INTERVAL_SECONDS", 2 * 3600, 0..=365 * 86_400)?;
        let tokens = TokenSettings::new(settings)?;
        let cache_time = secrets::cache_time(settings)?;
        let mut min_interval = Duration::from_secs(seconds.into());
        if tokens.algorithm.is_some() && !min_interval.is_zero() {
            min_interval = min_interval.max(VERIFIERS_CACHE_TIME + cache_time);
        }
        let (variable, default) = KeySet::SECRET;
        let key_set_id = settings.text(variable, default);
        Ok(Self { client: lazy(aws, Client::new), tokens, key_set_id, cache_time, min_interval })
    }

    /// Takes one step. An error makes Secrets Manager try again later; the secret stays as it is until then.
    async fn invoke(&self, event: LambdaEvent<Rotation>) -> Result<impl Serialize + Send, Error> {
        let LambdaEvent { payload, context } = event;
        let taken = async {
            match payload.step {
                Step::CreateSecret => ("CreateSecret", self.replace(&payload).await),
                Step::SetSecret => ("SetSecret", Ok(())),
                Step::TestSecret => ("TestSecret", self.read(&payload).await),
                Step::FinishSecret => ("FinishSecret", self.confirm(&payload).await),
                Step::RevokeKeys => ("RevokeKeys", self.revoke_keys(&payload).await),
            }
        };
        let audit = Audit::of_invocation(Self::NAME, &context);
        let (_, done) = audit.record(taken, |(step, done)| summary(step, done)).await;
        done.map_err(Error::from)
    }
}

impl RotateJwtSecret {
    async fn replace(&self, rotation: &Rotation) -> Result<(), Failure> {
        let current = self.current(rotation).await?;
        if current.version == rotation.client_request_token {
            return Ok(());
        }
        let replaced = current.key_pairs()?;
        let replaced = replaced.as_ref();
        self.check_age(rotation, &current, replaced).await?;
        let promoted = replaced.filter(|pairs| Some(pairs.algorithm) == self.tokens.algorithm);
        let Some(pairs) = self.new_key_pairs(promoted.map(|pairs| &pairs.next)).await? else {
            return self.put(rotation, random::secret_key()).await;
        };
        // Until the new version is current, nothing is known about the end of the replaced key.
        self.publish(&self.key_set(&pairs, replaced)?.without_end()).await?;
        self.put(rotation, json(&pairs)?).await?;
        self.publish(&self.key_set(&pairs, replaced)?).await
    }

    async fn revoke_keys(&self, rotation: &Rotation) -> Result<(), Failure> {
        let current = self.current(rotation).await?;
        let pairs = if current.version == rotation.client_request_token {
            current.key_pairs()?
        } else {
            let pairs = self.new_key_pairs(None).await?;
            let value = pairs.as_ref().map_or_else(|| Ok(random::secret_key()), json)?;
            self.put(rotation, value).await?;
            pairs
        };
        if let Some(pairs) = &pairs {
            self.publish(&self.key_set(pairs, None)?).await?;
        }
        let Some(previous) = self.get(rotation, "AWSPREVIOUS").await? else {
            return Ok(());
        };
        let removed = self
            .client
            .update_secret_version_stage()
            .secret_id(&rotation.secret_id)
            .version_stage("AWSPREVIOUS")
            .set_remove_from_version_id(previous.version_id);
        let removed = removed.send().await.map(drop);
        removed.map_err(|error| SecretsManager.record_failure("UpdateSecretVersionStage", &error))
    }

    async fn read(&self, rotation: &Rotation) -> Result<(), Failure> {
        self.current(rotation).await?.key_pairs().map(drop)
    }

    async fn confirm(&self, rotation: &Rotation) -> Result<(), Failure> {
        if self.current(rotation).await?.version == rotation.client_request_token {
            Ok(())
        } else {
            Err(Failure::Unavailable("the new version is not the current one".to_owned()))
        }
    }

    /// Fails if tokens signed with the previous version could be valid, or if verifiers could lack the next key. For
    /// the first key of another algorithm there is no reason to wait if no version has been replaced yet.
    async fn check_age(
        &self,
        rotation: &Rotation,
        current: &Current,
        replaced: Option<&KeyPairs>,
    ) -> Result<(), Failure> {
        if current.age >= self.min_interval {
            return Ok(());
        }
        let algorithm = replaced.map(|pairs| pairs.algorithm);
        if algorithm != self.tokens.algorithm && self.get(rotation, "AWSPREVIOUS").await?.is_none() {
            return Ok(());
        }
        Err(Failure::Unavailable(format!(
            "the current version is {} s old; before {} s, tokens of the previous one could be valid, and verifiers \
             could lack the next public key",
            current.age.as_secs(),
            self.min_interval.as_secs(),
        )))
    }

    /// Makes the key pairs of a new version for the algorithm of the settings. `None` if it is HS256. `promoted` is the
    /// one that will sign, unless there is none yet.
    async fn new_key_pairs(&self, promoted: Option<&KeyPair>) -> Result<Option<KeyPairs>, Failure> {
        let Some(algorithm) = self.tokens.algorithm else {
            return Ok(None);
        };
        let current = match promoted {
            Some(promoted) => promoted.clone(),
            None => generate(algorithm).await?,
        };
        let next = generate(algorithm).await?;
        Ok(Some(KeyPairs { algorithm, parties: self.tokens.parties.clone(), current, next }))
    }

    fn key_set(&self, pairs: &KeyPairs, replaced: Option<&KeyPairs>) -> Result<KeySet, Failure> {
        KeySet::new(pairs, replaced, clock::now(), self.cache_time)
    }

    async fn publish(&self, key_set: &KeySet) -> Result<(), Failure> {
        let request =
            self.client.put_secret_value().secret_id(&self.key_set_id).secret_string(json(key_set)?);
        let published = request.send().await.map(drop);
        published.map_err(|error| SecretsManager.record_failure("PutSecretValue", &error))
    }

    /// Makes a new version the current one.
    async fn put(&self, rotation: &Rotation, value: String) -> Result<(), Failure> {
        // Refused by Secrets Manager if there is a version with this id: one that was current before must never become
        // so again by a step that comes late.
        self.client
            .put_secret_value()
            .secret_id(&rotation.secret_id)
            .client_request_token(&rotation.client_request_token)
            .secret_string(value)
            .set_version_stages(Some(STAGES.map(str::to_owned).to_vec()))
            .send()
            .await
            .map(drop)
            .map_err(|error| SecretsManager.record_failure("PutSecretValue", &error))
    }

    async fn current(&self, rotation: &Rotation) -> Result<Current, Failure> {
        let missing = || Failure::Unavailable("there is no current version".to_owned());
        let current = self.get(rotation, "AWSCURRENT").await?.ok_or_else(missing)?;
        let age = current
            .created_date
            .and_then(|created| SystemTime::try_from(created).ok())
            .and_then(|created| SystemTime::now().duration_since(created).ok())
            .unwrap_or_default();
        let value = SecretString::from(current.secret_string.unwrap_or_default());
        Ok(Current { version: current.version_id.unwrap_or_default(), age, value })
    }

    /// The version with the label `stage`, if there is one.
    async fn get(&self, rotation: &Rotation, stage: &str) -> Result<Option<GetSecretValueOutput>, Failure> {
        let request = self.client.get_secret_value().secret_id(&rotation.secret_id).version_stage(stage);
        match request.send().await {
            Ok(version) => Ok(Some(version)),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(GetSecretValueError::is_resource_not_found_exception) =>
            {
                Ok(None)
            }
            Err(error) => Err(SecretsManager.record_failure("GetSecretValue", &error)),
        }
    }
}

fn json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::Defect(error.to_string()))
}

fn summary<'a>(step: &'static str, done: &'a Result<(), Failure>) -> Summary<'a> {
    let failure = done.as_ref().err();
    let outcome = failure.map_or(step, Failure::error_code);
    Summary { outcome, action: Some(step), failure, ..Summary::default() }
}
