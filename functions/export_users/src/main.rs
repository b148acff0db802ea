//! The Lambda function `export_users`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), shared::function::Error> {
    shared::function::run::<export_users::ExportUsers>().await
}
