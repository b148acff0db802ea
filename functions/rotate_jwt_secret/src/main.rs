//! The Lambda function `rotate_jwt_secret`.

use lambda_runtime::{Error, run, service_fn};
use rotate_jwt_secret::Function;
use shared::config::Environment;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    shared::telemetry::init();
    let environment = Environment::from_process();
    let function = &Function::new(&environment, &shared::aws::config(&environment)?)?;
    run(service_fn(|event| function.handle(event))).await
}
