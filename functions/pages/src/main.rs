//! The Lambda function `pages`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), shared::function::Error> {
    shared::function::run_without_aws::<shared::endpoint::Api<pages::Pages>>().await
}
