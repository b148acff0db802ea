//! The Lambda function `session_signin`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), shared::function::Error> {
    shared::function::run::<shared::endpoint::Api<session_signin::SessionSignin>>().await
}
