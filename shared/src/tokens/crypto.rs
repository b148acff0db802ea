//! The cryptography of `jsonwebtoken`: HMAC by the crate `hmac`, RSA and ECDSA by ring, which TLS links anyway. The
//! library's own would bring every other algorithm.

use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::jwk::EllipticCurve;
use jsonwebtoken::signature::{self, Signer, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::digest;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents, UnparsedPublicKey,
};
use sha2::Sha256;

/// HS256 and the algorithms of [`KeyPairAlgorithm`](super::KeyPairAlgorithm), and public keys as JSON Web Keys.
static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |algorithm, key| Ok(Box::new(PrivateKey::new(*algorithm, key)?)),
    verifier_factory: |algorithm, key| Ok(Box::new(PublicKey::new(*algorithm, key)?)),
    key_utils: KeyUtils {
        rsa_pub_components_from_private_key: rsa_components,
        ec_pub_components_from_private_key: ec_components,
        compute_digest: |data, _| Ok(digest::digest(&digest::SHA256, data).as_ref().to_vec()),
        ..KeyUtils::new_unimplemented()
    },
};

/// Makes `jsonwebtoken` use the cryptography of this module. Has to be called before any of its functions.
pub(super) fn install() {
    // Another of this process may have installed it.
    let _ = PROVIDER.install_default();
}

enum PrivateKey {
    /// HMAC with SHA-256 (RFC 7518 §3.2).
    Hs256(Hmac<Sha256>),
    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518 §3.3).
    Rs256(Box<RsaKeyPair>),
    /// ECDSA on P-256 with SHA-256 (RFC 7518 §3.4).
    Es256(Box<EcdsaKeyPair>),
}

enum PublicKey {
    Hs256(Hmac<Sha256>),
    Rs256(RsaPublicKeyComponents<Vec<u8>>),
    Es256(UnparsedPublicKey<Vec<u8>>),
}

impl PrivateKey {
    fn new(algorithm: Algorithm, key: &EncodingKey) -> Result<Self, Error> {
        match algorithm {
            Algorithm::HS256 => Ok(Self::Hs256(hmac(key.as_bytes())?)),
            Algorithm::RS256 => Ok(Self::Rs256(Box::new(rsa_key(key.as_bytes())?))),
            Algorithm::ES256 => Ok(Self::Es256(Box::new(ec_key(key.as_bytes())?))),
            _ => Err(ErrorKind::InvalidAlgorithm.into()),
        }
    }
}

impl PublicKey {
    fn new(algorithm: Algorithm, key: &DecodingKey) -> Result<Self, Error> {
        match (algorithm, key.kind()) {
            (Algorithm::HS256, DecodingKeyKind::SecretOrDer(secret)) => Ok(Self::Hs256(hmac(secret)?)),
            (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, e }) => {
                Ok(Self::Rs256(RsaPublicKeyComponents { n: n.clone(), e: e.clone() }))
            }
            (Algorithm::ES256, DecodingKeyKind::SecretOrDer(point)) => {
                Ok(Self::Es256(UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point.clone())))
            }
            _ => Err(ErrorKind::InvalidAlgorithm.into()),
        }
    }
}

impl Signer<Vec<u8>> for PrivateKey {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        let random = SystemRandom::new();
        match self {
            Self::Hs256(mac) => Ok(mac.clone().chain_update(message).finalize().into_bytes().to_vec()),
            Self::Rs256(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .map_err(|_| signature::Error::new())?;
                Ok(signature)
            }
            Self::Es256(key) => {
                let signature = key.sign(&random, message).map_err(|_| signature::Error::new())?;
                Ok(signature.as_ref().to_vec())
            }
        }
    }
}

impl Verifier<Vec<u8>> for PublicKey {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        match self {
            // In constant time.
            Self::Hs256(mac) => {
                mac.clone().chain_update(message).verify_slice(signature).map_err(|_| signature::Error::new())
            }
            Self::Rs256(key) => key
                .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
                .map_err(|_| signature::Error::new()),
            Self::Es256(key) => key.verify(message, signature).map_err(|_| signature::Error::new()),
        }
    }
}

impl JwtSigner for PrivateKey {
    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Hs256(_) => Algorithm::HS256,
            Self::Rs256(_) => Algorithm::RS256,
            Self::Es256(_) => Algorithm::ES256,
        }
    }
}

impl JwtVerifier for PublicKey {
    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Hs256(_) => Algorithm::HS256,
            Self::Rs256(_) => Algorithm::RS256,
            Self::Es256(_) => Algorithm::ES256,
        }
    }
}

fn hmac(key: &[u8]) -> Result<Hmac<Sha256>, Error> {
    Hmac::new_from_slice(key).map_err(|_| ErrorKind::InvalidKeyFormat.into())
}

fn rsa_key(pkcs8: &[u8]) -> Result<RsaKeyPair, Error> {
    RsaKeyPair::from_pkcs8(pkcs8).map_err(|error| ErrorKind::InvalidRsaKey(error.to_string()).into())
}

fn ec_key(pkcs8: &[u8]) -> Result<EcdsaKeyPair, Error> {
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &SystemRandom::new())
        .map_err(|_| ErrorKind::InvalidEcdsaKey.into())
}

fn rsa_components(pkcs8: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let RsaPublicKeyComponents { n, e } = rsa_key(pkcs8)?.public().into();
    Ok((n, e))
}

fn ec_components(pkcs8: &[u8], _: Algorithm) -> Result<(EllipticCurve, Vec<u8>, Vec<u8>), Error> {
    let key = ec_key(pkcs8)?;
    // SEC 1 §2.3.3: an uncompressed point is 4, x, y.
    match key.public_key().as_ref().split_first() {
        Some((4, point)) if point.len() == 64 => {
            let (x, y) = point.split_at(32);
            Ok((EllipticCurve::P256, x.to_vec(), y.to_vec()))
        }
        _ => Err(ErrorKind::InvalidEcdsaKey.into()),
    }
}
