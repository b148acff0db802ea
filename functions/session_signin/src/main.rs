//! The Lambda function `session_signin`.

use session_signin::Function;
use shared::config::Environment;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    shared::telemetry::init();
    let function = Function::new(&Environment::from_process(), &shared::aws::load().await)?;
    shared::http::serve(|request| function.handle(request)).await
}
