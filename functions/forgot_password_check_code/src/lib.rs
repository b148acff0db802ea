//! `POST /api/auth/forgotPassword/checkCode`: whether a reset code is right, before a new password is asked for.

use aws_types::SdkConfig;
use lambda_http::{Body, Request, Response};
use serde::{Deserialize, Serialize};
use shared::code_verification::CodeVerification;
use shared::config::{ConfigError, Environment};
use shared::http::{Call, Envelope, Field, Fields, Success, parse};
use shared::store::Store;

/// The function `forgot_password_check_code`.
#[derive(Debug)]
pub struct Function {
    verification: CodeVerification,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Fieldset {
    username: Field,
    code: Field,
}

#[derive(Serialize)]
struct Answer {
    msg: &'static str,
    success_code: &'static str,
}

impl Function {
    /// The function with the deployment's settings.
    pub fn new(environment: &Environment, aws: &SdkConfig) -> Result<Self, ConfigError> {
        Ok(Self { verification: CodeVerification::new(environment, aws, Store::new(environment, aws))? })
    }

    /// Opens the connections, and fetches the key, that a request needs.
    pub async fn connect(&self) {
        self.verification.connect().await;
    }

    /// Answers one request.
    pub async fn handle(&self, request: Request) -> Response<Body> {
        let call = Call::new("forgot_password_check_code", Envelope::Auth, &request);
        let source_ip = call.source_ip();
        call.answer(async move {
            let body: Fieldset = parse(&request)?;
            let mut fields = Fields::default();
            let (Some(username), Some(code)) = (fields.username(body.username), fields.code(body.code))
            else {
                return Err(fields.into_error());
            };
            let verified = self.verification.verify(&username, &code, source_ip).await?;
            self.verification.give_back(&verified).await;
            Success::new("code_correct", &Answer { msg: "Code correct", success_code: "code_correct" })
        })
        .await
    }
}
