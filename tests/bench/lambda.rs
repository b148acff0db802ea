//! Runs a function in an execution environment, a process with its own Runtime API, and measures its resources.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use serde_json::Value;
use support::runtime_api::{self, Request, RuntimeApi};
use support::template::Function;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::Result;
use crate::endpoint::Endpoint;

/// The time that a process may take until its next request. Under valgrind everything takes about 50 times as long.
const PATIENCE: Duration = Duration::from_mins(1);

/// A program and the configuration to start it with.
#[derive(Clone)]
pub(crate) struct Program {
    /// The configuration that it is deployed with: variables, memory size and identity.
    pub(crate) function: Function,
    /// The program and its arguments.
    pub(crate) command: Vec<PathBuf>,
    /// The file for its output.
    pub(crate) log: PathBuf,
}

/// A process that waits for its next invocation.
pub(crate) struct Environment {
    /// The time from the start of the process to its first poll.
    pub(crate) start: Duration,
    process: Child,
    api: RuntimeApi,
    /// The sender that answers the poll of the process.
    next: oneshot::Sender<runtime_api::Invocation>,
    log: PathBuf,
}

/// The outcome of an invocation.
pub(crate) struct Invocation {
    /// The time from sending the event to receiving the response.
    pub(crate) time: Duration,
    pub(crate) answer: Value,
    /// The lines that the process logged during the invocation.
    pub(crate) log: Vec<String>,
}

/// The resources that a process has used so far.
#[derive(Clone, Copy)]
pub(crate) struct Usage {
    /// The number of page faults that did not read from disk.
    pub(crate) minor_faults: u64,
    /// The CPU time of all its threads.
    pub(crate) cpu: Duration,
    /// The current resident memory, in bytes.
    pub(crate) rss: u64,
}

impl Program {
    /// Returns the program with another memory size, from which functions derive their share of a core.
    pub(crate) fn with_memory(&self, megabytes: u32) -> Self {
        let mut program = self.clone();
        program.function.memory_size = megabytes;
        program
    }

    /// Returns the program as the last arguments of another one.
    pub(crate) fn under(&self, program: &Path, arguments: &[&str]) -> Self {
        let mut command = vec![program.to_owned()];
        command.extend(arguments.iter().map(PathBuf::from));
        command.extend(self.command.iter().cloned());
        Self { command, ..self.clone() }
    }

    /// Starts a process, and returns when it polls for its first invocation.
    pub(crate) async fn start(&self, endpoint: &Endpoint) -> Result<Environment> {
        let mut api = RuntimeApi::start().await?;
        let mut command = self.command(endpoint, api.address())?;
        let began = Instant::now();
        let mut process = command.spawn().map_err(|error| format!("{:?}: {error}", self.command))?;
        let (arrived, request) = receive(&mut process, &mut api, &self.log).await?;
        let Request::Next(next) = request else {
            return Err(failure("it did not poll for an invocation", &self.log).into());
        };
        let start = arrived - began;
        Ok(Environment { start, process, api, next, log: self.log.clone() })
    }

    fn command(&self, endpoint: &Endpoint, runtime_api: SocketAddr) -> Result<Command> {
        let (program, arguments) = self.command.split_first().ok_or("no program")?;
        let mut command = runtime_api::command(&self.function, program, &endpoint.url, runtime_api)?;
        let log = File::create(&self.log)?;
        command
            .args(arguments)
            .env("AWS_CA_BUNDLE", &endpoint.ca_bundle)
            .env("NODE_EXTRA_CA_CERTS", &endpoint.ca_bundle)
            .stdout(log.try_clone()?)
            .stderr(log);
        Ok(command)
    }
}

impl Environment {
    /// Sends the process an event, and returns when it polls for the next one.
    pub(crate) async fn invoke(&mut self, event: &Bytes) -> Result<Invocation> {
        // A placeholder until the process polls again.
        let (nothing, _) = oneshot::channel();
        let logged = usize::try_from(fs::metadata(&self.log)?.len())?;
        let next = std::mem::replace(&mut self.next, nothing);
        let began = Instant::now();
        if next.send(invocation_of(event)).is_err() {
            return Err(failure("it is not polling for an invocation", &self.log).into());
        }
        let (arrived, request) = self.receive().await?;
        let answer = match request {
            Request::Response { body, .. } => serde_json::from_slice(&body)?,
            Request::Error { body: error, .. } | Request::InitError(error) => {
                return Err(failure(&String::from_utf8_lossy(&error), &self.log).into());
            }
            Request::Next(_) => return Err(failure("it sent no response", &self.log).into()),
        };
        let (_, Request::Next(next)) = self.receive().await? else {
            return Err(failure("it did not poll for another invocation", &self.log).into());
        };
        self.next = next;
        let log = fs::read(&self.log)?;
        let log = String::from_utf8_lossy(log.get(logged..).unwrap_or_default());
        let log = log.lines().map(ToOwned::to_owned).collect();
        Ok(Invocation { time: arrived - began, answer, log })
    }

    /// Returns the resources that the process has used so far.
    pub(crate) fn usage(&self) -> Result<Usage> {
        let pid = self.process.id().ok_or_else(|| failure("it ended", &self.log))?;
        let process = PathBuf::from(format!("/proc/{pid}"));
        let (stat, status) =
            (fs::read_to_string(process.join("stat"))?, fs::read_to_string(process.join("status"))?);
        // proc(5): the name in parentheses may contain spaces, and the eighth field after it is `minflt`.
        let minor_faults = stat
            .rsplit(')')
            .next()
            .and_then(|fields| fields.split_ascii_whitespace().nth(7))
            .ok_or("no minflt")?;
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        let kib: u64 = rss.trim().trim_end_matches(" kB").parse()?;
        let mut cpu = 0;
        for thread in fs::read_dir(process.join("task"))? {
            let schedstat = fs::read_to_string(thread?.path().join("schedstat"))?;
            cpu += schedstat.split(' ').next().ok_or("no schedstat")?.parse::<u64>()?;
        }
        let cpu = Duration::from_nanos(cpu);
        Ok(Usage { minor_faults: minor_faults.parse()?, cpu, rss: kib * 1024 })
    }

    /// Kills the process.
    pub(crate) async fn stop(mut self) -> Result<()> {
        Ok(self.process.kill().await?)
    }

    /// Ends the process with SIGTERM, and returns its output.
    pub(crate) async fn terminate(mut self) -> Result<String> {
        let pid = self.process.id().ok_or_else(|| failure("it ended", &self.log))?;
        Command::new("kill").arg(pid.to_string()).status().await?;
        timeout(PATIENCE, self.process.wait()).await??;
        Ok(fs::read_to_string(&self.log)?)
    }

    async fn receive(&mut self) -> Result<(Instant, Request)> {
        receive(&mut self.process, &mut self.api, &self.log).await
    }
}

/// Waits for the next request of the process.
async fn receive(process: &mut Child, api: &mut RuntimeApi, log: &Path) -> Result<(Instant, Request)> {
    tokio::select! {
        request = api.request() => Ok(request),
        status = process.wait() => {
            let status = status?;
            let ended = status.signal().map_or(status.to_string(), |signal| format!("signal {signal}"));
            Err(failure(&format!("it ended: {ended}"), log).into())
        }
        () = tokio::time::sleep(PATIENCE) => Err(failure("it sent no request in time", log).into()),
    }
}

/// Describes a problem together with the last lines of output of the process.
fn failure(problem: &str, log: &Path) -> String {
    let written = fs::read_to_string(log).unwrap_or_default();
    let last: Vec<&str> = written.lines().rev().take(5).collect();
    let name = log.file_stem().unwrap_or_default().to_string_lossy();
    format!("{name}: {problem}\n{}", last.into_iter().rev().collect::<Vec<_>>().join("\n"))
}

/// The invocation with this event. Nothing else in it differs from one measurement to the next.
fn invocation_of(event: &Bytes) -> runtime_api::Invocation {
    runtime_api::Invocation {
        request_id: "8476a536-e9f4-11e8-9739-2dfe598c3fcd".to_owned(),
        // In the year 2100, because slow invocations are measured and not cut off.
        deadline_ms: 4_102_444_800_000,
        function_arn: "arn:aws:lambda:eu-central-1:000000000000:function:bench".to_owned(),
        trace_id: "Root=1-69b28152-5759e988bd862e3fe1be847e;Parent=5759e988bd862e3f;Sampled=0".to_owned(),
        payload: event.clone(),
    }
}
