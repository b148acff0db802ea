//! Starts all parts of a stack in the right order, and stops them in the opposite order.

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
use crate::rotation;
use crate::secrets_manager::SecretsManager;
use crate::ses::Inbox;
use crate::template::Template;

/// The time that a shutdown waits for requests that are being answered or that a client has not finished sending.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);
/// The time that it then waits for connections to the AWS services, which are no longer needed.
const AWS_SHUTDOWN_LIMIT: Duration = Duration::from_secs(1);
/// The time that it finally waits for blocking work of the runtime.
const RUNTIME_SHUTDOWN_LIMIT: Duration = Duration::from_secs(1);

/// The options of a stack.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The port of the API; 0 means any free port.
    pub api_port: u16,
    /// The port of the AWS services; 0 means any free port.
    pub aws_port: u16,
    /// The address that the AWS services listen on, for clients in containers. The default is 127.0.0.1.
    pub aws_host: Option<IpAddr>,
    /// The folder for the data. Without one, data is kept in memory.
    pub data_dir: Option<PathBuf>,
    /// The URL of a running DynamoDB to use instead of an embedded one. The default is `DYNAMODB_URL`.
    pub dynamodb_url: Option<String>,
    /// The name of the stack, with which the names of its resources begin. The default is `postern`.
    pub name: Option<String>,
    /// True to create the user `st.huber` with the password `Password1234!` in a fresh store.
    pub demo_user: bool,
    /// The folder with the binaries of the functions, built by cargo or `sam build`, to run as Lambda does. Without one,
    /// the functions run in this process.
    pub binaries: Option<PathBuf>,
    /// Settings by their names. They take precedence over environment variables.
    pub settings: HashMap<String, String>,
}

/// A running stack with its own threads. Dropping it stops it at once, even during a request.
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

/// The reason why a stack could not start, in one line.
#[derive(Debug)]
pub struct StartError(String);

impl Stack {
    /// Starts a stack, and returns when it serves requests.
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
            // This also ends the processes of functions. A hash that is being computed gets the time above.
            runtime.shutdown_timeout(RUNTIME_SHUTDOWN_LIMIT);
        });
        let ((api, aws), template, iam, faults) =
            starting.await.map_err(|error| StartError::new("the thread of the stack ended", error))??;
        Ok(Self { api, aws, template, iam, faults, stop, stopped })
    }

    /// Returns the base URL of the API.
    #[must_use]
    pub fn api_url(&self) -> String {
        format!("http://{}", self.api)
    }

    /// Returns the base URL of the AWS services.
    #[must_use]
    pub fn aws_url(&self) -> String {
        format!("http://{}", self.aws)
    }

    /// Returns the template as it is deployed here.
    #[must_use]
    pub fn template(&self) -> &Template {
        &self.template
    }

    /// Returns the permissions that the functions have used so far.
    #[must_use]
    pub fn permissions_used(&self) -> BTreeSet<Permission> {
        self.iam.used()
    }

    /// Returns the faults of the AWS services, of which there are none unless a test plans them.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Finishes the requests that are being answered, accepts no others, and stops.
    pub async fn shutdown(self) {
        if self.stop.send(()).is_ok() {
            // Nothing is ever sent. The channel closes when everything has stopped.
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

/// The parts of a stack, which run on its threads.
struct Services {
    api: Server,
    aws: Server,
    template: Template,
    iam: Arc<Iam>,
    faults: Arc<Faults>,
    functions: Arc<Functions>,
    dynamodb: DynamoDb,
    /// The lock on the folder, held as long as this stack uses it.
    _data_dir: Option<File>,
}

/// A listening HTTP server.
pub(crate) struct Server {
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
        // Both ports are opened first, so that a second stack fails before it touches any data.
        let aws_listener = listen(aws_host.unwrap_or(Ipv4Addr::LOCALHOST.into()), aws_port).await?;
        let api_listener = listen(Ipv4Addr::LOCALHOST.into(), api_port).await?;
        let aws_url = format!("http://{}", address(&aws_listener)?);

        let lock = data_dir.as_deref().map(take_data_dir).transpose()?;
        let data_dir = data_dir.as_deref();
        let name = name.unwrap_or_else(|| "postern".to_owned());
        let api_address = address(&api_listener)?;
        let environment = environment(settings.clone(), api_address);
        // Checked before the template is evaluated, because the errors are clearer.
        Mailer::new(&environment, &SdkConfig::builder().build())?;
        environment.allowed_origins()?;
        api_gateway::check_allowed_headers(&environment)?;
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
        let secrets = Arc::new(secrets);
        rotation::make_keys(&deployed, dynamodb.client(), &secrets).await?;
        let functions = match binaries {
            None => Functions::in_process(&deployed, &aws_url)?,
            Some(binaries) => Functions::as_binaries(&deployed, &binaries, &aws_url).await?,
        };
        let functions = Arc::new(functions);
        let faults = Arc::new(Faults::new(name));
        let router = aws::router(
            dynamodb.client(),
            secrets,
            inbox,
            Arc::clone(&functions),
            Arc::clone(&iam),
            Arc::clone(&faults),
            format!("http://{api_address}"),
        );
        let aws = Server::start(aws_listener, router)?;
        // The functions call AWS while they start, so they come after it.
        functions.started().await?;
        if dynamodb.is_fresh() && demo_user {
            create_demo_user(&functions).await;
        }
        let cors = template.cors()?;
        let router = api_gateway::router(&deployed, cors.as_ref(), api_address, Arc::clone(&functions))?;
        let api = Server::start(api_listener, router)?;
        Ok(Self { api, aws, template, iam, faults, functions, dynamodb, _data_dir: lock })
    }

    /// Serves until a message arrives on `stopping`, then stops in order. Returns at once if the sender is dropped.
    async fn run_until(self, stopping: oneshot::Receiver<()>) {
        if stopping.await.is_err() {
            return;
        }
        let finished = timeout(SHUTDOWN_LIMIT, async {
            self.api.stop().await;
            self.functions.finish().await;
        });
        if finished.await.is_err() {
            tracing::warn!("stopped before all requests were finished");
        }
        let _ = timeout(AWS_SHUTDOWN_LIMIT, self.aws.stop()).await;
        self.dynamodb.stop().await;
    }
}

impl Server {
    pub(crate) fn start(listener: TcpListener, router: axum::Router) -> Result<Self, StartError> {
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

    pub(crate) async fn stop(self) {
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

/// Settings from the options, then from the environment variables, then the defaults of the local stack. The sender of
/// mail has a default, because no mail is delivered; the origins, because no page of the web can do harm; and the issuer
/// of tokens whose keys are published, which is the API.
fn environment(settings: HashMap<String, String>, api: SocketAddr) -> Settings {
    let given = move |variable: &str| {
        let value = settings.get(variable).cloned();
        value.or_else(|| std::env::var(variable).ok().filter(|value| !value.is_empty()))
    };
    Settings::new(move |variable| {
        given(variable).or_else(|| match variable {
            "MAIL_FROM" => Some("no-reply@example.com".to_owned()),
            "CORS_ALLOW_ORIGINS" => Some("*".to_owned()),
            "JWT_ISSUER" => given("JWT_ALGORITHM")
                .filter(|algorithm| algorithm != "HS256")
                .map(|_| format!("http://{api}")),
            _ => None,
        })
    })
}

/// Creates the folder if it is missing, and locks it against other stacks.
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
        // The settings may require a longer password.
        tracing::warn!(error_code = answer["error_code"].as_str(), "the demo user could not be created");
    }
}
