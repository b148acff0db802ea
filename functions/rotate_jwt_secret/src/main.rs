//! The Lambda function `rotate_jwt_secret`.

use lambda_runtime::{Error, run, service_fn};
use rotate_jwt_secret::Function;
use shared::config::Environment;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    shared::telemetry::init();
    let function = &Function::new(&Environment::from_process(), &shared::aws::load().await)?;
    run(service_fn(|event| function.handle(event))).await
}
