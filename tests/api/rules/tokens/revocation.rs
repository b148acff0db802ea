//! Changes that revoke tokens.

use serde_json::json;

use crate::answers::{CHANGED_PASSWORD, NEW_PASSWORD_SET, UNAUTHORIZED};
use crate::helpers::{NEW_PASSWORD, PASSWORD, Service};

#[tokio::test]
async fn a_change_revokes_every_token_except_the_one_that_made_it() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;
    let other = service.token_of(&user).await;

    service.change_password(&token, PASSWORD, NEW_PASSWORD).await.is(NEW_PASSWORD_SET);

    assert!(service.takes(&token).await);
    service.change_password(&other, NEW_PASSWORD, PASSWORD).await.is(UNAUTHORIZED);
    let new = service.signin(&user.username, NEW_PASSWORD).await.token();

    // The token stays valid, and the next change revokes the tokens issued since.
    service.change_password(&token, NEW_PASSWORD, PASSWORD).await.is(NEW_PASSWORD_SET);
    assert!(service.takes(&token).await);
    assert!(!service.takes(&new).await);
    assert!(!service.takes(&other).await);

    // A change by another token revokes the one that was kept before.
    let last = service.token_of(&user).await;
    service.change_password(&last, PASSWORD, NEW_PASSWORD).await.is(NEW_PASSWORD_SET);
    assert!(service.takes(&last).await);
    assert!(!service.takes(&token).await);
}

#[tokio::test]
async fn a_forced_change_revokes_every_token_but_its_own() {
    let service = Service::new();
    let user = service.user().create().await;
    let old = service.token_of(&user).await;
    let due = json!({"action": "update", "username": user.username, "must_change_password": true});
    service.manage(&due).await;

    let new = service.change_password_after_signin(&user.username, PASSWORD, NEW_PASSWORD).await.token();

    assert!(service.takes(&new).await);
    assert!(!service.takes(&old).await);
}

#[tokio::test]
async fn a_reset_revokes_every_token() {
    let service = Service::new();
    let user = service.user().create().await;
    let kept = service.token_of(&user).await;
    service.change_password(&kept, PASSWORD, NEW_PASSWORD).await.is(NEW_PASSWORD_SET);
    let other = service.signin(&user.username, NEW_PASSWORD).await.token();

    let code = service.code_for(&user).await;
    assert!(service.takes(&kept).await);
    service.reset_password(&user.username, &code, PASSWORD).await.is(CHANGED_PASSWORD);

    assert!(!service.takes(&kept).await);
    assert!(!service.takes(&other).await);
    assert!(service.takes(&service.token_of(&user).await).await);
}

#[tokio::test]
async fn an_operators_new_password_revokes_every_token() {
    let service = Service::new();
    let user = service.user().create().await;
    let kept = service.token_of(&user).await;
    service.change_password(&kept, PASSWORD, NEW_PASSWORD).await.is(NEW_PASSWORD_SET);

    let set = json!({"action": "set_password", "username": user.username, "password": PASSWORD});
    assert_eq!(service.manage(&set).await["ok"], true);

    assert!(!service.takes(&kept).await);
    assert!(service.takes(&service.token_of(&user).await).await);
}

#[tokio::test]
async fn deactivation_revokes_tokens_permanently() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;

    let activated =
        |activated: bool| json!({"action": "update", "username": user.username, "activated": activated});
    service.manage(&activated(false)).await;
    service.change_password(&token, PASSWORD, NEW_PASSWORD).await.is(UNAUTHORIZED);

    service.manage(&activated(true)).await;
    assert!(!service.takes(&token).await);
    assert!(service.takes(&service.token_of(&user).await).await);
}

#[tokio::test]
async fn other_updates_revoke_no_token() {
    let service = Service::new();
    let user = service.user().create().await;
    let token = service.token_of(&user).await;

    for update in [
        json!({"email_addresses": ["elsewhere@example.com"]}),
        json!({"must_change_password": true}),
        json!({"activated": true}),
    ] {
        let mut update = update;
        update["action"] = json!("update");
        update["username"] = json!(user.username);
        assert_eq!(service.manage(&update).await["ok"], true);
        assert!(service.takes(&token).await, "{update}");
    }
    // The token's owner may end the pending change with it.
    service.change_password(&token, PASSWORD, NEW_PASSWORD).await.is(NEW_PASSWORD_SET);
    service.signin(&user.username, NEW_PASSWORD).await.token();
}
