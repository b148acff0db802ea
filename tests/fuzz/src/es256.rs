//! The service with public keys, and the keys that a forger may sign with.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use hmac::Hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::{Service, mac, token};

/// The service, started on first use.
pub static SERVICE: LazyLock<Service> = LazyLock::new(|| {
    Service::new(&[
        ("JWT_ALGORITHM", "ES256"),
        ("JWT_ISSUER", ISSUER),
        ("JWT_AUDIENCE", AUDIENCE),
        ("JWT_SECRET_ID", SECRET_ID),
    ])
});

/// The `iss` of tokens.
pub const ISSUER: &str = "https://auth.example.com";
/// The `aud` of tokens.
pub const AUDIENCE: &str = "orders";
/// The `kid` of tokens: the thumbprint of the key that signs.
pub const KID: &str = "qTRy04HI4Q_X2TrEWnjsbgkSYQL3jyUy_CS-vFQ4swE";
/// The id of the secret.
pub const SECRET_ID: &str = "es256";

const CURRENT: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg89KVbYuBRNrecu7X262Jl/0RwMGw1UWjXH5htTj8tCOhRANCAAT+qT1nHrNbTNGklRnbXtPRoo1D9iAb99985Qf5wtGdm2TTNhjStaepiRAnZqQr2sRQxVEDa7Zh2mQ7mNl35nYT";
const NEXT: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgIw9KPcUAvPGdcz5EtUNx3s4QAUE+H9IfdqYSswuPjiGhRANCAAToe2gMYw/QS1WyrQhNY3mnDz0a2ySaye+HKGa7TxjtyAyVSCmltiTg8wlcQ3OMluvb9iUx6I5PsiRTCtzuoWe9";

/// A key to sign a token with.
#[derive(Clone, Copy, Eq, PartialEq)]
pub enum Key {
    /// The key that signs tokens.
    Current,
    /// The key that will sign tokens, which counts for nothing yet.
    Next,
    /// The public key, as a secret of HMAC.
    Public,
}

/// The value of the secret.
pub(crate) fn secret() -> String {
    json!({"algorithm": "ES256", "issuer": ISSUER, "audience": AUDIENCE, "current": CURRENT, "next": NEXT})
        .to_string()
}

/// A token that is signed with a key, whatever its header says. The header member `jwk` becomes the public key if it is
/// `true`.
///
/// # Panics
///
/// Panics if the operating system has no random numbers.
#[must_use]
pub fn sign(key: Key, header: &Value, claims: &Value) -> String {
    let random = SystemRandom::new();
    let pkcs8 = if key == Key::Next { NEXT } else { CURRENT };
    let pkcs8 = BASE64_STANDARD.decode(pkcs8).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8, &random).unwrap();
    let public = pair.public_key().as_ref();
    let mut header = header.clone();
    if header["jwk"] == true {
        let [x, y] = [&public[1..33], &public[33..]].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
        header["jwk"] = json!({"kty": "EC", "crv": "P-256", "x": x, "y": y});
    }
    token(&header, claims, |message| match key {
        Key::Public => mac::<Hmac<Sha256>>(public, message),
        Key::Current | Key::Next => pair.sign(&random, message).unwrap().as_ref().to_vec(),
    })
}
