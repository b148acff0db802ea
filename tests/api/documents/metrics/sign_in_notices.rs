//! The notices of sign-ins from new networks, made of the lines that `signin` writes.

use serde_json::{Value, json};
use support::metric_filters::MetricFilter;

use super::Local;
use crate::documents::events::{assert_cases, read};
use crate::documents::template::with_parameters;
use crate::helpers::{PASSWORD, Service, User, WRONG_PASSWORD, unknown_username};

/// 26 November 2026, 17:58:53 UTC, in milliseconds since the Unix epoch.
const AT: i64 = 1_795_715_933_000;

/// The filter by which `CloudWatch` Logs chooses lines.
fn filter() -> MetricFilter {
    let resources = with_parameters(&[("SIGN_IN_NOTICES", "true")]).resources().unwrap();
    let pattern = resources[&"NewNetworks".to_owned()].properties["FilterPattern"].as_str().unwrap();
    let transformation = json!({"MetricNamespace": "n", "MetricName": "n", "MetricValue": "1"});
    MetricFilter::new("/aws/lambda/postern".to_owned(), pattern, &transformation).unwrap()
}

/// A line like those of `signin`.
fn line(user: &User) -> String {
    let line = json!({
        "event": "signin",
        "outcome": "signed_in",
        "new_network": true,
        "user_id": user.id,
        "source_ip": "203.0.113.9",
    });
    line.to_string()
}

#[tokio::test]
async fn a_sign_in_from_a_new_network_is_told_at_every_address_and_others_are_not() {
    let local = Local::start();
    let service = &local.service;
    let addresses = [(); 2].map(|()| format!("{}@example.com", unknown_username()));
    let user = service.user().with("email_addresses", json!(addresses)).create().await;
    let elsewhere = service.seen_from_elsewhere();
    // The first network of all, a known one, a new one with a wrong password and with the right one, and then known.
    for (client, password) in [
        (service, PASSWORD),
        (service, PASSWORD),
        (&elsewhere, WRONG_PASSWORD),
        (&elsewhere, PASSWORD),
        (&elsewhere, PASSWORD),
    ] {
        client.signin(&user.username, password).await;
    }
    let lines = local.lines();
    let filter = filter();
    assert_eq!(lines.iter().filter(|line| filter.apply(line).is_some()).count(), 1);

    // The function reads the lines as strictly as the filter.
    let all: Vec<_> = lines.iter().map(|line| (AT, line.to_string())).collect();
    assert_eq!(service.notify(&all).await, Ok(Value::Null));
    for address in &addresses {
        let mails = service.mails_to(address).await;
        let [mail] = &mails[..] else { panic!("{mails:?}") };
        let text = &mail.body.text_part;
        assert!(text.contains("Time: 26 November 2026, 17:58 UTC\n"), "{text}");
        assert!(text.contains(&format!("IP address: {}\n", elsewhere.address.unwrap())), "{text}");
        assert!(text.contains(&user.username) && text.contains("reset your"), "{text}");
        assert!(!mail.body.html_part.contains("href"), "{}", mail.body.html_part);
    }
    let told: Vec<_> = local.answers_of("notify_sign_in");
    let told: Vec<_> = told.iter().map(|line| json!([line["outcome"], line["user_id"]])).collect();
    assert_eq!(told, [json!(["notified", user.id])]);
}

#[tokio::test]
async fn a_user_gets_five_notices_a_day_however_many_networks_a_thief_has() {
    let service = Service::new();
    let user = service.user().with("locale", json!("de")).create().await;
    for minute in 0..8 {
        service.notify(&[(AT + minute, line(&user))]).await.unwrap();
    }
    let mails = service.mails_to(&user.email).await;
    assert_eq!(mails.len(), 5);
    assert!(mails[0].body.text_part.contains("Zeit: 26. November 2026, 17:58 UTC\n"));

    // The same line again counts once.
    let other = service.user().create().await;
    for _ in 0..3 {
        service.notify(&[(AT, line(&other))]).await.unwrap();
    }
    for minute in 1..8 {
        service.notify(&[(AT + minute, line(&other))]).await.unwrap();
    }
    assert_eq!(service.mails_to(&other.email).await.len(), 3 + 4);
}

#[tokio::test]
async fn a_user_who_is_gone_or_has_no_address_gets_no_notice() {
    let service = Service::new();
    let gone = service.user().create().await;
    service.manage_user("delete", &gone).await;
    let without = service.user().with("email_addresses", json!([])).create().await;
    let lines = [(AT, line(&gone)), (AT, line(&without))];
    assert_eq!(service.notify(&lines).await, Ok(Value::Null));
    assert!(service.mails_to(&gone.email).await.is_empty());
}

#[tokio::test]
async fn a_notice_that_fails_is_an_error_which_lambda_repeats_and_keeps_none_from_others() {
    let service = Service::new();
    let unreachable = service.user().create().await;
    service.make_unreachable(&unreachable).await;
    let other = service.user().create().await;
    let failed = service.notify(&[(AT, line(&unreachable)), (AT, line(&other))]).await;
    assert_eq!(failed.unwrap_err()["errorMessage"], "Service unavailable, try again later");
    assert_eq!(service.mails_to(&other.email).await.len(), 1);
}

#[tokio::test]
async fn a_malformed_event_is_an_error_and_a_test_of_the_subscription_is_none() {
    let service = Service::new();
    let user = service.user().create().await;
    let without_address = line(&user).replace("source_ip", "address");
    for message in ["", "text", "[]", "{}", &without_address] {
        let failed = service.notify(&[(AT, message.to_owned())]).await;
        assert_eq!(failed.unwrap_err()["errorMessage"], "Internal error", "{message}");
    }
    for data in ["!", "AAAA", ""] {
        let event = json!({"awslogs": {"data": data}});
        assert!(service.try_invoke("notify_sign_in", &event).await.is_err(), "{data}");
    }
    assert!(service.try_invoke("notify_sign_in", &json!({})).await.is_err());
    let control = service.notify_by("CONTROL_MESSAGE", &[(AT, line(&user))]).await;
    assert_eq!(control, Ok(Value::Null));
    assert!(service.mails_to(&user.email).await.is_empty());
}

#[tokio::test]
async fn the_example_of_an_event_names_a_user_who_is_gone() {
    assert_cases("notify_sign_in", &["new_network"]);
    let event = read("notify_sign_in/new_network");
    assert_eq!(Service::new().invoke("notify_sign_in", &event).await, Value::Null);
}
