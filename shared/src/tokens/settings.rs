//! The settings of tokens: their algorithm, issuer and audience.

use std::str::FromStr;

use jsonwebtoken::Algorithm;
use serde::{Deserialize, Serialize};

use crate::domain::is_issuer_url;
use crate::settings::{ConfigError, Settings};

/// The issuer of tokens by HS256 unless `JWT_ISSUER` is set.
pub(super) const DEFAULT_ISSUER: &str = "lumen-jwt";

/// The settings of tokens, which are the same for every function that issues, verifies or describes them.
#[derive(Clone, Debug)]
pub struct TokenSettings {
    /// The algorithm that new key pairs are made for. `None` is HS256, which has none.
    pub algorithm: Option<KeyPairAlgorithm>,
    /// The issuer and the audience of new tokens.
    pub parties: Parties,
}

/// The algorithm of signatures (RFC 7518 §3.1) that are verified with a public key.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum KeyPairAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256 and keys of 2048 bits, which all verifiers of AWS accept.
    Rs256,
    /// ECDSA on the curve P-256 with SHA-256.
    Es256,
}

/// The parties of a token, besides its user.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Parties {
    /// The claim `iss` (RFC 7519 §4.1.1).
    pub issuer: String,
    /// The claim `aud` (RFC 7519 §4.1.3), if tokens have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
}

impl TokenSettings {
    /// Reads `JWT_ALGORITHM`, `JWT_ISSUER` and `JWT_AUDIENCE`. Public keys are found under the issuer's URL, so the
    /// issuer has to be one unless the algorithm is HS256.
    pub fn new(settings: &Settings) -> Result<Self, ConfigError> {
        let Setting(algorithm) = settings.one_of("JWT_ALGORITHM", Setting(None), "HS256, RS256, ES256")?;
        let issuer = settings.text("JWT_ISSUER", DEFAULT_ISSUER);
        if algorithm.is_some() && !is_issuer_url(&issuer) {
            let problem = "must be a URL such as https://auth.example.com in lower case, with no slash at its end, unless \
                           JWT_ALGORITHM is HS256";
            return Err(ConfigError::new("JWT_ISSUER", problem));
        }
        let parties = Parties { issuer, audience: settings.optional("JWT_AUDIENCE") };
        Ok(Self { algorithm, parties })
    }
}

/// The value of `JWT_ALGORITHM`.
struct Setting(Option<KeyPairAlgorithm>);

impl FromStr for Setting {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        match name {
            "HS256" => Ok(Self(None)),
            "RS256" => Ok(Self(Some(KeyPairAlgorithm::Rs256))),
            "ES256" => Ok(Self(Some(KeyPairAlgorithm::Es256))),
            _ => Err(()),
        }
    }
}

impl From<KeyPairAlgorithm> for Algorithm {
    fn from(algorithm: KeyPairAlgorithm) -> Self {
        match algorithm {
            KeyPairAlgorithm::Rs256 => Self::RS256,
            KeyPairAlgorithm::Es256 => Self::ES256,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(algorithm: &'static str, issuer: &'static str) -> Result<TokenSettings, ConfigError> {
        TokenSettings::new(&Settings::new(move |variable| match variable {
            "JWT_ALGORITHM" => Some(algorithm.to_owned()),
            "JWT_ISSUER" => Some(issuer.to_owned()),
            _ => None,
        }))
    }

    #[test]
    fn an_asymmetric_algorithm_needs_an_issuer_with_a_url() {
        for algorithm in ["RS256", "ES256"] {
            for issuer in [
                "https://auth.example.com",
                "https://auth.example.com:8443/tenants/1",
                "http://127.0.0.1:3000",
                "http://localhost",
            ] {
                assert_eq!(settings(algorithm, issuer).unwrap().parties.issuer, issuer);
            }
            for issuer in [
                "",
                "lumen-jwt",
                "auth.example.com",
                "https://",
                "https:///path",
                "https://auth.example.com/",
                "https://auth.example.com?a",
                "https://auth.example.com#a",
                "https://user@auth.example.com",
                "https://auth.example .com",
                "HTTPS//auth.example.com",
                "http://auth.example.com",
                "http://127.0.0.1.example.com",
                "http://localhost.example.com",
                "ftp://auth.example.com",
            ] {
                assert!(settings(algorithm, issuer).is_err(), "{issuer}");
            }
        }
    }

    #[test]
    fn hs256_is_the_default_and_takes_any_issuer() {
        assert_eq!(settings("", "").unwrap().algorithm, None);
        assert_eq!(settings("", "").unwrap().parties.issuer, "lumen-jwt");
        assert_eq!(settings("HS256", "urn:postern").unwrap().parties.issuer, "urn:postern");
        for algorithm in ["hs256", "HS512", "none", "RS256 "] {
            assert!(settings(algorithm, "https://auth.example.com").is_err(), "{algorithm}");
        }
    }
}
