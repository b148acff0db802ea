//! The list of all functions, for everything that runs them in a process of its own: the local stack, the tests and
//! the fuzz targets.

use std::fmt;

use aws_types::SdkConfig;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use lambda_runtime::{Context, LambdaEvent};
use shared::endpoint::Api;
use shared::function::Function;
use shared::settings::{ConfigError, Settings};

/// All functions of the service.
pub const FUNCTIONS: &[Entry] = &[
    Entry::of::<authorizer::Authorizer>(),
    Entry::of::<Api<change_my_password::ChangeMyPassword>>(),
    Entry::of::<Api<change_password::ChangePassword>>(),
    Entry::of::<Api<change_password_after_signin::ChangePasswordAfterSignin>>(),
    Entry::of::<export_users::ExportUsers>(),
    Entry::of::<Api<forgot_password_check_code::CheckCode>>(),
    Entry::of::<Api<forgot_password_reset_password::ResetPassword>>(),
    Entry::of::<Api<forgot_password_send_email::SendEmail>>(),
    Entry::of::<manage_users::ManageUsers>(),
    Entry::of::<notify_sign_in::NotifySignIn>(),
    Entry::of::<Api<pages::Pages>>(),
    Entry::of::<rotate_jwt_secret::RotateJwtSecret>(),
    Entry::of::<Api<session_signin::SessionSignin>>(),
    Entry::of::<Api<sessions::Sessions>>(),
    Entry::of::<Api<signin::Signin>>(),
    Entry::of::<smoke_test::SmokeTest>(),
    Entry::of::<Api<well_known::WellKnown>>(),
];

/// A function that can be started.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The function's name.
    pub name: &'static str,
    start: Start,
}

type Start = fn(&Settings, &SdkConfig) -> Result<Box<dyn Started>, ConfigError>;

/// A function that was started with its settings, and takes events as Lambda sends them. Its Debug output shows the
/// settings.
pub trait Started: fmt::Debug + Send + Sync {
    /// Handles one invocation. The payload and the response are JSON.
    fn invoke<'a>(&'a self, payload: &'a [u8], context: Context) -> BoxFuture<'a, Result<Vec<u8>, Error>>;
}

/// The error of an invocation.
#[derive(Debug)]
pub enum Error {
    /// The payload is not what the function takes, or the response cannot be written as JSON.
    Json(serde_json::Error),
    /// The function failed.
    Function(shared::function::Error),
}

impl Entry {
    const fn of<F: Function>() -> Self {
        Self { name: F::NAME, start: |settings, aws| Ok(Box::new(Instance(F::new(settings, aws)?))) }
    }

    /// Starts the function with its own settings.
    pub fn start(&self, settings: &Settings, aws: &SdkConfig) -> Result<Box<dyn Started>, ConfigError> {
        (self.start)(settings, aws)
    }
}

/// Finds the function of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Entry> {
    FUNCTIONS.iter().find(|function| function.name == name)
}

#[derive(Debug)]
struct Instance<F>(F);

impl<F: Function> Started for Instance<F> {
    fn invoke<'a>(&'a self, payload: &'a [u8], context: Context) -> BoxFuture<'a, Result<Vec<u8>, Error>> {
        async move {
            let event = serde_json::from_slice(payload).map_err(Error::Json)?;
            let response = self.0.invoke(LambdaEvent::new(event, context)).await.map_err(Error::Function)?;
            serde_json::to_vec(&response).map_err(Error::Json)
        }
        .boxed()
    }
}
