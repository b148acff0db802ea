//! The items of the store: read, damaged, and moved into the past.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, ReturnConsumedCapacity, WriteRequest};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::{HOUR, REFUSED_ADDRESS, Service, User};

type Item = HashMap<String, AttributeValue>;

impl Service {
    pub(crate) async fn item(&self, table: &str, key: &str, value: &str) -> Option<Item> {
        let value = AttributeValue::S(value.to_owned());
        self.store.get_item().table_name(table).key(key, value).send().await.unwrap().item
    }

    async fn put(&self, table: &str, item: Item) {
        self.store.put_item().table_name(table).set_item(Some(item)).send().await.unwrap();
    }

    /// Deletes a table, to simulate an outage of the store.
    pub(crate) async fn lose_table(&self, table: &str) {
        self.store.delete_table().table_name(table).send().await.unwrap();
    }

    /// Overwrites the user's stored hash.
    pub(crate) async fn set_stored_hash(&self, user: &User, hash: &str) {
        let mut item = self.stored_user(user).await;
        item.insert("password_hash".to_owned(), AttributeValue::S(hash.to_owned()));
        self.put(&self.tables.users, item).await;
    }

    /// Damages the user's row by removing an attribute.
    pub(crate) async fn lose_attribute(&self, user: &User, attribute: &str) {
        let mut item = self.stored_user(user).await;
        item.remove(attribute).unwrap();
        self.put(&self.tables.users, item).await;
    }

    /// Overwrites the user's addresses, also with ones that `manage_users` would refuse.
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

    /// Replaces the user's addresses by one that SES refuses.
    pub(crate) async fn make_unreachable(&self, user: &User) {
        self.set_stored_addresses(user, &[REFUSED_ADDRESS]).await;
    }

    pub(crate) async fn stored_user(&self, user: &User) -> Item {
        self.item(&self.tables.users, "username", &user.username).await.unwrap()
    }

    /// Returns the user's row without the attributes that every sign-in attempt changes.
    pub(crate) async fn stored_apart_from_attempts(&self, user: &User) -> Item {
        let mut item = self.stored_user(user).await;
        item.retain(|name, _| !name.starts_with("known_") && !name.starts_with("other_"));
        item
    }

    pub(crate) async fn stored_code(&self, user: &User) -> Option<Item> {
        self.item(&self.tables.reset_codes, "username_hash", &name_hash(&user.username)).await
    }

    /// Counts the used tries of the user's code in the budget of this client's network.
    pub(crate) async fn tries(&self, user: &User) -> usize {
        let item = self.stored_code(user).await.unwrap_or_default();
        let tries = item.get(&format!("{}_tries", self.budget(user).await));
        tries.map_or(0, |tries| tries.as_ss().unwrap().len())
    }

    /// Counts the sends to the user in both budgets together.
    pub(crate) async fn sends(&self, user: &User) -> usize {
        let item = self.stored_code(user).await.unwrap_or_default();
        item.iter().filter(|(name, sent)| is_send(name) && sent.as_n().unwrap() != "0").count()
    }

    /// Rewrites the item of the user's code unchanged, and returns the consumed write units.
    pub(crate) async fn write_units_of_code(&self, user: &User) -> f64 {
        let item = self.stored_code(user).await;
        let put = self.store.put_item().table_name(&self.tables.reset_codes).set_item(item);
        let written = put.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await.unwrap();
        written.consumed_capacity.unwrap().capacity_units.unwrap()
    }

    pub(crate) async fn stored_hash(&self, user: &User) -> String {
        self.stored_user(user).await["password_hash"].as_s().unwrap().clone()
    }

    /// Returns the rows of the user's sessions except those that were ended individually.
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

    /// Adds copies of the user's most recently used session until there are `count` sessions, each last used a second
    /// earlier than the one before. Returns the ids of the copies, the least recently used one last.
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

    /// The item that counts the failures of a username: the user's row, or the separate item of an unknown or damaged user.
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

    /// Counts the failures of a username in the budget of this client's network.
    pub(crate) async fn failures(&self, username: &str) -> usize {
        let (.., item) = self.counters(username).await;
        let item = item.unwrap_or_default();
        let failures = item.get(&format!("{}_failures", self.budget_of(&item)));
        failures.map_or(0, |failures| failures.as_n().unwrap().parse().unwrap())
    }

    /// Counts the failures of a username in both budgets together.
    pub(crate) async fn failures_of_both(&self, username: &str) -> usize {
        let item = self.stored_failures(username).await;
        let failures = ["known_failures", "other_failures"].into_iter().filter_map(|name| item.get(name));
        failures.map(|failures| failures.as_n().unwrap().parse::<usize>().unwrap()).sum()
    }

    /// The prefix of the counters for this client's requests about a user.
    async fn budget(&self, user: &User) -> &'static str {
        let stored = self.item(&self.tables.users, "username", &user.username).await;
        stored.map_or("other", |stored| self.budget_of(&stored))
    }

    /// The prefix of the counters for this client's network, given the user's row.
    fn budget_of(&self, user: &Item) -> &'static str {
        let networks = user.get("networks").map_or(&[][..], |networks| networks.as_l().unwrap());
        let is_known = match self.address.map(|address| address.to_string()) {
            Some(address) => {
                let (network, _) = address.rsplit_once('.').unwrap();
                networks.contains(&AttributeValue::S(format!("{network}.0/24")))
            }
            // On another machine this client is the only one.
            None => !networks.is_empty(),
        };
        if is_known { "known" } else { "other" }
    }

    /// Sets the number of failures in a row of a username in the budget of this client's network, and the age of the last
    /// one.
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

    /// Sets the number of failed sign-ins of this client's address, and the rest of their window.
    pub(crate) async fn set_failures_of_address(&self, failures: u32, window: Duration) {
        self.set_count_of_address("signin", failures, window).await;
    }

    /// Sets the count of one budget of this client's address, and the rest of its window.
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

    /// Counts the failed sign-ins of this client's address.
    pub(crate) async fn failures_of_address(&self) -> u32 {
        let subject = format!("signin#{}", self.address.unwrap());
        let item = self.item(&self.tables.source_ips, "subject", &subject).await;
        item.map_or(0, |item| item["failures"].as_n().unwrap().parse().unwrap())
    }

    /// Ends the window of failed sign-ins of this client's address.
    pub(crate) async fn end_window_of_address(&self) {
        let subject = format!("signin#{}", self.address.unwrap());
        let mut item = self.item(&self.tables.source_ips, "subject", &subject).await.unwrap();
        set_back(&mut item, "window_ends_at", HOUR);
        self.put(&self.tables.source_ips, item).await;
    }

    /// Moves the creation and last use of the user's sessions into the past.
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

    /// Moves the user's own password changes into the past.
    pub(crate) async fn age_changes(&self, user: &User, by: Duration) {
        let mut item = self.stored_user(user).await;
        let changes = item["own_changes"].as_l().unwrap().iter();
        let earlier = |change: &AttributeValue| change.as_n().unwrap().parse::<i64>().unwrap() - micros(by);
        let changes = changes.map(|change| AttributeValue::N(earlier(change).to_string())).collect();
        item.insert("own_changes".to_owned(), AttributeValue::L(changes));
        self.put(&self.tables.users, item).await;
    }

    /// Counts the stored password changes by the user.
    pub(crate) async fn stored_changes(&self, user: &User) -> usize {
        self.stored_user(user).await["own_changes"].as_l().unwrap().len()
    }

    /// Moves the expiry of the user's code into the past.
    pub(crate) async fn expire_code(&self, user: &User) {
        let mut item = self.stored_code(user).await.unwrap();
        set_back(&mut item, "expires_at", HOUR);
        self.put(&self.tables.reset_codes, item).await;
    }

    /// Sets the number of used tries of the user's code in the budget of this client's network.
    pub(crate) async fn set_tries(&self, user: &User, tries: usize) {
        let mut item = self.stored_code(user).await.unwrap();
        let names = (0..tries).map(|name| format!("{name:08}")).collect();
        item.insert(format!("{}_tries", self.budget(user).await), AttributeValue::Ss(names));
        self.put(&self.tables.reset_codes, item).await;
    }

    /// Doubles the tries in each budget of the user's code, with names of the same length.
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

    /// Moves the sends of the user's codes into the past.
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
