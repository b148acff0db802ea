//! `POST /api/auth/forgotPassword/resetPassword`: a new password, set with a reset code.

use std::net::IpAddr;

use aws_types::SdkConfig;
use lambda_http::Request;
use serde::{Deserialize, Serialize};
use shared::clock;
use shared::code_verification::{CodeUse, CodeVerification};
use shared::domain::{CodeId, NewPassword, PasswordPolicy, SubmittedCode, User, Username};
use shared::endpoint::{Endpoint, Error, Success, parse};
use shared::failure::{Failure, MAX_CONFLICT_RETRIES};
use shared::fields::{Field, Validator};
use shared::hashing::PasswordHasher;
use shared::new_passwords::NewPasswords;
use shared::password_changes::PasswordChanges;
use shared::settings::{ConfigError, Settings};
use shared::store::{PasswordChange, Store};

/// The endpoint of `forgot_password_reset_password`.
#[derive(Debug)]
pub struct ResetPassword {
    new_passwords: NewPasswords,
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
    fn parse(body: Body, policy: &PasswordPolicy) -> Result<Self, Error> {
        let mut fields = Validator::default();
        let username = fields.username(body.username);
        let code = fields.code(body.code);
        let new_password = fields.new_password("new_password", body.new_password, policy, username.as_ref());
        match (username, code, new_password) {
            (Some(username), Some(code), Some(new_password)) => Ok(Self { username, code, new_password }),
            _ => Err(fields.into_errors().into()),
        }
    }
}

#[derive(Serialize)]
struct Response {
    msg: &'static str,
}

impl Endpoint for ResetPassword {
    const NAME: &'static str = "forgot_password_reset_password";

    fn new(settings: &Settings, aws: &SdkConfig) -> Result<Self, ConfigError> {
        let store = Store::new(settings, aws);
        Ok(Self {
            new_passwords: NewPasswords::new(settings)?,
            verification: CodeVerification::new(settings, aws, store.clone())?,
            hasher: PasswordHasher::from_settings(settings)?,
            changes: PasswordChanges::new(settings, aws, store)?,
        })
    }

    async fn connect(&self) {
        self.verification.connect().await;
    }

    async fn prefetch(&self) {
        self.verification.prefetch().await;
    }

    async fn handle(&self, request: &Request, source_ip: IpAddr) -> Result<Success, Error> {
        let reset = Reset::parse(parse(request)?, self.new_passwords.policy())?;
        self.reset(&reset, source_ip).await
    }
}

impl ResetPassword {
    async fn reset(&self, reset: &Reset, source_ip: IpAddr) -> Result<Success, Error> {
        let mut hash = None;
        for _ in 0..MAX_CONFLICT_RETRIES {
            let change = async |user: &User, code_id: &CodeId| {
                let new_password = reset.new_password.clone();
                let uncommon =
                    self.new_passwords.policy().check_addresses(new_password, &user.email_addresses)?;
                let password_hash = if let Some(password_hash) = &hash {
                    password_hash
                } else {
                    let approved = self.new_passwords.approve(uncommon).await?;
                    hash.insert(self.hasher.hash(&approved).await?)
                };
                let change = PasswordChange::reset(user, password_hash, code_id, source_ip, clock::now());
                Ok::<_, Error>(if self.changes.make(&change).await? {
                    CodeUse::UsedUp
                } else {
                    CodeUse::Kept
                })
            };
            if self.verification.with_code(&reset.username, &reset.code, source_ip, change).await?
                == CodeUse::UsedUp
            {
                return Success::new("password_reset", &Response { msg: "Changed password successful" });
            }
            // The user or the code changed meanwhile: start over, and answer as if the request had just arrived.
        }
        Err(Failure::conflict().into())
    }
}
