//! The edge: `CloudFront` in front of the API, as in `edge.yaml`, and the secret by which its requests are known.

use std::fmt;
use std::net::IpAddr;

use aws_types::SdkConfig;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use lambda_http::http::{HeaderMap, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::Error;
use crate::domain::ViewerAddress;
use crate::failure::Failure;
use crate::secrets::{Secret, SecretValue};
use crate::settings::{ConfigError, Settings};

/// The header with the secret that `CloudFront` adds to each request. It replaces a header of this name that the client
/// sent (<https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/add-origin-custom-headers.html>).
const ORIGIN_SECRET: &str = "x-origin-secret";

/// The header with the address of the client that `CloudFront` saw
/// (<https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/adding-cloudfront-headers.html>).
const VIEWER_ADDRESS: &str = "cloudfront-viewer-address";

/// The length in bytes of the shortest secret, as that of an HMAC key.
const MIN_SECRET_BYTES: usize = 32;

/// The edge of a deployment that has one.
#[derive(Debug)]
pub(super) struct Edge {
    secret: Secret<OriginSecret>,
    is_required: bool,
}

/// A secret of the edge, as its SHA-256. The time of comparing two hashes reveals nothing about what was hashed.
struct OriginSecret {
    hash: String,
}

impl Edge {
    /// The edge by `EDGE` and `ORIGIN_SECRET_ID`, if the deployment has one.
    pub(super) fn new(settings: &Settings, aws: &SdkConfig) -> Result<Option<Self>, ConfigError> {
        let secret = Secret::new(settings, aws, "ORIGIN_SECRET_ID", "postern/origin-secret")?;
        match &*settings.text("EDGE", "off") {
            "off" => Ok(None),
            "optional" => Ok(Some(Self { secret, is_required: false })),
            "required" => Ok(Some(Self { secret, is_required: true })),
            _ => Err(ConfigError::new("EDGE", "must be one of off, optional, required")),
        }
    }

    /// Fetches the secret, if it is not in memory.
    pub(super) async fn prefetch(&self) {
        self.secret.prefetch().await;
    }

    /// The address of the client, if the request came through the edge; `None` if it did not and need not.
    pub(super) async fn viewer(&self, headers: &HeaderMap) -> Result<Option<IpAddr>, Error> {
        if !self.sent(headers).await? {
            return if self.is_required { Err(Error::EdgeBypassed) } else { Ok(None) };
        }
        let address = headers.get(VIEWER_ADDRESS).and_then(|value| value.to_str().ok());
        match address.map(str::parse::<ViewerAddress>) {
            Some(Ok(address)) => Ok(Some(address.ip())),
            // Its own address would put all clients into one budget.
            Some(Err(_)) | None => Err(Failure::Defect(format!("the edge sends no {VIEWER_ADDRESS}")).into()),
        }
    }

    /// Returns whether the edge sent a request with these headers: whether it has the current secret, or the one before,
    /// which the edge sends until it is updated after a rotation.
    async fn sent(&self, headers: &HeaderMap) -> Result<bool, Failure> {
        match headers.get(ORIGIN_SECRET).map(HeaderValue::as_bytes) {
            Some(secret) => Ok(self.secret.version(&hash(secret)).await?.is_some()),
            None => Ok(false),
        }
    }
}

impl SecretValue for OriginSecret {
    fn parse(_: String, secret: SecretString) -> Result<Self, &'static str> {
        let secret = secret.expose_secret().as_bytes();
        if secret.len() < MIN_SECRET_BYTES {
            return Err("a string of 32 bytes or more");
        }
        Ok(Self { hash: hash(secret) })
    }

    fn id(&self) -> &str {
        &self.hash
    }
}

impl fmt::Debug for OriginSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("OriginSecret").finish_non_exhaustive()
    }
}

fn hash(secret: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(secret))
}
