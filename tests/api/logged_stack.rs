//! The service in a process of its own, for the tests that read its log, which is on standard error. It prints the
//! addresses of the API and of the AWS services, and runs until it is killed.

use std::io::Write;

use support::{Options, Stack};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    shared::telemetry::init_to(std::io::stderr);
    let stack = Stack::start(Options::default()).await?;
    writeln!(std::io::stdout(), "{} {}", stack.api_url(), stack.aws_url())?;
    std::future::pending().await
}
