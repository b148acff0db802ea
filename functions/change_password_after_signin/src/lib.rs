//! `POST /api/auth/changePasswordAfterSignin`: the change of a password that has to be changed before its user may
//! sign in, and the sign-in along with it.

use std::net::IpAddr;

use aws_types::SdkConfig;
use lambda_http::Request;
use serde::Deserialize;
use shared::authentication::{Authenticator, Purpose};
use shared::domain::{NewPassword, Password, PasswordPolicy, SessionToken, User, Username};
use shared::endpoint::{Endpoint, Error, Success, parse};
use shared::fields::{Field, SessionRequest, Validator};
use shared::hashing::PasswordHasher;
use shared::new_passwords::NewPasswords;
use shared::password_changes::PasswordChanges;
use shared::settings::{ConfigError, Settings};
use shared::store::{NewSession, PasswordChange, Store};
use shared::tokens::Tokens;
use shared::{clock, random};

/// The endpoint of `change_password_after_signin`.
#[derive(Debug)]
pub struct ChangePasswordAfterSignin {
    new_passwords: NewPasswords,
    store: Store,
    hasher: PasswordHasher,
    authentication: Authenticator,
    tokens: Tokens,
    changes: PasswordChanges,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    username: Field,
    old_password: Field,
    new_password: Field,
    session_information: Field,
    stay_logged_in: Field,
}

struct ForcedChange {
    username: Username,
    old_password: Password,
    new_password: NewPassword,
    session: SessionRequest,
}

impl ForcedChange {
    fn parse(body: Body, policy: &PasswordPolicy) -> Result<Self, Error> {
        let mut fields = Validator::default();
        let username = fields.username(body.username);
        let old_password = fields.password("old_password", body.old_password);
        let mut new_password =
            fields.new_password("new_password", body.new_password, policy, username.as_ref());
        if let (Some(old), Some(new)) = (&old_password, &new_password)
            && new.is_unchanged_from(old)
        {
            new_password = fields.refuse("new_password", "and old password must be different");
        }
        let session = fields.session(body.session_information, &body.stay_logged_in);
        match (username, old_password, new_password, session) {
            (Some(username), Some(old_password), Some(new_password), Some(session)) => {
                Ok(Self { username, old_password, new_password, session })
            }
            _ => Err(fields.into_errors().into()),
        }
    }
}

impl Endpoint for ChangePasswordAfterSignin {
    const NAME: &'static str = "change_password_after_signin";

    fn new(settings: &Settings, aws: &SdkConfig) -> Result<Self, ConfigError> {
        let store = Store::new(settings, aws);
        let hasher = PasswordHasher::from_settings(settings)?;
        Ok(Self {
            new_passwords: NewPasswords::new(settings)?,
            authentication: Authenticator::new(settings, store.clone(), hasher.clone())?,
            hasher,
            tokens: Tokens::new(settings, aws)?,
            changes: PasswordChanges::new(settings, aws, store.clone())?,
            store,
        })
    }

    async fn connect(&self) {
        self.store.connect().await;
    }

    async fn prefetch(&self) {
        self.tokens.prefetch().await;
    }

    async fn handle(&self, request: &Request, source_ip: IpAddr) -> Result<Success, Error> {
        let change = ForcedChange::parse(parse(request)?, self.new_passwords.policy())?;
        let ForcedChange { username, old_password, .. } = &change;
        let purpose = Purpose::Check;
        let authenticated = self.authentication.verify(username, old_password, source_ip, purpose).await?;
        self.change(&authenticated.user, change, source_ip).await
    }
}

impl ChangePasswordAfterSignin {
    async fn change(&self, user: &User, change: ForcedChange, source_ip: IpAddr) -> Result<Success, Error> {
        if !user.activated {
            return Err(Error::NotActivated);
        }
        if !user.must_change_password {
            return Err(Error::NoPasswordChangeNeeded);
        }
        let policy = self.new_passwords.policy();
        let uncommon = policy.check_addresses(change.new_password, &user.email_addresses)?;
        let new_password = self.new_passwords.approve(uncommon).await?;
        let now = clock::now();
        let security_stamp = random::security_stamp();
        let stays = change.session.stay_logged_in;
        let session_token = stays.then(|| random::session_token(&user.session_owner));
        // Issued before anything is written, so that a failure leaves everything as it was.
        let key = session_token.as_ref().map(SessionToken::key);
        let token = self.tokens.issue(&user.user_id, &security_stamp, key, now).await?;
        let password_hash = self.hasher.hash(&new_password).await?;
        let session = session_token.as_ref().map(|token| NewSession {
            token,
            username: &user.username,
            security_stamp: &security_stamp,
            information: change.session.information.as_ref(),
            created_at: now,
        });
        let information = change.session.information.as_ref();
        let password_change = PasswordChange::due(
            user,
            &password_hash,
            security_stamp.clone(),
            session,
            information,
            source_ip,
            now,
        )?;
        if !self.changes.make(&password_change).await? {
            // The user changed after the password was verified, so the verification no longer holds.
            return Err(Error::UsernameOrPasswordIncorrect);
        }
        Success::tokens("password_changed", &token, session_token.as_ref())
    }
}
