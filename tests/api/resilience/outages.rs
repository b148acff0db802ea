//! Responses when the store or the mail service is down, or stored data is damaged.

use std::net::SocketAddr;
use std::time::Duration;

use aws_sdk_sesv2::error::SdkError;
use aws_sdk_sesv2::operation::send_email::SendEmailError;
use futures_util::future::{join, join_all};
use serde_json::{Value, json};
use shared::aws::{had_no_effect, single_attempt};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::answers::{
    CHANGED_PASSWORD, NEW_PASSWORD_SET, SERVICE_UNAVAILABLE, USERNAME_OR_PASSWORD_INCORRECT,
};
use crate::helpers::{
    ApiResponse, NEW_PASSWORD, PASSWORD, PASSWORD_HASH, SIGNIN, Service, WRONG_CODE, aws_config,
    unknown_username,
};

/// Asserts an error of `change_password` with this status in its own envelope.
#[track_caller]
fn assert_envelope(answer: &ApiResponse, status: u16) {
    assert_eq!(answer.status, status, "{answer:?}");
    let envelope = answer.json();
    assert_eq!(envelope, json!({"success": false, "code": status, "message": envelope["message"]}));
    assert!(envelope["message"].is_string(), "{envelope}");
}

#[tokio::test]
async fn no_sign_in_succeeds_without_the_counters() {
    let service = Service::with_settings([]).await;
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    let due = service.user().due_a_password_change().create().await;
    service.lose_table(&service.tables.source_ips).await;

    service.signin(&user.username, PASSWORD).await.is_refused_for(SERVICE_UNAVAILABLE);
    service.signin(&unknown_username(), PASSWORD).await.is_refused_for(SERVICE_UNAVAILABLE);
    let forced = service.change_password_after_signin(&due.username, PASSWORD, NEW_PASSWORD).await;
    forced.is_refused_for(SERVICE_UNAVAILABLE);
    let changed = service.change_password(&token, PASSWORD, NEW_PASSWORD).await;
    assert_envelope(&changed, 503);
    assert!(changed.header("retry-after").is_some());
    service.check_old_password(&token, PASSWORD).await.is_refused_for(SERVICE_UNAVAILABLE);
    service.change_my_password(&token, PASSWORD, NEW_PASSWORD).await.is_refused_for(SERVICE_UNAVAILABLE);

    for user in [user, due] {
        assert_eq!(service.stored_user(&user).await["password_hash"].as_s().unwrap(), PASSWORD_HASH);
        assert!(service.mails_to(&user.email).await.is_empty());
    }
}

#[tokio::test]
async fn no_code_is_sent_or_accepted_without_the_table_of_codes() {
    let service = Service::with_settings([]).await;
    let user = service.user().create().await;
    let code = service.code_for(&user).await;
    service.lose_table(&service.tables.reset_codes).await;

    service.send_email(&user.username).await.is_refused_for(SERVICE_UNAVAILABLE);
    service.check_code(&user.username, WRONG_CODE).await.is_refused_for(SERVICE_UNAVAILABLE);
    let reset = service.reset_password(&user.username, &code, NEW_PASSWORD).await;
    reset.is_refused_for(SERVICE_UNAVAILABLE);

    assert_eq!(service.mails_to(&user.email).await.len(), 1);
    service.signin(&user.username, PASSWORD).await.token();
}

#[tokio::test]
async fn no_session_works_without_the_table_of_sessions() {
    let service = Service::with_settings([]).await;
    let user = service.user().create().await;
    let (token, session_token) = service.session_of(&user).await;
    let [id] = &service.session_ids(&token).await[..] else { panic!("not one session") };
    service.lose_table(&service.tables.sessions).await;

    service.session_signin(&session_token).await.is_refused_for(SERVICE_UNAVAILABLE);
    service.sessions(&token).await.is_refused_for(SERVICE_UNAVAILABLE);
    service.delete_session(&token, id).await.is_refused_for(SERVICE_UNAVAILABLE);
    service.log_out(&token, &session_token).await.is_refused_for(SERVICE_UNAVAILABLE);
    let stay = json!({"username": user.username, "password": PASSWORD, "stay_logged_in": true});
    service.post_json(SIGNIN, &stay).await.is_refused_for(SERVICE_UNAVAILABLE);
    service.signin(&user.username, PASSWORD).await.token();
}

#[tokio::test]
async fn no_token_is_accepted_and_no_user_listed_without_the_table_of_users() {
    let service = Service::with_settings([]).await;
    let user = service.user().create().await;
    let (token, session_token) = service.session_of(&user).await;
    service.lose_table(&service.tables.users).await;

    service.session_signin(&session_token).await.is_refused_for(SERVICE_UNAVAILABLE);
    service.sessions(&token).await.is_refused_for(SERVICE_UNAVAILABLE);
    let payloads = [
        json!({"action": "list"}),
        json!({"action": "delete", "username": user.username}),
        json!({"action": "revoke_sessions", "username": user.username}),
        json!({"action": "rename", "username": user.username, "new_username": unknown_username()}),
        json!({"action": "count_outdated_hashes"}),
    ];
    for answer in join_all(payloads.iter().map(async |payload| service.manage(payload).await)).await {
        assert_eq!(answer, json!({"ok": false, "error_code": "service_unavailable", "msg": answer["msg"]}));
        assert_tells_nothing(&answer);
    }
    let entry = json!({"username": unknown_username(), "password_hash": PASSWORD_HASH});
    let imported = service.manage(&json!({"action": "import", "users": [entry]})).await;
    let failed = json!([{"username": entry["username"], "error_code": "service_unavailable"}]);
    assert_eq!(imported, json!({"ok": true, "created": 0, "failed": failed}));
    let exported = service.invoke("export_users", &json!({})).await;
    assert_eq!((&exported["ok"], &exported["error_code"]), (&json!(false), &json!("service_unavailable")));
}

#[tokio::test]
async fn a_failed_mail_fails_a_request_for_a_code_but_no_change() {
    let service = Service::new();
    let user = service.user().create().await;
    let code = service.code_for(&user).await;
    service.make_unreachable(&user).await;

    service.reset_password(&user.username, &code, PASSWORD).await.is(CHANGED_PASSWORD);
    let token = service.signin(&user.username, PASSWORD).await.token();
    service.change_password(&token, PASSWORD, NEW_PASSWORD).await.is(NEW_PASSWORD_SET);
    service.signin(&user.username, NEW_PASSWORD).await.token();
    let set = json!({"action": "set_password", "username": user.username, "password": NEW_PASSWORD});
    assert_eq!(service.manage(&set).await["ok"], true);
    service.signin(&user.username, NEW_PASSWORD).await.token();

    service.send_email(&user.username).await.is_refused_for(SERVICE_UNAVAILABLE);
}

/// The error of a mail that is sent to a service at this address in one attempt.
async fn mail_error(address: SocketAddr) -> SdkError<SendEmailError> {
    let aws = aws_config(&format!("http://{address}"), None).unwrap();
    let client = aws_sdk_sesv2::Client::new(&single_attempt(&aws));
    client.send_email().send().await.unwrap_err()
}

#[tokio::test]
async fn a_broken_connection_may_have_sent_a_mail_and_a_refused_one_has_not() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (error, attempts) = join(mail_error(address), async {
        let (mut connection, _) = listener.accept().await.unwrap();
        connection.read_u8().await.unwrap();
        drop(connection);
        // A second attempt would be made within moments.
        timeout(Duration::from_millis(300), listener.accept()).await.is_err()
    })
    .await;
    assert!(!had_no_effect(&error), "{error:?}");
    assert!(attempts, "there was a second attempt");

    drop(listener);
    let error = mail_error(address).await;
    assert!(had_no_effect(&error), "{error:?}");
}

#[tokio::test]
async fn a_damaged_hash_is_an_internal_error() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    for damaged in [
        "",
        PASSWORD,
        "$argon2id$v=19$m=19456,t=2,p=1$4O7",
        // Within the format, but it would take four gigabytes and minutes.
        "$argon2id$v=19$m=4194304,t=64,p=1$4O7+kCWYXl7T9/8aD9Wj3Q$f6poR1PRgPWLiYLd2Ehal82cKodMOBG8MC0z3tSte8s",
        "$2b$31$abcdefghijklmnopqrstuuPB9RWYRRck5oJKhif9wMsqxq6MYwhq2",
        "$scrypt$ln=30,r=8,p=1$LlC1Mgfav9+QZyhX5GKlxw$If5TOsaL+3giRCQKJcPGPPoH3btS3u903f2D8ndwzdk",
        "$pbkdf2-sha256$i=4294967295,l=32$TVxX2uVcxLTzi81W4lC/9A$T2cO6ru6ToQk1ww12eUactqTR+F4wZ2tIMVn+6stCeY",
    ] {
        service.set_stored_hash(&user, damaged).await;
        let answer = service.signin(&user.username, PASSWORD).await;
        assert_eq!(answer.status, 500, "{damaged}: {answer:?}");
        let body = answer.json();
        assert_eq!(body, json!({"msg": body["msg"], "error_code": "internal_error"}));
        assert_tells_nothing(&body);

        let answer = service.change_password(&token, PASSWORD, NEW_PASSWORD).await;
        assert_envelope(&answer, 500);
        assert_tells_nothing(&answer.json());

        // Each of the two counts like a wrong password.
        assert_eq!(service.failures(&user.username).await, 2, "{damaged}");
        service.manage_user("unlock", &user).await;
    }
    service.set_stored_hash(&user, PASSWORD_HASH).await;
    service.token_of(&user).await;
    service.signin(&user.username, NEW_PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
}

#[track_caller]
fn assert_tells_nothing(body: &Value) {
    let text = body.to_string().to_lowercase();
    for internal in
        ["hash", "argon2", "bcrypt", "scrypt", "pbkdf2", "phc", "panic", "store", "dynamodb", "attribute"]
    {
        assert!(!text.contains(internal), "{text}");
    }
}
