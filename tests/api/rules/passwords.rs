//! Passwords: their characters and length, and their stored hashes.

use serde_json::json;

use crate::answers::{CHANGED_PASSWORD, NEW_PASSWORD_SET, USERNAME_OR_PASSWORD_INCORRECT};
use crate::helpers::{NEW_PASSWORD, OTHER_ARGON2_HASH, PASSWORD, PASSWORD_HASH, Service};

pub(crate) const DEFAULT_PARAMETERS: &str = "$argon2id$v=19$m=19456,t=2,p=1$";

/// [`PASSWORD`] under bcrypt, as three systems write it.
const BCRYPT_HASHES: [&str; 3] = [
    "$2a$04$abcdefghijklmnopqrstuuPB9RWYRRck5oJKhif9wMsqxq6MYwhq2",
    "$2b$04$abcdefghijklmnopqrstuuPB9RWYRRck5oJKhif9wMsqxq6MYwhq2",
    "$2y$04$abcdefghijklmnopqrstuuPB9RWYRRck5oJKhif9wMsqxq6MYwhq2",
];
/// [`PASSWORD`] under PBKDF2, scrypt and older Argon2, as PHC strings.
const OTHER_PHC_HASHES: [&str; 7] = [
    "$pbkdf2-sha256$i=10000,l=32$TVxX2uVcxLTzi81W4lC/9A$T2cO6ru6ToQk1ww12eUactqTR+F4wZ2tIMVn+6stCeY",
    "$pbkdf2-sha512$i=10000,l=32$Tz71xHwsLurtLZeD08SW4Q$e87L0pWmBweNam/kPEY85Sb4yFPtv5jrZPpyyZGjdBQ",
    "$pbkdf2-sha512$i=10000,l=64$bIVeLFIWrTHyfm8cW7+D5w\
     $hZJN1WzPcG1GVBE7PegqMLhUo8gFhttMxvKo2ZDGjsAQI6i4la1Rjmj8LIWv9VDSfPizmcLa5uAv0juT3pKMkQ",
    "$pbkdf2-sha512$i=1000$c2FsdHNhbHRzYWx0c2FsdA\
     $rN0RvsPHLrX+Sm6SRXLV8ueoAPMTOre496XyUkZkuw2i95IjajYDzc8ke101vIs7DE78VoSEQfkNLrhK/FNecQ",
    "$scrypt$ln=4,r=8,p=2,l=20$c2FsdHNhbHRzYWx0c2FsdA$EwKlVhZnoO9yRsYfInVs8qa6qWU",
    "$argon2i$m=1024,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$ilQnMxWvCI1iEl4imD/vPxsU7Cqd+vS7TtUa77Aj+fY",
    "$scrypt$ln=12,r=8,p=2$LlC1Mgfav9+QZyhX5GKlxw$If5TOsaL+3giRCQKJcPGPPoH3btS3u903f2D8ndwzdk",
];
const BCRYPT_HASH_OF_72_X: &str = "$2y$04$abcdefghijklmnopqrstuubzadhGtS2zEF.gu0yd0opP6cVzb.e0i";

/// [`PASSWORD`] hashed in every supported format.
pub(crate) fn imported_hashes() -> impl Iterator<Item = &'static str> {
    BCRYPT_HASHES.into_iter().chain(OTHER_PHC_HASHES).chain([OTHER_ARGON2_HASH])
}

#[tokio::test]
async fn passwords_are_stored_as_argon2id_with_the_default_parameters() {
    let service = Service::new();
    let user = service.user().with_password(PASSWORD).create().await;
    let mut hashes = vec![service.stored_hash(&user).await];

    let token = service.token_of(&user).await;
    service.change_password(&token, PASSWORD, NEW_PASSWORD).await.is(NEW_PASSWORD_SET);
    hashes.push(service.stored_hash(&user).await);

    let code = service.code_for(&user).await;
    service.reset_password(&user.username, &code, PASSWORD).await.is(CHANGED_PASSWORD);
    hashes.push(service.stored_hash(&user).await);

    let due = json!({"action": "update", "username": user.username, "must_change_password": true});
    service.manage(&due).await;
    service.change_password_after_signin(&user.username, PASSWORD, NEW_PASSWORD).await.token();
    hashes.push(service.stored_hash(&user).await);

    let set = json!({"action": "set_password", "username": user.username, "password": PASSWORD});
    service.manage(&set).await;
    hashes.push(service.stored_hash(&user).await);

    assert!(hashes.iter().all(|hash| hash.starts_with(DEFAULT_PARAMETERS)), "{hashes:?}");
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), 5, "each has a salt of its own");
}

#[tokio::test]
async fn a_sign_in_rehashes_an_imported_password() {
    let service = Service::new();
    for hash in imported_hashes() {
        let user = service.user().with("password_hash", hash).create().await;
        service.signin(&user.username, NEW_PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
        assert_eq!(service.stored_hash(&user).await, hash);

        let token = service.token_of(&user).await;

        let rehashed = service.stored_hash(&user).await;
        assert!(rehashed.starts_with(DEFAULT_PARAMETERS), "{rehashed}");
        // The password is the same, so nothing is revoked and no notice is sent.
        assert!(service.takes(&token).await);
        assert!(service.mails_to(&user.email).await.is_empty());
        service.token_of(&user).await;
        assert_eq!(service.stored_hash(&user).await, rehashed);
    }
}

#[tokio::test]
async fn a_hash_with_the_configured_parameters_is_kept() {
    let service = Service::new();
    let user = service.user().create().await;
    service.token_of(&user).await;

    assert_eq!(service.stored_hash(&user).await, PASSWORD_HASH);
}

#[tokio::test]
async fn an_imported_password_can_be_changed_in_every_way() {
    let service = Service::new();
    for hash in imported_hashes() {
        let user = service.user().with("password_hash", hash).due_a_password_change().create().await;
        let token =
            service.change_password_after_signin(&user.username, PASSWORD, NEW_PASSWORD).await.token();
        service.change_password(&token, NEW_PASSWORD, PASSWORD).await.is(NEW_PASSWORD_SET);
        service.token_of(&user).await;
    }
}

#[tokio::test]
async fn a_password_may_have_any_characters_and_all_of_them_count() {
    let service = Service::new();
    let user = service.user().create().await;
    let mut token = service.token_of(&user).await;
    let mut current = PASSWORD.to_owned();

    let longest = "😀".repeat(256);
    for (password, others) in [
        ("  two spaces  ".to_owned(), vec!["two spaces".to_owned(), "  two spaces".to_owned()]),
        ("null\0inside\0".to_owned(), vec!["null".to_owned(), "null\0inside".to_owned()]),
        ("\t\r\n\u{3000}\u{a0}\u{200b}  ".to_owned(), vec!["\t\r\n\u{3000}\u{a0}\u{200b} ".to_owned()]),
        ("pässwörd🔑\u{1F468}\u{200D}\u{1F467}".to_owned(), vec!["password🔑".to_owned()]),
        ("\"quoted\\\" </script>".to_owned(), vec!["\"quoted\" </script>".to_owned()]),
        (longest.clone(), vec!["😀".repeat(255)]),
    ] {
        service.change_password(&token, &current, &password).await.is(NEW_PASSWORD_SET);
        for other in others {
            service.signin(&user.username, &other).await.is(USERNAME_OR_PASSWORD_INCORRECT);
        }
        token = service.signin(&user.username, &password).await.token();
        current = password;
    }
}

#[tokio::test]
async fn all_characters_count_with_a_bcrypt_hash_too() {
    let service = Service::new();
    // bcrypt itself repeats its input, separated by a zero byte, and uses only 72 bytes.
    let longest = "x".repeat(72);
    for (hash, password, others) in [
        (BCRYPT_HASHES[0], PASSWORD, [format!("{PASSWORD}\0"), format!("{PASSWORD}\0{PASSWORD}")]),
        (BCRYPT_HASH_OF_72_X, &longest, [format!("{longest}x"), format!("{longest}\0")]),
    ] {
        let user = service.user().with("password_hash", hash).create().await;
        for other in others {
            service.signin(&user.username, &other).await.is(USERNAME_OR_PASSWORD_INCORRECT);
        }
        service.signin(&user.username, password).await.token();
    }
}

#[tokio::test]
async fn the_minimum_length_is_configured() {
    let service = Service::with_settings([("PASSWORD_MIN_LENGTH", "1")]).await;
    let user = service.user().with_password("x").create().await;
    let token = service.signin(&user.username, "x").await.token();

    service.change_password(&token, "x", "y").await.is(NEW_PASSWORD_SET);
    let code = service.code_for(&user).await;
    service.reset_password(&user.username, &code, "z").await.is(CHANGED_PASSWORD);
    service.signin(&user.username, "z").await.token();
}
