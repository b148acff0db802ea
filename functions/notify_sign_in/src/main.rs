//! The Lambda function `notify_sign_in`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), shared::function::Error> {
    shared::function::run::<notify_sign_in::NotifySignIn>().await
}
