//! The Lambda function `rotate_jwt_secret`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), shared::function::Error> {
    shared::function::run::<rotate_jwt_secret::RotateJwtSecret>().await
}
