//! The Lambda function `forgot_password_send_email`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), shared::function::Error> {
    shared::function::run::<shared::endpoint::Api<forgot_password_send_email::SendEmail>>().await
}
