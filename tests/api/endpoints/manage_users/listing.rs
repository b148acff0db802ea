//! Users that are listed and found.

use serde_json::{Value, json};

use super::{assert_invalid, assert_refused, user_of};
use crate::helpers::{PASSWORD_HASH, Service, User, unknown_username};

/// Lists all users in pages of at most `limit`, and calls `between` after each page.
async fn list(service: &Service, limit: u64, mut between: impl AsyncFnMut(&[Value])) -> Vec<Value> {
    let (mut listed, mut page) = (Vec::new(), json!({"action": "list", "limit": limit}));
    loop {
        let mut answer = service.manage(&page).await;
        let cursor = answer.as_object_mut().unwrap().remove("cursor");
        assert_eq!(answer, json!({"ok": true, "users": answer["users"]}));
        let users = answer["users"].as_array().unwrap();
        assert!(users.len() as u64 <= limit, "{}", users.len());
        between(users).await;
        listed.extend_from_slice(users);
        match cursor {
            Some(cursor) => page["cursor"] = cursor,
            None => return listed,
        }
    }
}

#[tokio::test]
async fn a_new_deployment_has_no_user() {
    let service = Service::with_settings([]).await;

    assert_eq!(service.manage(&json!({"action": "list"})).await, json!({"ok": true, "users": []}));
}

#[tokio::test]
async fn every_user_is_listed_once_while_others_come_and_go() {
    let service = Service::with_settings([]).await;
    let mut users = Vec::new();
    for _ in 0..20 {
        users.push(service.user().create().await);
    }
    let mut passing = Vec::new();
    for _ in 0..20 {
        passing.push(service.user().create().await);
    }

    let mut deleted = Vec::new();
    let listed = list(&service, 3, async |page| {
        service.user().create().await;
        // Users of the page are deleted too, including its last one.
        let on_page = |user: &User| page.iter().any(|listed| listed["user_id"] == json!(user.id));
        let next = passing.iter().position(on_page).or(passing.len().checked_sub(1));
        if let Some(user) = next.map(|next| passing.remove(next)) {
            assert_eq!(service.manage_user("delete", &user).await, json!({"ok": true}));
            deleted.push(user);
        }
    })
    .await;

    for user in &users {
        let entries: Vec<&Value> = listed.iter().filter(|entry| entry["user_id"] == json!(user.id)).collect();
        let get = service.manage_user("get", user).await;
        assert_eq!(entries, [&user_of(&get)]);
    }
    assert!(deleted.len() > 6);
    let mut names: Vec<&str> = listed.iter().map(|user| user["username"].as_str().unwrap()).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
    assert!(!json!(listed).to_string().contains("argon2"));
}

#[tokio::test]
async fn a_list_continues_after_the_last_user_of_a_page_is_deleted() {
    let service = Service::with_settings([]).await;
    for _ in 0..5 {
        service.user().create().await;
    }

    let listed = list(&service, 1, async |page| {
        for user in page {
            let delete = json!({"action": "delete", "username": user["username"]});
            assert_eq!(service.manage(&delete).await, json!({"ok": true}));
        }
    })
    .await;

    assert_eq!(listed.len(), 5);
    assert_eq!(service.manage(&json!({"action": "list"})).await, json!({"ok": true, "users": []}));
}

#[tokio::test]
async fn a_page_has_a_hundred_users_by_default() {
    let service = Service::with_settings([]).await;
    let users: Vec<Value> =
        (0..100).map(|_| json!({"username": unknown_username(), "password_hash": PASSWORD_HASH})).collect();
    assert_eq!(service.manage(&json!({"action": "import", "users": users})).await["created"], 100);
    service.user().create().await;

    let first = service.manage(&json!({"action": "list"})).await;
    assert_eq!(first["users"].as_array().unwrap().len(), 100);
    let second = service.manage(&json!({"action": "list", "cursor": first["cursor"]})).await;
    assert_eq!((second["users"].as_array().unwrap().len(), &second["cursor"]), (1, &Value::Null));
    let all = service.manage(&json!({"action": "list", "limit": 1000, "cursor": null})).await;
    assert_eq!((all["users"].as_array().unwrap().len(), &all["cursor"]), (101, &Value::Null));
}

#[tokio::test]
async fn pages_are_validated() {
    let service = Service::new();
    for action in ["list", "count_outdated_hashes"] {
        for (field, value) in [
            ("limit", json!(0)),
            ("limit", json!(1001)),
            ("limit", json!(-1)),
            ("limit", json!(1.5)),
            ("limit", json!("10")),
            ("limit", json!(true)),
            ("cursor", json!(33)),
            ("cursor", json!("")),
            ("cursor", json!(["st.huber"])),
            ("cursor", json!("x".repeat(1000))),
        ] {
            let mut page = json!({"action": action});
            page[field] = value;
            assert_invalid(&service.manage(&page).await, field);
        }
    }
}

#[tokio::test]
async fn a_user_is_found_by_id() {
    let service = Service::new();
    let user = service.user().create().await;
    let by_name = user_of(&service.manage_user("get", &user).await);

    let by_id = service.manage(&json!({"action": "get", "user_id": user.id})).await;
    assert_eq!(user_of(&by_id), by_name);

    let unknown = service.manage(&json!({"action": "get", "user_id": unknown_username()})).await;
    assert_refused(&unknown, "unknown_username");
    let both = json!({"action": "get", "user_id": user.id, "username": user.username});
    assert_invalid(&service.manage(&both).await, "username");
    assert_invalid(&service.manage(&json!({"action": "get", "user_id": ""})).await, "user_id");
}

#[tokio::test]
async fn users_are_found_by_address_on_any_page() {
    let service = Service::with_settings([]).await;
    let mut users = Vec::new();
    for _ in 0..5 {
        users.push(service.user().create().await);
    }
    let shared = json!(["elsewhere@example.org", users[1].email]);
    service.update(&users[3], json!({"email_addresses": shared})).await;

    let (mut found, mut list) =
        (Vec::new(), json!({"action": "list", "limit": 1, "email_address": users[1].email.to_uppercase()}));
    let mut pages = 0;
    loop {
        let page = service.manage(&list).await;
        pages += 1;
        found.extend(
            page["users"]
                .as_array()
                .unwrap()
                .iter()
                .map(|user| user["username"].as_str().unwrap().to_owned()),
        );
        if page["cursor"].is_null() {
            break;
        }
        list["cursor"] = page["cursor"].clone();
    }
    found.sort_unstable();
    let mut expected = [users[1].username.clone(), users[3].username.clone()];
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert!(pages >= 5, "{pages}");

    let none = service.manage(&json!({"action": "list", "email_address": "unused@example.com"})).await;
    assert_eq!(none, json!({"ok": true, "users": []}));
    for address in [json!(""), json!("st.huber"), json!(33)] {
        assert_invalid(
            &service.manage(&json!({"action": "list", "email_address": address})).await,
            "email_address",
        );
    }
}
