//! The Lambda function `change_my_password`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), shared::function::Error> {
    shared::function::run::<shared::endpoint::Api<change_my_password::ChangeMyPassword>>().await
}
