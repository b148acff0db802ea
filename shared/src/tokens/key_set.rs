//! The public keys of the deployment, in a secret of their own, so that the function that publishes them can read no
//! private one.

use std::time::Duration;

use jsonwebtoken::jwk::Jwk;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::keys::KeyPairs;
use super::{CLOCK_SKEW, LIFETIME};
use crate::domain::Timestamp;
use crate::failure::Failure;
use crate::secrets::SecretValue;

/// The public keys with which tokens can be verified now or after the next rotation, and their issuer.
#[derive(Debug, Deserialize, Serialize)]
pub struct KeySet {
    issuer: String,
    keys: Vec<PublicKey>,
}

#[derive(Debug, Deserialize, Serialize)]
struct PublicKey {
    key: Jwk,
    /// The second, since the Unix epoch, in which the last token signed with a replaced key has expired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<i64>,
}

impl KeySet {
    /// The setting that names the secret, and the default name.
    pub const SECRET: (&'static str, &'static str) = ("JWT_KEY_SET_ID", "postern/jwt-key-set");

    /// The key set while `pairs` are in use. If they replace others at `now`, the key that signed until then stays in
    /// the set until the last of its tokens has expired: functions sign with it for up to `cache_time` longer.
    pub fn new(
        pairs: &KeyPairs,
        replaced: Option<&KeyPairs>,
        now: Timestamp,
        cache_time: Duration,
    ) -> Result<Self, Failure> {
        let until = (now + cache_time + LIFETIME + CLOCK_SKEW).as_seconds();
        let replaced = replaced.map(|pairs| (&pairs.current, pairs.algorithm, Some(until)));
        let keys = [(&pairs.current, pairs.algorithm, None), (&pairs.next, pairs.algorithm, None)];
        let keys = keys.into_iter().chain(replaced).map(|(pair, algorithm, until)| {
            let key = pair.public_key(algorithm);
            let key = key.map_err(|error| Failure::Defect(format!("reading a key pair: {error}")))?;
            Ok(PublicKey { key, until })
        });
        Ok(Self { issuer: pairs.parties.issuer.clone(), keys: keys.collect::<Result<_, Failure>>()? })
    }

    /// The JSON Web Key Set (RFC 7517 §5): the key that signs first.
    #[must_use]
    pub fn jwks(&self, now: Timestamp) -> Value {
        json!({"keys": self.live(now).collect::<Vec<_>>()})
    }

    /// The metadata of the issuer (RFC 8414 §2) with the members that `OpenID` Connect Discovery 1.0 §3 requires of
    /// providers with the implicit flow alone. There is no such flow here, but verifiers of tokens read nothing else.
    #[must_use]
    pub fn metadata(&self, now: Timestamp) -> Value {
        let issuer = &self.issuer;
        let mut algorithms: Vec<_> = self.live(now).filter_map(|key| key.common.key_algorithm).collect();
        algorithms.dedup();
        json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{issuer}/"),
            "jwks_uri": format!("{issuer}/.well-known/jwks.json"),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": algorithms,
        })
    }

    fn live(&self, now: Timestamp) -> impl Iterator<Item = &Jwk> {
        let now = now.as_seconds();
        self.keys.iter().filter(move |key| key.until.is_none_or(|until| now < until)).map(|key| &key.key)
    }
}

impl SecretValue for KeySet {
    fn parse(_: String, value: SecretString) -> Result<Self, &'static str> {
        serde_json::from_str(value.expose_secret()).map_err(|_| "the JSON of a key set")
    }

    /// A key set is never looked up.
    fn id(&self) -> &str {
        &self.issuer
    }
}
