//! `POST /api/auth/forgotPassword/sendEmail`: a reset code to all addresses of a user.

use std::net::IpAddr;
use std::time::Duration;

use aws_types::SdkConfig;
use lambda_http::Request;
use serde::{Deserialize, Serialize};
use shared::domain::{Budget, CodeHolder, Network, Username};
use shared::endpoint::{Endpoint, Error, Success, parse};
use shared::failure::{Failure, Refused};
use shared::fields::{Field, Validator};
use shared::mail::{CodeRequest, Mailer, Undelivered};
use shared::secrets::{HmacKey, Secret, SecretValue};
use shared::settings::{ConfigError, Settings};
use shared::store::{AddressBudget, AddressLimit, NewCode, Store};
use shared::telemetry::{self, identify, identify_unknown};
use shared::{clock, random};
use tokio::time::sleep;

/// The least time of every response that must not reveal whether the user exists: longer than SES takes.
const CONCEALED_DURATION: Duration = Duration::from_millis(500);

/// The endpoint of `forgot_password_send_email`.
#[derive(Debug)]
pub struct SendEmail {
    time_to_live: Duration,
    /// True if responses must not reveal whether the user exists.
    conceal: bool,
    /// The requests of one source address; `None` turns this budget off.
    address_limit: Option<AddressLimit>,
    store: Store,
    keys: Secret<HmacKey>,
    mailer: Mailer,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    username: Field,
}

#[derive(Serialize)]
struct Response {
    msg: &'static str,
}

impl Endpoint for SendEmail {
    const NAME: &'static str = "forgot_password_send_email";

    /// Creates the endpoint with the deployment's settings; codes live for `RESET_CODE_TTL_SECONDS`.
    fn new(settings: &Settings, aws: &SdkConfig) -> Result<Self, ConfigError> {
        let seconds = settings.number("RESET_CODE_TTL_SECONDS", 600, 1..=86_400)?;
        Ok(Self {
            time_to_live: Duration::from_secs(seconds.into()),
            conceal: settings.prevents_user_existence_errors()?,
            address_limit: AddressLimit::from_settings(settings, AddressBudget::ResetMails)?,
            store: Store::new(settings, aws),
            keys: Secret::code_key(settings, aws)?,
            mailer: Mailer::new(settings, aws)?,
        })
    }

    async fn connect(&self) {
        self.store.connect().await;
    }

    async fn prefetch(&self) {
        self.keys.prefetch().await;
    }

    async fn handle(&self, request: &Request, source_ip: IpAddr) -> Result<Success, Error> {
        let mut fields = Validator::default();
        let body: Body = parse(request)?;
        match fields.username(body.username) {
            Some(username) if self.conceal => {
                let (answer, ()) = tokio::join!(self.send(&username, source_ip), sleep(CONCEALED_DURATION));
                answer
            }
            Some(username) => self.send(&username, source_ip).await,
            None => Err(fields.into_errors().into()),
        }
    }
}

impl SendEmail {
    async fn send(&self, username: &Username, source_ip: IpAddr) -> Result<Success, Error> {
        // Every request counts, before anything about the user is revealed.
        if let Some(limit) = self.address_limit {
            self.store.charge_address(source_ip, limit, clock::now()).await?;
        }
        let user = self.store.user(username).await?;
        match &user {
            Some(user) => identify(&user.user_id),
            None => identify_unknown(username),
        }
        if !self.conceal {
            let user = user.as_ref().ok_or(Error::UnknownUsername)?;
            if user.email_addresses.is_empty() {
                return Err(Error::NoEmailAddresses);
            }
        }
        let key = self.keys.current().await?;
        let (code, code_id, now) = (random::reset_code(), random::code_id(), clock::now());
        let holder = user.as_ref().map_or_else(CodeHolder::unknown, CodeHolder::from);
        let new_code = NewCode {
            hash: code.hash(key.value().expose(), &holder, &code_id),
            code_id,
            holder,
            key_version: key.value().id().to_owned(),
            expires_at: now + self.time_to_live,
            budget: Budget::of(user.as_ref(), &Network::from(source_ip)),
        };
        // Stored before it is mailed: after a lost response, a code that arrives must work.
        let replaced = match self.store.replace_code(username, &new_code, now).await {
            Ok(replaced) => replaced,
            Err(Refused::Wait(_)) if self.conceal => {
                telemetry::warn("code not sent", "rate limit exceeded");
                return sent();
            }
            Err(refused) => return Err(refused.into()),
        };
        let Some(user) = user.filter(|user| !user.email_addresses.is_empty()) else {
            return sent();
        };
        let request = CodeRequest { time_to_live: self.time_to_live, requested_at: now, source_ip };
        match self.mailer.send_reset_code(&user, &code, &request).await {
            Ok(()) => sent(),
            // In safe mode a failed mail must not show, or it would reveal that the user exists. For the same reason
            // nothing is restored: the code and the send of an unknown user are not either.
            Err(undelivered) if self.conceal => {
                telemetry::warn("code not sent", Failure::from(undelivered));
                sent()
            }
            Err(Undelivered::Refused(failure)) => {
                if let Err(failure) = self.store.restore_code(username, &new_code, &replaced).await {
                    telemetry::warn("earlier code not restored", failure);
                }
                Err(failure.into())
            }
            Err(Undelivered::Unknown(failure)) => Err(failure.into()),
        }
    }
}

fn sent() -> Result<Success, Error> {
    Success::new("code_sent", &Response { msg: "Sent" })
}
