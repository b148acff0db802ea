//! `/.well-known` (RFC 8615): the public keys of tokens, the metadata of their issuer, and the page on which a password
//! is changed.

use std::net::IpAddr;

use aws_types::SdkConfig;
use lambda_http::Request;
use shared::clock;
use shared::endpoint::{Endpoint, Envelope, Error, Success, route_key};
use shared::secrets::Secret;
use shared::settings::{ConfigError, Settings};
use shared::tokens::{KeySet, TokenSettings};

/// The endpoint of `well_known`.
#[derive(Debug)]
pub struct WellKnown {
    key_set: Secret<KeySet>,
    tokens: TokenSettings,
}

impl Endpoint for WellKnown {
    const NAME: &'static str = "well_known";

    const ENVELOPE: Envelope = Envelope::Gateway;

    fn new(settings: &Settings, aws: &SdkConfig) -> Result<Self, ConfigError> {
        let (variable, default) = KeySet::SECRET;
        Ok(Self {
            key_set: Secret::new(settings, aws, variable, default)?,
            tokens: TokenSettings::new(settings)?,
        })
    }

    async fn connect(&self) {}

    async fn prefetch(&self) {
        if self.tokens.algorithm.is_some() {
            self.key_set.prefetch().await;
        }
    }

    async fn handle(&self, request: &Request, _: IpAddr) -> Result<Success, Error> {
        if route_key(request) == Some("GET /.well-known/change-password") {
            return Ok(Success::redirect("change_password_redirected", "/change-password"));
        }
        if self.tokens.algorithm.is_none() {
            return Err(Error::NotFound);
        }
        let version = self.key_set.current().await?;
        let (key_set, now) = (version.value(), clock::now());
        if route_key(request) == Some("GET /.well-known/jwks.json") {
            Success::public("key_set_read", &key_set.jwks(now))
        } else {
            Success::public("metadata_read", &key_set.metadata(now))
        }
    }
}
