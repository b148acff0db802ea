//! `POST /api/auth/signin`: a username and a password for a JSON Web Token, and a session token on request.

use std::net::IpAddr;

use aws_types::SdkConfig;
use lambda_http::Request;
use serde::Deserialize;
use shared::authentication::{Authenticated, Authenticator, Purpose};
use shared::domain::{Password, SessionInformation, SessionToken, Timestamp, User, Username};
use shared::endpoint::{Endpoint, Error, Success, parse};
use shared::failure::{Failure, MAX_CONFLICT_RETRIES};
use shared::fields::{Field, SessionRequest, Validator};
use shared::hashing::PasswordHasher;
use shared::settings::{ConfigError, Settings};
use shared::store::{NewSession, Store};
use shared::tokens::{Token, Tokens};
use shared::{clock, random, telemetry};

/// The endpoint of `signin`.
#[derive(Debug)]
pub struct Signin {
    store: Store,
    hasher: PasswordHasher,
    authentication: Authenticator,
    tokens: Tokens,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    username: Field,
    password: Field,
    session_information: Field,
    stay_logged_in: Field,
}

struct Credentials {
    username: Username,
    password: Password,
    session: SessionRequest,
}

impl TryFrom<Body> for Credentials {
    type Error = Error;

    fn try_from(body: Body) -> Result<Self, Error> {
        let mut fields = Validator::default();
        let username = fields.username(body.username);
        let password = fields.password("password", body.password);
        let session = fields.session(body.session_information, &body.stay_logged_in);
        match (username, password, session) {
            (Some(username), Some(password), Some(session)) => Ok(Self { username, password, session }),
            _ => Err(fields.into_errors().into()),
        }
    }
}

impl Endpoint for Signin {
    const NAME: &'static str = "signin";

    fn new(settings: &Settings, aws: &SdkConfig) -> Result<Self, ConfigError> {
        let store = Store::new(settings, aws);
        let hasher = PasswordHasher::from_settings(settings)?;
        let authentication = Authenticator::new(settings, store.clone(), hasher.clone())?;
        Ok(Self { store, hasher, authentication, tokens: Tokens::new(settings, aws)? })
    }

    async fn connect(&self) {
        self.store.connect().await;
    }

    async fn prefetch(&self) {
        self.tokens.prefetch().await;
    }

    async fn handle(&self, request: &Request, source_ip: IpAddr) -> Result<Success, Error> {
        let Credentials { username, password, session } = parse::<Body>(request)?.try_into()?;
        let purpose = Purpose::SignIn { opens_session: session.stay_logged_in };
        let authenticated = self.authentication.verify(&username, &password, source_ip, purpose).await?;
        self.sign_in(&authenticated, &password, &session).await
    }
}

impl Signin {
    async fn sign_in(
        &self,
        authenticated: &Authenticated,
        password: &Password,
        request: &SessionRequest,
    ) -> Result<Success, Error> {
        let user = &authenticated.user;
        if !user.activated {
            return Err(Error::NotActivated);
        }
        if user.must_change_password {
            return Err(Error::ChangePassword);
        }
        let now = clock::now();
        if !request.stay_logged_in {
            let token = self.tokens.issue(&user.user_id, &user.security_stamp, None, now).await?;
            self.replace_hash(authenticated, password).await;
            return Success::tokens("signed_in", &token, None);
        }
        // Issued before anything is written, so that a failure leaves everything as it was.
        let drawn = self.draw(user, now).await?;
        let (session, ()) = tokio::join!(
            self.open_session(user, request.information.as_ref(), now, drawn),
            self.replace_hash(authenticated, password),
        );
        let (token, session_token) = session?;
        let opened = authenticated.sessions_opened;
        if let Err(failure) = self.store.limit_sessions(user, opened, now).await {
            // The next sign-in corrects the count.
            telemetry::warn("sessions not limited", failure);
        }
        Success::tokens("signed_in", &token, Some(&session_token))
    }

    /// Opens a session with the tokens that were drawn for it, or with others if its id is taken.
    async fn open_session(
        &self,
        user: &User,
        information: Option<&SessionInformation>,
        now: Timestamp,
        mut drawn: (Token, SessionToken),
    ) -> Result<(Token, SessionToken), Failure> {
        for _ in 0..MAX_CONFLICT_RETRIES {
            let session = NewSession {
                token: &drawn.1,
                username: &user.username,
                security_stamp: &user.security_stamp,
                information,
                created_at: now,
            };
            if self.store.create_session(session).await? {
                return Ok(drawn);
            }
            drawn = self.draw(user, now).await?;
        }
        Err(Failure::Defect("no session id is free".to_owned()))
    }

    /// Draws a session token, and issues a JSON Web Token for its session.
    async fn draw(&self, user: &User, now: Timestamp) -> Result<(Token, SessionToken), Failure> {
        let session_token = random::session_token(&user.session_owner);
        let key = Some(session_token.key());
        let token = self.tokens.issue(&user.user_id, &user.security_stamp, key, now).await?;
        Ok((token, session_token))
    }

    /// Replaces an outdated hash. A failure does not fail the sign-in.
    async fn replace_hash(&self, authenticated: &Authenticated, password: &Password) {
        if !authenticated.outdated_hash {
            return;
        }
        let replaced: Result<(), Failure> = async {
            let hash = self.hasher.rehash(password).await?;
            self.store.replace_hash(&authenticated.user, &hash).await
        }
        .await;
        if let Err(failure) = replaced {
            telemetry::warn("outdated hash not replaced", failure);
        }
    }
}
