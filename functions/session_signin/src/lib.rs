//! `POST /api/auth/IamLoggedIn`: a session token for a new JSON Web Token.

use std::net::IpAddr;

use aws_types::SdkConfig;
use lambda_http::Request;
use serde::{Deserialize, Serialize};
use shared::aws::patient;
use shared::clock;
use shared::domain::{SessionInformation, SessionToken};
use shared::endpoint::{Endpoint, Error, Success, parse};
use shared::fields::{Field, Validator};
use shared::settings::{ConfigError, Settings};
use shared::store::Store;
use shared::telemetry::identify;
use shared::tokens::Tokens;

/// The endpoint of `session_signin`.
#[derive(Debug)]
pub struct SessionSignin {
    store: Store,
    tokens: Tokens,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    session_token: Field,
    session_information: Field,
}

#[derive(Serialize)]
struct Response<'a> {
    msg: &'static str,
    token: &'a str,
}

impl Endpoint for SessionSignin {
    const NAME: &'static str = "session_signin";

    /// Creates the endpoint with the deployment's settings. It retries for longer than other endpoints before it
    /// answers 503, because the web client of the original system signs its user out on any error here.
    fn new(settings: &Settings, aws: &SdkConfig) -> Result<Self, ConfigError> {
        let aws = patient(aws);
        Ok(Self { store: Store::new(settings, &aws), tokens: Tokens::new(settings, &aws)? })
    }

    async fn connect(&self) {
        self.store.connect().await;
    }

    async fn prefetch(&self) {
        self.tokens.prefetch().await;
    }

    async fn handle(&self, request: &Request, _: IpAddr) -> Result<Success, Error> {
        let body: Body = parse(request)?;
        let mut fields = Validator::default();
        let session_token = fields.session_token(body.session_token);
        let information = fields.session_information(body.session_information);
        match (session_token, information) {
            (Some(token), Some(information)) => {
                let token = token.ok_or(Error::SessionTokenIncorrect)?;
                self.sign_in(&token, information.as_ref()).await
            }
            _ => Err(fields.into_errors().into()),
        }
    }
}

impl SessionSignin {
    async fn sign_in(
        &self,
        session_token: &SessionToken,
        information: Option<&SessionInformation>,
    ) -> Result<Success, Error> {
        let now = clock::now();
        let user = self.store.use_session(session_token, information, now).await?;
        let user = user.ok_or(Error::SessionTokenIncorrect)?;
        identify(&user.user_id);
        if !user.activated || user.must_change_password {
            return Err(Error::SessionTokenIncorrect);
        }
        let session = Some(session_token.key());
        let token = self.tokens.issue(&user.user_id, &user.security_stamp, session, now).await?;
        let answer = Response { msg: "Session token is good", token: token.expose() };
        Ok(Success::new("session_signed_in", &answer)?.accepted())
    }
}
