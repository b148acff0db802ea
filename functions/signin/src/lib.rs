//! `POST /api/auth/signin`: a username and a password for a JSON Web Token, and a session token on request.

use aws_types::SdkConfig;
use lambda_http::{Body, Request, Response};
use serde::Deserialize;
use shared::authentication::{Authenticated, Authentication, Purpose};
use shared::config::{ConfigError, Environment};
use shared::domain::{Password, Username};
use shared::error::Failure;
use shared::hashing::PasswordHasher;
use shared::http::{Call, Envelope, Error, Field, Fields, SessionRequest, Success, parse};
use shared::store::{NewSession, Store};
use shared::tokens::Tokens;
use shared::{clock, random};

/// The function `signin`.
#[derive(Debug)]
pub struct Function {
    store: Store,
    hasher: PasswordHasher,
    authentication: Authentication,
    tokens: Tokens,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Fieldset {
    username: Field,
    password: Field,
    session_information: Field,
    stay_logged_in: Field,
}

struct Signin {
    username: Username,
    password: Password,
    session: SessionRequest,
}

impl TryFrom<Fieldset> for Signin {
    type Error = Error;

    fn try_from(body: Fieldset) -> Result<Self, Error> {
        let mut fields = Fields::default();
        let username = fields.username(body.username);
        let password = fields.password("password", body.password);
        let session = fields.session(body.session_information, &body.stay_logged_in);
        match (username, password, session) {
            (Some(username), Some(password), Some(session)) => Ok(Self { username, password, session }),
            _ => Err(fields.into_error()),
        }
    }
}

impl Function {
    /// The function with the deployment's settings.
    pub fn new(environment: &Environment, aws: &SdkConfig) -> Result<Self, ConfigError> {
        let store = Store::new(environment, aws);
        let hasher = PasswordHasher::from_environment(environment)?;
        let authentication = Authentication::new(environment, store.clone(), hasher.clone())?;
        Ok(Self { store, hasher, authentication, tokens: Tokens::new(environment, aws)? })
    }

    /// Opens the connections, and fetches the key, that a request needs.
    pub async fn connect(&self) {
        tokio::join!(self.store.connect(), self.tokens.prefetch());
    }

    /// Answers one request.
    pub async fn handle(&self, request: Request) -> Response<Body> {
        let call = Call::new("signin", Envelope::Auth, &request);
        let source_ip = call.source_ip();
        call.answer(async move {
            let Signin { username, password, session } = parse::<Fieldset>(&request)?.try_into()?;
            let purpose = Purpose::SignIn;
            let authenticated = self.authentication.verify(&username, &password, source_ip, purpose).await?;
            self.sign_in(&authenticated, &password, &session).await
        })
        .await
    }

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
        let token = self.tokens.issue(&user.user_id, &user.security_stamp, now).await?;
        let session_token = request.stay_logged_in.then(random::session_token);
        let session = session_token.as_ref().map(|token| NewSession {
            session_id: token.session_id(),
            user_id: &user.user_id,
            username: &user.username,
            security_stamp: &user.security_stamp,
            information: request.information.as_ref(),
            created_at: now,
        });
        let keep_session = async {
            match session {
                Some(session) => self.store.create_session(session).await,
                None => Ok(()),
            }
        };
        let (kept, ()) = tokio::join!(keep_session, self.replace_hash(authenticated, password));
        kept?;
        Success::tokens("signed_in", &token, session_token.as_ref())
    }

    /// Replaces an outdated hash, which is not worth refusing a sign-in for.
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
            tracing::warn!(cause = %failure, "outdated hash not replaced");
        }
    }
}
