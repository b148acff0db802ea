//! `POST /api/v1/profile/change_password`: the change of the password of a signed-in user.

use std::net::IpAddr;

use aws_types::SdkConfig;
use lambda_http::{Body, Request, Response};
use serde::{Deserialize, Serialize};
use shared::authentication::{Authentication, AuthenticationError};
use shared::config::{ConfigError, Environment};
use shared::domain::{NewPassword, Password, PasswordHash, PasswordPolicy, UserWithHash};
use shared::hashing::PasswordHasher;
use shared::http::{Call, Envelope, Error, Field, PasswordChangeError, Success, identify, parse};
use shared::mail::{Mailer, PasswordChanged};
use shared::store::{PasswordChange, Store};
use shared::tokens::{SignedIn, Tokens, bearer_token};
use shared::{clock, random};

/// The function `change_password`.
#[derive(Debug)]
pub struct Function {
    policy: PasswordPolicy,
    store: Store,
    hasher: PasswordHasher,
    authentication: Authentication,
    tokens: Tokens,
    mailer: Mailer,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Fieldset {
    old_password: Field,
    new_password: Field,
    new_password_check: Field,
}

#[derive(Serialize)]
struct Answer {
    success: bool,
    code: u8,
    message: &'static str,
}

/// What can be told of the fields alone.
#[derive(Default)]
struct Fields {
    /// `None` when it is missing, or cannot be anybody's because it is too long.
    old_password: Option<Password>,
    new_password: Option<NewPassword>,
    errors: Vec<PasswordChangeError>,
}

impl Fields {
    fn new(body: Fieldset, policy: PasswordPolicy) -> Self {
        let mut fields = Self::default();
        match filled(body.old_password) {
            None => fields.errors.push(PasswordChangeError::OldPasswordMissing),
            Some(text) => match Password::parse(text) {
                Ok(password) => fields.old_password = Some(password),
                Err(_) => fields.errors.push(PasswordChangeError::OldPasswordIncorrect),
            },
        }
        let (new_password, check) = (filled(body.new_password), filled(body.new_password_check));
        if new_password.is_none() {
            fields.errors.push(PasswordChangeError::NewPasswordMissing);
        }
        if check.is_none() {
            fields.errors.push(PasswordChangeError::NewPasswordCheckMissing);
        }
        if new_password.is_some() && check.is_some() && new_password != check {
            fields.errors.push(PasswordChangeError::NewPasswordCheckUnequal);
        }
        if let Some(text) = new_password {
            match policy.parse(text) {
                Ok(password) => fields.new_password = Some(password),
                Err(_) => fields.errors.push(PasswordChangeError::NewPasswordLength {
                    min: policy.min_chars(),
                    max: PasswordPolicy::MAX_CHARS,
                }),
            }
        }
        fields
    }

    /// The new password, if nothing is wrong with any field.
    fn finish(mut self) -> Result<NewPassword, Error> {
        match self.new_password.take() {
            Some(new_password) if self.errors.is_empty() => Ok(new_password),
            _ => Err(self.into_error()),
        }
    }

    /// All that is wrong, in the order of the codes.
    fn into_error(mut self) -> Error {
        self.errors.sort();
        Error::PasswordChange(self.errors)
    }
}

/// A string that is not empty; everything else counts as not there.
fn filled(field: Field) -> Option<String> {
    match field {
        Field::Text(text) if !text.is_empty() => Some(text),
        _ => None,
    }
}

impl Function {
    /// The function with the deployment's settings.
    pub fn new(environment: &Environment, aws: &SdkConfig) -> Result<Self, ConfigError> {
        let store = Store::new(environment, aws);
        let hasher = PasswordHasher::from_environment(environment)?;
        Ok(Self {
            policy: PasswordPolicy::from_environment(environment)?,
            authentication: Authentication::new(environment, store.clone(), hasher.clone())?,
            store,
            hasher,
            tokens: Tokens::new(environment, aws)?,
            mailer: Mailer::new(environment, aws)?,
        })
    }

    /// Opens the connections, and fetches the key, that a request needs.
    pub async fn connect(&self) {
        tokio::join!(self.store.connect(), self.tokens.prefetch());
    }

    /// Answers one request.
    pub async fn handle(&self, request: Request) -> Response<Body> {
        let call = Call::new("change_password", Envelope::Profile, &request);
        let source_ip = call.source_ip();
        call.answer(async move {
            let token = bearer_token(request.headers()).ok_or(Error::TokenNotProvided)?;
            let (signed_in, password_hash) = self.tokens.authenticate_with_hash(token, &self.store).await?;
            identify(&signed_in.user.user_id);
            let fields = Fields::new(parse(&request)?, self.policy);
            if self.change(&signed_in, password_hash, fields, source_ip).await? {
                let message = "New password is set for user.";
                return Success::new("password_changed", &Answer { success: true, code: 100, message });
            }
            // Another change came first. It revoked this token, or kept it and made the old password a wrong one.
            self.tokens.authenticate(token, &self.store).await?;
            Err(Error::PasswordChange(vec![PasswordChangeError::OldPasswordIncorrect]))
        })
        .await
    }

    /// False when the user changed since the token was verified.
    async fn change(
        &self,
        signed_in: &SignedIn,
        stored_hash: Option<PasswordHash>,
        mut fields: Fields,
        source_ip: IpAddr,
    ) -> Result<bool, Error> {
        let Some(old_password) = fields.old_password.take() else {
            return Err(fields.into_error());
        };
        let user = &signed_in.user;
        let user_with_hash = UserWithHash { user: user.clone(), password_hash: stored_hash };
        let authenticated =
            match self.authentication.verify_again(user_with_hash, &old_password, source_ip).await {
                Err(AuthenticationError::Incorrect) => {
                    fields.errors.push(PasswordChangeError::OldPasswordIncorrect);
                    return Err(fields.into_error());
                }
                authenticated => authenticated?,
            };
        let change = async {
            let password_hash = self.hasher.hash(&fields.finish()?).await?;
            let (now, stamp) = (clock::now(), random::security_stamp());
            let change = PasswordChange::new(user, &password_hash, &stamp, now);
            let change = PasswordChange { kept_jti: Some(&signed_in.jti), ..change };
            if !self.store.change_password(change).await? {
                return Ok(false);
            }
            let notice = PasswordChanged {
                changed_at: now,
                source_ip: Some(source_ip),
                information: None,
                begins_session: false,
            };
            self.mailer.notify_password_changed(user, &notice).await;
            Ok(true)
        };
        let (changed, ()) = tokio::join!(change, self.authentication.release(&authenticated));
        changed
    }
}
