//! The Lambda function `change_my_password`.

use change_my_password::Function;
use shared::config::Environment;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    shared::telemetry::init();
    let environment = Environment::from_process();
    let function = Function::new(&environment, &shared::aws::config(&environment)?)?;
    // It lives as long as the process.
    let function: &'static Function = Box::leak(Box::new(function));
    shared::aws::before_invocations(&environment, function.connect()).await;
    shared::http::serve(|request| function.handle(request)).await
}
