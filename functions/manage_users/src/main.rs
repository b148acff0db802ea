//! The Lambda function `manage_users`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), shared::function::Error> {
    shared::function::run::<manage_users::ManageUsers>().await
}
