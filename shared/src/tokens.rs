//! JSON Web Tokens (RFC 7519, RFC 8725): issuing them, verifying them, and finding their users.

use std::net::IpAddr;
use std::time::Duration;

use aws_types::SdkConfig;
use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::dangerous::insecure_decode;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::signature::{self, Signer, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, TokenData, Validation};
use secrecy::{ExposeSecret, SecretString};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};
use sha2::Sha256;

use crate::clock;
use crate::domain::{SecurityStamp, SessionKey, Timestamp, User, UserId};
use crate::failure::Failure;
use crate::random;
use crate::secrets::SecretKeys;
use crate::settings::{ConfigError, Settings};
use crate::store::{AddressLimit, Candidate, Store};

/// “A JSON Web Token is only for an hour valid.” The life of every token that is issued, and the longest that is
/// accepted.
const LIFETIME: Duration = Duration::from_hours(1);

/// How far in the future the times of a token may be, because clocks differ.
const CLOCK_SKEW: Duration = Duration::from_mins(1);

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
    /// Lets the library verify signatures only. The claims are verified before there is a key.
    signatures: Validation,
}

/// A token as the client gets it.
#[derive(Clone, Debug)]
pub struct Token(SecretString);

/// The claims of a token. Its times are whole seconds since the Unix epoch; a text or a fraction is refused.
#[derive(Debug, Deserialize, Serialize)]
struct Claims {
    iss: String,
    sub: String,
    iat: i64,
    exp: i64,
    /// Never issued, but obeyed.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
    /// Names this token, so that it can outlive the password change that it made.
    jti: String,
    /// The user's [`SecurityStamp`] when the token was issued.
    stamp: String,
    /// The [`SessionKey`] of the session that the token was issued with or for.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    sid: Option<String>,
}

/// Why a token does not count.
#[derive(Debug)]
pub enum TokenError {
    /// It was good once.
    Expired,
    /// It was never good, or was revoked, or its user is gone or not activated.
    Incorrect,
    /// The check could not be completed.
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
    pub fn new(settings: &Settings, aws: &SdkConfig) -> Result<Self, ConfigError> {
        // Another of this process may have installed it.
        let _ = HS256.install_default();
        let issuer = settings.text("JWT_ISSUER", "lumen-jwt");
        // RFC 8725 §3.1: the algorithm is fixed; a token does not choose it.
        let mut signatures = Validation::new(Algorithm::HS256);
        signatures.required_spec_claims.clear();
        signatures.validate_exp = false;
        signatures.validate_aud = false;
        Ok(Self { keys: SecretKeys::for_tokens(settings, aws)?, issuer, signatures })
    }

    /// Fetches the key before it is needed.
    pub async fn prefetch(&self) {
        self.keys.prefetch().await;
    }

    /// Issues a token for an hour, bound to `stamp` and to `session`, if any.
    pub async fn issue(
        &self,
        user_id: &UserId,
        stamp: &SecurityStamp,
        session: Option<&SessionKey>,
        now: Timestamp,
    ) -> Result<Token, Failure> {
        let key = self.keys.current().await?;
        let header = Header { kid: Some(key.version().to_owned()), ..Header::new(Algorithm::HS256) };
        let claims = Claims {
            iss: self.issuer.clone(),
            sub: user_id.as_str().to_owned(),
            iat: now.as_seconds(),
            exp: (now + LIFETIME).as_seconds(),
            nbf: None,
            jti: random::unique(),
            stamp: stamp.as_str().to_owned(),
            sid: session.map(ToString::to_string),
        };
        let token = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(key.expose()))
            .map_err(|error| Failure::Defect(format!("signing a token: {error}")))?;
        Ok(Token(SecretString::from(token)))
    }

    /// Finds the user whose `token` this is, in two reads in a row; the session of a token that has one is read at the
    /// same time. A revocation takes effect here at once.
    pub async fn authenticate(&self, token: &str, store: &Store) -> Result<SignedIn, TokenError> {
        let claims = self.verify(token).await?;
        let (user_id, session) = claims.subject().ok_or(TokenError::Incorrect)?;
        let (user, session_is_live) =
            tokio::try_join!(store.user_by_id(&user_id), is_live(session.as_ref(), store))?;
        signed_in(user.ok_or(TokenError::Incorrect)?, session_is_live, claims)
    }

    /// Does the same as [`Self::authenticate`], and reads with the user all that decides an attempt to verify the
    /// user's password.
    pub async fn authenticate_candidate(
        &self,
        token: &str,
        store: &Store,
        source_ip: IpAddr,
        limit: Option<AddressLimit>,
    ) -> Result<(SignedIn, Candidate), TokenError> {
        let claims = self.verify(token).await?;
        let (user_id, session) = claims.subject().ok_or(TokenError::Incorrect)?;
        let (candidate, session_is_live) = tokio::try_join!(
            store.candidate_by_id(&user_id, source_ip, limit, clock::now()),
            is_live(session.as_ref(), store),
        )?;
        let candidate = candidate.ok_or(TokenError::Incorrect)?;
        let user = candidate.user().cloned().ok_or(TokenError::Incorrect)?;
        Ok((signed_in(user, session_is_live, claims)?, candidate))
    }

    /// Verifies all of a token that does not depend on its user. The checks that need no key come first: a token that
    /// fails them causes no look-up, and one that has expired causes none that other tokens would not cause.
    async fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        let now = clock::now();
        let TokenData { header, claims } =
            insecure_decode::<Claims>(token).map_err(|_| TokenError::Incorrect)?;
        let kid = key_id(&header).ok_or(TokenError::Incorrect)?;
        if !claims.are_plausible(&self.issuer, now) {
            return Err(TokenError::Incorrect);
        }
        let key = if claims.have_expired(now) {
            self.keys.version_in_memory(kid).await?.ok_or(TokenError::Expired)?
        } else {
            self.keys.version(kid).await?.ok_or(TokenError::Incorrect)?
        };
        // A replaced key may have been stolen, and no function signs with it any more.
        let is_late = key.signs_until().is_some_and(|until| claims.iat > until.as_seconds());
        let verified = jsonwebtoken::decode::<IgnoredAny>(
            token,
            &DecodingKey::from_secret(key.expose()),
            &self.signatures,
        );
        match verified {
            Ok(_) if is_late => Err(TokenError::Incorrect),
            Ok(_) if claims.have_expired(now) => Err(TokenError::Expired),
            Ok(_) => Ok(claims),
            Err(_) => Err(TokenError::Incorrect),
        }
    }
}

/// The id of the key in a header that may be that of a token of this service.
fn key_id(header: &Header) -> Option<&str> {
    // RFC 8725 §3.11: tokens of another kind do not count. RFC 7519 §5.1 lets issuers leave the type out, and
    // recommends capitals without requiring them.
    let is_jwt = header.typ.as_ref().is_none_or(|typ| typ.eq_ignore_ascii_case("JWT"));
    // RFC 7515 §4.1.11: no extension is understood here. The library does not look.
    let understood = header.crit.is_none();
    header.kid.as_deref().filter(|_| header.alg == Algorithm::HS256 && is_jwt && understood)
}

impl Claims {
    /// The user and the session that a token names; `None` when it names none that there can be.
    fn subject(&self) -> Option<(UserId, Option<SessionKey>)> {
        let session = match &self.sid {
            Some(sid) => Some(SessionKey::parse(sid)?),
            None => None,
        };
        Some((UserId::parse(&self.sub)?, session))
    }

    /// Returns whether a token of this issuer can say this at this time, expired or not.
    fn are_plausible(&self, issuer: &str, now: Timestamp) -> bool {
        let latest = (now + CLOCK_SKEW).as_seconds();
        let life = self.exp.checked_sub(self.iat).and_then(|life| u64::try_from(life).ok());
        self.iss == issuer
            && self.iat <= latest
            && self.nbf.is_none_or(|not_before| not_before <= latest)
            && life.is_some_and(|life| life <= LIFETIME.as_secs())
    }

    /// RFC 7519 §4.1.4: a token is not accepted *on* or after its expiration time.
    fn have_expired(&self, now: Timestamp) -> bool {
        self.exp <= now.as_seconds()
    }
}

/// Reads a value that may be absent but not null.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Returns whether the session of a token has not ended, if the token has one.
async fn is_live(session: Option<&SessionKey>, store: &Store) -> Result<bool, Failure> {
    match session {
        Some(session) => store.session_is_live(session, clock::now()).await,
        None => Ok(true),
    }
}

/// Returns the user of a verified token unless it was revoked since it was issued. The token that made the last change
/// of the password outlives its session, which the change ended.
fn signed_in(user: User, session_is_live: bool, claims: Claims) -> Result<SignedIn, TokenError> {
    let is_kept = user.kept_jti.as_deref() == Some(claims.jti.as_str());
    let is_current = claims.stamp == user.security_stamp.as_str() && session_is_live;
    if !(is_kept || is_current) || !user.activated {
        return Err(TokenError::Incorrect);
    }
    Ok(SignedIn { user, jti: claims.jti })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_764_190_000;

    fn claims(iat: i64, exp: i64, nbf: Option<i64>) -> Claims {
        let text = || "a".to_owned();
        Claims { iss: text(), sub: text(), iat, exp, nbf, jti: text(), stamp: text(), sid: None }
    }

    /// Returns whether the claims are plausible in the last microsecond of the second [`NOW`].
    fn plausible(claims: &Claims) -> bool {
        claims.are_plausible("a", Timestamp::from_micros(NOW * 1_000_000 + 999_999))
    }

    #[test]
    fn a_token_is_at_most_a_minute_ahead_and_lives_at_most_an_hour() {
        for (iat, exp, nbf, expected) in [
            (NOW, NOW + 3600, None, true),
            (NOW, NOW + 3601, None, false),
            (NOW + 60, NOW + 3660, Some(NOW + 60), true),
            (NOW + 61, NOW + 3661, None, false),
            (NOW, NOW + 3600, Some(NOW + 61), false),
            (NOW, NOW + 3600, Some(i64::MIN), true),
            // It has expired, but that is another question.
            (NOW - 7200, NOW - 3600, None, true),
            (NOW - 3601, NOW, None, false),
            (NOW + 1, NOW, None, false),
            (i64::MIN, i64::MAX, None, false),
            (0, i64::MAX, None, false),
            (i64::MAX, i64::MAX, None, false),
            (i64::MIN, i64::MIN, None, true),
        ] {
            assert_eq!(plausible(&claims(iat, exp, nbf)), expected, "{iat} {exp} {nbf:?}");
        }
        assert!(!claims(NOW, NOW, None).are_plausible("b", Timestamp::from_micros(NOW * 1_000_000)));
    }

    #[test]
    fn a_token_expires_at_its_expiration_time() {
        let expires = Timestamp::from_micros(NOW * 1_000_000);
        let claims = claims(NOW - 3600, NOW, None);
        assert!(!claims.have_expired(expires - Duration::from_micros(1)));
        assert!(claims.have_expired(expires));
    }

    proptest! {
        #[test]
        fn no_token_counts_for_more_than_an_hour_and_a_minute(iat: i64, exp: i64, nbf: Option<i64>) {
            let claims = claims(iat, exp, nbf);
            let now = Timestamp::from_micros(NOW * 1_000_000);
            if claims.are_plausible("a", now) && !claims.have_expired(now) {
                prop_assert!((1..=3660).contains(&(exp - NOW)));
            }
        }

        #[test]
        fn what_is_issued_counts_until_it_expires(age in 0..3600_i64) {
            let claims = claims(NOW - age, NOW - age + 3600, None);
            let now = Timestamp::from_micros(NOW * 1_000_000);
            prop_assert!(claims.are_plausible("a", now) && !claims.have_expired(now));
        }
    }

    #[test]
    fn times_are_whole_numbers_and_only_nbf_may_be_absent() {
        let read = |iat: &str, exp: &str, nbf: &str| {
            let json = format!(r#"{{"iss":"a","sub":"a","jti":"a","stamp":"a"{iat}{exp}{nbf}}}"#);
            serde_json::from_str::<Claims>(&json).is_ok()
        };
        let (iat, exp) = (r#","iat":1"#, r#","exp":2"#);
        assert!(read(iat, exp, "") && read(iat, exp, r#","nbf":1"#));
        assert!(!read("", exp, "") && !read(iat, "", ""));
        for odd in [r#""1""#, "null", "1.0", "1e3", "true", "[1]", "{}", "9223372036854775808"] {
            assert!(!read(&format!(r#","iat":{odd}"#), exp, ""), "{odd}");
            assert!(!read(iat, &format!(r#","exp":{odd}"#), ""), "{odd}");
            assert!(!read(iat, exp, &format!(r#","nbf":{odd}"#)), "{odd}");
        }
    }
}
