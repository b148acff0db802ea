//! Notices of changes that an administrator makes.

use serde_json::{Value, json};

use super::mails::{addresses, assert_has_line, assert_sent_to};
use crate::helpers::{Mail, REFUSED_ADDRESS, Service, User, unknown_username};

/// The sentences of a notice to an address that the user has, and to one that the user has no longer.
const USED: [&str; 2] = ["sent to this address", "gehen an diese Adresse"];
const UNUSED: [&str; 2] = ["no longer sent to this address", "gehen nicht mehr an diese Adresse"];

async fn set_addresses(service: &Service, user: &User, addresses: &[&str]) {
    service.update(user, json!({"email_addresses": addresses})).await;
}

/// Asserts that the one mail to `address` is a notice with this sentence.
#[track_caller]
fn assert_told(mails: &[Mail], address: &str, user: &User, sentence: &str) {
    let [mail] = mails else { panic!("not one mail: {mails:?}") };
    assert_sent_to(mail, address);
    assert!(mail.subject.ends_with(&format!("({})", user.username)), "{mail:?}");
    for part in [&mail.body.text_part, &mail.body.html_part] {
        // The text has lines of its own.
        assert!(part.replace('\n', " ").contains(sentence), "{sentence}: {part}");
        assert!(!part.contains("@example."), "an address is shown: {part}");
    }
}

#[tokio::test]
async fn changed_addresses_are_told_at_the_old_and_the_new_ones() {
    let service = Service::new();
    for (language, used, unused) in [("en", USED[0], UNUSED[0]), ("de", USED[1], UNUSED[1])] {
        let [kept, old, new] = &addresses()[..] else { unreachable!() };
        let before = json!([kept, old]);
        let user = service.user().with("email_addresses", before).with("locale", language).create().await;
        set_addresses(&service, &user, &[new, kept]).await;

        for (address, sentence) in [(kept, used), (old, unused), (new, used)] {
            let mails = service.mails_to(address).await;
            assert_told(&mails, address, &user, sentence);
            let account = if language == "de" { "Konto" } else { "Account" };
            assert_has_line(&mails[0].body, account, &user.username);
            assert!(mails[0].body.html_part.contains(&format!("lang=\"{language}\"")));
            if sentence == used {
                assert!(
                    !mails[0].body.text_part.contains(" longer ")
                        && !mails[0].body.text_part.contains(" mehr ")
                );
            }
        }
    }
}

#[tokio::test]
async fn the_first_and_the_last_address_of_a_user_are_told_as_well() {
    let service = Service::new();
    let address = format!("{}@example.com", unknown_username());
    let user = service.user().with("email_addresses", json!([])).create().await;
    set_addresses(&service, &user, &[&address]).await;
    let mut mails = service.mails_to(&address).await;
    assert_told(&mails, &address, &user, USED[0]);

    set_addresses(&service, &user, &[]).await;
    mails = service.mails_to(&address).await.split_off(mails.len());
    assert_told(&mails, &address, &user, UNUSED[0]);
}

#[tokio::test]
async fn an_update_that_changes_no_address_sends_no_notice() {
    let service = Service::new();
    let addresses = addresses();
    let user = service.user().with("email_addresses", addresses.clone()).create().await;
    let upper = format!("{}@EXAMPLE.COM", addresses[0].split_once('@').unwrap().0);
    for update in [
        json!({"email_addresses": [addresses[2], addresses[1], addresses[0]]}),
        json!({"email_addresses": [upper, addresses[1], addresses[2]]}),
        json!({"must_change_password": true, "locale": "de"}),
    ] {
        service.update(&user, update).await;
    }
    // One that is refused changes nothing either.
    let refused = json!({"action": "update", "username": user.username, "email_addresses": ["x"]});
    assert_eq!(service.manage(&refused).await["error_code"], "validation_failed");
    for address in &addresses {
        assert!(service.mails_to(address).await.is_empty());
    }
}

#[tokio::test]
async fn a_notice_that_fails_does_not_fail_the_change_of_addresses() {
    let service = Service::new();
    let user = service.user().create().await;
    service.set_stored_addresses(&user, &[REFUSED_ADDRESS]).await;
    let address = format!("{}@example.org", user.username);
    set_addresses(&service, &user, &[&address]).await;
    assert_told(&service.mails_to(&address).await, &address, &user, USED[0]);

    service.set_stored_addresses(&user, &[REFUSED_ADDRESS]).await;
    set_addresses(&service, &user, &[]).await;
    let shown = service.manage_user("get", &user).await;
    assert_eq!(shown["user"]["email_addresses"], Value::Array(Vec::new()));
}

#[tokio::test]
async fn a_notice_of_changed_addresses_is_escaped() {
    let service = Service::with_settings([("PRODUCT_NAME", "R&D <b>\"gate\"</b>")]).await;
    let username = format!("<i>{}</i>", unknown_username());
    let user =
        service.user().with("username", username.clone()).with("email_addresses", json!([])).create().await;
    let address = format!("{}@example.com", unknown_username());
    set_addresses(&service, &user, &[&address]).await;
    let [mail] = &service.mails_to(&address).await[..] else { panic!("not one mail") };
    assert!(mail.subject.contains("R&D <b>\"gate\"</b>"), "{mail:?}");
    let html = &mail.body.html_part;
    assert!(!html.contains("<b>\"") && !html.contains("R&D <") && !html.contains(&username), "{html}");
}
