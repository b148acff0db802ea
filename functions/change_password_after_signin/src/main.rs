//! The Lambda function `change_password_after_signin`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), shared::function::Error> {
    shared::function::run::<shared::endpoint::Api<change_password_after_signin::ChangePasswordAfterSignin>>()
        .await
}
