//! The versions of a secret and their staging labels.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::Refusal;

pub(super) const CURRENT: &str = "AWSCURRENT";
const PREVIOUS: &str = "AWSPREVIOUS";
/// The number of versions above which versions without a label are deleted, oldest first.
const MAX_VERSIONS: usize = 100;
#[derive(Clone, Deserialize, PartialEq, Serialize)]
pub(super) struct Secret {
    pub(super) arn: String,
    pub(super) description: Option<String>,
    pub(super) created: f64,
    pub(super) changed: f64,
    pub(super) versions: BTreeMap<String, Version>,
}

#[derive(Clone, Deserialize, PartialEq, Serialize)]
pub(super) struct Version {
    #[serde(rename = "SecretString")]
    pub(super) value: String,
    pub(super) stages: BTreeSet<String>,
    pub(super) created: f64,
}

impl Secret {
    /// Adds a version with the labels `stages`. A retry with the same token and value changes nothing.
    pub(super) fn put(
        &mut self,
        token: Option<String>,
        value: String,
        mut stages: BTreeSet<String>,
    ) -> Result<String, Refusal> {
        let id = token.unwrap_or_else(|| Uuid::new_v4().to_string());
        if let Some(version) = self.versions.get(&id) {
            if version.value == value {
                return Ok(id);
            }
            let message =
                format!("You can't use ClientRequestToken {id} because that value is already in use.");
            return Err(Refusal("ResourceExistsException", message));
        }
        if self.holder(CURRENT).is_none() {
            stages.insert(CURRENT.to_owned());
        }
        let now = now();
        self.versions.insert(id.clone(), Version { value, stages: BTreeSet::new(), created: now });
        for stage in &stages {
            self.move_stage(stage, &id);
        }
        self.changed = now;
        self.drop_surplus();
        Ok(id)
    }

    /// Moves a label to a version. The version that loses `AWSCURRENT` gets `AWSPREVIOUS`.
    pub(super) fn move_stage(&mut self, stage: &str, to: &str) {
        let from = self.holder(stage).filter(|from| from != to);
        for (id, version) in &mut self.versions {
            if id == to {
                version.stages.insert(stage.to_owned());
            } else {
                version.stages.remove(stage);
            }
        }
        if let (CURRENT, Some(from)) = (stage, from) {
            self.move_stage(PREVIOUS, &from);
        }
    }

    fn drop_surplus(&mut self) {
        while self.versions.len() > MAX_VERSIONS {
            let unlabelled = self.versions.iter().filter(|(_, version)| version.stages.is_empty());
            let oldest = unlabelled.min_by(|(_, one), (_, other)| one.created.total_cmp(&other.created));
            let Some(id) = oldest.map(|(id, _)| id.clone()) else {
                return;
            };
            self.versions.remove(&id);
        }
    }

    /// Returns the id of the version with this label.
    pub(super) fn holder(&self, stage: &str) -> Option<String> {
        self.versions.iter().find(|(_, version)| version.stages.contains(stage)).map(|(id, _)| id.clone())
    }

    pub(super) fn labelled(&self) -> Value {
        let labelled = self.versions.iter().filter(|(_, version)| !version.stages.is_empty());
        labelled.map(|(id, version)| (id.clone(), json!(version.stages))).collect()
    }

    pub(super) fn description(&self, name: &str) -> Value {
        let mut answer = json!({
            "ARN": self.arn,
            "Name": name,
            "RotationEnabled": false,
            "CreatedDate": self.created,
            "LastChangedDate": self.changed,
        });
        if let Some(description) = &self.description {
            answer["Description"] = description.as_str().into();
        }
        answer
    }
}

/// The current time in seconds since the Unix epoch, as in the responses of Secrets Manager.
pub(super) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
