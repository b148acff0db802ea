//! New key pairs.

use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use rsa::PrivateKey;
use rsa::pkcs8::EncodePrivateKey;
use shared::failure::Failure;
use shared::tokens::{KeyPair, KeyPairAlgorithm};

/// The length of RSA keys: the shortest that RFC 7518 §3.3 allows, and as strong as the others here for the years that
/// NIST SP 800-57 gives it. Longer ones sign several times slower.
const RSA_BITS: usize = 2048;

/// Makes a key pair for `algorithm`. Takes up to seconds, on a thread for blocking work.
pub(crate) async fn generate(algorithm: KeyPairAlgorithm) -> Result<KeyPair, Failure> {
    let generated = tokio::task::spawn_blocking(move || match algorithm {
        KeyPairAlgorithm::Rs256 => rsa(),
        KeyPairAlgorithm::Es256 => ec(),
    });
    let pkcs8 = generated.await.map_err(|error| error.to_string()).flatten();
    pkcs8.map(KeyPair::new).map_err(|error| Failure::Defect(format!("making a key pair: {error}")))
}

fn rsa() -> Result<Vec<u8>, String> {
    let key = PrivateKey::new(&mut UnwrapErr(SysRng), RSA_BITS).map_err(|error| error.to_string())?;
    let pkcs8 = key.to_pkcs8_der().map_err(|error| error.to_string())?;
    Ok(pkcs8.as_bytes().to_vec())
}

fn ec() -> Result<Vec<u8>, String> {
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
        .map_err(|error| error.to_string())?;
    Ok(pkcs8.as_ref().to_vec())
}
