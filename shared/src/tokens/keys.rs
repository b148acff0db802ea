//! The keys that sign tokens, in the two forms in which the secret has them: a string, which is a key of HS256, or the
//! JSON of [`KeyPairs`].
//!
//! The key determines the algorithm (RFC 8725 §3.1) and, if it is public, the issuer and the audience. So all versions
//! of the functions that run at the same time issue tokens that each of them accepts, whatever their settings are.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jsonwebtoken::jwk::{Jwk, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Validation};
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::crypto;
use super::settings::{KeyPairAlgorithm, Parties, TokenSettings};
use crate::secrets::{HmacKey, SecretValue};

/// The key that signs tokens: one version of the secret.
#[derive(Debug)]
pub(super) struct TokenKey {
    /// The `kid` of tokens: the version's id for HS256, or else the thumbprint (RFC 7638).
    id: String,
    pub(super) algorithm: Algorithm,
    /// The parties of its tokens. `None` for HS256, whose tokens have those of the settings.
    pub(super) parties: Option<Parties>,
    pub(super) signing: EncodingKey,
    pub(super) verifying: DecodingKey,
    /// Lets the library verify signatures only. [`Tokens`](super::Tokens) verifies the claims.
    pub(super) signatures: Validation,
}

/// Two key pairs of one algorithm: the one that signs, and the one that will sign after the next rotation. Verifiers
/// get to know the second one before they need it.
#[derive(Debug, Deserialize, Serialize)]
pub struct KeyPairs {
    /// The algorithm of both.
    pub algorithm: KeyPairAlgorithm,
    /// The parties of the tokens that they sign.
    #[serde(flatten)]
    pub parties: Parties,
    /// The pair that signs.
    pub current: KeyPair,
    /// The pair that will sign after the next rotation.
    pub next: KeyPair,
}

/// A key pair as PKCS #8 (RFC 5958) in DER; base64 in JSON.
#[derive(Clone, Debug)]
pub struct KeyPair(SecretSlice<u8>);

impl KeyPair {
    /// A key pair from its PKCS #8.
    #[must_use]
    pub fn new(pkcs8: Vec<u8>) -> Self {
        Self(pkcs8.into())
    }

    fn signing_key(&self, algorithm: KeyPairAlgorithm) -> EncodingKey {
        let pkcs8 = self.0.expose_secret();
        match algorithm {
            KeyPairAlgorithm::Rs256 => EncodingKey::from_rsa_der(pkcs8),
            KeyPairAlgorithm::Es256 => EncodingKey::from_ec_der(pkcs8),
        }
    }

    /// The public key as a JSON Web Key (RFC 7517), whose id is its thumbprint (RFC 7638).
    pub(super) fn public_key(&self, algorithm: KeyPairAlgorithm) -> Result<Jwk, jsonwebtoken::errors::Error> {
        crypto::install();
        let mut key = Jwk::from_encoding_key(&self.signing_key(algorithm), algorithm.into())?;
        key.common.key_id = Some(key.thumbprint(ThumbprintHash::SHA256)?);
        key.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(key)
    }
}

impl KeyPairs {
    /// Reads the value of a secret. `None` if it is a key of HS256.
    #[must_use]
    pub fn parse(value: &str) -> Option<Result<Self, serde_json::Error>> {
        value.starts_with('{').then(|| serde_json::from_str(value))
    }

    /// Returns whether the settings would make the same tokens.
    #[must_use]
    pub fn are_for(&self, settings: &TokenSettings) -> bool {
        Some(self.algorithm) == settings.algorithm && self.parties == settings.parties
    }
}

impl SecretValue for TokenKey {
    fn parse(version: String, value: SecretString) -> Result<Self, &'static str> {
        crypto::install();
        match KeyPairs::parse(value.expose_secret()) {
            None => {
                let key = HmacKey::parse(version, value)?;
                Ok(Self {
                    id: key.id().to_owned(),
                    algorithm: Algorithm::HS256,
                    parties: None,
                    signing: EncodingKey::from_secret(key.expose()),
                    verifying: DecodingKey::from_secret(key.expose()),
                    signatures: signatures(Algorithm::HS256),
                })
            }
            Some(Ok(pairs)) => {
                Self::public(pairs).map_err(|_| "two key pairs of the algorithm that it names")
            }
            Some(Err(_)) => Err("the JSON of two key pairs"),
        }
    }

    fn id(&self) -> &str {
        &self.id
    }
}

impl TokenKey {
    fn public(pairs: KeyPairs) -> Result<Self, jsonwebtoken::errors::Error> {
        let public = pairs.current.public_key(pairs.algorithm)?;
        let verifying = DecodingKey::from_jwk(&public)?;
        let algorithm = pairs.algorithm.into();
        Ok(Self {
            id: public.common.key_id.unwrap_or_default(),
            algorithm,
            parties: Some(pairs.parties),
            signing: pairs.current.signing_key(pairs.algorithm),
            verifying,
            signatures: signatures(algorithm),
        })
    }
}

fn signatures(algorithm: Algorithm) -> Validation {
    let mut signatures = Validation::new(algorithm);
    signatures.required_spec_claims.clear();
    signatures.validate_exp = false;
    signatures.validate_aud = false;
    signatures
}

impl Serialize for KeyPair {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(self.0.expose_secret()))
    }
}

impl<'de> Deserialize<'de> for KeyPair {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let pkcs8 = BASE64_STANDARD.decode(String::deserialize(deserializer)?);
        pkcs8.map(Self::new).map_err(serde::de::Error::custom)
    }
}
