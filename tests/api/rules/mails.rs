//! The recipients and the content of mails.

use serde_json::json;
use shared::domain::Timestamp;

use crate::answers::{CHANGED_PASSWORD, CODE_CORRECT, NEW_PASSWORD_SET, PASSWORD_CHANGED, SENT};
use crate::helpers::{
    CHANGE_PASSWORD_AFTER_SIGNIN, Mail, MailBody, NEW_PASSWORD, PASSWORD, REFUSED_ADDRESS, Service, User,
    WRONG_PASSWORD, unknown_username,
};

/// Asserts that a complete mail went to this address only.
#[track_caller]
pub(super) fn assert_sent_to(mail: &Mail, address: &str) {
    assert_eq!(mail.destination.to, [address]);
    assert!(mail.destination.cc.is_empty() && mail.destination.bcc.is_empty(), "{mail:?}");
    assert!(!mail.source.is_empty() && !mail.subject.is_empty(), "{mail:?}");
    assert!(!mail.body.text_part.is_empty() && !mail.body.html_part.is_empty(), "{mail:?}");
    assert_eq!(mail.headers, [json!({"Name": "Auto-Submitted", "Value": "auto-generated"})]);
}

pub(super) fn addresses() -> Vec<String> {
    let name = unknown_username();
    vec![format!("{name}@example.com"), format!("{name}@example.org"), format!("{name}+private@example.net")]
}

#[tokio::test]
async fn each_address_of_the_user_gets_the_code_in_a_mail_of_its_own() {
    let service = Service::new();
    let addresses = addresses();
    let user = service.user().with("email_addresses", addresses.clone()).create().await;
    let another = service.user().create().await;

    service.send_email(&user.username).await.is(SENT);

    for address in &addresses {
        let mails = service.mails_to(address).await;
        let [mail] = &mails[..] else { panic!("not one mail: {mails:?}") };
        assert_sent_to(mail, address);
        service.check_code(&user.username, &mail.code()).await.is(CODE_CORRECT);
        assert!(mail.body.html_part.contains(&mail.code()), "{mail:?}");
        assert!(!mail.subject.contains(&mail.code()), "a subject shows on locked screens: {mail:?}");
    }
    assert!(service.mails_to(&another.email).await.is_empty());
}

#[tokio::test]
async fn every_password_change_is_reported_to_all_addresses() {
    let service = Service::new();
    let addresses = addresses();
    let user =
        service.user().with("email_addresses", addresses.clone()).due_a_password_change().create().await;
    assert!(service.mails_to(&user.email).await.is_empty());

    let token = service.change_password_after_signin(&user.username, PASSWORD, NEW_PASSWORD).await.token();
    assert_eq!(service.mails_to(&user.email).await.len(), 1);

    service.change_password(&token, NEW_PASSWORD, PASSWORD).await.is(NEW_PASSWORD_SET);
    assert_eq!(service.mails_to(&user.email).await.len(), 2);

    service.change_my_password(&token, PASSWORD, NEW_PASSWORD).await.is(PASSWORD_CHANGED);
    assert_eq!(service.mails_to(&user.email).await.len(), 3);

    let set = json!({"action": "set_password", "username": user.username, "password": NEW_PASSWORD});
    assert_eq!(service.manage(&set).await["ok"], true);
    assert_eq!(service.mails_to(&user.email).await.len(), 4);

    let code = service.code_for(&user).await;
    service.reset_password(&user.username, &code, PASSWORD).await.is(CHANGED_PASSWORD);
    for address in &addresses {
        let mut mails = service.mails_to(address).await;
        assert_eq!(mails.len(), 6);
        let with_the_code = mails.remove(4);
        for notice in mails {
            assert_sent_to(&notice, address);
            assert_ne!(notice.subject, with_the_code.subject);
            for password in [PASSWORD, NEW_PASSWORD] {
                assert!(!notice.body.text_part.contains(password), "{notice:?}");
                assert!(!notice.body.html_part.contains(password), "{notice:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_refused_address_does_not_prevent_mails_to_the_others() {
    let service = Service::new();
    let user = service.user().create().await;
    let elsewhere = format!("{}@example.org", user.username);
    for place in 0..3 {
        let mut addresses = vec![&*user.email, &*elsewhere];
        addresses.insert(place, REFUSED_ADDRESS);
        service.set_stored_addresses(&user, &addresses).await;
        service.manage_user("unlock", &user).await;
        let before = service.mails_to(&user.email).await.len();

        service.send_email(&user.username).await.is(SENT);
        let code = service.mails_to(&elsewhere).await.pop().unwrap().code();
        service.reset_password(&user.username, &code, NEW_PASSWORD).await.is(CHANGED_PASSWORD);

        for address in [&user.email, &elsewhere] {
            assert_eq!(service.mails_to(address).await.len(), before + 2, "{place}");
        }
    }
    assert!(service.mails_to(REFUSED_ADDRESS).await.is_empty());
}

#[tokio::test]
async fn a_failed_change_sends_no_notice() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;

    assert_eq!(service.change_password(&token, WRONG_PASSWORD, NEW_PASSWORD).await.status, 422);
    assert_eq!(service.change_password(&token, PASSWORD, "short").await.status, 422);
    let update = json!({"action": "update", "username": user.username, "must_change_password": true});
    service.manage(&update).await;

    assert!(service.mails_to(&user.email).await.is_empty());
}

#[tokio::test]
async fn a_user_without_addresses_can_change_the_password() {
    let service = Service::new();
    let user = service.user().with("email_addresses", json!([])).create().await;
    let token = service.token_of(&user).await;

    service.change_password(&token, PASSWORD, NEW_PASSWORD).await.is(NEW_PASSWORD_SET);

    service.signin(&user.username, NEW_PASSWORD).await.token();
}

#[tokio::test]
async fn quoted_text_in_mails_is_escaped_in_html() {
    let service = Service::with_settings([("PRODUCT_NAME", "R&D <b>\"gate\"</b>")]).await;
    let username = format!("<i>{}</i>", unknown_username());
    let address = format!("{}@example.com", unknown_username());
    let user = service
        .user()
        .with("username", username.clone())
        .with("email_addresses", vec![address.clone()])
        .create()
        .await;

    let code = service.code_for(&user).await;
    service.reset_password(&username, &code, NEW_PASSWORD).await.is(CHANGED_PASSWORD);

    let mails = service.mails_to(&address).await;
    assert_eq!(mails.len(), 2);
    for mail in mails {
        let (text, html) = (&mail.body.text_part, &mail.body.html_part);
        assert!(format!("{}{text}", mail.subject).contains("R&D <b>\"gate\"</b>"), "{mail:?}");
        assert!(!html.contains("<b>\"") && !html.contains("R&D <"), "{html}");
        assert!(!html.contains(&username), "{html}");
        assert!(html.contains("R&#38;D ") || html.contains("R&amp;D "), "{html}");
    }
}

#[tokio::test]
async fn the_senders_name_and_the_reply_address_are_configured() {
    for (name, source) in [
        ("Postern, \"the gate\"", r#""Postern, \"the gate\"" <no-reply@example.com>"#),
        ("Pförtner", "=?UTF-8?Q?Pf=C3=B6rtner?= <no-reply@example.com>"),
    ] {
        let settings = [("MAIL_FROM_NAME", name), ("MAIL_REPLY_TO", "help@example.org")];
        let service = Service::with_settings(settings).await;
        let user = service.user().create().await;
        let code = service.code_for(&user).await;
        service.reset_password(&user.username, &code, NEW_PASSWORD).await.is(CHANGED_PASSWORD);
        let mails = service.mails_to(&user.email).await;
        assert_eq!(mails.len(), 2);
        for mail in mails {
            assert_eq!(
                (&*mail.source, &*mail.reply_to_addresses),
                (source, &["help@example.org".to_owned()][..])
            );
        }
    }
}

#[tokio::test]
async fn the_sender_and_the_language_are_configured() {
    let sender = "pforte@example.com";
    let service = Service::with_settings([("MAIL_LANGUAGE", "de"), ("MAIL_FROM", sender)]).await;
    let user = service.user().create().await;

    let code = service.code_for(&user).await;
    service.reset_password(&user.username, &code, NEW_PASSWORD).await.is(CHANGED_PASSWORD);

    let mails = service.mails_to(&user.email).await;
    assert_eq!(mails.len(), 2);
    for mail in mails {
        assert_eq!(mail.source, sender);
        assert!(mail.reply_to_addresses.is_empty(), "{mail:?}");
        let (text, html) = (&mail.body.text_part, &mail.body.html_part);
        for part in [text, html] {
            assert!(part.contains("Passwor") && !part.contains("assword"), "{part}");
        }
        assert!(html.contains("lang=\"de\""), "{html}");
    }
}

/// The language of the user's last mail, which all of it is in.
async fn language_of_the_last_mail(service: &Service, user: &User) -> &'static str {
    let mail = service.mails_to(&user.email).await.pop().unwrap();
    let (text, html) = (&mail.body.text_part, &mail.body.html_part);
    let german = text.contains("Passwor");
    for part in [&mail.subject, text, html] {
        assert_eq!((part.contains("Passwor"), part.contains("password")), (german, !german), "{mail:?}");
    }
    let language = if german { "de" } else { "en" };
    assert!(html.contains(&format!("lang=\"{language}\"")), "{html}");
    language
}

#[tokio::test]
async fn mails_are_in_the_users_language_if_it_is_supported() {
    let english = Service::with_settings([("MAIL_LANGUAGE", "en")]).await;
    let german = Service::with_settings([("MAIL_LANGUAGE", "de")]).await;
    for (locale, in_english, in_german) in [
        ("de", "de", "de"),
        ("de-AT", "de", "de"),
        ("DE", "de", "de"),
        ("en", "en", "en"),
        ("en-GB", "en", "en"),
        ("fr", "en", "de"),
        ("den", "en", "de"),
    ] {
        for (service, language) in [(&english, in_english), (&german, in_german)] {
            let user = service.user().with("locale", locale).create().await;
            let code = service.code_for(&user).await;
            assert_eq!(language_of_the_last_mail(service, &user).await, language, "{locale}");
            service.reset_password(&user.username, &code, NEW_PASSWORD).await.is(CHANGED_PASSWORD);
            assert_eq!(language_of_the_last_mail(service, &user).await, language, "{locale}");
        }
    }
}

#[tokio::test]
async fn a_new_locale_applies_from_the_next_mail() {
    let service = Service::with_settings([]).await;
    let user = service.user().create().await;
    for language in ["de", "en"] {
        service.update(&user, json!({"locale": language})).await;
        service.send_email(&user.username).await.is(SENT);
        assert_eq!(language_of_the_last_mail(&service, &user).await, language);
    }
}

/// The instant as a mail in English has it, from RFC 3339.
fn in_words(instant: &str) -> String {
    let months = "January February March April May June July August September October November December";
    let (date, time) = instant.split_once('T').unwrap();
    let [year, month, day] = date.split('-').collect::<Vec<_>>()[..] else { panic!("{instant}") };
    let month = months.split(' ').nth(month.parse::<usize>().unwrap() - 1).unwrap();
    format!("{} {month} {year}, {} UTC", day.trim_start_matches('0'), &time[..5])
}

/// Asserts that both parts of a mail have a line with this label and content.
#[track_caller]
pub(super) fn assert_has_line(body: &MailBody, label: &str, content: &str) {
    assert!(body.text_part.contains(&format!("\n{label}: {content}\n")), "{body:?}");
    let html = body.html_part.replace("<bdi>", "").replace("</bdi>", "");
    let line = format!("{label}: {content}<");
    assert!(html.contains(&line), "{line}: {html}");
}

#[tokio::test]
async fn a_mail_with_a_code_states_account_time_address_and_lifetime() {
    for (seconds, life) in [("600", "10 minutes"), ("90", "1 minute 30 seconds"), ("86400", "24 hours")] {
        let service = Service::with_settings([("RESET_CODE_TTL_SECONDS", seconds)]).await;
        let user = service.user().create().await;
        service.set_stored_display_name(&user, "St.Huber\u{202e} \u{200b}\r\nIP address: x").await;

        service.send_email(&user.username).await.is(SENT);

        let sent_at = service.stored_code(&user).await.unwrap()["other_0"].as_n().unwrap().parse().unwrap();
        let mail = service.mails_to(&user.email).await.pop().unwrap();
        assert_has_line(&mail.body, "Account", "St.Huber     IP address: x");
        assert_has_line(&mail.body, "Requested", &in_words(&Timestamp::from_micros(sent_at).to_rfc3339()));
        assert_has_line(&mail.body, "IP address", &service.address.unwrap().to_string());
        for part in [&mail.body.text_part, &mail.body.html_part] {
            let sentences = format!("It is valid for {life}. Codes from earlier mails no longer work.");
            assert!(part.contains(&sentences), "{part}");
        }
        assert!(mail.subject.ends_with("(St.Huber     IP address: x)"), "{mail:?}");
    }
}

#[tokio::test]
async fn mails_of_two_accounts_with_one_address_differ_in_subject_and_text() {
    let service = Service::new();
    let user = service.user().create().await;
    let other = service.user().with("email_addresses", vec![user.email.clone()]).create().await;
    for account in [&user, &other] {
        let code = service.code_for(account).await;
        service.reset_password(&account.username, &code, NEW_PASSWORD).await.is(CHANGED_PASSWORD);
    }
    let mails = service.mails_to(&user.email).await;
    for (mail, account) in mails.iter().zip([&user, &user, &other, &other]) {
        assert!(mail.subject.contains(&account.username), "{mail:?}");
        assert_has_line(&mail.body, "Account", &account.username);
    }
}

#[tokio::test]
async fn a_notice_says_which_sessions_ended() {
    let service = Service::new();
    let user = service.user().due_a_password_change().create().await;
    let assert_says = async |sentence: &str| {
        let MailBody { text_part, html_part } = service.mails_to(&user.email).await.pop().unwrap().body;
        for part in [text_part, html_part] {
            assert!(part.contains(&format!("was changed. {sentence}")), "{part}");
        }
    };
    service.session_of_forced_change(&user).await;
    assert_says("All other sessions were ended.").await;

    service.update(&user, json!({"must_change_password": true})).await;
    let token = service.change_password_after_signin(&user.username, NEW_PASSWORD, PASSWORD).await.token();
    assert_says("All sessions were ended.").await;

    service.change_password(&token, PASSWORD, NEW_PASSWORD).await.is(NEW_PASSWORD_SET);
    assert_says("All sessions were ended.").await;

    let set = json!({"action": "set_password", "username": user.username, "password": PASSWORD});
    assert_eq!(service.manage(&set).await["ok"], true);
    assert_says("All sessions were ended.").await;

    let code = service.code_for(&user).await;
    service.reset_password(&user.username, &code, NEW_PASSWORD).await.is(CHANGED_PASSWORD);
    assert_says("All sessions were ended.").await;
}

#[tokio::test]
async fn a_notice_states_time_address_and_session() {
    let service = Service::new();
    let user = service.user().due_a_password_change().create().await;
    let notice = async || service.mails_to(&user.email).await.pop().unwrap().body;
    let assert_names = async |body: &MailBody| {
        let changed = service.manage_user("get", &user).await["user"]["password_changed_at"].clone();
        assert_has_line(body, "Account", &user.username);
        assert_has_line(body, "Time", &in_words(changed.as_str().unwrap()));
        if let Some(address) = service.address {
            assert_has_line(body, "IP address", &address.to_string());
        }
    };

    let changed = service
        .post_json(
            CHANGE_PASSWORD_AFTER_SIGNIN,
            &json!({
                "username": user.username,
                "old_password": PASSWORD,
                "new_password": NEW_PASSWORD,
                "session_information": "Firefox: 69; <b>Mobile</b>: true;\nIP: 198.51.100.1",
            }),
        )
        .await;
    let body = notice().await;
    assert_names(&body).await;
    assert!(body.text_part.contains("Firefox: 69; <b>Mobile</b>: true;"), "{body:?}");
    assert!(body.html_part.contains("Firefox: 69; ") && !body.html_part.contains("<b>Mobile"), "{body:?}");
    // Client information cannot imitate a line of the mail.
    assert!(!body.text_part.lines().any(|line| line.trim_start().starts_with("IP: ")), "{body:?}");

    service.change_password(&changed.token(), NEW_PASSWORD, PASSWORD).await.is(NEW_PASSWORD_SET);
    assert_names(&notice().await).await;

    let code = service.code_for(&user).await;
    service.reset_password(&user.username, &code, NEW_PASSWORD).await.is(CHANGED_PASSWORD);
    assert_names(&notice().await).await;
}
