//! `POST /api/auth/forgotPassword/checkCode`: the check of a reset code, before the client asks for a new password.

use std::net::IpAddr;

use aws_types::SdkConfig;
use lambda_http::Request;
use serde::{Deserialize, Serialize};
use shared::code_verification::{CodeUse, CodeVerification};
use shared::endpoint::{Endpoint, Error, Success, parse};
use shared::fields::{Field, Validator};
use shared::settings::{ConfigError, Settings};
use shared::store::Store;

/// The endpoint of `forgot_password_check_code`.
#[derive(Debug)]
pub struct CheckCode {
    verification: CodeVerification,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    username: Field,
    code: Field,
}

#[derive(Serialize)]
struct Response {
    msg: &'static str,
    success_code: &'static str,
}

impl Endpoint for CheckCode {
    const NAME: &'static str = "forgot_password_check_code";

    fn new(settings: &Settings, aws: &SdkConfig) -> Result<Self, ConfigError> {
        Ok(Self { verification: CodeVerification::new(settings, aws, Store::new(settings, aws))? })
    }

    async fn connect(&self) {
        self.verification.connect().await;
    }

    async fn prefetch(&self) {
        self.verification.prefetch().await;
    }

    async fn handle(&self, request: &Request, source_ip: IpAddr) -> Result<Success, Error> {
        let body: Body = parse(request)?;
        let mut fields = Validator::default();
        let (Some(username), Some(code)) = (fields.username(body.username), fields.code(body.code)) else {
            return Err(fields.into_errors().into());
        };
        self.verification
            .with_code(&username, &code, source_ip, async |_, _| Ok::<_, Error>(CodeUse::Kept))
            .await?;
        Success::new("code_correct", &Response { msg: "Code correct", success_code: "code_correct" })
    }
}
