//! The Lambda function `smoke_test`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), shared::function::Error> {
    shared::function::run::<smoke_test::SmokeTest>().await
}
