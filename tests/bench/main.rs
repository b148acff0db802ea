//! Measures the speed and the size of the release binaries, which run with a Runtime API and reach AWS over HTTPS. A ratio
//! is the median over rounds that measure both sides in turn, because the speed of the machine varies.

#![expect(clippy::cast_precision_loss, reason = "all counts are far below 2^52")]

mod algorithms;
mod calls;
mod cost;
mod endpoint;
mod growth;
mod lambda;
mod measure;
mod peers;
mod report;

use std::env;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use support::runtime_api::binary;
use support::template::Function;
use support::{Options, Stack};
use tokio::process::Command;

use crate::endpoint::Endpoint;
use crate::lambda::Program;
use crate::measure::Bench;
use crate::peers::{Parameters, Reference, Verification};
use crate::report::{Report, progress};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// Measures the release binaries, alternating with a hello-world function, the bare verification of a password, and the
/// same sign-in for Node.
#[derive(Parser)]
#[command(name = "bench")]
struct Arguments {
    /// Print the figures as a JSON object
    #[arg(long)]
    json: bool,
    /// Fail if a goal that does not depend on machine noise is missed
    #[arg(long)]
    check: bool,
    /// Also measure whether sign-ins stay as fast with a million users
    #[arg(long)]
    growth: bool,
    /// The binaries of the functions, built by cargo, cargo lambda or sam; by default they are built here
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments).await {
        Ok(missed) if missed.is_empty() || !arguments.check => ExitCode::SUCCESS,
        Ok(missed) => failure(&missed.join("\n")),
        Err(error) => failure(&error.to_string()),
    }
}

fn failure(problem: &str) -> ExitCode {
    // If standard error is closed, the message cannot be shown anywhere.
    let _ = writeln!(std::io::stderr(), "{problem}");
    ExitCode::FAILURE
}

/// Measures everything, prints the report, and returns the missed goals that do not depend on the machine.
async fn run(arguments: &Arguments) -> Result<Vec<String>> {
    let mut report = Report::default();
    let target = target()?;
    let folder = target.join("bench");
    fs::create_dir_all(&folder)?;
    let stack = Stack::start(Options::default()).await?;
    let endpoint = Endpoint::start(&stack.aws_url(), &folder).await?;
    let functions = stack.template().functions()?;

    progress("builds");
    build(&["hello"]).await?;
    if arguments.binaries.is_none() {
        // Without the crates of the tests, so that the libraries have no features that only these need.
        build(&functions.iter().map(|function| &*function.name).collect::<Vec<_>>()).await?;
    }
    let built = target.join("release");
    let binaries = arguments.binaries.as_ref().unwrap_or(&built);

    let program = |name: &str, function: &Function, command: Vec<PathBuf>| {
        let log = folder.join(format!("{name}.log"));
        Program { function: function.clone(), command, log }
    };
    let signin = functions.iter().find(|function| function.name == "signin").ok_or("there is no signin")?;
    let parameters = Parameters::of(signin)?;
    let mut hello = program("hello", signin, vec![built.join("hello")]);
    "hello".clone_into(&mut hello.function.name);
    progress("peers");
    let node = match peers::node(&folder).await {
        Ok(command) => Some(program("node", signin, command)),
        Err(error) => {
            report.missing("the comparison with Node", &error);
            None
        }
    };
    let reference = match Reference::build(&folder, parameters).await {
        Ok(reference) => Some(reference),
        Err(error) => {
            report.missing("the comparison with C", &error);
            None
        }
    };
    let mut bench = Bench {
        functions: functions
            .iter()
            .map(|function| program(&function.name, function, vec![binary(function, binaries)]))
            .collect(),
        hello,
        calls: calls::prepare(&stack).await?,
        endpoint,
        node,
        reference,
        verification: Verification::new(parameters)?,
    };
    bench.sizes(&mut report)?;
    let calls = bench.operations(&mut report).await?;
    let signin = bench.signin_bytes().await?;
    cost::measure(&calls, &signin, stack.template(), &mut report)?;
    bench.light_memory(&mut report).await?;
    bench.warm_signins(&mut report).await?;
    let signin = bench.program("signin")?.clone();
    algorithms::measure(&signin, &mut bench.verification, &folder, &mut report).await?;
    bench.first_signins(&mut report).await?;
    bench.first_checks(&mut report).await?;
    bench.starts(&mut report).await?;
    bench.instructions(&mut report).await?;
    bench.warm_instructions(&mut report).await?;
    if arguments.growth {
        growth::measure(bench.program("signin")?, &folder, &mut report).await?;
    }
    let shown = if arguments.json { report.json()? } else { report.table()? };
    writeln!(std::io::stdout(), "{shown}")?;
    Ok(report.missed())
}

/// Builds packages with the release profile, by the cargo that runs this program.
async fn build(packages: &[&str]) -> Result<()> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--quiet"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    command.args(packages.iter().flat_map(|package| ["--package", package]));
    if command.status().await?.success() { Ok(()) } else { Err("the binaries cannot be built".into()) }
}

/// The target folder of cargo, which contains this program.
fn target() -> Result<PathBuf> {
    let program = env::current_exe()?;
    Ok(program.ancestors().nth(2).map(Path::to_owned).ok_or("no target folder")?)
}
