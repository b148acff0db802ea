//! The e-mail addresses that `manage_users` takes, and the form in which they are kept.

use serde_json::{Value, json};

use crate::answers::SENT;
use crate::helpers::{PASSWORD_HASH, Service, unknown_username};

/// The message about the field of addresses in an answer that refuses nothing else.
#[track_caller]
fn message(answer: &Value) -> &str {
    assert_eq!(answer["error_code"], "validation_failed", "{answer}");
    let errors = answer["errors"].as_object().unwrap();
    assert_eq!(errors.keys().collect::<Vec<_>>(), ["email_addresses"], "{answer}");
    answer["errors"]["email_addresses"][0].as_str().unwrap()
}

fn creation(addresses: impl Into<Value>) -> Value {
    json!({
        "action": "create",
        "username": unknown_username(),
        "password_hash": PASSWORD_HASH,
        "email_addresses": addresses.into(),
    })
}

#[tokio::test]
async fn addresses_that_the_mail_service_refuses_are_refused_with_position_and_reason() {
    let service = Service::new();
    let user = service.user().create().await;
    for (refused, rule) in [
        ("\"<>\"@good.example", "has a quoted local part, which the mail service refuses"),
        ("\"st huber\"@good.example", "has a quoted local part, which the mail service refuses"),
        ("st.huber@localhost", "has no dot in its domain, which the mail service refuses"),
        ("st.huber@exa_mple.com", "has an underscore in its domain, which the mail service refuses"),
        ("st.huber", "is not an e-mail address"),
        ("häuber@good.example", "is not an e-mail address"),
    ] {
        let addresses = json!(["ok@good.example", refused]);
        let expected = format!("The email addresses field is invalid: number 2 {rule}.");
        assert_eq!(message(&service.manage(&creation(addresses.clone())).await), expected);
        let update = json!({"action": "update", "username": user.username, "email_addresses": addresses});
        assert_eq!(message(&service.manage(&update).await), expected);
    }
    let several = creation(json!(["a@localhost", "ok@good.example", 33]));
    assert_eq!(
        message(&service.manage(&several).await),
        "The email addresses field is invalid: number 1 has no dot in its domain, which the mail service refuses; \
         number 3 is not an e-mail address."
    );
    let kept = service.manage_user("get", &user).await;
    assert_eq!(kept["user"]["email_addresses"], json!([user.email]));
}

#[tokio::test]
async fn an_internationalised_domain_is_stored_in_its_ascii_form_and_gets_mail() {
    let service = Service::new();
    let local = unknown_username();
    let written = format!("{local}@Straße.MÜNCHEN.example");
    let kept = format!("{local}@xn--strae-oqa.xn--mnchen-3ya.example");
    let user = service.user().with("email_addresses", vec![written]).create().await;

    let got = service.manage_user("get", &user).await;
    assert_eq!(got["user"]["email_addresses"], json!([kept]));
    service.send_email(&user.username).await.is(SENT);
    assert_eq!(service.mails_to(&kept).await.len(), 1);
}

#[tokio::test]
async fn a_duplicate_address_is_stored_once_and_gets_one_mail() {
    let service = Service::new();
    let name = unknown_username();
    let written = [
        "example.com",
        "EXAMPLE.com",
        "other.example",
        "Example.Com",
        "münchen.example",
        "xn--mnchen-3ya.example",
    ];
    let written: Vec<_> = written.iter().map(|domain| format!("{name}@{domain}")).collect();
    let kept =
        ["example.com", "other.example", "xn--mnchen-3ya.example"].map(|domain| format!("{name}@{domain}"));
    let user = service.user().with("email_addresses", written).create().await;

    let got = service.manage_user("get", &user).await;
    assert_eq!(got["user"]["email_addresses"], json!(kept));
    service.send_email(&user.username).await.is(SENT);
    for address in &kept {
        assert_eq!(service.mails_to(address).await.len(), 1, "{address}");
    }

    // Local parts are case-sensitive, and only the recipient's server may interpret them.
    let update = json!([format!("{name}@example.com"), format!("{}@example.com", name.to_uppercase())]);
    service.update(&user, json!({"email_addresses": update})).await;
    assert_eq!(service.manage_user("get", &user).await["user"]["email_addresses"], update);
}

#[tokio::test]
async fn a_user_has_at_most_ten_addresses() {
    let service = Service::new();
    let name = unknown_username();
    let mut addresses: Vec<_> = (0..10).map(|number| format!("{name}.{number}@example.com")).collect();
    addresses.push(format!("{name}.0@EXAMPLE.com"));
    let user = service.user().with("email_addresses", addresses.clone()).create().await;
    service.send_email(&user.username).await.is(SENT);
    for address in &addresses {
        assert_eq!(service.mails_to(address).await.len(), 1, "{address}");
    }

    addresses.push(format!("{name}.10@example.com"));
    assert_eq!(
        message(&service.manage(&creation(addresses)).await),
        "The email addresses must be a list of at most 10 e-mail addresses."
    );
}
