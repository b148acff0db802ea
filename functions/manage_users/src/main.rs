//! The Lambda function `manage_users`.

use std::convert::Infallible;

use lambda_runtime::{Error, run, service_fn};
use manage_users::Function;
use shared::config::Environment;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    shared::telemetry::init();
    let environment = Environment::from_process();
    let function = &Function::new(&environment, &shared::aws::config(&environment)?)?;
    run(service_fn(|event| async move { Ok::<_, Infallible>(function.handle(event).await) })).await
}
