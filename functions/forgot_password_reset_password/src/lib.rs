//! `POST /api/auth/forgotPassword/resetPassword`: a new password for whoever has the reset code.

use std::net::IpAddr;

use aws_types::SdkConfig;
use lambda_http::Request;
use serde::{Deserialize, Serialize};
use shared::code_verification::{CodeVerification, Verified};
use shared::config::{ConfigError, Environment};
use shared::domain::{Network, NewPassword, PasswordHash, PasswordPolicy, SubmittedCode, Username};
use shared::endpoint::{Endpoint, Error, Success, parse};
use shared::error::Failure;
use shared::fields::{Field, Validator};
use shared::hashing::PasswordHasher;
use shared::mail::{Mailer, PasswordChanged};
use shared::store::{PasswordChange, Store};
use shared::{clock, random};

/// How often a reset starts over because the user or the code changed while it ran.
const ROUNDS: usize = 3;

/// The endpoint of `forgot_password_reset_password`.
#[derive(Debug)]
pub struct ResetPassword {
    policy: PasswordPolicy,
    verification: CodeVerification,
    hasher: PasswordHasher,
    store: Store,
    mailer: Mailer,
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
            store,
            mailer: Mailer::new(environment, aws)?,
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
            let changed = self.change(&verified, &password_hash, source_ip).await;
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

    async fn change(
        &self,
        Verified { user, reserved }: &Verified,
        password_hash: &PasswordHash,
        source_ip: IpAddr,
    ) -> Result<bool, Failure> {
        let (now, stamp) = (clock::now(), random::security_stamp());
        let (code_id, network) = (&reserved.code.code_id, Network::from(source_ip));
        let change = PasswordChange::reset(user, password_hash, &stamp, code_id, &network, now);
        if !self.store.change_password(change).await? {
            return Ok(false);
        }
        let notice = PasswordChanged {
            changed_at: now,
            source_ip: Some(source_ip),
            information: None,
            begins_session: false,
        };
        self.mailer.notify_password_changed(user, &notice).await;
        Ok(true)
    }
}
