//! The Lambda function `sessions`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), shared::function::Error> {
    shared::function::run::<shared::endpoint::Api<sessions::Sessions>>().await
}
