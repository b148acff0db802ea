//! `notify_sign_in`: the notice by e-mail of a sign-in from a network that is not known yet. `CloudWatch` Logs invokes it
//! with the line that `signin` wrote, so no sign-in waits for the mail, and `signin` needs no right to send one.

mod event;

use aws_types::SdkConfig;
use lambda_runtime::LambdaEvent;
use serde::Serialize;
use shared::clock;
use shared::failure::{Failure, Refused};
use shared::function::{Error, Function};
use shared::mail::Mailer;
use shared::settings::{ConfigError, Settings};
use shared::store::Store;
use shared::telemetry::{Audit, Summary, identify};

pub use crate::event::Event;
use crate::event::SignIn;

/// The function `notify_sign_in`.
#[derive(Debug)]
pub struct NotifySignIn {
    store: Store,
    mailer: Mailer,
}

impl Function for NotifySignIn {
    const NAME: &'static str = "notify_sign_in";

    type Event = Event;

    fn new(settings: &Settings, aws: &SdkConfig) -> Result<Self, ConfigError> {
        Ok(Self { store: Store::new(settings, aws), mailer: Mailer::new(settings, aws)? })
    }

    async fn connect(&self) {
        self.store.connect().await;
    }

    /// Notifies the user of each sign-in, one after the other. If one notice fails, so does the invocation, and Lambda
    /// repeats it twice; users who had their notice then get it again.
    async fn invoke(&self, event: LambdaEvent<Event>) -> Result<impl Serialize + Send, Error> {
        let LambdaEvent { payload, context } = event;
        let audit = || Audit::of_invocation(Self::NAME, &context);
        let sign_ins = match payload.sign_ins() {
            Ok(sign_ins) => sign_ins,
            Err(failure) => {
                let failed = audit().record(async { Err(failure) }, summary).await;
                return failed.map(|_| ()).map_err(|failure| failure.msg().into());
            }
        };
        let mut failure = None;
        for sign_in in &sign_ins {
            let notified = audit().record(self.notify(sign_in), summary).await;
            failure = notified.err().or(failure);
        }
        failure.map_or(Ok(()), |failure| Err(failure.msg().into()))
    }
}

impl NotifySignIn {
    /// Mails the notice to all addresses of the user, and returns the name of the outcome.
    async fn notify(&self, sign_in: &SignIn) -> Result<&'static str, Failure> {
        identify(&sign_in.user_id);
        let Some(user) = self.store.user_by_id(&sign_in.user_id).await? else {
            return Ok("unknown_username");
        };
        if user.email_addresses.is_empty() {
            return Ok("no_email_addresses");
        }
        match self.store.charge_notice(&sign_in.user_id, &sign_in.id, clock::now()).await {
            Ok(()) => {}
            Err(Refused::Wait(_)) => return Ok("rate_limit_exceeded"),
            Err(Refused::Failure(failure)) => return Err(failure),
        }
        self.mailer.notify_new_network(&user, sign_in.at, sign_in.source_ip).await?;
        Ok("notified")
    }
}

fn summary<'a>(notified: &'a Result<&'static str, Failure>) -> Summary<'a> {
    match notified {
        Ok(outcome) => Summary { outcome, ..Summary::default() },
        Err(failure) => {
            Summary { outcome: failure.error_code(), failure: Some(failure), ..Summary::default() }
        }
    }
}
