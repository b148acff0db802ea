//! The Lambda function `forgot_password_check_code`.

use forgot_password_check_code::Function;
use shared::config::Environment;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    shared::telemetry::init();
    let function = Function::new(&Environment::from_process(), &shared::aws::load().await)?;
    shared::http::serve(|request| function.handle(request)).await
}
