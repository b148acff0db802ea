//! `authorizer`: a Lambda authorizer for the APIs of other services. It accepts the tokens that this service accepts, so
//! a revoked token is refused there as soon as the gateway asks again.
//!
//! The form of the event decides the form of the answer. HTTP APIs and `AppSync` take `{"isAuthorized": …}`. REST APIs
//! take a policy, and answer 401 only to the error `Unauthorized`: a policy that denies would be a 403. Gateways cache
//! answers but no errors, so everything that is not a decision about a token is an error with another message.

mod event;

use std::panic::AssertUnwindSafe;

use aws_types::SdkConfig;
use futures_util::FutureExt;
use lambda_runtime::LambdaEvent;
use serde::Serialize;
use serde_json::{Value, json};
use shared::domain::User;
use shared::failure::Failure;
use shared::function::{Error, Function};
use shared::settings::{ConfigError, Settings};
use shared::store::Store;
use shared::telemetry::{Audit, Summary, identify};
use shared::tokens::{TokenError, Tokens};

use crate::event::{AuthorizationRequest, EventError, Form};

/// The error that a REST API answers with 401, by exactly this text
/// (<https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-use-lambda-authorizer.html>).
const UNAUTHORIZED: &str = "Unauthorized";

/// The function `authorizer`.
#[derive(Debug)]
pub struct Authorizer {
    store: Store,
    tokens: Tokens,
}

/// The decision about a request.
enum Decision {
    /// The token is that of this user.
    Authorized(Box<User>),
    /// There is no token, or it does not count. The text is the `error_code` of this service's own endpoints.
    Refused(&'static str),
}

/// The reason why there is no decision. The message reveals no cause.
#[derive(Debug, thiserror::Error)]
enum Undecided {
    #[error(transparent)]
    Event(#[from] EventError),
    #[error("{}", .0.msg())]
    Failure(#[from] Failure),
}

impl Function for Authorizer {
    const NAME: &'static str = "authorizer";

    type Event = Value;

    fn new(settings: &Settings, aws: &SdkConfig) -> Result<Self, ConfigError> {
        Ok(Self { store: Store::new(settings, aws), tokens: Tokens::new(settings, aws)? })
    }

    async fn connect(&self) {
        self.store.connect().await;
    }

    async fn prefetch(&self) {
        self.tokens.prefetch().await;
    }

    /// Answers the event of a gateway.
    async fn invoke(&self, event: LambdaEvent<Value>) -> Result<impl Serialize + Send, Error> {
        let LambdaEvent { payload, context } = event;
        let decided = async {
            // Alarms watch the log, not the errors of this function, so a panic needs a line as well.
            let decided = AssertUnwindSafe(self.decide(&payload)).catch_unwind().await;
            decided.unwrap_or_else(|_| Err(Failure::Defect("panicked".to_owned()).into()))
        };
        let audit = Audit::of_invocation(Self::NAME, &context);
        let (form, decision) = audit.record(decided, summary).await?;
        match decision {
            Decision::Authorized(user) => Ok(allow(&form, &user)),
            Decision::Refused(_) => refuse(&form),
        }
    }
}

impl Authorizer {
    async fn decide(&self, event: &Value) -> Result<(Form, Decision), Undecided> {
        let AuthorizationRequest { form, token } = AuthorizationRequest::parse(event)?;
        let Some(token) = token else { return Ok((form, Decision::Refused("token_not_provided"))) };
        let decision = match self.tokens.authenticate(token, &self.store).await {
            Ok(signed_in) => {
                identify(&signed_in.user.user_id);
                Decision::Authorized(Box::new(signed_in.user))
            }
            Err(TokenError::Expired) => Decision::Refused("token_expired"),
            Err(TokenError::Incorrect) => Decision::Refused("token_incorrect"),
            Err(TokenError::Failure(failure)) => return Err(failure.into()),
        };
        Ok((form, decision))
    }
}

/// The answer that lets a request pass, with the user for the service behind the gateway.
fn allow(form: &Form, user: &User) -> Value {
    let user_id = user.user_id.as_str();
    let context = json!({"user_id": user_id, "username": user.username.display()});
    match form {
        Form::HttpApi => json!({"isAuthorized": true, "context": context}),
        Form::AppSync => json!({"isAuthorized": true, "resolverContext": context}),
        Form::RestToken(stage) | Form::RestRequest(stage) => {
            let statement =
                json!({"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": stage.as_str()});
            let policy = json!({"Version": "2012-10-17", "Statement": [statement]});
            json!({"principalId": user_id, "policyDocument": policy, "context": context})
        }
    }
}

/// The answer to a request whose token is refused.
fn refuse(form: &Form) -> Result<Value, Error> {
    match form {
        Form::HttpApi | Form::AppSync => Ok(json!({"isAuthorized": false})),
        Form::RestToken(_) | Form::RestRequest(_) => Err(UNAUTHORIZED.into()),
    }
}

fn summary(decided: &Result<(Form, Decision), Undecided>) -> Summary<'_> {
    match decided {
        Ok((form, decision)) => {
            let outcome = match decision {
                Decision::Authorized(_) => "authorized",
                Decision::Refused(error_code) => error_code,
            };
            Summary { outcome, action: Some(form.name()), ..Summary::default() }
        }
        Err(Undecided::Event(_)) => Summary { outcome: "unknown_event", ..Summary::default() },
        Err(Undecided::Failure(failure)) => {
            Summary { outcome: failure.error_code(), failure: Some(failure), ..Summary::default() }
        }
    }
}
