//! `/api/v1/user/myself/session`: the sessions of a signed-in user, listed and ended.

use std::net::IpAddr;

use aws_types::SdkConfig;
use lambda_http::http::Method;
use lambda_http::{Request, RequestExt};
use serde::{Deserialize, Serialize};
use shared::clock;
use shared::domain::{SessionId, User};
use shared::endpoint::{Endpoint, Error, Success, parse, token_of};
use shared::fields::{Field, Validator};
use shared::settings::{ConfigError, Settings};
use shared::store::Store;
use shared::telemetry::identify;
use shared::tokens::Tokens;

/// The endpoint of `sessions`.
#[derive(Debug)]
pub struct Sessions {
    store: Store,
    tokens: Tokens,
    /// True if clients may send the token in the query.
    token_in_query: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    session_token: Field,
}

#[derive(Serialize)]
struct List {
    msg: &'static str,
    sessions: Vec<SessionView>,
}

#[derive(Serialize)]
struct SessionView {
    id: u32,
    /// Empty if none was given. (The Android client's list fails on null.)
    information: String,
    /// In whole seconds, written with six zeros. (The Android client takes the fraction for milliseconds.)
    last_used: String,
}

#[derive(Serialize)]
struct Response {
    msg: &'static str,
}

impl Endpoint for Sessions {
    const NAME: &'static str = "sessions";

    fn new(settings: &Settings, aws: &SdkConfig) -> Result<Self, ConfigError> {
        Ok(Self {
            store: Store::new(settings, aws),
            tokens: Tokens::new(settings, aws)?,
            token_in_query: settings.allows_token_in_query()?,
        })
    }

    async fn connect(&self) {
        self.store.connect().await;
    }

    async fn prefetch(&self) {
        self.tokens.prefetch().await;
    }

    async fn handle(&self, request: &Request, _: IpAddr) -> Result<Success, Error> {
        let token = token_of(request, self.token_in_query).ok_or(Error::TokenNotProvided)?;
        let user = self.tokens.authenticate(&token, &self.store).await?.user;
        identify(&user.user_id);
        if request.method() == Method::GET {
            self.list(&user).await
        } else if request.method() == Method::DELETE {
            self.delete(&user, request.path_parameters().first("id")).await
        } else {
            self.log_out(&user, request).await
        }
    }
}

impl Sessions {
    async fn list(&self, user: &User) -> Result<Success, Error> {
        let sessions = self.store.sessions(user, clock::now()).await?;
        let sessions = sessions.into_iter().map(|session| SessionView {
            id: session.id.as_number(),
            information: session.information.unwrap_or_default(),
            last_used: session.last_used_at.whole_seconds().to_rfc3339(),
        });
        let list = List { msg: "List of all sessions", sessions: sessions.collect() };
        Success::new("sessions_listed", &list)
    }

    async fn delete(&self, user: &User, id: Option<&str>) -> Result<Success, Error> {
        let id = id.and_then(SessionId::parse).ok_or(Error::SessionNotFound)?;
        if !self.store.end_session(user, id, clock::now()).await? {
            return Err(Error::SessionNotFound);
        }
        let msg = "Successfully deleted session";
        Success::new("session_deleted", &Response { msg })
    }

    async fn log_out(&self, user: &User, request: &Request) -> Result<Success, Error> {
        let mut fields = Validator::default();
        let body: Body = parse(request)?;
        let Some(session_token) = fields.session_token(body.session_token) else {
            return Err(fields.into_errors().into());
        };
        let session_token = session_token.ok_or(Error::SessionTokenUnknown)?;
        if !self.store.log_out(user, &session_token, clock::now()).await? {
            return Err(Error::SessionTokenUnknown);
        }
        let msg = "Successfully logged out and deleted session";
        Success::new("logged_out", &Response { msg })
    }
}
