//! Usernames, e-mail addresses, ids, language tags and addresses of clients: accepted values are within their limits, and an address cannot
//! inject a line, a header or another recipient into a mail.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shared::domain::{
    EmailAddress, Locale, SessionId, SessionInformation, SessionKey, SessionToken, UserId, Username,
    ViewerAddress,
};

fuzz_target!(|text: &str| {
    let chars = text.chars().count();
    match Username::parse(text) {
        Ok(username) => {
            let normalised = username.normalised();
            assert!((1..=190).contains(&chars) && (1..=190).contains(&normalised.chars().count()));
            assert!(!normalised.trim().is_empty());
            assert_eq!(username.display(), text);
            assert_eq!(Username::parse(normalised).unwrap().normalised(), normalised);
        }
        // NFKC turns one character into at most 18, and lowercasing into at most 3.
        Err(_) => assert!(text.trim().is_empty() || chars > 190 / 18 / 3, "{text:?}"),
    }
    if let Ok(address) = EmailAddress::parse_new(text) {
        let kept = address.as_str();
        let (local, domain) = kept.rsplit_once('@').unwrap();
        assert_eq!(Some(local), text.rsplit_once('@').map(|(local, _)| local));
        // SES accepts at most 64 octets before the @ and 255 after it (RFC 5321 §4.5.3.1).
        assert!(kept.len() <= 320 && kept.bytes().all(|byte| byte.is_ascii_graphic()), "{text:?}");
        let plain = |text: &str| text.bytes().all(|byte| !b" \"(),:;<>@[\\]".contains(&byte));
        assert!(plain(local) && plain(domain) && domain.contains('.') && !domain.contains('_'), "{text:?}");
        assert!(!domain.bytes().any(|byte| byte.is_ascii_uppercase()), "{text:?}");
        assert!(EmailAddress::parse_new(kept) == Ok(address.clone()), "{text:?}");
        assert!(EmailAddress::from_stored(kept) == Some(address), "{text:?}");
    }
    if let Some(user_id) = UserId::parse(text) {
        assert!((1..=190).contains(&chars) && text.bytes().all(|byte| (b'!'..=b'~').contains(&byte)));
        assert_eq!(user_id.as_str(), text);
    }
    if let Some(locale) = Locale::parse(text) {
        assert!(text.len() <= 35 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
        assert!((2..=8).contains(&locale.language().len()));
    }
    // Only the canonical spelling of an id is accepted.
    let id = text.parse::<u32>().ok().filter(|id| (1..=0x7fff_ffff).contains(id));
    let id = id.filter(|id| id.to_string() == text);
    assert_eq!(SessionId::parse(text).map(SessionId::as_number), id);
    let is_alphanumeric = text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let token = SessionToken::parse(text.to_owned());
    assert_eq!(token.is_some(), text.len() == 64 && is_alphanumeric);
    if let Some(token) = token {
        assert_eq!((token.expose(), token.key().owner.as_str()), (text, &text[..22]));
    }
    if let Some(key) = SessionKey::parse(text) {
        assert_eq!(key.to_string(), text);
    }
    assert_eq!(SessionInformation::parse(text.to_owned()).is_some(), (1..=190).contains(&chars));
    if let Ok(viewer) = text.parse::<ViewerAddress>() {
        let (address, port) = text.rsplit_once(':').unwrap();
        assert_eq!(address.parse(), Ok(viewer.ip()));
        assert!(port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok(), "{text:?}");
    }
});
