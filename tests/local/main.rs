//! Runs the whole service on this machine until it is interrupted.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use support::{Options, Stack};
use tokio::signal::unix::{SignalKind, signal};

/// Runs the whole service on this machine, without an AWS account: the API, and the AWS services that it uses.
///
/// The service is set up from `template.yaml`. Its settings are environment variables: `PASSWORD_MIN_LENGTH` sets the
/// parameter `PasswordMinLength`. All servers listen on 127.0.0.1, unless --aws-host is given.
#[derive(Parser)]
#[command(name = "local")]
struct Arguments {
    /// The port of the API
    #[arg(long, default_value_t = 3000)]
    api_port: u16,
    /// The port of DynamoDB, SES, Secrets Manager and Lambda; sent mail is at /_aws/ses
    #[arg(long, default_value_t = 4566)]
    aws_port: u16,
    /// The address that they listen on; clients in containers need another one than 127.0.0.1
    #[arg(long, value_name = "ADDRESS", default_value_t = Ipv4Addr::LOCALHOST.into())]
    aws_host: IpAddr,
    /// Keep data in this folder instead of in memory
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Use the DynamoDB at this URL; the variable `DYNAMODB_URL` does the same, for the tests too
    #[arg(long, value_name = "URL")]
    dynamodb_url: Option<String>,
    /// Do not create the user st.huber with the password Password1234! in a fresh store
    #[arg(long)]
    no_demo: bool,
    /// Run the binaries of the functions in this folder, such as target/release or .aws-sam/build, as Lambda does
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Standard output is reserved for the line that reports that the service is ready.
    shared::telemetry::init_to(std::io::stderr);
    match run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If standard error is closed, the message cannot be shown anywhere.
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let stack = Stack::start(Options {
        api_port: arguments.api_port,
        aws_port: arguments.aws_port,
        aws_host: Some(arguments.aws_host),
        data_dir: arguments.data_dir,
        dynamodb_url: arguments.dynamodb_url,
        demo_user: !arguments.no_demo,
        binaries: arguments.binaries,
        ..Options::default()
    })
    .await?;
    writeln!(std::io::stdout(), "ready {}", stack.api_url())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    stack.shutdown().await;
    Ok(())
}
