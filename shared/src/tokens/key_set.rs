//! The public keys of the deployment, in a secret of their own, so that the function that publishes them can read no
//! private one.

use std::time::Duration;

use jsonwebtoken::jwk::{AlgorithmParameters, Jwk};
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

    /// The same key set, in which the replaced key stays until the next one is published: for the time before its
    /// replacement, which can fail.
    #[must_use]
    pub fn without_end(mut self) -> Self {
        for key in &mut self.keys {
            key.until = None;
        }
        self
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
        let key_set: Self =
            serde_json::from_str(value.expose_secret()).map_err(|_| "the JSON of a key set")?;
        // Of these two kinds, private members are not read.
        let is_public = |key: &PublicKey| {
            matches!(key.key.algorithm, AlgorithmParameters::RSA(_) | AlgorithmParameters::EllipticCurve(_))
        };
        if key_set.keys.iter().all(is_public) { Ok(key_set) } else { Err("the JSON of a set of public keys") }
    }

    /// A key set is never looked up.
    fn id(&self) -> &str {
        &self.issuer
    }
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};

    use super::*;
    use crate::tokens::{KeyPair, KeyPairAlgorithm, Parties};

    const CACHE_TIME: Duration = Duration::from_mins(5);

    fn key_pairs() -> KeyPairs {
        let pair = || {
            let pkcs8 =
                EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
            KeyPair::new(pkcs8.as_ref().to_vec())
        };
        let parties = Parties { issuer: "https://auth.example.com".to_owned(), audience: None };
        KeyPairs { algorithm: KeyPairAlgorithm::Es256, parties, current: pair(), next: pair() }
    }

    fn id(pair: &KeyPair) -> String {
        pair.public_key(KeyPairAlgorithm::Es256).unwrap().common.key_id.unwrap()
    }

    fn ids(key_set: &KeySet, now: Timestamp) -> Vec<String> {
        let jwks = key_set.jwks(now);
        let keys = jwks["keys"].as_array().unwrap();
        keys.iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
    }

    /// The key set as the function that publishes it reads it.
    fn stored(key_set: &KeySet) -> KeySet {
        let value = serde_json::to_string(key_set).unwrap();
        KeySet::parse(String::new(), value.into()).unwrap()
    }

    #[test]
    fn a_replaced_key_is_published_until_its_last_token_has_expired() {
        let (replaced, pairs) = (key_pairs(), key_pairs());
        let rotated = Timestamp::from_micros(1_764_190_000_000_000);
        let key_set = stored(&KeySet::new(&pairs, Some(&replaced), rotated, CACHE_TIME).unwrap());

        let lasting = vec![id(&pairs.current), id(&pairs.next)];
        let all = [lasting.clone(), vec![id(&replaced.current)]].concat();
        // Functions sign with it for 5 minutes more, for an hour each time, and clocks differ by a minute.
        let last = rotated + Duration::from_mins(66);
        let instant = Duration::from_micros(1);
        for (now, expected) in
            [(rotated, &all), (last - instant, &all), (last, &lasting), (last + LIFETIME, &lasting)]
        {
            assert_eq!(&ids(&key_set, now), expected);
        }
    }

    #[test]
    fn the_first_keys_replace_none() {
        let pairs = key_pairs();
        let now = Timestamp::from_micros(0);
        let key_set = stored(&KeySet::new(&pairs, None, now, CACHE_TIME).unwrap());
        assert_eq!(ids(&key_set, now), [id(&pairs.current), id(&pairs.next)]);
    }

    #[test]
    fn the_metadata_names_the_algorithm_of_a_replaced_key_as_long_as_the_key_set_has_it() {
        let keys = r#"{"issuer": "https://auth.example.com", "keys": [
            {"key": {"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ", "alg": "ES256"}},
            {"key": {"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ", "alg": "ES256"}},
            {"key": {"kty": "RSA", "n": "AQ", "e": "AQAB", "alg": "RS256"}, "until": 100}
        ]}"#;
        let key_set = KeySet::parse(String::new(), keys.into()).unwrap();
        for (second, algorithms) in [(99, json!(["ES256", "RS256"])), (100, json!(["ES256"]))] {
            let metadata = key_set.metadata(Timestamp::from_micros(second * 1_000_000));
            assert_eq!(metadata["id_token_signing_alg_values_supported"], algorithms);
        }
    }

    #[test]
    fn private_members_of_stored_keys_are_not_published() {
        let stored = |key: &str| {
            let value = format!(r#"{{"issuer": "https://auth.example.com", "keys": [{{"key": {key}}}]}}"#);
            KeySet::parse(String::new(), value.into())
        };
        for private in [
            r#"{"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ", "alg": "ES256", "d": "AQ"}"#,
            r#"{"kty": "RSA", "n": "AQ", "e": "AQAB", "alg": "RS256", "d": "AQ", "p": "AQ", "q": "AQ", "dp": "AQ"}"#,
        ] {
            let key = stored(private).unwrap().jwks(Timestamp::from_micros(0))["keys"][0].clone();
            assert!(["d", "p", "q", "dp"].iter().all(|member| key[member].is_null()), "{key}");
        }
        for other in [
            r#"{"kty": "oct", "k": "AQ", "alg": "HS256"}"#,
            r#"{"kty": "OKP", "crv": "Ed25519", "x": "AQ", "d": "AQ"}"#,
            r#"{"kty": "other", "d": "AQ"}"#,
        ] {
            assert!(stored(other).is_err(), "{other}");
        }
    }

    #[test]
    fn no_private_part_of_a_key_is_in_the_key_set() {
        let pairs = key_pairs();
        let key_set = KeySet::new(&pairs, Some(&key_pairs()), Timestamp::from_micros(0), CACHE_TIME).unwrap();
        let value = serde_json::to_value(&key_set).unwrap();
        let members = ["alg", "crv", "kid", "kty", "use", "x", "y"];
        for key in value["keys"].as_array().unwrap() {
            let key = key["key"].as_object().unwrap();
            assert!(key.keys().all(|member| members.contains(&&**member)), "{key:?}");
            assert_eq!(key.len(), members.len());
        }
    }
}
