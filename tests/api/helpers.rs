//! What the tests share: a client of the service, its users, their mail, and the store behind it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, ReturnConsumedCapacity, WriteRequest};
use aws_types::SdkConfig;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::{Algorithm, Header};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256, Sha384, Sha512};
use shared::settings::{ConfigError, Settings};
use shared::store::TableNames;
use support::{Options, Stack};
use uuid::Uuid;

use crate::answers::{Documented, SENT};
use crate::documents::document::assert_documented;

/// The password of every user that [`Service::user`] makes.
pub(crate) const PASSWORD: &str = "Password1234!";
/// What [`PASSWORD`] is changed to.
pub(crate) const NEW_PASSWORD: &str = "NewPassword1234!";
/// A password that is nobody's.
pub(crate) const WRONG_PASSWORD: &str = "Password1234?";
/// A code that never is anybody's: it is too short.
pub(crate) const WRONG_CODE: &str = "48290";
/// An address that SES refuses, and `manage_users` with it.
pub(crate) const REFUSED_ADDRESS: &str = "st.huber@exa_mple.com";
/// What a session of [`Service::session_of`] says about its client.
pub(crate) const SESSION_INFORMATION: &str = "Firefox: 69; Mobile: true;";
/// [`PASSWORD`] under the default parameters, so that making a user costs no hashing.
pub(crate) const PASSWORD_HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$4O7+kCWYXl7T9/8aD9Wj3Q\
     $f6poR1PRgPWLiYLd2Ehal82cKodMOBG8MC0z3tSte8s";
/// [`PASSWORD`] under other parameters.
pub(crate) const OTHER_ARGON2_HASH: &str =
    "$argon2id$v=19$m=8192,t=1,p=1$HzosdDbuv3YvnpWKb+wgvA$feshGaSVCLv1CefRiXf8ta76paVBB9P7Zf9s6lKnb9U";

pub(crate) const SIGNIN: &str = "/api/auth/signin";
pub(crate) const CHANGE_PASSWORD_AFTER_SIGNIN: &str = "/api/auth/changePasswordAfterSignin";
pub(crate) const SEND_EMAIL: &str = "/api/auth/forgotPassword/sendEmail";
pub(crate) const CHECK_CODE: &str = "/api/auth/forgotPassword/checkCode";
pub(crate) const RESET_PASSWORD: &str = "/api/auth/forgotPassword/resetPassword";
pub(crate) const CHANGE_PASSWORD: &str = "/api/v1/profile/change_password";
pub(crate) const CHECK_OLD_PASSWORD: &str = "/api/v1/user/myself/changePassword/checkOldPassword";
pub(crate) const CHANGE_MY_PASSWORD: &str = "/api/v1/user/myself/changePassword/changePassword";
pub(crate) const SESSION_SIGNIN: &str = "/api/auth/IamLoggedIn";
pub(crate) const SESSIONS: &str = "/api/v1/user/myself/session";
pub(crate) const LOG_OUT: &str = "/api/v1/user/myself/session/logoutCurrentSession";

pub(crate) const MINUTE: Duration = Duration::from_mins(1);
pub(crate) const HOUR: Duration = Duration::from_hours(1);
pub(crate) const DAY: Duration = Duration::from_hours(24);

pub(crate) type Item = HashMap<String, AttributeValue>;

/// The service as one client sees it, from a source address of its own, so that no test spends another's
/// budget of failures per address; and, beside it, what an operator can reach.
#[derive(Clone)]
pub(crate) struct Service {
    api: String,
    aws: String,
    /// Where this client's requests come from; none when the API is elsewhere.
    pub(crate) address: Option<IpAddr>,
    http: reqwest::Client,
    store: aws_sdk_dynamodb::Client,
    pub(crate) tables: TableNames,
    /// The secret that signs tokens.
    pub(crate) jwt_secret_id: String,
    /// The secret that hashes codes.
    pub(crate) code_key_id: String,
    /// Kept running as long as the test that asked for it.
    pub(crate) stack: Option<Arc<Stack>>,
}

impl Service {
    /// The service that all tests share.
    pub(crate) fn new() -> Self {
        let endpoints = support::endpoints();
        Self::at(&endpoints.api, &endpoints.aws, None)
    }

    /// A service of this test alone, with settings of its own. So is its name, which the names of its tables begin
    /// with, because a DynamoDB that is not embedded is one for all.
    pub(crate) async fn with_settings<const N: usize>(settings: [(&str, &str); N]) -> Self {
        let name = Some(format!("postern-{}", Uuid::new_v4().simple()));
        let settings = settings.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let stack = Stack::start(Options { name, settings, ..Options::default() }).await.unwrap();
        let (api, aws) = (stack.api_url(), stack.aws_url());
        Self::at(&api, &aws, Some(stack))
    }

    pub(crate) fn at(api: &str, aws: &str, stack: Option<Stack>) -> Self {
        let (address, http) = client_of(api);
        // The tests themselves have time.
        let store = client_of_aws(aws, None)
            .unwrap()
            .into_builder()
            .timeout_config(TimeoutConfig::disabled())
            .build();
        let deployed = stack.as_ref().map(|stack| stack.template().functions().unwrap().remove(0).variables);
        let settings = Settings::new(move |name| match &deployed {
            Some(variables) => variables.get(name).cloned(),
            None => std::env::var(name).ok(),
        });
        Self {
            api: api.to_owned(),
            aws: aws.to_owned(),
            address,
            http,
            store: aws_sdk_dynamodb::Client::new(&store),
            tables: TableNames::from_settings(&settings),
            jwt_secret_id: settings.text("JWT_SECRET_ID", "postern/jwt-secret"),
            code_key_id: settings.text("CODE_KEY_SECRET_ID", "postern/code-key"),
            stack: stack.map(Arc::new),
        }
    }

    /// The same service as a client at another address sees it.
    pub(crate) fn seen_from_elsewhere(&self) -> Self {
        let (address, http) = client_of(&self.api);
        Self { address, http, ..self.clone() }
    }

    /// What a page beside the AWS services says: its content type and its text.
    pub(crate) async fn page(&self, path: &str) -> (String, String) {
        let response = self.http.get(format!("{}{path}", self.aws)).send().await.unwrap();
        let kind = response.headers()[reqwest::header::CONTENT_TYPE].to_str().unwrap().to_owned();
        (kind, response.text().await.unwrap())
    }

    /// A request to the API, for what [`Service::post`] cannot say.
    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method.parse().unwrap(), format!("{}{path}", self.api))
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        Answer::to(self.request("POST", path).body(body)).await
    }

    pub(crate) async fn post_json(&self, path: &str, body: &Value) -> Answer {
        Answer::to(self.request("POST", path).json(body)).await
    }

    pub(crate) async fn signin(&self, username: &str, password: &str) -> Answer {
        self.post_json(SIGNIN, &json!({"username": username, "password": password})).await
    }

    pub(crate) async fn change_password_after_signin(&self, username: &str, old: &str, new: &str) -> Answer {
        let body = json!({"username": username, "old_password": old, "new_password": new});
        self.post_json(CHANGE_PASSWORD_AFTER_SIGNIN, &body).await
    }

    pub(crate) async fn send_email(&self, username: &str) -> Answer {
        self.post_json(SEND_EMAIL, &json!({"username": username})).await
    }

    pub(crate) async fn check_code(&self, username: &str, code: &str) -> Answer {
        self.post_json(CHECK_CODE, &json!({"username": username, "code": code})).await
    }

    pub(crate) async fn reset_password(&self, username: &str, code: &str, new: &str) -> Answer {
        let body = json!({"username": username, "code": code, "new_password": new});
        self.post_json(RESET_PASSWORD, &body).await
    }

    pub(crate) async fn change_password(&self, token: &str, old: &str, new: &str) -> Answer {
        let body = json!({"old_password": old, "new_password": new, "new_password_check": new});
        self.change_password_as(&format!("Bearer {token}"), &body).await
    }

    pub(crate) async fn change_password_as(&self, authorization: &str, body: &Value) -> Answer {
        Answer::to(self.request("POST", CHANGE_PASSWORD).header("authorization", authorization).json(body))
            .await
    }

    /// Asks whether a password is the token's user's, as the original clients do, with the token in the query.
    pub(crate) async fn check_old_password(&self, token: &str, password: &str) -> Answer {
        let path = format!("{CHECK_OLD_PASSWORD}?token={token}");
        self.post_json(&path, &json!({"password": password})).await
    }

    /// Changes the password as the original clients do, with the token in the query.
    pub(crate) async fn change_my_password(&self, token: &str, old: &str, new: &str) -> Answer {
        let path = format!("{CHANGE_MY_PASSWORD}?token={token}");
        self.post_json(&path, &json!({"old_password": old, "new_password": new})).await
    }

    /// Whether the service still takes this token. (It asks for nothing, so a token that is taken costs no
    /// password and no failure.)
    pub(crate) async fn takes(&self, token: &str) -> bool {
        let answer = self.change_password_as(&format!("Bearer {token}"), &json!({})).await;
        match answer.status {
            422 => true,
            401 => false,
            _ => panic!("{answer:?}"),
        }
    }

    /// Signs the user in with [`PASSWORD`].
    pub(crate) async fn token_of(&self, user: &User) -> String {
        self.signin(&user.username, PASSWORD).await.token()
    }

    /// Signs the user in with [`PASSWORD`] to stay logged in, and returns the session token too.
    pub(crate) async fn session_of(&self, user: &User) -> (String, String) {
        let body = json!({
            "username": user.username,
            "password": PASSWORD,
            "session_information": SESSION_INFORMATION,
            "stay_logged_in": true,
        });
        self.post_json(SIGNIN, &body).await.token_and_session_token()
    }

    /// Makes the change that is due, from [`PASSWORD`] to [`NEW_PASSWORD`], to stay logged in, and returns the session
    /// token too.
    pub(crate) async fn session_of_forced_change(&self, user: &User) -> (String, String) {
        let body = json!({
            "username": user.username,
            "old_password": PASSWORD,
            "new_password": NEW_PASSWORD,
            "session_information": SESSION_INFORMATION,
            "stay_logged_in": true,
        });
        self.post_json(CHANGE_PASSWORD_AFTER_SIGNIN, &body).await.token_and_session_token()
    }

    pub(crate) async fn session_signin(&self, session_token: &str) -> Answer {
        self.post_json(SESSION_SIGNIN, &json!({"session_token": session_token})).await
    }

    pub(crate) async fn sessions(&self, token: &str) -> Answer {
        Answer::to(self.request("GET", SESSIONS).bearer_auth(token)).await
    }

    /// The ids of the user's sessions, as listed and as they stand in a path.
    pub(crate) async fn session_ids(&self, token: &str) -> Vec<String> {
        let answer = self.sessions(token).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let sessions = answer.json()["sessions"].as_array().unwrap().clone();
        sessions.iter().map(|session| session["id"].as_u64().unwrap().to_string()).collect()
    }

    pub(crate) async fn delete_session(&self, token: &str, id: &str) -> Answer {
        Answer::to(self.request("DELETE", &format!("{SESSIONS}/{id}")).bearer_auth(token)).await
    }

    pub(crate) async fn log_out(&self, token: &str, session_token: &str) -> Answer {
        let body = json!({"session_token": session_token});
        Answer::to(self.request("POST", LOG_OUT).bearer_auth(token).json(&body)).await
    }

    /// Has a code sent to the user and reads it from the mail.
    pub(crate) async fn code_for(&self, user: &User) -> String {
        self.send_email(&user.username).await.is(SENT);
        self.mails_to(&user.email).await.last().unwrap().code()
    }

    /// A user to be made: activated, with [`PASSWORD`] and one address, unless said otherwise.
    pub(crate) fn user(&self) -> NewUser<'_> {
        let username = unknown_username();
        let fields = json!({
            "action": "create",
            "username": username,
            "password_hash": PASSWORD_HASH,
            "email_addresses": [format!("{username}@example.com")],
            "activated": true,
        });
        NewUser { service: self, fields }
    }

    /// What `manage_users` answers.
    pub(crate) async fn manage(&self, payload: &Value) -> Value {
        self.invoke("manage_users", payload).await
    }

    /// What `manage_users` answers to an action on a user that has no other fields.
    pub(crate) async fn manage_user(&self, action: &str, user: &User) -> Value {
        self.manage(&json!({"action": action, "username": user.username})).await
    }

    /// Changes fields of a user.
    pub(crate) async fn update(&self, user: &User, fields: Value) {
        let mut update = fields;
        update["action"] = json!("update");
        update["username"] = json!(user.username);
        let answer = self.manage(&update).await;
        assert_eq!(answer["ok"], true, "{answer}");
    }

    /// What a Lambda function answers when it is invoked with this payload.
    pub(crate) async fn invoke(&self, function: &str, payload: &Value) -> Value {
        self.try_invoke(function, payload).await.unwrap()
    }

    /// What a Lambda function answers, or else the error that it fails with.
    pub(crate) async fn try_invoke(&self, function: &str, payload: &Value) -> Result<Value, Value> {
        self.invoke_raw(function, payload.to_string()).await
    }

    /// The same, with a payload that is not necessarily one that can be represented as JSON values.
    pub(crate) async fn invoke_raw(&self, function: &str, payload: String) -> Result<Value, Value> {
        let url = format!("{}/2015-03-31/functions/{function}/invocations", self.aws);
        let response = self.http.post(url).body(payload).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let failed = response.headers().contains_key("x-amz-function-error");
        let answer = response.json().await.unwrap();
        if failed { Err(answer) } else { Ok(answer) }
    }

    /// The mails that went to this address, oldest first.
    pub(crate) async fn mails_to(&self, address: &str) -> Vec<Mail> {
        let address = address.replace('+', "%2B");
        let url = format!("{}/_aws/ses?email={address}", self.aws);
        let inbox: Inbox = self.http.get(url).send().await.unwrap().json().await.unwrap();
        inbox.messages
    }

    /// One call of Secrets Manager.
    pub(crate) async fn secrets_manager(&self, operation: &str, parameters: &Value) -> Value {
        let response = self
            .http
            .post(&self.aws)
            .header("x-amz-target", format!("secretsmanager.{operation}"))
            .header("content-type", "application/x-amz-json-1.1")
            .body(parameters.to_string())
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
        response.json().await.unwrap()
    }

    /// The current secret that signs tokens.
    pub(crate) async fn jwt_secret(&self) -> Secret {
        let answer = self.secrets_manager("GetSecretValue", &json!({"SecretId": self.jwt_secret_id})).await;
        serde_json::from_value(answer).unwrap()
    }

    /// Makes a new version of a secret current; the one before it becomes the previous one.
    pub(crate) async fn rotate(&self, secret_id: &str) {
        let new = Uuid::new_v4();
        let secret = format!("{}{}", new.simple(), new.simple());
        self.secrets_manager(
            "PutSecretValue",
            &json!({"SecretId": secret_id, "SecretString": secret, "ClientRequestToken": new.to_string()}),
        )
        .await;
    }

    pub(crate) async fn item(&self, table: &str, key: &str, value: &str) -> Option<Item> {
        let value = AttributeValue::S(value.to_owned());
        self.store.get_item().table_name(table).key(key, value).send().await.unwrap().item
    }

    async fn put(&self, table: &str, item: Item) {
        self.store.put_item().table_name(table).set_item(Some(item)).send().await.unwrap();
    }

    /// Takes a table away, as a stand-in for a store that fails.
    pub(crate) async fn lose_table(&self, table: &str) {
        self.store.delete_table().table_name(table).send().await.unwrap();
    }

    /// Overwrites what is stored as the user's hash.
    pub(crate) async fn set_stored_hash(&self, user: &User, hash: &str) {
        let mut item = self.stored_user(user).await;
        item.insert("password_hash".to_owned(), AttributeValue::S(hash.to_owned()));
        self.put(&self.tables.users, item).await;
    }

    /// Removes an attribute of the user's row, as damage.
    pub(crate) async fn lose_attribute(&self, user: &User, attribute: &str) {
        let mut item = self.stored_user(user).await;
        item.remove(attribute).unwrap();
        self.put(&self.tables.users, item).await;
    }

    /// Overwrites the user's addresses with ones that no administrator could write.
    pub(crate) async fn set_stored_addresses(&self, user: &User, addresses: &[&str]) {
        let addresses = addresses.iter().map(|&address| AttributeValue::S(address.to_owned())).collect();
        let mut item = self.stored_user(user).await;
        item.insert("email_addresses".to_owned(), AttributeValue::L(addresses));
        self.put(&self.tables.users, item).await;
    }

    /// Overwrites the user's name as it is displayed.
    pub(crate) async fn set_stored_display_name(&self, user: &User, name: &str) {
        let mut item = self.stored_user(user).await;
        item.insert("display_username".to_owned(), AttributeValue::S(name.to_owned()));
        self.put(&self.tables.users, item).await;
    }

    /// Gives the user one address, which SES refuses.
    pub(crate) async fn make_unreachable(&self, user: &User) {
        self.set_stored_addresses(user, &[REFUSED_ADDRESS]).await;
    }

    pub(crate) async fn stored_user(&self, user: &User) -> Item {
        self.item(&self.tables.users, "username", &user.username).await.unwrap()
    }

    /// The same, without what every attempt to sign in changes.
    pub(crate) async fn stored_apart_from_attempts(&self, user: &User) -> Item {
        let mut item = self.stored_user(user).await;
        item.retain(|name, _| !name.starts_with("known_") && !name.starts_with("other_"));
        item
    }

    pub(crate) async fn stored_code(&self, user: &User) -> Option<Item> {
        self.item(&self.tables.reset_codes, "username_hash", &name_hash(&user.username)).await
    }

    /// The used tries of the user's code in the budget that this client's requests count in.
    pub(crate) async fn tries(&self, user: &User) -> usize {
        let item = self.stored_code(user).await.unwrap_or_default();
        let tries = item.get(&format!("{}_tries", self.budget(user).await));
        tries.map_or(0, |tries| tries.as_ss().unwrap().len())
    }

    /// The sends to the user that are counted, in both budgets together.
    pub(crate) async fn sends(&self, user: &User) -> usize {
        let item = self.stored_code(user).await.unwrap_or_default();
        item.iter().filter(|(name, sent)| is_send(name) && sent.as_n().unwrap() != "0").count()
    }

    /// Writes the item of the user's code again as it is, and returns the write units that this consumes.
    pub(crate) async fn write_units_of_code(&self, user: &User) -> f64 {
        let item = self.stored_code(user).await;
        let put = self.store.put_item().table_name(&self.tables.reset_codes).set_item(item);
        let written = put.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await.unwrap();
        written.consumed_capacity.unwrap().capacity_units.unwrap()
    }

    pub(crate) async fn stored_hash(&self, user: &User) -> String {
        self.stored_user(user).await["password_hash"].as_s().unwrap().clone()
    }

    /// The rows of the user's sessions that were not ended one by one.
    pub(crate) async fn stored_sessions(&self, user: &User) -> Vec<Item> {
        let owner = self.stored_user(user).await["session_owner"].clone();
        let mut rows = self.session_rows(owner).await;
        rows.retain(|row| !row.contains_key("ended_by"));
        rows
    }

    /// All rows of an owner's sessions.
    pub(crate) async fn session_rows(&self, owner: AttributeValue) -> Vec<Item> {
        self.store
            .query()
            .table_name(&self.tables.sessions)
            .key_condition_expression("session_owner = :owner")
            .expression_attribute_values(":owner", owner)
            .consistent_read(true)
            .send()
            .await
            .unwrap()
            .items
            .unwrap()
    }

    /// Adds sessions like the one that the user used last, until there are so many, each last used a second before the
    /// one before it. Returns their ids, the least recently used one last.
    pub(crate) async fn fill_sessions(&self, user: &User, count: usize) -> Vec<u32> {
        let rows = self.stored_sessions(user).await;
        let last_use = |row: &Item| row["last_used_at"].as_n().unwrap().parse::<i64>().unwrap();
        let model = rows.iter().max_by_key(|row| last_use(row)).unwrap().clone();
        let latest = last_use(&model);
        let (mut ids, mut puts) = (Vec::new(), Vec::new());
        for (number, age) in (rows.len()..count).zip(1..) {
            let mut item = model.clone();
            let id = u32::try_from(number).unwrap() + 1_000_000;
            item.insert("session_id".to_owned(), AttributeValue::N(id.to_string()));
            item.insert("token_hash".to_owned(), AttributeValue::B(Blob::new([0; 32])));
            let used_at = AttributeValue::N((latest - age * 1_000_000).to_string());
            item.insert("last_used_at".to_owned(), used_at);
            let put = PutRequest::builder().set_item(Some(item)).build().unwrap();
            puts.push(WriteRequest::builder().put_request(put).build());
            ids.push(id);
        }
        for puts in puts.chunks(25) {
            let puts = self.store.batch_write_item().request_items(&self.tables.sessions, puts.to_vec());
            assert!(puts.send().await.unwrap().unprocessed_items.is_none_or(|items| items.is_empty()));
        }
        let mut stored = self.stored_user(user).await;
        stored.insert("sessions_opened".to_owned(), AttributeValue::N(count.to_string()));
        self.put(&self.tables.users, stored).await;
        ids
    }

    /// The item that counts the failures of a username: the user's, or that of an unknown name, which counts those of a
    /// damaged row too.
    async fn counters(&self, username: &str) -> (&str, &str, String, Option<Item>) {
        let user = self.item(&self.tables.users, "username", username).await;
        if let Some(user) = user.filter(|user| user.contains_key("email_addresses")) {
            return (&self.tables.users, "username", username.to_owned(), Some(user));
        }
        let subject = format!("username#{}", name_hash(username));
        let item = self.item(&self.tables.attempts, "subject", &subject).await;
        (&self.tables.attempts, "subject", subject, item)
    }

    /// The counters of both budgets of a username.
    pub(crate) async fn stored_failures(&self, username: &str) -> Item {
        let (.., item) = self.counters(username).await;
        let mut item = item.unwrap_or_default();
        item.retain(|name, _| name.starts_with("known_") || name.starts_with("other_"));
        item
    }

    /// The failures of a username in the budget that this client's attempts count in.
    pub(crate) async fn failures(&self, username: &str) -> usize {
        let (.., item) = self.counters(username).await;
        let item = item.unwrap_or_default();
        let failures = item.get(&format!("{}_failures", self.budget_of(&item)));
        failures.map_or(0, |failures| failures.as_n().unwrap().parse().unwrap())
    }

    /// The failures of a username in both budgets together.
    pub(crate) async fn failures_of_both(&self, username: &str) -> usize {
        let item = self.stored_failures(username).await;
        let failures = ["known_failures", "other_failures"].into_iter().filter_map(|name| item.get(name));
        failures.map(|failures| failures.as_n().unwrap().parse::<usize>().unwrap()).sum()
    }

    /// The prefix of the counters in which this client's requests for a username count.
    async fn budget(&self, user: &User) -> &'static str {
        let stored = self.item(&self.tables.users, "username", &user.username).await;
        stored.map_or("other", |stored| self.budget_of(&stored))
    }

    /// The prefix of the counters in which this client's attempts on a user count.
    fn budget_of(&self, user: &Item) -> &'static str {
        let networks = user.get("networks").map_or(&[][..], |networks| networks.as_l().unwrap());
        let is_known = match self.address.map(|address| address.to_string()) {
            Some(address) => {
                let (network, _) = address.rsplit_once('.').unwrap();
                networks.contains(&AttributeValue::S(format!("{network}.0/24")))
            }
            // Elsewhere this client is the only one.
            None => !networks.is_empty(),
        };
        if is_known { "known" } else { "other" }
    }

    /// Makes it so that a username has failed so many times in a row, the last time so long ago, in the budget that this
    /// client's attempts count in.
    pub(crate) async fn set_failures(&self, username: &str, failures: u32, last: Duration) {
        let now = micros_now();
        let (table, key, subject, user) = self.counters(username).await;
        let budget = user.as_ref().map_or("other", |user| self.budget_of(user));
        let counts =
            format!("{budget}_failures = :count, {budget}_attempt_at = :last, {budget}_attempt = :attempt");
        let number = |number: i64| AttributeValue::N(number.to_string());
        let update = self
            .store
            .update_item()
            .table_name(table)
            .key(key, AttributeValue::S(subject))
            .expression_attribute_values(":count", number(failures.into()))
            .expression_attribute_values(":last", number(now - micros(last)))
            .expression_attribute_values(":attempt", AttributeValue::S("earlier".to_owned()));
        let update = if user.is_some_and(|user| user.contains_key("user_id")) {
            update.update_expression(format!("SET {counts}"))
        } else {
            update
                .update_expression(format!("SET {counts}, #ttl = :ttl"))
                .expression_attribute_names("#ttl", "ttl")
                .expression_attribute_values(":ttl", number(now / 1_000_000 + 24 * 60 * 60))
        };
        update.send().await.unwrap();
    }

    /// Makes it so that this client's address has failed so many times in a window that has so long to go.
    pub(crate) async fn set_failures_of_address(&self, failures: u32, window: Duration) {
        self.set_count_of_address("signin", failures, window).await;
    }

    /// Makes it so that so many answers are counted in a budget of this client's address, in a window that has so long
    /// to go.
    pub(crate) async fn set_count_of_address(&self, budget: &str, count: u32, window: Duration) {
        let item = [
            ("subject", AttributeValue::S(format!("{budget}#{}", self.address.unwrap()))),
            ("failures", AttributeValue::N(count.to_string())),
            ("attempt", AttributeValue::S("earlier".to_owned())),
            ("window_ends_at", AttributeValue::N((micros_now() + micros(window)).to_string())),
            ("ttl", AttributeValue::N((micros_now() / 1_000_000 + 24 * 60 * 60).to_string())),
        ];
        let item = item.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        self.put(&self.tables.source_ips, item).await;
    }

    /// How many failures are counted against this client's address.
    pub(crate) async fn failures_of_address(&self) -> u32 {
        let subject = format!("signin#{}", self.address.unwrap());
        let item = self.item(&self.tables.source_ips, "subject", &subject).await;
        item.map_or(0, |item| item["failures"].as_n().unwrap().parse().unwrap())
    }

    /// Closes the window in which the failures of this client's address are counted.
    pub(crate) async fn end_window_of_address(&self) {
        let subject = format!("signin#{}", self.address.unwrap());
        let mut item = self.item(&self.tables.source_ips, "subject", &subject).await.unwrap();
        set_back(&mut item, "window_ends_at", HOUR);
        self.put(&self.tables.source_ips, item).await;
    }

    /// Makes all that the user's sessions have been through happen so much earlier.
    pub(crate) async fn age_sessions(&self, user: &User, by: Duration) {
        let sessions = self.stored_sessions(user).await;
        assert!(!sessions.is_empty());
        for mut item in sessions {
            for instant in ["created_at", "last_used_at"] {
                set_back(&mut item, instant, by);
            }
            self.put(&self.tables.sessions, item).await;
        }
    }

    /// Makes the user's own changes of the password happen so much earlier.
    pub(crate) async fn age_changes(&self, user: &User, by: Duration) {
        let mut item = self.stored_user(user).await;
        let changes = item["own_changes"].as_l().unwrap().iter();
        let earlier = |change: &AttributeValue| change.as_n().unwrap().parse::<i64>().unwrap() - micros(by);
        let changes = changes.map(|change| AttributeValue::N(earlier(change).to_string())).collect();
        item.insert("own_changes".to_owned(), AttributeValue::L(changes));
        self.put(&self.tables.users, item).await;
    }

    /// How many changes of the password by the user are remembered.
    pub(crate) async fn stored_changes(&self, user: &User) -> usize {
        self.stored_user(user).await["own_changes"].as_l().unwrap().len()
    }

    /// Lets the user's code expire.
    pub(crate) async fn expire_code(&self, user: &User) {
        let mut item = self.stored_code(user).await.unwrap();
        set_back(&mut item, "expires_at", HOUR);
        self.put(&self.tables.reset_codes, item).await;
    }

    /// Makes it so that so many tries of the user's code are used in the budget that this client's requests count in.
    pub(crate) async fn set_tries(&self, user: &User, tries: usize) {
        let mut item = self.stored_code(user).await.unwrap();
        let names = (0..tries).map(|name| format!("{name:08}")).collect();
        item.insert(format!("{}_tries", self.budget(user).await), AttributeValue::Ss(names));
        self.put(&self.tables.reset_codes, item).await;
    }

    /// Adds as many tries to each budget of the user's code as it has, with names of the same length.
    pub(crate) async fn double_tries(&self, user: &User) {
        let mut item = self.stored_code(user).await.unwrap();
        for tries in ["known_tries", "other_tries"] {
            let names = item[tries].as_ss().unwrap().clone();
            let reversed = names.iter().map(|name| name.chars().rev().collect());
            let doubled = names.iter().cloned().chain(reversed).collect();
            item.insert(tries.to_owned(), AttributeValue::Ss(doubled));
        }
        self.put(&self.tables.reset_codes, item).await;
    }

    /// Makes the sends of the user's codes happen so much earlier.
    pub(crate) async fn age_sends(&self, user: &User, by: Duration) {
        let mut item = self.stored_code(user).await.unwrap();
        let sends: Vec<String> = item.keys().filter(|name| is_send(name)).cloned().collect();
        assert!(!sends.is_empty());
        for send in sends {
            set_back(&mut item, &send, by);
        }
        self.put(&self.tables.reset_codes, item).await;
    }
}

/// A source address of its own, if the API is on this machine, and a client that sends from there.
fn client_of(api: &str) -> (Option<IpAddr>, reqwest::Client) {
    let address = api
        .starts_with("http://127.")
        .then(|| IpAddr::V4(Ipv4Addr::from_bits(0x7f01_0000 + Uuid::new_v4().as_fields().0 % 0x00fe_0000)));
    (address, reqwest::Client::builder().local_address(address).build().unwrap())
}

/// What the service answered, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    /// Sends a request to the API. Whatever is answered has to be in `openapi.yaml`.
    pub(crate) async fn to(request: reqwest::RequestBuilder) -> Self {
        let (client, request) = request.build_split();
        let request = request.unwrap();
        let (method, path) = (request.method().to_string(), request.url().path().to_owned());
        let body = request.body().and_then(reqwest::Body::as_bytes).unwrap_or_default().to_vec();
        let response = client.execute(request).await.unwrap();
        let answer = Self {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.text().await.unwrap(),
        };
        assert_documented(&method, &path, &body, &answer);
        answer
    }

    /// Asserts the documented status and body, and the headers that every answer has.
    #[track_caller]
    pub(crate) fn is(&self, (status, body): (u16, &str)) {
        assert_eq!((self.status, self.body.as_str()), (status, body), "{:?}", self.headers);
        assert_eq!(self.header("content-type"), Some("application/json"));
        assert_eq!(self.header("cache-control"), Some("no-store"));
    }

    /// Asserts that the answer is a refusal for now, and returns for how many seconds.
    #[track_caller]
    pub(crate) fn is_refused_for(&self, documented: Documented) -> u64 {
        self.is(documented);
        let seconds = self.header("retry-after").expect("a Retry-After header").parse().unwrap();
        assert!(seconds >= 1);
        seconds
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// The token of a success without a session, whose body has nothing else.
    #[track_caller]
    pub(crate) fn token(&self) -> String {
        let token = self.field("token");
        self.is((200, &format!(r#"{{"token":"{token}"}}"#)));
        token
    }

    /// The token that a session token was good for.
    #[track_caller]
    pub(crate) fn token_of_session(&self) -> String {
        let token = self.field("token");
        self.is((202, &format!(r#"{{"msg":"Session token is good","token":"{token}"}}"#)));
        token
    }

    /// The token and the session token of a success, whose body has nothing else.
    #[track_caller]
    pub(crate) fn token_and_session_token(&self) -> (String, String) {
        let (token, session_token) = (self.field("token"), self.field("session_token"));
        self.is((200, &format!(r#"{{"token":"{token}","session_token":"{session_token}"}}"#)));
        (token, session_token)
    }

    #[track_caller]
    fn field(&self, name: &str) -> String {
        self.json()[name].as_str().unwrap_or_else(|| panic!("no {name}: {self:?}")).to_owned()
    }
}

pub(crate) struct User {
    /// In its normalised form.
    pub(crate) username: String,
    pub(crate) id: String,
    /// The first of the addresses; empty when there is none.
    pub(crate) email: String,
}

pub(crate) struct NewUser<'a> {
    service: &'a Service,
    fields: Value,
}

impl NewUser<'_> {
    pub(crate) fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.fields[field] = value.into();
        self
    }

    pub(crate) fn not_activated(self) -> Self {
        self.with("activated", false)
    }

    pub(crate) fn due_a_password_change(self) -> Self {
        self.with("must_change_password", true)
    }

    /// A user whose password is not [`PASSWORD`], and is hashed by the service itself.
    pub(crate) fn with_password(mut self, password: &str) -> Self {
        self.fields.as_object_mut().unwrap().remove("password_hash");
        self.with("password", password)
    }

    pub(crate) async fn create(self) -> User {
        let answer = self.service.manage(&self.fields).await;
        assert_eq!(answer["ok"], true, "{answer}");
        User {
            username: self.fields["username"].as_str().unwrap().to_owned(),
            id: answer["user"]["user_id"].as_str().unwrap().to_owned(),
            email: self.fields["email_addresses"][0].as_str().unwrap_or_default().to_owned(),
        }
    }
}

#[derive(Deserialize)]
struct Inbox {
    messages: Vec<Mail>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Mail {
    pub(crate) source: String,
    pub(crate) subject: String,
    pub(crate) destination: Destination,
    pub(crate) reply_to_addresses: Vec<String>,
    pub(crate) headers: Vec<Value>,
    pub(crate) body: MailBody,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Destination {
    #[serde(rename = "ToAddresses")]
    pub(crate) to: Vec<String>,
    #[serde(rename = "CcAddresses")]
    pub(crate) cc: Vec<String>,
    #[serde(rename = "BccAddresses")]
    pub(crate) bcc: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct MailBody {
    pub(crate) text_part: String,
    pub(crate) html_part: String,
}

impl Mail {
    /// The reset code in the mail's text: its only line of six digits.
    #[track_caller]
    pub(crate) fn code(&self) -> String {
        let is_code = |line: &&str| line.len() == 6 && line.bytes().all(|byte| byte.is_ascii_digit());
        let codes: Vec<&str> = self.body.text_part.lines().map(str::trim).filter(is_code).collect();
        let [code] = codes[..] else { panic!("not one code: {self:?}") };
        code.to_owned()
    }
}

/// One version of a secret.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Secret {
    pub(crate) version_id: String,
    #[serde(rename = "SecretString")]
    pub(crate) value: String,
}

impl Secret {
    /// Signs what only the service could.
    pub(crate) fn sign(&self, header: &Header, claims: &Value) -> String {
        self.sign_bytes(header, claims.to_string().as_bytes())
    }

    /// Signs a payload that need not be JSON.
    pub(crate) fn sign_bytes(&self, header: &Header, payload: &[u8]) -> String {
        self.sign_parts(header.alg, &serde_json::to_vec(header).unwrap(), payload)
    }

    /// Signs (RFC 7515 §5.1) a header and a payload that need not be JSON, by any of HMAC's algorithms.
    pub(crate) fn sign_parts(&self, algorithm: Algorithm, header: &[u8], payload: &[u8]) -> String {
        let [header, payload] = [header, payload].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
        let message = format!("{header}.{payload}");
        let (key, bytes) = (self.value.as_bytes(), message.as_bytes());
        let signature = match algorithm {
            Algorithm::HS256 => mac::<Hmac<Sha256>>(key, bytes),
            Algorithm::HS384 => mac::<Hmac<Sha384>>(key, bytes),
            Algorithm::HS512 => mac::<Hmac<Sha512>>(key, bytes),
            other => panic!("{other:?}"),
        };
        format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}

fn mac<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Vec<u8> {
    M::new_from_slice(key).unwrap().chain_update(message).finalize().into_bytes().to_vec()
}

/// What a token claims, whoever signed it.
pub(crate) fn claims(token: &str) -> Value {
    jsonwebtoken::dangerous::insecure_decode::<Value>(token).unwrap().claims
}

/// The SDK's configuration for the AWS services at `url`, as a function has it, with this `AWS_CA_BUNDLE`.
pub(crate) fn client_of_aws(url: &str, ca_bundle: Option<&str>) -> Result<SdkConfig, ConfigError> {
    let (url, ca_bundle) = (url.to_owned(), ca_bundle.map(str::to_owned));
    shared::aws::config(&Settings::new(move |name| match name {
        "AWS_REGION" => Some("eu-central-1".to_owned()),
        "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some("test".to_owned()),
        "AWS_ENDPOINT_URL" => Some(url.clone()),
        "AWS_CA_BUNDLE" => ca_bundle.clone(),
        _ => None,
    }))
}

/// A username that nobody has yet.
pub(crate) fn unknown_username() -> String {
    format!("st.huber.{}", Uuid::new_v4().simple())
}

/// Counts the answers that are each of these, and asserts that there are no others.
#[track_caller]
pub(crate) fn count<const N: usize>(answers: &[Answer], documented: [Documented; N]) -> [usize; N] {
    let mut counts = [0; N];
    for answer in answers {
        let which =
            documented.iter().position(|&(status, body)| (status, body) == (answer.status, &answer.body));
        counts[which.unwrap_or_else(|| panic!("{answer:?}"))] += 1;
    }
    counts
}

/// The hash of a username that is the key of its code.
fn name_hash(username: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(username))
}

/// Returns whether an attribute of a code's item is the instant of a send.
pub(crate) fn is_send(name: &str) -> bool {
    let place = name.strip_prefix("known_").or_else(|| name.strip_prefix("other_"));
    place.is_some_and(|place| place.parse::<u8>().is_ok())
}

fn set_back(item: &mut Item, attribute: &str, by: Duration) {
    let instant: i64 = item[attribute].as_n().unwrap().parse().unwrap();
    item.insert(attribute.to_owned(), AttributeValue::N((instant - micros(by)).to_string()));
}

pub(crate) fn micros_now() -> i64 {
    micros(SystemTime::now().duration_since(UNIX_EPOCH).unwrap())
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap()
}
