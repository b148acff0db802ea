//! Helpers shared by the tests: a client of the service, its users, their mail, and the store behind it.

mod breach_service;
mod mail;
mod response;
mod service;
mod store;
mod tokens;
mod users;

use std::time::Duration;

pub(crate) use breach_service::{BREACHED, BREACHES, BreachService, PADDING};
pub(crate) use mail::{Mail, MailBody};
pub(crate) use response::{ApiResponse, HEADERS, count};
pub(crate) use service::{ORIGIN_SECRET, Service, VIEWER_ADDRESS, aws_config, aws_config_as};
pub(crate) use store::{is_send, micros_now};
pub(crate) use tokens::{Secret, claims};
pub(crate) use users::{User, unknown_username};

/// The password of every user that [`Service::user`] makes.
pub(crate) const PASSWORD: &str = "Password1234!";
/// The password that replaces [`PASSWORD`].
pub(crate) const NEW_PASSWORD: &str = "NewPassword1234!";
/// A password of no user.
pub(crate) const WRONG_PASSWORD: &str = "Password1234?";
/// A code that is never valid, because it is too short.
pub(crate) const WRONG_CODE: &str = "48290";
/// An address that SES and `manage_users` refuse.
pub(crate) const REFUSED_ADDRESS: &str = "st.huber@exa_mple.com";
/// The client information of a session from [`Service::session_of`].
pub(crate) const SESSION_INFORMATION: &str = "Firefox: 69; Mobile: true;";
/// [`PASSWORD`] under the default parameters, so that making a user costs no hashing.
pub(crate) const PASSWORD_HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$4O7+kCWYXl7T9/8aD9Wj3Q\
     $f6poR1PRgPWLiYLd2Ehal82cKodMOBG8MC0z3tSte8s";
/// [`PASSWORD`] under other parameters.
pub(crate) const OTHER_ARGON2_HASH: &str =
    "$argon2id$v=19$m=8192,t=1,p=1$HzosdDbuv3YvnpWKb+wgvA$feshGaSVCLv1CefRiXf8ta76paVBB9P7Zf9s6lKnb9U";

pub(crate) const SIGNIN: &str = "/api/auth/signin";
pub(crate) const CHANGE_PASSWORD_AFTER_SIGNIN: &str = "/api/auth/changePasswordAfterSignin";
pub(crate) const SEND_EMAIL: &str = "/api/auth/forgotPassword/sendEmail";
pub(crate) const CHECK_CODE: &str = "/api/auth/forgotPassword/checkCode";
pub(crate) const RESET_PASSWORD: &str = "/api/auth/forgotPassword/resetPassword";
pub(crate) const CHANGE_PASSWORD: &str = "/api/v1/profile/change_password";
pub(crate) const CHECK_OLD_PASSWORD: &str = "/api/v1/user/myself/changePassword/checkOldPassword";
pub(crate) const CHANGE_MY_PASSWORD: &str = "/api/v1/user/myself/changePassword/changePassword";
pub(crate) const SESSION_SIGNIN: &str = "/api/auth/IamLoggedIn";
pub(crate) const SESSIONS: &str = "/api/v1/user/myself/session";
pub(crate) const KEY_SET: &str = "/.well-known/jwks.json";
pub(crate) const METADATA: &str = "/.well-known/openid-configuration";
pub(crate) const CHANGE_PASSWORD_URL: &str = "/.well-known/change-password";
pub(crate) const LOG_OUT: &str = "/api/v1/user/myself/session/logoutCurrentSession";

pub(crate) const MINUTE: Duration = Duration::from_mins(1);
pub(crate) const HOUR: Duration = Duration::from_hours(1);
pub(crate) const DAY: Duration = Duration::from_hours(24);
