//! The Lambda function `forgot_password_check_code`.

use std::sync::Arc;

use forgot_password_check_code::Function;
use shared::config::Environment;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    shared::telemetry::init();
    let environment = Environment::from_process();
    let function = Arc::new(Function::new(&environment, &shared::aws::config(&environment)?)?);
    shared::aws::before_invocations(&environment, function.connect()).await;
    shared::http::serve(move |request| {
        let function = Arc::clone(&function);
        async move { function.handle(request).await }
    })
    .await
}
