//! `POST /api/auth/forgotPassword/resetPassword`: a new password for whoever has the reset code.

use std::net::IpAddr;

use aws_types::SdkConfig;
use lambda_http::Request;
use serde::{Deserialize, Serialize};
use shared::clock;
use shared::code_verification::{CodeVerification, Verified};
use shared::config::{ConfigError, Environment};
use shared::domain::{NewPassword, PasswordPolicy, SubmittedCode, Username};
use shared::endpoint::{Endpoint, Error, Success, parse};
use shared::error::Failure;
use shared::fields::{Field, Validator};
use shared::hashing::PasswordHasher;
use shared::password_changes::PasswordChanges;
use shared::store::{PasswordChange, Store};

/// How often a reset starts over because the user or the code changed while it ran.
const ROUNDS: usize = 3;

/// The endpoint of `forgot_password_reset_password`.
#[derive(Debug)]
pub struct ResetPassword {
    policy: PasswordPolicy,
    verification: CodeVerification,
    hasher: PasswordHasher,
    changes: PasswordChanges,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    username: Field,
    code: Field,
    new_password: Field,
}

struct Reset {
    username: Username,
    code: SubmittedCode,
    new_password: NewPassword,
}

impl Reset {
    fn parse(body: Body, policy: PasswordPolicy) -> Result<Self, Error> {
        let mut fields = Validator::default();
        let username = fields.username(body.username);
        let code = fields.code(body.code);
        let new_password = fields.new_password("new_password", body.new_password, policy);
        match (username, code, new_password) {
            (Some(username), Some(code), Some(new_password)) => Ok(Self { username, code, new_password }),
            _ => Err(fields.into_errors().into()),
        }
    }
}

#[derive(Serialize)]
struct Answer {
    msg: &'static str,
}

impl Endpoint for ResetPassword {
    const NAME: &'static str = "forgot_password_reset_password";

    fn new(environment: &Environment, aws: &SdkConfig) -> Result<Self, ConfigError> {
        let store = Store::new(environment, aws);
        Ok(Self {
            policy: PasswordPolicy::from_environment(environment)?,
            verification: CodeVerification::new(environment, aws, store.clone())?,
            hasher: PasswordHasher::from_environment(environment)?,
            changes: PasswordChanges::new(environment, aws, store)?,
        })
    }

    async fn connect(&self) {
        self.verification.connect().await;
    }

    async fn prefetch(&self) {
        self.verification.prefetch().await;
    }

    async fn handle(&self, request: &Request, source_ip: IpAddr) -> Result<Success, Error> {
        let reset = Reset::parse(parse(request)?, self.policy)?;
        self.reset(&reset, source_ip).await
    }
}

impl ResetPassword {
    async fn reset(&self, reset: &Reset, source_ip: IpAddr) -> Result<Success, Error> {
        let mut hash = None;
        for _ in 0..ROUNDS {
            let verified = self.verification.verify(&reset.username, &reset.code, source_ip).await?;
            let password_hash = match hash.take() {
                Some(hash) => hash,
                None => self.hasher.hash(&reset.new_password).await?,
            };
            let Verified { user, reserved } = &verified;
            let code_id = &reserved.code.code_id;
            let change = PasswordChange::reset(user, &password_hash, code_id, source_ip, clock::now());
            let changed = self.changes.make(&change).await;
            if let Ok(true) = changed {
                return Success::new("password_reset", &Answer { msg: "Changed password successful" });
            }
            self.verification.give_back(&verified).await;
            changed?;
            // The user or the code is another by now: start over, and answer as if this had come in just now.
            hash = Some(password_hash);
        }
        Err(Failure::Unavailable("others changed the user each time".to_owned()).into())
    }
}
