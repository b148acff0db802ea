//! The certificate authorities that the functions trust.

use shared::aws::Dependency::DynamoDb;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::helpers::aws_config;

const REFUSES: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn only_amazons_authorities_are_trusted_unless_aws_ca_bundle_names_others() {
    let (acceptor, root) = tls::acceptor().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            // A client that does not trust the certificate closes the connection.
            if let Ok(mut connection) = acceptor.accept(connection).await {
                connection.write_all(REFUSES).await.unwrap();
                connection.shutdown().await.unwrap();
            }
        }
    });
    let file = std::env::temp_dir().join(format!("{}.pem", Uuid::new_v4()));
    std::fs::write(&file, root).unwrap();
    let bundle = file.to_str();

    for (bundle, outcome) in [(None, "UnknownIssuer"), (bundle, "unknown code")] {
        let aws = aws_config(&url, bundle).unwrap();
        let called = aws_sdk_dynamodb::Client::new(&aws).list_tables().send().await;
        let failure = DynamoDb.record_failure("ListTables", &called.unwrap_err()).to_string();
        assert!(failure.contains(outcome), "{failure}");
    }
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn a_missing_bundle_stops_the_start() {
    let refused = aws_config("http://127.0.0.1", Some("/nowhere.pem"));
    assert!(refused.unwrap_err().to_string().starts_with("AWS_CA_BUNDLE is refused: "));
}
