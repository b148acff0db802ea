//! Steps of the rotation of the secret that signs tokens.

use serde_json::json;
use uuid::Uuid;

use super::{JWT_SECRET, REPLACE_SECRET, Scenario, Struck};
use crate::helpers::{PASSWORD, Service, User};
use crate::rules::rotation::{STEPS, step};

/// One step of a rotation of the secret that signs tokens; the earlier ones are done. Step 1 has no operations.
pub(super) struct Rotate<const STEP: usize> {
    version: String,
    before: String,
    user: User,
    token: String,
}

impl<const STEP: usize> Scenario for Rotate<STEP> {
    type Reply = ();

    const NEEDS: &[&str] = match STEP {
        0 => &[JWT_SECRET, REPLACE_SECRET],
        _ => &[JWT_SECRET],
    };

    async fn prepare(service: &Service) -> Self {
        let user = service.user().with_password(PASSWORD).create().await;
        let token = service.token_of(&user).await;
        let before = service.jwt_secret().await.version_id;
        let version = Uuid::new_v4().to_string();
        for done in &STEPS[..STEP] {
            step(service, done, &version).await.unwrap();
        }
        Self { version, before, user, token }
    }

    /// Runs the step. Secrets Manager retries a step that fails.
    async fn request(&self, service: &Service) -> Option<()> {
        let Err(failed) = step(service, STEPS[STEP], &self.version).await else {
            return Some(());
        };
        let cause = failed["errorMessage"].as_str().unwrap();
        let (operation, _) = cause.split_once(": ").unwrap();
        assert!(["GetSecretValue", "PutSecretValue"].contains(&operation), "{cause}");
        None
    }

    async fn check(self, service: &Service, reply: Option<()>, struck: &Struck) {
        let made_current = STEP > 0 || reply.is_some() || struck.lost(REPLACE_SECRET);
        let current = service.jwt_secret().await.version_id;
        assert_eq!(current, if made_current { self.version.clone() } else { self.before.clone() });
        for again in STEPS {
            step(service, again, &self.version).await.unwrap();
        }
        let secret = json!({"SecretId": service.jwt_secret_id});
        let stages = service.secrets_manager("DescribeSecret", &secret).await["VersionIdsToStages"].clone();
        assert!(stages[&self.version].as_array().unwrap().contains(&json!("AWSCURRENT")), "{stages}");
        assert_eq!(stages[&self.before], json!(["AWSPREVIOUS"]));
        assert!(service.takes(&self.token).await);
        assert!(service.takes(&service.token_of(&self.user).await).await);
    }
}
