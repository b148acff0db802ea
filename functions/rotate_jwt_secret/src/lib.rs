//! `rotate_jwt_secret`: the rotation of the key that signs JSON Web Tokens, in the four steps in which Secrets
//! Manager asks for it. Each step may be repeated.
//!
//! Tokens signed with the previous version verify until they expire, and each version is the previous one until the
//! next rotation: so the next one must not come before the last such token expired.

use std::time::{Duration, SystemTime};

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::operation::get_secret_value::{GetSecretValueError, GetSecretValueOutput};
use aws_types::SdkConfig;
use lambda_runtime::{Error, LambdaEvent};
use serde::Deserialize;
use shared::aws::Dependency::SecretsManager;
use shared::aws::{Lazy, lazy};
use shared::config::{ConfigError, Environment};
use shared::error::Failure;
use shared::random;
use shared::telemetry::{count_answer, invocation_span};
use tracing::Instrument;

/// The staging label of the version to come.
const PENDING: &str = "AWSPENDING";

/// The function `rotate_jwt_secret`.
#[derive(Debug)]
pub struct Function {
    client: Lazy<Client>,
    /// How old the current version has to be before it is replaced.
    min_interval: Duration,
}

/// What Secrets Manager asks for.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Rotation {
    /// What is to be done.
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
    /// Make the new version, staged `AWSPENDING`.
    CreateSecret,
    /// Tell others of it: there are none, the functions look it up.
    SetSecret,
    /// See that it is good.
    TestSecret,
    /// Make it the current version, and the current one the previous.
    FinishSecret,
}

impl Function {
    /// The function with the deployment's settings. `JWT_ROTATION_MIN_INTERVAL_SECONDS` is the life of a token and
    /// the longest that a function may go on signing with a replaced version, unless set.
    pub fn new(environment: &Environment, aws: &SdkConfig) -> Result<Self, ConfigError> {
        let seconds = environment.number("JWT_ROTATION_MIN_INTERVAL_SECONDS", 2 * 3600, 0..=365 * 86_400)?;
        Ok(Self { client: lazy(aws, Client::new), min_interval: Duration::from_secs(seconds.into()) })
    }

    /// Takes one step. An error makes Secrets Manager try again later; the secret stays as it is until then.
    pub async fn handle(&self, event: LambdaEvent<Rotation>) -> Result<(), Error> {
        let LambdaEvent { payload, context } = event;
        let span = invocation_span(&context);
        async {
            let (step, done) = match payload.step {
                Step::CreateSecret => ("CreateSecret", self.create(&payload).await),
                Step::SetSecret => ("SetSecret", Ok(())),
                Step::TestSecret => ("TestSecret", self.test(&payload).await),
                Step::FinishSecret => ("FinishSecret", self.finish(&payload).await),
            };
            if let Err(failure) = &done {
                tracing::error!(event = "rotate_jwt_secret", step, cause = %failure, "failed");
            }
            let outcome = done.as_ref().map_or_else(Failure::error_code, |()| step);
            tracing::info!(event = "rotate_jwt_secret", outcome, "answered");
            count_answer("rotate_jwt_secret", outcome);
            done.map_err(Error::from)
        }
        .instrument(span)
        .await
    }

    async fn create(&self, rotation: &Rotation) -> Result<(), Failure> {
        let current = self.current(rotation).await?;
        if current.version_id.as_ref() == Some(&rotation.client_request_token)
            || self.pending(rotation).await?.is_some()
        {
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
        self.client
            .put_secret_value()
            .secret_id(&rotation.secret_id)
            .client_request_token(&rotation.client_request_token)
            .secret_string(random::secret_key())
            .version_stages(PENDING)
            .send()
            .await
            .map(drop)
            .map_err(|error| SecretsManager.failure("PutSecretValue", &error))
    }

    async fn test(&self, rotation: &Rotation) -> Result<(), Failure> {
        let key = self.pending(rotation).await?.ok_or_else(not_pending)?;
        if key.len() == random::SECRET_KEY_CHARS {
            Ok(())
        } else {
            Err(Failure::Defect("the new version is not what was made".to_owned()))
        }
    }

    async fn finish(&self, rotation: &Rotation) -> Result<(), Failure> {
        let current = self.current(rotation).await?.version_id;
        if current.as_ref() == Some(&rotation.client_request_token) {
            return Ok(());
        }
        // A version that was current before, or was given up, must never become so by a step that comes late.
        self.pending(rotation).await?.ok_or_else(not_pending)?;
        let moved = self
            .client
            .update_secret_version_stage()
            .secret_id(&rotation.secret_id)
            .version_stage("AWSCURRENT")
            .move_to_version_id(&rotation.client_request_token)
            .set_remove_from_version_id(current)
            .send()
            .await;
        let Err(error) = moved else {
            return Ok(());
        };
        let failure = SecretsManager.failure("UpdateSecretVersionStage", &error);
        // Where an answer got lost, its repetition is refused, because the label has left the version before.
        let current = self.current(rotation).await?.version_id;
        if current.as_ref() == Some(&rotation.client_request_token) { Ok(()) } else { Err(failure) }
    }

    async fn current(&self, rotation: &Rotation) -> Result<GetSecretValueOutput, Failure> {
        let current = self.client.get_secret_value().secret_id(&rotation.secret_id).send().await;
        current.map_err(|error| SecretsManager.failure("GetSecretValue", &error))
    }

    /// The key of the new version, while that is the one to come.
    async fn pending(&self, rotation: &Rotation) -> Result<Option<String>, Failure> {
        let version = self
            .client
            .get_secret_value()
            .secret_id(&rotation.secret_id)
            .version_id(&rotation.client_request_token)
            .version_stage(PENDING)
            .send()
            .await;
        match version {
            Ok(version) => Ok(version.secret_string),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(GetSecretValueError::is_resource_not_found_exception) =>
            {
                Ok(None)
            }
            Err(error) => Err(SecretsManager.failure("GetSecretValue", &error)),
        }
    }
}

fn not_pending() -> Failure {
    Failure::Unavailable("the version is not staged AWSPENDING".to_owned())
}
