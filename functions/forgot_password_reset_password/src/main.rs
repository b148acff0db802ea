//! The Lambda function `forgot_password_reset_password`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), shared::function::Error> {
    shared::function::run::<shared::endpoint::Api<forgot_password_reset_password::ResetPassword>>().await
}
