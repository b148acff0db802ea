//! The Lambda function `export_users`.

use std::convert::Infallible;

use export_users::Function;
use lambda_runtime::{Error, run, service_fn};
use shared::config::Environment;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    shared::telemetry::init();
    let function = &Function::new(&Environment::from_process(), &shared::aws::load().await)?;
    run(service_fn(|event| async move { Ok::<_, Infallible>(function.handle(event).await) })).await
}
