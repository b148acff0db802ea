//! JSON Web Tokens (RFC 7519, RFC 8725): issuing them, verifying them, and finding whom they stand for.

use std::time::Duration;

use aws_types::SdkConfig;
use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::signature::{self, Signer, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use lambda_http::http::{HeaderMap, header};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::config::{ConfigError, Environment};
use crate::domain::{PasswordHash, SecurityStamp, Timestamp, User, UserId, UserWithHash};
use crate::error::Failure;
use crate::random;
use crate::secrets::SecretKeys;
use crate::store::Store;

/// «A JSON Web Token is only for an hour valid.»
const LIFETIME: Duration = Duration::from_hours(1);

/// The one algorithm of the deployment's tokens, for `jsonwebtoken`, whose own cryptography would bring every other.
static HS256: CryptoProvider = CryptoProvider {
    signer_factory: |algorithm, key| Ok(Box::new(Hs256::new(*algorithm, key.as_bytes())?)),
    verifier_factory: |algorithm, key| Ok(Box::new(Hs256::new(*algorithm, key.try_get_as_bytes()?)?)),
    key_utils: KeyUtils::new_unimplemented(),
};

/// HMAC with SHA-256 (RFC 7518 §3.2).
struct Hs256(Hmac<Sha256>);

/// Issues and verifies the deployment's tokens.
#[derive(Debug)]
pub struct Tokens {
    keys: SecretKeys,
    issuer: String,
}

/// A token as the client gets it.
#[derive(Clone, Debug)]
pub struct Token(SecretString);

/// What a verified token says.
#[derive(Debug, Deserialize, Serialize)]
struct Claims {
    iss: String,
    sub: String,
    iat: i64,
    exp: i64,
    /// Names this token, so that it can outlive the password change that it made.
    jti: String,
    /// The user's [`SecurityStamp`] when the token was issued.
    stamp: String,
}

/// Why a token does not count.
#[derive(Debug)]
pub enum TokenError {
    /// It was good once.
    Expired,
    /// It was never good, or was revoked, or its user is gone or not activated.
    Incorrect,
    /// It could not be told.
    Failure(Failure),
}

/// The user whose token was shown, and the token's `jti`.
#[derive(Debug)]
pub struct SignedIn {
    /// The user as the store has it now.
    pub user: User,
    /// The id of the token.
    pub jti: String,
}

impl Hs256 {
    fn new(algorithm: Algorithm, key: &[u8]) -> Result<Self, jsonwebtoken::errors::Error> {
        match (algorithm, Hmac::new_from_slice(key)) {
            (Algorithm::HS256, Ok(mac)) => Ok(Self(mac)),
            _ => Err(ErrorKind::InvalidAlgorithm.into()),
        }
    }
}

impl Signer<Vec<u8>> for Hs256 {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        Ok(self.0.clone().chain_update(message).finalize().into_bytes().to_vec())
    }
}

impl Verifier<Vec<u8>> for Hs256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        // In constant time.
        self.0.clone().chain_update(message).verify_slice(signature).map_err(signature::Error::from_source)
    }
}

impl JwtSigner for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

impl JwtVerifier for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

impl Token {
    /// The token itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl From<Failure> for TokenError {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl Tokens {
    /// The deployment's tokens, issued by `JWT_ISSUER`.
    pub fn new(environment: &Environment, aws: &SdkConfig) -> Result<Self, ConfigError> {
        // Another of this process may have installed it.
        let _ = HS256.install_default();
        let issuer = environment.text("JWT_ISSUER", "lumen-jwt");
        Ok(Self { keys: SecretKeys::for_tokens(environment, aws)?, issuer })
    }

    /// Fetches the key before it is needed.
    pub async fn prefetch(&self) {
        self.keys.prefetch().await;
    }

    /// Issues a token for an hour, bound to `stamp`.
    pub async fn issue(
        &self,
        user_id: &UserId,
        stamp: &SecurityStamp,
        now: Timestamp,
    ) -> Result<Token, Failure> {
        let key = self.keys.current().await?;
        let header = Header { kid: Some(key.version().to_owned()), ..Header::new(Algorithm::HS256) };
        let claims = Claims {
            iss: self.issuer.clone(),
            sub: user_id.as_str().to_owned(),
            iat: now.as_seconds(),
            exp: (now + LIFETIME).as_seconds(),
            jti: random::unique(),
            stamp: stamp.as_str().to_owned(),
        };
        let token = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(key.expose()))
            .map_err(|error| Failure::Defect(format!("signing a token: {error}")))?;
        Ok(Token(SecretString::from(token)))
    }

    /// Finds the user whose `token` this is, in two reads. Whatever revokes tokens revokes them here and at once.
    pub async fn authenticate(&self, token: &str, store: &Store) -> Result<SignedIn, TokenError> {
        let claims = self.verify(token).await?;
        let user_id = UserId::parse(&claims.sub).ok_or(TokenError::Incorrect)?;
        let user = store.user_by_id(&user_id).await?.ok_or(TokenError::Incorrect)?;
        signed_in(user, claims)
    }

    /// Does what [`Self::authenticate`] does, and reads the hash of the password along with the user.
    pub async fn authenticate_with_hash(
        &self,
        token: &str,
        store: &Store,
    ) -> Result<(SignedIn, Option<PasswordHash>), TokenError> {
        let claims = self.verify(token).await?;
        let user_id = UserId::parse(&claims.sub).ok_or(TokenError::Incorrect)?;
        let user = store.user_by_id_with_hash(&user_id).await?;
        let UserWithHash { user, password_hash } = user.ok_or(TokenError::Incorrect)?;
        Ok((signed_in(user, claims)?, password_hash))
    }

    async fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Incorrect)?;
        // RFC 7515 §4.1.11: no extension is understood here. The library does not look.
        if header.crit.is_some() {
            return Err(TokenError::Incorrect);
        }
        let kid = header.kid.ok_or(TokenError::Incorrect)?;
        let key = self.keys.version(&kid).await?.ok_or(TokenError::Incorrect)?;
        let claims = jsonwebtoken::decode(token, &DecodingKey::from_secret(key.expose()), &self.validation());
        match claims {
            Ok(token) => Ok(token.claims),
            Err(error) if *error.kind() == ErrorKind::ExpiredSignature => Err(TokenError::Expired),
            Err(_) => Err(TokenError::Incorrect),
        }
    }

    /// RFC 8725 §3.1 and §3.8: one algorithm, and nothing left to the token.
    fn validation(&self) -> Validation {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_required_spec_claims(&["exp", "iss", "sub"]);
        validation.set_issuer(&[&self.issuer]);
        validation.validate_aud = false;
        validation.leeway = 0;
        // RFC 7519 §4.1.4: not accepted *on* or after the expiration time, where the library's bound is after.
        validation.reject_tokens_expiring_in_less_than = 1;
        validation
    }
}

/// Whom a verified token stands for, unless it was revoked since it was issued.
fn signed_in(user: User, claims: Claims) -> Result<SignedIn, TokenError> {
    let revoked =
        claims.stamp != user.security_stamp.as_str() && user.kept_jti.as_deref() != Some(claims.jti.as_str());
    if revoked || !user.activated {
        return Err(TokenError::Incorrect);
    }
    Ok(SignedIn { user, jti: claims.jti })
}

/// The token of an `Authorization: Bearer …` header (RFC 6750). The colon that the API document writes behind
/// `Bearer` is accepted too.
#[must_use]
pub fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.trim().split_once([' ', '\t'])?;
    let is_bearer = scheme.trim_end_matches(':').eq_ignore_ascii_case("bearer");
    is_bearer.then(|| token.trim()).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use lambda_http::http::HeaderValue;

    use super::*;

    #[test]
    fn the_bearer_token_is_read_with_and_without_the_document_s_colon() {
        for (value, token) in [
            ("Bearer abc", Some("abc")),
            ("Bearer: abc", Some("abc")),
            ("bearer   abc ", Some("abc")),
            ("Bearer", None),
            ("Bearer ", None),
            ("Basic abc", None),
            ("abc", None),
            ("", None),
        ] {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(value))]);
            assert_eq!(bearer_token(&headers), token, "{value}");
        }
        assert_eq!(bearer_token(&HeaderMap::new()), None);
    }
}
