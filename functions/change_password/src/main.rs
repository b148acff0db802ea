//! The Lambda function `change_password`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), shared::function::Error> {
    shared::function::run::<shared::endpoint::Api<change_password::ChangePassword>>().await
}
