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

use std::time::{Duration, SystemTime};

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueOutput;
use aws_types::SdkConfig;
use lambda_runtime::LambdaEvent;
use serde::{Deserialize, Serialize};
use shared::aws::Dependency::SecretsManager;
use shared::aws::{Lazy, lazy};
use shared::failure::Failure;
use shared::function::{Error, Function};
use shared::random;
use shared::settings::{ConfigError, Settings};
use shared::telemetry::{Audit, Summary};

/// The labels of the new version: the current one, and, as Secrets Manager wants it at the end of a rotation, not
/// pending elsewhere.
const STAGES: [&str; 2] = ["AWSCURRENT", "AWSPENDING"];

/// The function `rotate_jwt_secret`.
#[derive(Debug)]
pub struct RotateJwtSecret {
    client: Lazy<Client>,
    /// The least age of the current version at which it is replaced.
    min_interval: Duration,
}

/// A step that Secrets Manager asks for.
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

/// The steps of a rotation, in their order.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// Creates the new version and makes it the current one.
    CreateSecret,
    /// Nothing to do: functions look the key up.
    SetSecret,
    /// Fails unless the new version is the current one.
    TestSecret,
    /// Fails unless the new version is the current one.
    FinishSecret,
}

impl Function for RotateJwtSecret {
    const NAME: &'static str = "rotate_jwt_secret";

    type Event = Rotation;

    /// Creates the function with the deployment's settings. `JWT_ROTATION_MIN_INTERVAL_SECONDS` is the life of a token
    /// and the longest that a function may go on signing with a replaced version, unless set.
    fn new(settings: &Settings, aws: &SdkConfig) -> Result<Self, ConfigError> {
        let seconds = settings.number("JWT_ROTATION_MIN_INTERVAL_SECONDS", 2 * 3600, 0..=365 * 86_400)?;
        Ok(Self { client: lazy(aws, Client::new), min_interval: Duration::from_secs(seconds.into()) })
    }

    /// Takes one step. An error makes Secrets Manager try again later; the secret stays as it is until then.
    async fn invoke(&self, event: LambdaEvent<Rotation>) -> Result<impl Serialize + Send, Error> {
        let LambdaEvent { payload, context } = event;
        let taken = async {
            match payload.step {
                Step::CreateSecret => ("CreateSecret", self.replace(&payload).await),
                Step::SetSecret => ("SetSecret", Ok(())),
                Step::TestSecret => ("TestSecret", self.confirm(&payload).await),
                Step::FinishSecret => ("FinishSecret", self.confirm(&payload).await),
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
        if current.version_id.as_ref() == Some(&rotation.client_request_token) {
            return Ok(());
        }
        let age = current
            .created_date
            .and_then(|created| SystemTime::try_from(created).ok())
            .and_then(|created| SystemTime::now().duration_since(created).ok())
            .unwrap_or_default();
        if age < self.min_interval {
            return Err(Failure::Unavailable(format!(
                "the current version is {} s old; before {} s, tokens of the previous one could be valid",
                age.as_secs(),
                self.min_interval.as_secs(),
            )));
        }
        // Refused by Secrets Manager if there is a version with this id: one that was current before must never become
        // so again by a step that comes late.
        self.client
            .put_secret_value()
            .secret_id(&rotation.secret_id)
            .client_request_token(&rotation.client_request_token)
            .secret_string(random::secret_key())
            .set_version_stages(Some(STAGES.map(str::to_owned).to_vec()))
            .send()
            .await
            .map(drop)
            .map_err(|error| SecretsManager.record_failure("PutSecretValue", &error))
    }

    async fn confirm(&self, rotation: &Rotation) -> Result<(), Failure> {
        let current = self.current(rotation).await?;
        if current.version_id.as_ref() == Some(&rotation.client_request_token) {
            Ok(())
        } else {
            Err(Failure::Unavailable("the new version is not the current one".to_owned()))
        }
    }

    async fn current(&self, rotation: &Rotation) -> Result<GetSecretValueOutput, Failure> {
        let current = self.client.get_secret_value().secret_id(&rotation.secret_id).send().await;
        current.map_err(|error| SecretsManager.record_failure("GetSecretValue", &error))
    }
}

fn summary<'a>(step: &'static str, done: &'a Result<(), Failure>) -> Summary<'a> {
    let failure = done.as_ref().err();
    let outcome = failure.map_or(step, Failure::error_code);
    Summary { outcome, action: Some(step), failure, ..Summary::default() }
}
