//! The Lambda function `well_known`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), shared::function::Error> {
    shared::function::run::<shared::endpoint::Api<well_known::WellKnown>>().await
}
