//! `/api/v1/user/myself/changePassword`: the password of a signed-in user, checked and changed, as the original web and
//! Android clients ask for it on their pages of settings.

use std::net::IpAddr;

use aws_types::SdkConfig;
use lambda_http::Request;
use serde::{Deserialize, Serialize};
use shared::endpoint::{Endpoint, Error, Success, parse, route_key, token_of};
use shared::fields::{Field, Validator};
use shared::new_passwords::NewPasswords;
use shared::own_password::{Account, OwnPassword};
use shared::settings::{ConfigError, Settings};

/// The route that checks a password. The other one changes it.
const CHECK_OLD_PASSWORD: &str = "POST /api/v1/user/myself/changePassword/checkOldPassword";

/// The endpoint of `change_my_password`.
#[derive(Debug)]
pub struct ChangeMyPassword {
    new_passwords: NewPasswords,
    passwords: OwnPassword,
    /// True if clients may send the token in the query.
    token_in_query: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CheckFields {
    password: Field,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ChangeFields {
    old_password: Field,
    new_password: Field,
}

#[derive(Serialize)]
struct Response {
    msg: &'static str,
}

impl Endpoint for ChangeMyPassword {
    const NAME: &'static str = "change_my_password";

    fn new(settings: &Settings, aws: &SdkConfig) -> Result<Self, ConfigError> {
        Ok(Self {
            new_passwords: NewPasswords::new(settings)?,
            passwords: OwnPassword::new(settings, aws)?,
            token_in_query: settings.allows_token_in_query()?,
        })
    }

    async fn connect(&self) {
        self.passwords.connect().await;
    }

    async fn prefetch(&self) {
        self.passwords.prefetch().await;
    }

    async fn handle(&self, request: &Request, source_ip: IpAddr) -> Result<Success, Error> {
        let token = token_of(request, self.token_in_query).ok_or(Error::TokenNotProvided)?;
        let account = self.passwords.authenticate(&token, source_ip).await?;
        if route_key(request) == Some(CHECK_OLD_PASSWORD) {
            self.check(&account, parse(request)?).await
        } else {
            self.change(&account, parse(request)?).await
        }
    }
}

impl ChangeMyPassword {
    async fn check(&self, account: &Account, body: CheckFields) -> Result<Success, Error> {
        let mut fields = Validator::default();
        let Some(password) = fields.password("password", body.password) else {
            return Err(fields.into_errors().into());
        };
        self.passwords.verify(account, &password).await?;
        Success::new("old_password_correct", &Response { msg: "Password correct" })
    }

    async fn change(&self, account: &Account, body: ChangeFields) -> Result<Success, Error> {
        let mut fields = Validator::default();
        let old_password = fields.password("old_password", body.old_password);
        let (user, policy) = (account.user(), self.new_passwords.policy());
        let new_password =
            fields.new_password("new_password", body.new_password, policy, Some(&user.username));
        let (Some(old_password), Some(new_password)) = (old_password, new_password) else {
            return Err(fields.into_errors().into());
        };
        let approve = async || {
            let is_unchanged = new_password.is_unchanged_from(&old_password);
            let uncommon = policy.check_addresses(new_password, &user.email_addresses)?;
            if is_unchanged {
                let _: Option<()> = fields.refuse("new_password", "and old password must be different");
                return Err(fields.into_errors().into());
            }
            Ok(self.new_passwords.approve(uncommon).await?)
        };
        self.passwords.change(account, &old_password, approve).await?;
        Success::new("password_changed", &Response { msg: "Password changed" })
    }
}
