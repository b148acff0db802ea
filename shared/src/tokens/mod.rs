//! JSON Web Tokens (RFC 7519, RFC 8725): issuing them, verifying them, and finding their users.

mod crypto;
mod key_set;
mod keys;
mod settings;

use std::net::IpAddr;
use std::time::Duration;

use aws_types::SdkConfig;
use jsonwebtoken::dangerous::insecure_decode;
use jsonwebtoken::{Algorithm, Header, TokenData};
use secrecy::{ExposeSecret, SecretString};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};

pub use self::key_set::KeySet;
use self::keys::TokenKey;
pub use self::keys::{KeyPair, KeyPairs};
use self::settings::DEFAULT_ISSUER;
pub use self::settings::{KeyPairAlgorithm, Parties, TokenSettings};
use crate::clock;
use crate::domain::{SecurityStamp, SessionKey, Timestamp, User, UserId};
use crate::failure::Failure;
use crate::random;
use crate::secrets::{Secret, SecretValue};
use crate::settings::{ConfigError, Settings};
use crate::store::{AddressLimit, Candidate, Store};

/// “A JSON Web Token is only for an hour valid.” The life of every token that is issued, and the longest that is
/// accepted.
const LIFETIME: Duration = Duration::from_hours(1);

/// How far in the future the times of a token may be, because clocks differ.
const CLOCK_SKEW: Duration = Duration::from_mins(1);

/// Issues and verifies the deployment's tokens.
#[derive(Debug)]
pub struct Tokens {
    keys: Secret<TokenKey>,
    settings: TokenSettings,
}

/// A token as the client gets it.
#[derive(Clone, Debug)]
pub struct Token(SecretString);

/// The claims of a token. Its times are whole seconds since the Unix epoch; a text or a fraction is refused.
#[derive(Debug, Deserialize, Serialize)]
struct Claims {
    iss: String,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    aud: Option<Audience>,
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

/// The services that a token is meant for (RFC 7519 §4.1.3).
#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
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
    /// The deployment's tokens, by `JWT_ALGORITHM`, `JWT_ISSUER` and `JWT_AUDIENCE`.
    pub fn new(settings: &Settings, aws: &SdkConfig) -> Result<Self, ConfigError> {
        let keys = Secret::new(settings, aws, "JWT_SECRET_ID", "postern/jwt-secret")?;
        Ok(Self { keys, settings: TokenSettings::new(settings)? })
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
        let version = self.keys.current().await?;
        let key = version.value();
        let header = Header { kid: Some(key.id().to_owned()), ..Header::new(key.algorithm) };
        let Parties { issuer, audience } = self.parties(key);
        let claims = Claims {
            iss: issuer,
            aud: audience.map(Audience::One),
            sub: user_id.as_str().to_owned(),
            iat: now.as_seconds(),
            exp: (now + LIFETIME).as_seconds(),
            nbf: None,
            jti: random::unique(),
            stamp: stamp.as_str().to_owned(),
            sid: session.map(ToString::to_string),
        };
        let token = jsonwebtoken::encode(&header, &claims, &key.signing)
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
        if !claims.are_plausible(now) {
            return Err(TokenError::Incorrect);
        }
        let version = if claims.have_expired(now) {
            self.keys.version_in_memory(kid).await?.ok_or(TokenError::Expired)?
        } else {
            self.keys.version(kid).await?.ok_or(TokenError::Incorrect)?
        };
        let key = version.value();
        // A replaced key may have been stolen, and no function signs with it any more.
        let is_late = version.used_until().is_some_and(|until| claims.iat > until.as_seconds());
        // RFC 8725 §3.1: the algorithm is the key's. A token does not choose it.
        let is_right = header.alg == key.algorithm && self.accepts_parties(key, &claims) && !is_late;
        match jsonwebtoken::decode::<IgnoredAny>(token, &key.verifying, &key.signatures) {
            Ok(_) if !is_right => Err(TokenError::Incorrect),
            Ok(_) if claims.have_expired(now) => Err(TokenError::Expired),
            Ok(_) => Ok(claims),
            Err(_) => Err(TokenError::Incorrect),
        }
    }

    /// The parties of a new token that is signed with `key`.
    fn parties(&self, key: &TokenKey) -> Parties {
        match &key.parties {
            Some(parties) => parties.clone(),
            None if self.settings.algorithm.is_none() => self.settings.parties.clone(),
            // The next rotation replaces this key. Until then, tokens are those of the settings before.
            None => Parties { issuer: DEFAULT_ISSUER.to_owned(), audience: None },
        }
    }

    /// Returns whether a token that is signed with `key` has the right issuer and audience. With a key of HS256 that
    /// the settings replace by a public one, any will do: the settings that it was issued under are unknown here, and
    /// this deployment alone has the key.
    fn accepts_parties(&self, key: &TokenKey, claims: &Claims) -> bool {
        match &key.parties {
            Some(parties) => claims.are_of(parties),
            None if self.settings.algorithm.is_none() => claims.are_of(&self.settings.parties),
            None => true,
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
    let is_known = matches!(header.alg, Algorithm::HS256 | Algorithm::RS256 | Algorithm::ES256);
    header.kid.as_deref().filter(|_| is_jwt && understood && is_known)
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

    /// Returns whether a token can say this at this time, expired or not.
    fn are_plausible(&self, now: Timestamp) -> bool {
        let latest = (now + CLOCK_SKEW).as_seconds();
        let life = self.exp.checked_sub(self.iat).and_then(|life| u64::try_from(life).ok());
        self.iat <= latest
            && self.nbf.is_none_or(|not_before| not_before <= latest)
            && life.is_some_and(|life| life <= LIFETIME.as_secs())
    }

    /// Returns whether the token is issued by one of these parties, for the other.
    fn are_of(&self, parties: &Parties) -> bool {
        let names = |audience: &String| match &self.aud {
            Some(Audience::One(one)) => one == audience,
            Some(Audience::Several(several)) => several.contains(audience),
            None => false,
        };
        self.iss == parties.issuer && parties.audience.as_ref().is_none_or(names)
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
        Claims { iss: text(), aud: None, sub: text(), iat, exp, nbf, jti: text(), stamp: text(), sid: None }
    }

    /// Returns whether the claims are plausible in the last microsecond of the second [`NOW`].
    fn plausible(claims: &Claims) -> bool {
        claims.are_plausible(Timestamp::from_micros(NOW * 1_000_000 + 999_999))
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
            if claims.are_plausible(now) && !claims.have_expired(now) {
                prop_assert!((1..=3660).contains(&(exp - NOW)));
            }
        }

        #[test]
        fn what_is_issued_counts_until_it_expires(age in 0..3600_i64) {
            let claims = claims(NOW - age, NOW - age + 3600, None);
            let now = Timestamp::from_micros(NOW * 1_000_000);
            prop_assert!(claims.are_plausible(now) && !claims.have_expired(now));
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
