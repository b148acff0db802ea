//! The stand-in for Secrets Manager: secrets with versions and staging labels, in memory or in a file.

mod random_password;
mod versions;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use rand::distr::{Alphanumeric, SampleString};
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::random_password::random_password;
use self::versions::{CURRENT, Secret, now};
use crate::aws;
use crate::stack::StartError;
use crate::template;

/// A running Secrets Manager.
pub(crate) struct SecretsManager {
    secrets: Mutex<Secrets>,
    file: Option<PathBuf>,
}

/// The secrets by their names.
#[derive(Clone, Default, Deserialize, PartialEq, Serialize)]
struct Secrets(BTreeMap<String, Secret>);

/// The code and the message of the error that refuses a call.
#[derive(Debug, PartialEq)]
struct Refusal(&'static str, String);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CreateSecret {
    name: String,
    description: Option<String>,
    client_request_token: Option<String>,
    secret_string: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutSecretValue {
    secret_id: String,
    client_request_token: Option<String>,
    version_stages: Option<BTreeSet<String>>,
    secret_string: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetSecretValue {
    secret_id: String,
    version_id: Option<String>,
    version_stage: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DescribeSecret {
    secret_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UpdateSecretVersionStage {
    secret_id: String,
    version_stage: String,
    move_to_version_id: Option<String>,
    remove_from_version_id: Option<String>,
}

impl SecretsManager {
    /// Opens the secrets in the folder. Without a folder there are none.
    pub(crate) fn open(data_dir: Option<&Path>) -> Result<Self, StartError> {
        let file = data_dir.map(|folder| folder.join("secrets.json"));
        let secrets = match &file {
            Some(path) => read(path).map_err(|error| StartError::new(path.display(), error))?,
            None => Secrets::default(),
        };
        Ok(Self { secrets: Mutex::new(secrets), file })
    }

    /// Creates the secret if it is missing, with a random value if the template asks for one, and returns its ARN.
    pub(crate) fn create_missing(&self, secret: &template::Secret) -> Result<String, StartError> {
        if let Some(arn) = self.arn(&secret.name) {
            return Ok(arn);
        }
        let create = || {
            let mut request = json!({"Name": secret.name});
            if let Some(generate) = &secret.generate {
                request["SecretString"] = random_password(&parse(generate)?)?["RandomPassword"].take();
            }
            self.change("CreateSecret", &request)
        };
        let created = create().map_err(|Refusal(_, message)| StartError::new("Secrets Manager", message))?;
        Ok(created["ARN"].as_str().unwrap_or_default().to_owned())
    }

    /// Returns the ARN of the secret with this name or ARN, if it exists.
    pub(crate) fn arn(&self, id: &str) -> Option<String> {
        let mut secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        secrets.find(id).ok().map(|(_, secret)| secret.arn.clone())
    }

    /// Returns the current value of the secret with this name or ARN, if it has one.
    pub(crate) fn current_value(&self, id: &str) -> Option<String> {
        let mut secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, secret) = secrets.find(id).ok()?;
        let version = secret.holder(CURRENT)?;
        secret.versions.get(&version).map(|version| version.value.clone())
    }

    /// Serves a call.
    pub(crate) fn call(&self, operation: &str, body: &[u8]) -> Response {
        let answer = match serde_json::from_slice(body) {
            Ok(request) => self.change(operation, &request),
            Err(_) => Err(Refusal("SerializationException", "The request is not JSON".to_owned())),
        };
        match answer {
            Ok(answer) => {
                ([("content-type", "application/x-amz-json-1.1")], answer.to_string()).into_response()
            }
            Err(Refusal(code @ "InternalServiceError", message)) => {
                aws::refuse(StatusCode::INTERNAL_SERVER_ERROR, code, &message)
            }
            Err(Refusal(code, message)) => aws::refuse(StatusCode::BAD_REQUEST, code, &message),
        }
    }

    /// Applies a call. A change is saved to the file before the response is sent, or else it is discarded.
    fn change(&self, operation: &str, request: &Value) -> Result<Value, Refusal> {
        let mut secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = secrets.clone();
        let answer = changed.answer(operation, request)?;
        if changed != *secrets {
            if let Some(path) = &self.file {
                write(path, &changed).map_err(|error| {
                    tracing::error!(%error, "could not save the secrets");
                    Refusal("InternalServiceError", "The secrets could not be saved".to_owned())
                })?;
            }
            *secrets = changed;
        }
        Ok(answer)
    }
}

impl Secrets {
    fn answer(&mut self, operation: &str, request: &Value) -> Result<Value, Refusal> {
        match operation {
            "CreateSecret" => self.create(parse(request)?),
            "PutSecretValue" => self.put_value(parse(request)?),
            "GetSecretValue" => self.value(&parse(request)?),
            "DescribeSecret" => self.describe(&parse(request)?),
            "UpdateSecretVersionStage" => self.update_stage(parse(request)?),
            "GetRandomPassword" => random_password(&parse(request)?),
            _ => Err(Refusal("UnknownOperationException", format!("{operation} is not supported here"))),
        }
    }

    fn create(&mut self, request: CreateSecret) -> Result<Value, Refusal> {
        let CreateSecret { name, description, client_request_token, secret_string } = request;
        if name.is_empty() {
            return Err(invalid_parameter("You must provide a secret name."));
        }
        if self.0.contains_key(&name) {
            let message = format!("The operation failed because the secret {name} already exists.");
            return Err(Refusal("ResourceExistsException", message));
        }
        let suffix = Alphanumeric.sample_string(&mut UnwrapErr(SysRng), 6);
        let now = now();
        let mut secret = Secret {
            arn: aws::arn("secretsmanager", &format!("secret:{name}-{suffix}")),
            description,
            created: now,
            changed: now,
            versions: BTreeMap::new(),
        };
        let mut answer = json!({"ARN": secret.arn, "Name": name});
        if let Some(value) = secret_string {
            let version = secret.put(client_request_token, value, BTreeSet::from([CURRENT.to_owned()]))?;
            answer["VersionId"] = version.into();
        }
        self.0.insert(name, secret);
        Ok(answer)
    }

    fn put_value(&mut self, request: PutSecretValue) -> Result<Value, Refusal> {
        let Some(value) = request.secret_string else {
            return Err(invalid_parameter("You must provide either SecretString or SecretBinary."));
        };
        let stages = request.version_stages.unwrap_or_else(|| BTreeSet::from([CURRENT.to_owned()]));
        if stages.is_empty() {
            return Err(invalid_parameter("You must provide at least one staging label."));
        }
        let (name, secret) = self.find(&request.secret_id)?;
        let version = secret.put(request.client_request_token, value, stages)?;
        let stages = &secret.versions[&version].stages;
        Ok(json!({"ARN": secret.arn, "Name": name, "VersionId": version, "VersionStages": stages}))
    }

    fn value(&mut self, request: &GetSecretValue) -> Result<Value, Refusal> {
        let (name, secret) = self.find(&request.secret_id)?;
        let by_id =
            |id: &str| secret.versions.get_key_value(id).ok_or_else(|| no_value(&format!("VersionId: {id}")));
        let (id, version) = match (&request.version_id, &request.version_stage) {
            (Some(id), stage) => {
                let (id, version) = by_id(id)?;
                if stage.as_ref().is_some_and(|stage| !version.stages.contains(stage)) {
                    let message =
                        "You provided a VersionStage that is not associated to the provided VersionId.";
                    return Err(Refusal("InvalidRequestException", message.to_owned()));
                }
                (id, version)
            }
            (None, stage) => {
                let stage = stage.as_deref().unwrap_or(CURRENT);
                let id = secret.holder(stage).ok_or_else(|| no_value(&format!("staging label: {stage}")))?;
                by_id(&id)?
            }
        };
        Ok(json!({
            "ARN": secret.arn,
            "Name": name,
            "SecretString": version.value,
            "VersionId": id,
            "VersionStages": version.stages,
            "CreatedDate": version.created,
        }))
    }

    fn describe(&mut self, request: &DescribeSecret) -> Result<Value, Refusal> {
        let (name, secret) = self.find(&request.secret_id)?;
        let mut answer = secret.description(&name);
        answer["VersionIdsToStages"] = secret.labelled();
        Ok(answer)
    }

    fn update_stage(&mut self, request: UpdateSecretVersionStage) -> Result<Value, Refusal> {
        let (name, secret) = self.find(&request.secret_id)?;
        let UpdateSecretVersionStage {
            version_stage: stage, move_to_version_id, remove_from_version_id, ..
        } = request;
        for id in [&move_to_version_id, &remove_from_version_id].into_iter().flatten() {
            if !secret.versions.contains_key(id) {
                return Err(no_value(&format!("VersionId: {id}")));
            }
        }
        let holder = secret.holder(&stage);
        if let Some(holder) = &holder
            && move_to_version_id.as_ref() != Some(holder)
            && remove_from_version_id.as_ref() != Some(holder)
        {
            return Err(invalid_parameter(&format!(
                "The parameter RemoveFromVersionId can't be empty. Staging label {stage} is currently attached to \
                 version {holder}, so you must explicitly reference that version in RemoveFromVersionId."
            )));
        }
        if let Some(id) = &remove_from_version_id
            && holder.as_ref() != Some(id)
        {
            return Err(invalid_parameter(&format!(
                "Staging label {stage} is not attached to version {id}."
            )));
        }
        match move_to_version_id {
            Some(id) => secret.move_stage(&stage, &id),
            None if stage == CURRENT => {
                return Err(invalid_parameter(
                    "You can only move staging label AWSCURRENT to a different secret version. It can't be \
                     completely removed.",
                ));
            }
            None => {
                for version in secret.versions.values_mut() {
                    version.stages.remove(&stage);
                }
            }
        }
        secret.changed = now();
        Ok(json!({"ARN": secret.arn, "Name": name}))
    }

    /// Finds a secret by its name, its ARN, or its ARN without the random characters at the end.
    fn find(&mut self, id: &str) -> Result<(String, &mut Secret), Refusal> {
        self.0
            .iter_mut()
            .find(|(name, secret)| {
                *name == id
                    || secret.arn == id
                    || secret.arn.rsplit_once('-').is_some_and(|(arn, _)| arn == id)
            })
            .map(|(name, secret)| (name.clone(), secret))
            .ok_or_else(|| {
                Refusal(
                    "ResourceNotFoundException",
                    "Secrets Manager can't find the specified secret.".to_owned(),
                )
            })
    }
}

fn parse<T: DeserializeOwned>(request: &Value) -> Result<T, Refusal> {
    T::deserialize(request).map_err(|error| invalid_parameter(&error.to_string()))
}

fn invalid_parameter(message: &str) -> Refusal {
    Refusal("InvalidParameterException", message.to_owned())
}

fn no_value(what: &str) -> Refusal {
    let message = format!("Secrets Manager can't find the specified secret value for {what}");
    Refusal("ResourceNotFoundException", message)
}

fn read(path: &Path) -> io::Result<Secrets> {
    match fs::read(path) {
        Ok(json) => Ok(serde_json::from_slice(&json)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Secrets::default()),
        Err(error) => Err(error),
    }
}

/// Replaces the file atomically, so that it is complete even if this process is killed.
fn write(path: &Path, secrets: &Secrets) -> io::Result<()> {
    let temporary = path.with_extension("json.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(&serde_json::to_vec_pretty(secrets)?)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> Secrets {
        let mut secrets = Secrets::default();
        ok(
            &mut secrets,
            "CreateSecret",
            json!({"Name": "key", "ClientRequestToken": "1", "SecretString": "one"}),
        );
        secrets
    }

    fn ok(secrets: &mut Secrets, operation: &str, mut request: Value) -> Value {
        if operation != "CreateSecret" {
            request["SecretId"] = "key".into();
        }
        secrets.answer(operation, &request).unwrap()
    }

    fn refused(secrets: &mut Secrets, operation: &str, mut request: Value) -> &'static str {
        request["SecretId"] = "key".into();
        secrets.answer(operation, &request).unwrap_err().0
    }

    fn stages(secrets: &mut Secrets) -> Value {
        ok(secrets, "DescribeSecret", json!({}))["VersionIdsToStages"].clone()
    }

    #[test]
    fn a_new_value_turns_the_current_one_into_the_previous_one() {
        let mut secrets = secrets();
        for id in ["2", "3"] {
            ok(&mut secrets, "PutSecretValue", json!({"ClientRequestToken": id, "SecretString": id}));
        }
        assert_eq!(stages(&mut secrets), json!({"2": ["AWSPREVIOUS"], "3": ["AWSCURRENT"]}));
        assert_eq!(ok(&mut secrets, "GetSecretValue", json!({}))["SecretString"], "3");
        let previous = ok(&mut secrets, "GetSecretValue", json!({"VersionStage": "AWSPREVIOUS"}));
        assert_eq!(previous["VersionId"], "2");
        assert_eq!(ok(&mut secrets, "GetSecretValue", json!({"VersionId": "1"}))["SecretString"], "one");
    }

    #[test]
    fn a_retry_changes_nothing_and_another_value_with_its_token_is_refused() {
        let mut secrets = secrets();
        ok(&mut secrets, "PutSecretValue", json!({"ClientRequestToken": "2", "SecretString": "two"}));
        let before = stages(&mut secrets);
        ok(&mut secrets, "PutSecretValue", json!({"ClientRequestToken": "1", "SecretString": "one"}));
        assert_eq!(stages(&mut secrets), before);
        let other = json!({"ClientRequestToken": "1", "SecretString": "other"});
        assert_eq!(refused(&mut secrets, "PutSecretValue", other), "ResourceExistsException");
    }

    #[test]
    fn a_label_is_moved_explicitly_and_can_be_moved_back() {
        let mut secrets = secrets();
        let pending =
            json!({"ClientRequestToken": "2", "SecretString": "two", "VersionStages": ["AWSPENDING"]});
        ok(&mut secrets, "PutSecretValue", pending);
        assert_eq!(stages(&mut secrets), json!({"1": ["AWSCURRENT"], "2": ["AWSPENDING"]}));

        let unnamed = json!({"VersionStage": "AWSCURRENT", "MoveToVersionId": "2"});
        assert_eq!(refused(&mut secrets, "UpdateSecretVersionStage", unnamed), "InvalidParameterException");
        let removed = json!({"VersionStage": "AWSCURRENT", "RemoveFromVersionId": "1"});
        assert_eq!(refused(&mut secrets, "UpdateSecretVersionStage", removed), "InvalidParameterException");

        let forward =
            json!({"VersionStage": "AWSCURRENT", "MoveToVersionId": "2", "RemoveFromVersionId": "1"});
        ok(&mut secrets, "UpdateSecretVersionStage", forward);
        assert_eq!(stages(&mut secrets), json!({"1": ["AWSPREVIOUS"], "2": ["AWSCURRENT", "AWSPENDING"]}));
        let back = json!({"VersionStage": "AWSCURRENT", "MoveToVersionId": "1", "RemoveFromVersionId": "2"});
        ok(&mut secrets, "UpdateSecretVersionStage", back);
        assert_eq!(stages(&mut secrets), json!({"1": ["AWSCURRENT"], "2": ["AWSPENDING", "AWSPREVIOUS"]}));
    }

    #[test]
    fn a_secret_is_found_by_name_and_by_arn() {
        let mut secrets = secrets();
        let arn = ok(&mut secrets, "DescribeSecret", json!({}))["ARN"].as_str().unwrap().to_owned();
        let short = arn.rsplit_once('-').unwrap().0;
        for id in [arn.as_str(), short] {
            assert_eq!(secrets.answer("GetSecretValue", &json!({"SecretId": id})).unwrap()["Name"], "key");
        }
        let unknown = secrets.answer("GetSecretValue", &json!({"SecretId": "ke"})).unwrap_err();
        assert_eq!(unknown.0, "ResourceNotFoundException");
    }
}
