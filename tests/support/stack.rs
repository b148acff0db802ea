//! Starting everything in the right order, and stopping it in the opposite one.

use std::collections::{BTreeSet, HashMap};
use std::fmt::{self, Display};
use std::fs::{DirBuilder, File, TryLockError};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use aws_types::SdkConfig;
use serde_json::{Value, json};
use shared::mail::Mailer;
use shared::settings::{ConfigError, Settings};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::api_gateway;
use crate::aws;
use crate::dynamodb::DynamoDb;
use crate::faults::Faults;
use crate::iam::{Iam, Permission};
use crate::lambda::Functions;
use crate::secrets_manager::SecretsManager;
use crate::ses::Inbox;
use crate::template::Template;

/// How long a shutdown waits for requests that are being answered, or that a client does not finish sending.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);
/// How long it then waits for connections to the AWS services, which nobody needs any more.
const AWS_SHUTDOWN_LIMIT: Duration = Duration::from_secs(1);
/// How long at last the blocking work of the runtime may take to come to its end.
const RUNTIME_SHUTDOWN_LIMIT: Duration = Duration::from_secs(1);

/// What to start, and where.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The API's port; 0 for any free one.
    pub api_port: u16,
    /// The AWS services' port; 0 for any free one.
    pub aws_port: u16,
    /// The address that the AWS services listen on, for clients in containers; 127.0.0.1 if none.
    pub aws_host: Option<IpAddr>,
    /// Where data is kept; in memory if nowhere.
    pub data_dir: Option<PathBuf>,
    /// A DynamoDB that runs already, in place of the one that would run here; if none, the one at `DYNAMODB_URL`.
    pub dynamodb_url: Option<String>,
    /// The stack's name, which the names of all that is its own begin with; `postern` if none.
    pub name: Option<String>,
    /// Whether a fresh store gets the user `st.huber` with the password `Password1234!`.
    pub demo_user: bool,
    /// The folder of the built functions, cargo's or `sam build`'s, to be run as Lambda runs them; in this process if
    /// none.
    pub binaries: Option<PathBuf>,
    /// Settings by their names, in preference to those in this process's environment.
    pub settings: HashMap<String, String>,
}

/// A running stack, on threads of its own. Dropped, it stops at once, whatever it is doing.
#[derive(Debug)]
pub struct Stack {
    api: SocketAddr,
    aws: SocketAddr,
    template: Template,
    iam: Arc<Iam>,
    faults: Arc<Faults>,
    stop: oneshot::Sender<()>,
    stopped: oneshot::Receiver<()>,
}

/// Why a stack could not start, in one line.
#[derive(Debug)]
pub struct StartError(String);

impl Stack {
    /// Starts a stack, and returns once it serves.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let (started, starting) = oneshot::channel();
        let (stop, stopping) = oneshot::channel();
        let (done, stopped) = oneshot::channel();
        thread::spawn(move || {
            let _done = done;
            let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(started.send(Err(StartError::new("no runtime", error)))),
            };
            runtime.block_on(async {
                match Services::start(options).await {
                    Ok(services) => {
                        let addresses = (services.api.address, services.aws.address);
                        let (iam, faults) = (Arc::clone(&services.iam), Arc::clone(&services.faults));
                        let parts = (addresses, services.template.clone(), iam, faults);
                        if started.send(Ok(parts)).is_ok() {
                            services.run_until(stopping).await;
                        }
                    }
                    Err(error) => drop(started.send(Err(error))),
                }
            });
            // This ends the processes of functions as well; a hash being computed is not waited for long.
            runtime.shutdown_timeout(RUNTIME_SHUTDOWN_LIMIT);
        });
        let ((api, aws), template, iam, faults) =
            starting.await.map_err(|error| StartError::new("the stack broke off", error))??;
        Ok(Self { api, aws, template, iam, faults, stop, stopped })
    }

    /// The API's base URL.
    #[must_use]
    pub fn api_url(&self) -> String {
        format!("http://{}", self.api)
    }

    /// The base URL of the AWS services.
    #[must_use]
    pub fn aws_url(&self) -> String {
        format!("http://{}", self.aws)
    }

    /// The template as it is deployed here.
    #[must_use]
    pub fn template(&self) -> &Template {
        &self.template
    }

    /// What the functions were allowed to do, and did.
    #[must_use]
    pub fn permissions_used(&self) -> BTreeSet<Permission> {
        self.iam.used()
    }

    /// What goes wrong with the AWS services: nothing, unless a test plans it.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Takes no more requests, finishes those being answered, and stops.
    pub async fn shutdown(self) {
        if self.stop.send(()).is_ok() {
            // Nothing is ever sent: it is closed once everything has stopped.
            let _ = self.stopped.await;
        }
    }
}

impl StartError {
    pub(crate) fn new(what: impl Display, error: impl Display) -> Self {
        Self(format!("{what}: {error}"))
    }
}

impl Display for StartError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

impl From<ConfigError> for StartError {
    fn from(error: ConfigError) -> Self {
        Self(error.to_string())
    }
}

/// What runs on a stack's threads.
struct Services {
    api: Server,
    aws: Server,
    template: Template,
    iam: Arc<Iam>,
    faults: Arc<Faults>,
    functions: Arc<Functions>,
    dynamodb: DynamoDb,
    /// Locked for as long as this stack uses the folder.
    _data_dir: Option<File>,
}

/// A listening HTTP server.
struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl Services {
    async fn start(options: Options) -> Result<Self, StartError> {
        let Options {
            api_port,
            aws_port,
            aws_host,
            data_dir,
            dynamodb_url,
            name,
            demo_user,
            binaries,
            settings,
        } = options;
        // Both ports are taken first: whoever starts a second stack learns it before any data is touched.
        let aws_listener = listen(aws_host.unwrap_or(Ipv4Addr::LOCALHOST.into()), aws_port).await?;
        let api_listener = listen(Ipv4Addr::LOCALHOST.into(), api_port).await?;
        let aws_url = format!("http://{}", address(&aws_listener)?);

        let lock = data_dir.as_deref().map(take_data_dir).transpose()?;
        let data_dir = data_dir.as_deref();
        let name = name.unwrap_or_else(|| "postern".to_owned());
        let environment = environment(settings.clone());
        // The template uses these, and would only say that it cannot be evaluated.
        Mailer::new(&environment, &SdkConfig::builder().build())?;
        environment.allowed_origins()?;
        let mut template = Template::for_stack(&name, &environment)?;
        if let Some(setting) = settings.keys().find(|setting| template.parameter(setting).is_none()) {
            return Err(StartError::new(setting, "template.yaml has no such parameter"));
        }
        let dynamodb_url = dynamodb_url.or_else(|| crate::url("DYNAMODB_URL"));
        let dynamodb = DynamoDb::start(data_dir, dynamodb_url, &template.tables()?).await?;
        let secrets = SecretsManager::open(data_dir)?;
        for secret in template.secrets()? {
            let arn = secrets.create_missing(&secret)?;
            template.created(secret, arn);
        }
        let inbox = Inbox::open(data_dir)?;

        let deployed = template.functions()?;
        let iam = Arc::new(Iam::new(&deployed));
        let functions = match binaries {
            None => Functions::in_process(&deployed, &aws_url)?,
            Some(binaries) => Functions::as_binaries(&deployed, &binaries, &aws_url).await?,
        };
        let functions = Arc::new(functions);
        let faults = Arc::new(Faults::new(name));
        let router = aws::router(
            dynamodb.client(),
            Arc::new(secrets),
            inbox,
            Arc::clone(&functions),
            Arc::clone(&iam),
            Arc::clone(&faults),
        );
        let aws = Server::start(aws_listener, router)?;
        // Not before AWS is there: they call it while they start.
        functions.started().await?;
        if dynamodb.is_fresh() && demo_user {
            create_demo_user(&functions).await;
        }
        let api_address = address(&api_listener)?;
        let router = api_gateway::router(&deployed, &template.cors()?, api_address, Arc::clone(&functions))?;
        let api = Server::start(api_listener, router)?;
        Ok(Self { api, aws, template, iam, faults, functions, dynamodb, _data_dir: lock })
    }

    /// Serves until `stopping` is sent something, and then stops in good order; or until its sender is dropped.
    async fn run_until(self, stopping: oneshot::Receiver<()>) {
        if stopping.await.is_err() {
            return;
        }
        let finished = timeout(SHUTDOWN_LIMIT, async {
            self.api.stop().await;
            self.functions.finish().await;
        });
        if finished.await.is_err() {
            tracing::warn!("stopped although some requests were not finished");
        }
        let _ = timeout(AWS_SHUTDOWN_LIMIT, self.aws.stop()).await;
        self.dynamodb.stop().await;
    }
}

impl Server {
    fn start(listener: TcpListener, router: axum::Router) -> Result<Self, StartError> {
        let address = address(&listener)?;
        let (stop, stopping) = oneshot::channel::<()>();
        let server = axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>())
            .with_graceful_shutdown(async {
                let _ = stopping.await;
            });
        let serving = tokio::spawn(async {
            if let Err(error) = server.await {
                tracing::error!(%error, "server failed");
            }
        });
        Ok(Self { address, stop, serving })
    }

    async fn stop(self) {
        drop(self.stop);
        let _ = self.serving.await;
    }
}

async fn listen(host: IpAddr, port: u16) -> Result<TcpListener, StartError> {
    let address = SocketAddr::new(host, port);
    TcpListener::bind(address)
        .await
        .map_err(|error| StartError::new(format_args!("cannot listen on {address}"), error))
}

fn address(listener: &TcpListener) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|error| StartError::new("no address", error))
}

/// The settings given, then those of this process, and a sender for mail, which no one receives here.
fn environment(settings: HashMap<String, String>) -> Settings {
    Settings::new(move |variable| {
        settings
            .get(variable)
            .cloned()
            .or_else(|| std::env::var(variable).ok().filter(|value| !value.is_empty()))
            .or_else(|| (variable == "MAIL_FROM").then(|| "no-reply@example.com".to_owned()))
    })
}

/// Makes the folder if need be, and keeps any other stack out of it.
fn take_data_dir(folder: &Path) -> Result<File, StartError> {
    let failed =
        |error: &dyn Display| StartError::new(format_args!("cannot use {}", folder.display()), error);
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| failed(&error))?;
    let lock = File::create(folder.join("lock")).map_err(|error| failed(&error))?;
    lock.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => failed(&"another stack is using it"),
        TryLockError::Error(error) => failed(&error),
    })?;
    Ok(lock)
}

async fn create_demo_user(functions: &Functions) {
    let create = json!({
        "action": "create",
        "username": "st.huber",
        "password": "Password1234!",
        "email_addresses": ["st.huber@example.com"],
        "activated": true,
    });
    let answer = match functions.invoke("manage_users", create.to_string().into()).await {
        Some(Ok(answer)) => serde_json::from_slice(&answer).unwrap_or(Value::Null),
        _ => Value::Null,
    };
    if answer["ok"] != true {
        // The settings may ask for a longer password than the demo user's.
        tracing::warn!(error_code = answer["error_code"].as_str(), "there is no demo user");
    }
}
