//! The routes of sessions: signing in by a session token, and listing and ending one's own sessions. When a session
//! ends otherwise is in `session_lifetimes`.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::answers::{
    Documented, LOGGED_OUT, MALFORMED_JSON, NO_SESSION_TO_LOG_OUT, NO_SESSIONS, SESSION_DELETED,
    SESSION_NOT_FOUND, SESSION_TOKEN_INCORRECT, TOKEN_EXPIRED, TOKEN_INCORRECT, TOKEN_NOT_PROVIDED,
    validation_failed,
};
use crate::helpers::{
    ApiResponse, DAY, LOG_OUT, PASSWORD, SESSION_INFORMATION, SESSION_SIGNIN, SESSIONS, SIGNIN, Secret,
    Service, claims,
};

/// Returns the sessions of a list, and asserts that it is written exactly as documented.
#[track_caller]
fn listed(answer: &ApiResponse) -> Vec<Value> {
    let sessions = answer.json()["sessions"].as_array().unwrap().clone();
    let written: Vec<String> = sessions
        .iter()
        .map(|session| {
            format!(
                r#"{{"id":{},"information":{},"last_used":{}}}"#,
                session["id"], session["information"], session["last_used"]
            )
        })
        .collect();
    let body = format!(r#"{{"msg":"List of all sessions","sessions":[{}]}}"#, written.join(","));
    answer.is((200, &body));
    sessions
}

#[tokio::test]
async fn a_session_token_gets_new_tokens() {
    let service = Service::new();
    let user = service.user().create().await;
    let (first, session_token) = service.session_of(&user).await;

    let second = service.session_signin(&session_token).await.token_of_session();
    let third = service.session_signin(&session_token).await.token_of_session();

    for token in [&first, &second, &third] {
        assert!(service.takes(token).await);
    }
    assert_eq!(claims(&second)["sub"], claims(&first)["sub"]);
    assert_ne!(claims(&second)["jti"], claims(&third)["jti"]);
}

#[tokio::test]
async fn a_forced_change_starts_a_session_too() {
    let service = Service::new();
    let user = service.user().due_a_password_change().create().await;
    let (token, session_token) = service.session_of_forced_change(&user).await;

    assert_eq!(listed(&service.sessions(&token).await)[0]["information"], SESSION_INFORMATION);
    assert_eq!(session_of_token(&token), session_of_token_of(&session_token));
    service.session_signin(&session_token).await.token_of_session();
}

#[tokio::test]
async fn a_wrong_session_token_is_incorrect() {
    let service = Service::new();
    let user = service.user().create().await;
    let (token, session_token) = service.session_of(&user).await;
    let [id] = &service.session_ids(&token).await[..] else { panic!("not one session") };

    for wrong in [
        "x",
        "2XRq1yubqq53A347PcWLRVlOj1rArsvx5u4keovU1T20FG51vXyVzNU73K1RDBhh",
        id,
        &token[..190],
        &session_token[..63],
        &format!("{session_token}0"),
        &format!(" {session_token}"),
        &session_token.to_lowercase(),
        &[&session_token[..22], &session_token[22..].to_lowercase()].concat(),
        &[&session_token[22..], &session_token[..22]].concat(),
        &"0".repeat(64),
        &"😀".repeat(190),
        "\0",
    ] {
        let answer = service.session_signin(wrong).await;
        assert_eq!((answer.status, answer.body.as_str()), SESSION_TOKEN_INCORRECT, "{wrong}");
    }
    service.session_signin(&session_token).await.token_of_session();
}

#[tokio::test]
async fn stored_and_listed_values_are_not_session_tokens() {
    let service = Service::new();
    let user = service.user().create().await;
    let (token, session_token) = service.session_of(&user).await;

    let list = service.sessions(&token).await;
    let stored = service.stored_sessions(&user).await;
    assert!(!format!("{list:?}{stored:?}").contains(&session_token), "{list:?} {stored:?}");
    for text in stored[0].values().filter_map(|value| value.as_s().ok()) {
        service.session_signin(text).await.is(SESSION_TOKEN_INCORRECT);
    }
    // The stamp, with which tokens could be forged if the key were known too, is stored in the users table only.
    let stamp = service.stored_user(&user).await["security_stamp"].as_s().unwrap().clone();
    assert!(!format!("{stored:?}").contains(&stamp));
    assert_eq!(stored[0]["stamp_hash"].as_b().unwrap().as_ref(), Sha256::digest(&stamp).as_slice());
    assert_eq!(stored[0]["token_hash"].as_b().unwrap().as_ref(), Sha256::digest(&session_token).as_slice());
    for session in listed(&list) {
        service.log_out(&token, &session["id"].to_string()).await.is(NO_SESSION_TO_LOG_OUT);
    }
}

#[tokio::test]
async fn a_users_sessions_are_listed_oldest_first() {
    let service = Service::new();
    let user = service.user().create().await;
    service.session_of(&service.user().create().await).await;
    service.sessions(&service.token_of(&user).await).await.is(NO_SESSIONS);

    for information in [json!("first"), json!(null), json!("„dritte“ <3>")] {
        let body = json!({
            "username": user.username,
            "password": PASSWORD,
            "session_information": information,
            "stay_logged_in": true,
        });
        service.post_json(SIGNIN, &body).await.token_and_session_token();
    }
    let sessions = listed(&service.sessions(&service.token_of(&user).await).await);

    let information: Vec<&Value> = sessions.iter().map(|session| &session["information"]).collect();
    assert_eq!(information, [&json!("first"), &json!(""), &json!("„dritte“ <3>")]);
    let mut ids: Vec<i32> = sessions.iter().map(id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 3);
    for session in &sessions {
        let last_used = session["last_used"].as_str().unwrap();
        let (seconds, rest) = last_used.split_at("2020-06-11T17:48:13".len());
        let form: String = seconds
            .chars()
            .map(|character| if character.is_ascii_digit() { '0' } else { character })
            .collect();
        assert_eq!((&*form, rest), ("0000-00-00T00:00:00", ".000000Z"), "{last_used}");
    }
}

/// The id in an entry of a list, as the Android client reads it: a positive `Int`.
#[track_caller]
fn id(session: &Value) -> i32 {
    let id = serde_json::from_value(session["id"].clone()).unwrap();
    assert!(id >= 1, "{session}");
    id
}

/// The owner and the id of the session that a JSON Web Token is bound to.
#[track_caller]
fn session_of_token(token: &str) -> String {
    claims(token)["sid"].as_str().unwrap().to_owned()
}

/// The owner and the id in a session token: its first 22 characters, and 31 bits of its hash.
fn session_of_token_of(session_token: &str) -> String {
    let hash = Sha256::digest(session_token);
    let id = u32::from_be_bytes(hash[..4].try_into().unwrap()) % 0x7fff_ffff + 1;
    format!("{}.{id}", &session_token[..22])
}

#[tokio::test]
async fn a_session_token_is_the_owners_handle_and_42_random_characters() {
    let service = Service::new();
    let [user, other] = [service.user().create().await, service.user().create().await];
    let (first_jwt, first) = service.session_of(&user).await;
    let (_, second) = service.session_of(&user).await;
    let (_, of_other) = service.session_of(&other).await;

    for token in [&first, &second, &of_other] {
        assert!(token.len() == 64 && token.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{token}");
    }
    assert_eq!(first[..22], second[..22]);
    assert_ne!(first[..22], of_other[..22]);
    assert_ne!(first[22..], second[22..]);
    let later_jwt = service.session_signin(&first).await.token_of_session();
    for jwt in [first_jwt, later_jwt] {
        assert_eq!(session_of_token(&jwt), session_of_token_of(&first));
    }
    assert!(claims(&service.token_of(&user).await)["sid"].is_null());
}

#[tokio::test]
async fn use_does_not_change_the_order_of_sessions() {
    let service = Service::new();
    let user = service.user().create().await;
    let (_, oldest) = service.session_of(&user).await;
    let token = service.token_of(&user).await;
    service.age_sessions(&user, DAY).await;
    let [first] = &service.session_ids(&token).await[..] else { panic!("not one session") };
    service.session_of(&user).await;

    service.session_signin(&oldest).await.token_of_session();

    let [_, _] = &service.session_ids(&token).await[..] else { panic!("not two sessions") };
    assert_eq!(service.session_ids(&token).await[0], *first);
}

#[tokio::test]
async fn using_a_session_updates_its_information_and_last_use() {
    let service = Service::new();
    let user = service.user().create().await;
    let (token, session_token) = service.session_of(&user).await;
    service.age_sessions(&user, DAY).await;
    let only = async || listed(&service.sessions(&token).await).remove(0);
    let before = only().await;
    assert_eq!(before["information"], SESSION_INFORMATION);

    let body = json!({"session_token": session_token, "session_information": "Firefox: 70"});
    service.post_json(SESSION_SIGNIN, &body).await.token_of_session();
    let after = only().await;
    assert_eq!((&after["id"], &after["information"]), (&before["id"], &json!("Firefox: 70")));
    assert!(after["last_used"].as_str() > before["last_used"].as_str(), "{before} {after}");

    // Without new information, the old one is kept.
    for body in [
        json!({"session_token": session_token}),
        json!({"session_token": session_token, "session_information": null}),
    ] {
        service.post_json(SESSION_SIGNIN, &body).await.token_of_session();
        assert_eq!(only().await["information"], "Firefox: 70");
    }
}

#[tokio::test]
async fn listing_does_not_count_as_use() {
    let service = Service::new();
    let user = service.user().create().await;
    let (token, _) = service.session_of(&user).await;

    let list = service.sessions(&token).await;

    assert_eq!(service.sessions(&token).await.body, list.body);
}

#[tokio::test]
async fn deleting_a_session_ends_no_other() {
    let service = Service::new();
    let user = service.user().create().await;
    let (_, first) = service.session_of(&user).await;
    let (token, second) = service.session_of(&user).await;
    let ids = service.session_ids(&token).await;

    service.delete_session(&token, &ids[0]).await.is(SESSION_DELETED);

    service.session_signin(&first).await.is(SESSION_TOKEN_INCORRECT);
    service.session_signin(&second).await.token_of_session();
    assert_eq!(service.session_ids(&token).await, ids[1..]);
    service.delete_session(&token, &ids[0]).await.is(SESSION_NOT_FOUND);
}

#[tokio::test]
async fn logging_out_ends_no_other_session() {
    let service = Service::new();
    let user = service.user().create().await;
    let (_, first) = service.session_of(&user).await;
    let (token, second) = service.session_of(&user).await;

    service.log_out(&token, &first).await.is(LOGGED_OUT);

    service.session_signin(&first).await.is(SESSION_TOKEN_INCORRECT);
    service.log_out(&token, &first).await.is(NO_SESSION_TO_LOG_OUT);
    service.session_signin(&second).await.token_of_session();
    assert_eq!(service.session_ids(&token).await.len(), 1);
    service.log_out(&token, &second).await.is(LOGGED_OUT);
    service.sessions(&service.token_of(&user).await).await.is(NO_SESSIONS);
}

#[tokio::test]
async fn another_users_session_is_not_found() {
    let service = Service::new();
    let (token, session_token) = service.session_of(&service.user().create().await).await;
    let another = service.token_of(&service.user().create().await).await;
    let [id] = &service.session_ids(&token).await[..] else { panic!("not one session") };

    service.delete_session(&another, id).await.is(SESSION_NOT_FOUND);
    service.log_out(&another, &session_token).await.is(NO_SESSION_TO_LOG_OUT);

    service.session_signin(&session_token).await.token_of_session();
    assert_eq!(service.session_ids(&token).await, [id.as_str()]);
}

#[tokio::test]
async fn an_invalid_id_is_not_found() {
    let service = Service::new();
    let user = service.user().create().await;
    let (token, session_token) = service.session_of(&user).await;

    let [own] = &service.session_ids(&token).await[..] else { panic!("not one session") };
    for id in [
        "x",
        "0",
        &format!("0{own}"),
        &format!("+{own}"),
        &format!("%2B{own}"),
        &format!("-{own}"),
        &format!("%20{own}"),
        &format!("{own}%20"),
        &format!("{own}.0"),
        &(own.parse::<u64>().unwrap() + (1 << 32)).to_string(),
        "2147483648",
        &Uuid::new_v4().to_string(),
        &session_token,
        &"0".repeat(64),
        "%00",
        "%F0%9F%98%80",
        "%ff",
    ] {
        let answer = service.delete_session(&token, id).await;
        assert_eq!((answer.status, answer.body.as_str()), SESSION_NOT_FOUND, "{id}");
    }
    service.delete_session(&token, &"0".repeat(2000)).await.is(SESSION_NOT_FOUND);
    service.session_signin(&session_token).await.token_of_session();
}

/// The responses of the three routes to one query and header, for a session that does not exist.
async fn answers(service: &Service, query: &str, authorization: Option<&str>) -> [ApiResponse; 3] {
    let ask = async |method: &str, path: &str, body: &str| {
        let mut request = service.request(method, &format!("{path}{query}")).body(body.to_owned());
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        ApiResponse::to(request).await
    };
    [
        ask("GET", SESSIONS, "").await,
        ask("DELETE", &format!("{SESSIONS}/x"), "").await,
        ask("POST", LOG_OUT, r#"{"session_token":"x"}"#).await,
    ]
}

async fn taken(service: &Service, query: &str, authorization: Option<&str>) {
    let [list, delete, log_out] = answers(service, query, authorization).await;
    list.is(NO_SESSIONS);
    delete.is(SESSION_NOT_FOUND);
    log_out.is(NO_SESSION_TO_LOG_OUT);
}

async fn refused(service: &Service, query: &str, authorization: Option<&str>, documented: Documented) {
    for answer in answers(service, query, authorization).await {
        let seen = (answer.status, answer.body.as_str());
        assert_eq!(seen, documented, "{query} {authorization:?}");
        let challenge =
            if documented == TOKEN_NOT_PROVIDED { "Bearer" } else { r#"Bearer error="invalid_token""# };
        assert_eq!(answer.header("www-authenticate"), Some(challenge), "{query} {authorization:?}");
    }
}

#[tokio::test]
async fn the_token_is_read_from_the_header_or_the_query() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    let bearer = format!("Bearer {token}");

    taken(&service, "", Some(&bearer)).await;
    taken(&service, &format!("?token={token}"), None).await;
    taken(&service, &format!("?sort=asc&token={token}&page=2"), None).await;
    taken(&service, &format!("?token=%65{}", &token[1..]), None).await;
    // The last one wins, wherever it stands.
    taken(&service, &format!("?token=null&token={token}"), None).await;
    taken(&service, &format!("?token=a,b&x=1&token={token}&y=2"), None).await;
    refused(&service, &format!("?token={token}&token=null"), None, TOKEN_INCORRECT).await;
    refused(&service, &format!("?token={token},{token}"), None, TOKEN_INCORRECT).await;
    // The header wins over the query.
    taken(&service, "?token=null", Some(&bearer)).await;
    refused(&service, &format!("?token={token}"), Some("Bearer null"), TOKEN_INCORRECT).await;
}

#[tokio::test]
async fn a_missing_token_is_reported() {
    let service = Service::new();
    refused(&service, "", None, TOKEN_NOT_PROVIDED).await;
    refused(&service, "", Some(""), TOKEN_NOT_PROVIDED).await;
    refused(&service, "", Some("Bearer"), TOKEN_NOT_PROVIDED).await;
    refused(&service, "?", None, TOKEN_NOT_PROVIDED).await;
    refused(&service, "?token", None, TOKEN_NOT_PROVIDED).await;
    refused(&service, "?token=", None, TOKEN_NOT_PROVIDED).await;
    refused(&service, "?Token=x&tokens=y", None, TOKEN_NOT_PROVIDED).await;

    for answer in answers(&service, "", None).await {
        answer.is(TOKEN_NOT_PROVIDED);
    }
}

#[tokio::test]
async fn expired_and_incorrect_tokens_are_distinguished() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    let (header, mut claims) = (jsonwebtoken::decode_header(&token).unwrap(), claims(&token));
    let secret = service.jwt_secret().await;
    let issued = claims["iat"].as_i64().unwrap();
    claims["iat"] = json!(issued - 3601);
    claims["exp"] = json!(issued - 1);
    let expired = secret.sign(&header, &claims);
    let other_secret = Secret { value: secret.version_id.clone(), version_id: secret.version_id };
    let forged = other_secret.sign(&header, &claims);

    refused(&service, "", Some(&format!("Bearer {expired}")), TOKEN_EXPIRED).await;
    refused(&service, &format!("?token={expired}"), None, TOKEN_EXPIRED).await;
    refused(&service, &format!("?token={token}&token={expired}"), None, TOKEN_EXPIRED).await;
    taken(&service, &format!("?token={expired}&token={token}"), None).await;
    // The claims of a forged token do not matter.
    refused(&service, &format!("?token={forged}"), None, TOKEN_INCORRECT).await;
}

#[tokio::test]
async fn an_invalid_or_revoked_token_is_incorrect() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    let (rest, _) = token.rsplit_once('.').unwrap();
    for wrong in ["null", "x.y.z", rest, &format!("{rest}."), &format!("{token}x"), "%00"] {
        refused(&service, &format!("?token={wrong}"), None, TOKEN_INCORRECT).await;
    }

    service.manage_user("revoke_sessions", &user).await;
    refused(&service, "", Some(&format!("Bearer {token}")), TOKEN_INCORRECT).await;

    let token = service.token_of(&user).await;
    service.update(&user, json!({"activated": false})).await;
    refused(&service, &format!("?token={token}"), None, TOKEN_INCORRECT).await;

    service.update(&user, json!({"activated": true})).await;
    let token = service.token_of(&user).await;
    service.manage_user("delete", &user).await;
    refused(&service, &format!("?token={token}"), None, TOKEN_INCORRECT).await;
}

#[tokio::test]
async fn the_token_is_checked_before_the_body() {
    let service = Service::new();
    for body in ["{", "{}", r#"{"session_token":33}"#] {
        service.post(LOG_OUT, body).await.is(TOKEN_NOT_PROVIDED);
        service.post(&format!("{LOG_OUT}?token=null"), body).await.is(TOKEN_INCORRECT);
    }
    service.post(LOG_OUT, " ".repeat(17 * 1024)).await.is(TOKEN_NOT_PROVIDED);
}

#[tokio::test]
async fn logging_out_validates_its_body() {
    let service = Service::new();
    let user = service.user().create().await;
    let (token, session_token) = service.session_of(&user).await;
    let path = format!("{LOG_OUT}?token={token}");

    for body in ["", "[]", "{", r#"{"session_token":"x",}"#, r#"{"session_token":"x","session_token":"x"}"#] {
        service.post(&path, body).await.is(MALFORMED_JSON);
    }
    let missing = validation_failed(&[("session_token", "The session token field is required.")]);
    for body in [json!({}), json!({"session_token": null}), json!({"session_token": ""})] {
        service.post_json(&path, &body).await.is((422, &missing));
    }
    let no_string = validation_failed(&[("session_token", "The session token must be a string.")]);
    service.post_json(&path, &json!({"session_token": 33})).await.is((422, &no_string));
    let too_long = "The session token may not be greater than 190 characters.";
    let too_long = validation_failed(&[("session_token", too_long)]);
    service.log_out(&token, &"x".repeat(191)).await.is((422, &too_long));
    service.log_out(&token, &"😀".repeat(190)).await.is(NO_SESSION_TO_LOG_OUT);

    let padded = json!({"x": " ".repeat(16 * 1024), "session_token": session_token});
    let answer = service.post_json(&path, &padded).await;
    assert_eq!((answer.status, &answer.json()["error_code"]), (413, &json!("payload_too_large")));
    let body = json!({"x": {"session_token": 1}, "session_token": session_token});
    service.post_json(&path, &body).await.is(LOGGED_OUT);
}
