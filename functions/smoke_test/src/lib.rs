//! `smoke_test`: signs in a probe user, uses the session, requests a reset code, reads what became of its mail, and
//! deletes the user. It has no route. Operators and a schedule invoke it to test the API at its public URL, and
//! `CodeDeploy` invokes it before new versions of functions get requests, to test these.

mod aws_api;
mod checks;
mod probe;
mod report;
mod service;

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use aws_types::SdkConfig;
use futures_util::FutureExt;
use lambda_runtime::LambdaEvent;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use shared::function::{Error, Function};
use shared::settings::{ConfigError, Settings};
use shared::telemetry::{Audit, Summary};
use tokio::time::{Instant, timeout, timeout_at};

use crate::aws_api::AwsApi;
use crate::checks::Checks;
use crate::probe::Probes;
use crate::report::Report;
use crate::service::{Api, Service, Versions};

/// The time for everything until the deletion of the user. With what follows, it is less than the time-out of the
/// function, and so than that of the AWS CLI.
const LIMIT: Duration = Duration::from_secs(35);
/// The time for the checks after the deletion of the user.
const LAST_LIMIT: Duration = Duration::from_secs(5);

const TOO_LONG: &str = "took too long";

/// The function `smoke_test`.
#[derive(Debug)]
pub struct SmokeTest {
    probes: Probes,
    versions: Versions,
    /// The secret by which functions know the requests of the edge, if there is one.
    origin_secret_id: Option<String>,
    /// The parameter in Systems Manager with the URL of the API.
    url_parameter: String,
    /// The log group of the events of mails.
    mail_log: String,
    aws: AwsApi,
}

/// The payload of an invocation.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Event {
    /// An operator or the schedule asks for a test of the API.
    Api(Options),
    /// `CodeDeploy` asks whether the new versions may get requests.
    Deployment(Hook),
}

/// The options of a test of the API.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// False leaves the mail out, for a deployment that cannot send any yet.
    pub mail: bool,
}

/// The names by which `CodeDeploy` knows a test that it has started.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all(deserialize = "PascalCase", serialize = "camelCase"))]
pub struct Hook {
    /// The id of the deployment.
    pub deployment_id: String,
    /// The id of the test.
    pub lifecycle_event_hook_execution_id: String,
}

impl Default for Options {
    fn default() -> Self {
        Self { mail: true }
    }
}

impl Function for SmokeTest {
    const NAME: &'static str = "smoke_test";

    type Event = Event;

    fn new(settings: &Settings, aws: &SdkConfig) -> Result<Self, ConfigError> {
        Ok(Self {
            probes: Probes::new(settings, aws)?,
            versions: Versions::from_settings(settings)?,
            origin_secret_id: origin_secret_id(settings)?,
            url_parameter: settings.required("SMOKE_TEST_URL_PARAMETER")?,
            mail_log: settings.required("SMOKE_TEST_MAIL_LOG")?,
            aws: AwsApi::new(settings)?,
        })
    }

    /// Tests, and answers with the report. Fails with the report as the error if a check of the API failed, so that the
    /// schedule's failures are counted as errors of this function, and if `CodeDeploy` could not be told.
    async fn invoke(&self, event: LambdaEvent<Event>) -> Result<impl Serialize + Send, Error> {
        let LambdaEvent { payload, context } = event;
        let tested = async {
            let mut report = Report::default();
            match &payload {
                Event::Api(options) => {
                    if let Some(api) = report.check("find_api", self.api()).await {
                        self.test(&Service::Api(api), options.mail, &mut report).await;
                    }
                    let outcome = if report.has_passed() { Ok(()) } else { Err(report.to_string()) };
                    ("api", report, outcome)
                }
                Event::Deployment(hook) => {
                    // SES limits the mails of a new account to one a second, and several functions are deployed at once.
                    if let Some(origin_secret) =
                        report.check("find_origin_secret", self.origin_secret()).await
                    {
                        let versions =
                            Service::Versions { versions: &self.versions, aws: &self.aws, origin_secret };
                        self.test(&versions, false, &mut report).await;
                    }
                    let told = self.aws.finish_hook(hook, report.has_passed()).await;
                    ("deployment", report, told)
                }
            }
        };
        let audit = Audit::of_invocation(Self::NAME, &context);
        let (_, report, outcome) = audit
            .record(tested, |(action, report, _)| Summary {
                outcome: if report.has_passed() { "smoke_test_passed" } else { "smoke_test_failed" },
                action: Some(*action),
                ..Summary::default()
            })
            .await;
        outcome.map(|()| report).map_err(Error::from)
    }
}

impl SmokeTest {
    async fn api(&self) -> Result<Api, String> {
        Api::new(&self.aws.parameter(&self.url_parameter).await?)
    }

    /// The secret of the edge, if there is one.
    async fn origin_secret(&self) -> Result<Option<SecretString>, String> {
        match &self.origin_secret_id {
            Some(id) => self.aws.secret(id).await.map(Some),
            None => Ok(None),
        }
    }

    /// Makes a user, runs the checks, and deletes the user, whatever the checks found.
    async fn test(&self, service: &Service<'_>, mail: bool, report: &mut Report) {
        let deadline = Instant::now() + LIMIT;
        let Some(probe) = report.check("create_user", self.probes.create(mail)).await else {
            return;
        };
        let checks = Checks { service, probe: &probe };
        let mut tokens = None;
        let checked = async {
            tokens = checks.sign_in(report).await;
            checks.request_code(report).await?;
            let address = probe.email_address.as_ref()?;
            let delivered = self.aws.delivered(&self.mail_log, address.as_str(), probe.created_at);
            report.check("deliver_mail", delivered).await
        };
        // A panic must not keep the user, nor CodeDeploy waiting for an hour.
        match timeout_at(deadline, AssertUnwindSafe(checked).catch_unwind()).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => report.interrupt("panicked"),
            Err(_) => report.interrupt(TOO_LONG),
        }
        let deleted = report.check("delete_user", self.probes.delete(&probe)).await;
        if let (Some(()), Some(tokens)) = (deleted, &tokens) {
            let refused = timeout(LAST_LIMIT, checks.refuse_deleted(report, tokens)).await;
            if refused.is_err() {
                report.interrupt(TOO_LONG);
            }
        }
    }
}

/// The id of the secret that the edge sends, if the deployment has an edge.
fn origin_secret_id(settings: &Settings) -> Result<Option<String>, ConfigError> {
    match &*settings.text("EDGE", "off") {
        "off" => Ok(None),
        "optional" | "required" => Ok(Some(settings.text("ORIGIN_SECRET_ID", "postern/origin-secret"))),
        _ => Err(ConfigError::new("EDGE", "must be one of off, optional, required")),
    }
}
