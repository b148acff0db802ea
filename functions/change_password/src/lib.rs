//! `POST /api/v1/profile/change_password`: the change of the password of a signed-in user.

mod errors;

use std::net::IpAddr;

use aws_types::SdkConfig;
use lambda_http::Request;
use serde::{Deserialize, Serialize};
use shared::domain::{
    ApprovedPassword, NewPassword, Password, PasswordError, PasswordPolicy, TooCommon, User,
};
use shared::endpoint::{Endpoint, Envelope, Error, Success, bearer_token, parse};
use shared::fields::Field;
use shared::new_passwords::NewPasswords;
use shared::own_password::{Account, OwnPassword};
use shared::settings::{ConfigError, Settings};

use self::errors::{PasswordChangeError, refusal};

/// The endpoint of `change_password`.
#[derive(Debug)]
pub struct ChangePassword {
    new_passwords: NewPasswords,
    passwords: OwnPassword,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    old_password: Field,
    new_password: Field,
    new_password_check: Field,
}

#[derive(Serialize)]
struct Response {
    success: bool,
    code: u8,
    message: &'static str,
}

/// The result of checking the fields by themselves.
#[derive(Default)]
struct Fields {
    /// `None` if it is missing, or too long to be any user's password.
    old_password: Option<Password>,
    new_password: Option<NewPassword>,
    errors: Vec<PasswordChangeError>,
}

impl Fields {
    fn new(body: Body, policy: &PasswordPolicy, user: &User) -> Self {
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
            match policy.parse(text, Some(&user.username)) {
                Ok(password) => fields.new_password = Some(password),
                Err(PasswordError::TooCommon) => {
                    fields.errors.push(PasswordChangeError::NewPasswordTooCommon);
                }
                Err(_) => fields.errors.push(PasswordChangeError::NewPasswordLength {
                    min: policy.min_chars(),
                    max: PasswordPolicy::MAX_CHARS,
                }),
            }
        }
        fields
    }

    /// The new password, if no field is wrong. It must not be the local part of an address, must differ from the old
    /// one, and must not be breached; this is checked only here, after the old one was found right.
    async fn finish(
        &mut self,
        old_password: &Password,
        new_passwords: &NewPasswords,
        user: &User,
    ) -> Result<ApprovedPassword, Error> {
        let Some(new_password) = self.new_password.take() else {
            return Err(self.errors());
        };
        let is_unchanged = new_password.is_unchanged_from(old_password);
        match new_passwords.policy().check_addresses(new_password, &user.email_addresses) {
            Err(TooCommon) => self.errors.push(PasswordChangeError::NewPasswordTooCommon),
            Ok(_) if is_unchanged => self.errors.push(PasswordChangeError::NewPasswordUnchanged),
            Ok(uncommon) if self.errors.is_empty() => match new_passwords.approve(uncommon).await {
                Ok(approved) => return Ok(approved),
                Err(TooCommon) => self.errors.push(PasswordChangeError::NewPasswordTooCommon),
            },
            Ok(_) => {}
        }
        Err(self.errors())
    }

    fn errors(&mut self) -> Error {
        refusal(std::mem::take(&mut self.errors))
    }
}

/// A string that is not empty; everything else counts as missing.
fn filled(field: Field) -> Option<String> {
    match field {
        Field::Text(text) if !text.is_empty() => Some(text),
        _ => None,
    }
}

impl Endpoint for ChangePassword {
    const NAME: &'static str = "change_password";
    const ENVELOPE: Envelope = Envelope::Profile;

    fn new(settings: &Settings, aws: &SdkConfig) -> Result<Self, ConfigError> {
        Ok(Self { new_passwords: NewPasswords::new(settings)?, passwords: OwnPassword::new(settings, aws)? })
    }

    async fn connect(&self) {
        self.passwords.connect().await;
    }

    async fn prefetch(&self) {
        self.passwords.prefetch().await;
    }

    async fn handle(&self, request: &Request, source_ip: IpAddr) -> Result<Success, Error> {
        let token = bearer_token(request.headers()).ok_or(Error::TokenNotProvided)?;
        let account = self.passwords.authenticate(token, source_ip).await?;
        let fields = Fields::new(parse(request)?, self.new_passwords.policy(), account.user());
        self.change(&account, fields).await?;
        let message = "New password is set for user.";
        Success::new("password_changed", &Response { success: true, code: 100, message })
    }
}

impl ChangePassword {
    async fn change(&self, account: &Account, mut fields: Fields) -> Result<(), Error> {
        let Some(old_password) = fields.old_password.take() else {
            return Err(fields.errors());
        };
        let approve = async || fields.finish(&old_password, &self.new_passwords, account.user()).await;
        match self.passwords.change(account, &old_password, approve).await {
            Err(Error::PasswordIncorrect) => {
                fields.errors.push(PasswordChangeError::OldPasswordIncorrect);
                Err(fields.errors())
            }
            changed => changed,
        }
    }
}
