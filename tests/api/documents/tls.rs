//! The certificate authorities that the functions trust.

use serde_json::Value;
use shared::aws::Dependency::DynamoDb;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use uuid::Uuid;

use super::metrics::Local;
use crate::answers::{PASSWORD_CHANGED, validation_failed};
use crate::helpers::{BREACHED, BreachService, PASSWORD, aws_config};

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

#[tokio::test]
async fn the_operating_systems_authorities_are_trusted_for_the_service_of_breached_passwords() {
    let (breaches, root) = BreachService::behind_tls().await;
    let file = std::env::temp_dir().join(format!("{}.pem", Uuid::new_v4()));
    std::fs::write(&file, root).unwrap();
    // Where OpenSSL looks for the operating system's authorities.
    for (variable, is_trusted) in [("SSL_CERT_FILE", true), ("AWS_CA_BUNDLE", false)] {
        let local = Local::start_with([
            ("PASSWORD_BREACH_URL", &*breaches.url),
            ("PASSWORD_BREACH_TIMEOUT_MS", "5000"),
            (variable, file.to_str().unwrap()),
        ]);
        let user = local.service.user().create().await;
        let token = local.service.token_of(&user).await;

        let answer = local.service.change_my_password(&token, PASSWORD, BREACHED).await;

        let mut warnings = local.lines();
        warnings.retain(|line| line["level"] == "WARN");
        if is_trusted {
            answer.is((422, &validation_failed(&[("new_password", "The new password is too common.")])));
            assert_eq!(warnings, [Value::Null; 0]);
        } else {
            answer.is(PASSWORD_CHANGED);
            let [warning] = &warnings[..] else { panic!("{warnings:?}") };
            assert_eq!(warning["message"], "new password not compared with breached ones");
            assert_eq!(warning["event"], "change_my_password");
            let cause = warning["cause"].as_str().unwrap();
            assert!(cause.contains("UnknownIssuer") && !cause.contains("ABF7A"), "{cause}");
        }
    }
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn a_missing_bundle_stops_the_start() {
    let refused = aws_config("http://127.0.0.1", Some("/nowhere.pem"));
    assert!(refused.unwrap_err().to_string().starts_with("AWS_CA_BUNDLE is refused: "));
}
