//! The initial tables of a scenario.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use shared::password_changes::PasswordChanges;
use shared::store::Store;
use tokio::runtime::Runtime;

use crate::clients::{Answer, Client, PASSWORD, USERNAME, settings};
use crate::explorer::runtime;
use crate::world::{
    ATTEMPTS, RESET_CODES, SESSION_ID, SESSIONS, SOURCE_IPS, USERS, World, end_of_life, failures_of,
    sends_of, tries_of,
};

/// The tables at the beginning of each run.
pub(crate) struct Beginning {
    pub(crate) world: World,
    runtime: Runtime,
}

impl Beginning {
    /// Empty tables.
    pub(crate) fn empty() -> Self {
        Self { world: World::new(), runtime: runtime() }
    }

    /// An activated user with [`PASSWORD`]. The `fields` override the defaults.
    pub(crate) fn with_user(fields: &Value) -> Self {
        let beginning = Self::empty();
        let mut user = json!({
            "password": PASSWORD,
            "email_addresses": ["st.huber@example.com"],
            "activated": true,
        });
        let user_fields = user.as_object_mut().unwrap();
        user_fields.extend(fields.as_object().unwrap().clone());
        if user_fields.contains_key("password_hash") {
            user_fields.remove("password");
        }
        let created = beginning.after(&Client::manages("create", user));
        assert_eq!(created.body["ok"], true, "{created:?}");
        beginning
    }

    /// Makes SES refuse all mails from now on.
    pub(crate) fn refuse_mails(&self) {
        self.world.state().refuses_mails = true;
    }

    /// The code's id.
    pub(crate) fn code_id(&self) -> Value {
        self.world.items(RESET_CODES)[0]["code_id"].clone()
    }

    /// Runs a client before the others begin, and returns its answer.
    pub(crate) fn after(&self, client: &Client) -> Answer {
        self.world.answer(client, &self.runtime)
    }

    /// An independent copy of the tables.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self::empty();
        copy.world.fill(&self.world);
        copy
    }

    /// The store of these tables. Its calls are answered immediately.
    pub(crate) fn store(&self) -> Store {
        let _context = self.runtime.enter();
        Store::new(&settings(0), &self.world.connect(None))
    }

    pub(crate) fn password_changes(&self) -> PasswordChanges {
        let store = self.store();
        PasswordChanges::new(&settings(0), &self.world.connect(None), store).unwrap()
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Sets the number of failures in one of the user's budgets, and the time of the last one in microseconds.
    pub(crate) fn set_failures(&self, budget: &str, failures: u32, last_at: i64) {
        let mut item = self.world.items(USERS)[0].clone();
        item[format!("{budget}_failures")] = json!({"N": failures.to_string()});
        item[format!("{budget}_attempt")] = json!({"S": "earlier"});
        item[format!("{budget}_attempt_at")] = json!({"N": last_at.to_string()});
        self.put(USERS, &item);
    }

    /// The time at which DynamoDB may remove the counters of the unknown user, in seconds since the Unix epoch.
    pub(crate) fn end_of_stub(&self) -> Option<i64> {
        end_of_life(&self.world.items(ATTEMPTS))
    }

    /// The time at which DynamoDB may remove the counter of the source address.
    pub(crate) fn end_of_address(&self) -> Option<i64> {
        end_of_life(&self.world.items(SOURCE_IPS))
    }

    /// Gives a source address a budget of wrong passwords that is used up, in a window that has ended.
    pub(crate) fn end_window(&self, address: &str) {
        let item = json!({
            "subject": {"S": format!("signin#{address}")},
            "failures": {"N": "1000000"},
            "attempt": {"S": "earlier"},
            "window_ends_at": {"N": "1"},
            "ttl": {"N": "1"},
        });
        self.put(SOURCE_IPS, &item);
    }

    /// Gives the user a code with this id that never expires.
    pub(crate) fn put_code(&self, id: &str) {
        self.edit_code(|item| {
            item["code_id"] = json!({"S": id});
            item["expires_at"] = json!({"N": i64::MAX.to_string()});
        });
    }

    fn put(&self, table: &str, item: &Value) {
        self.world.state().apply("PutItem", &json!({"TableName": table, "Item": item})).unwrap();
    }

    /// The number of failures in one of the user's budgets.
    pub(crate) fn failures_of(&self, budget: &str) -> usize {
        failures_of(&self.world.items(USERS), budget)
    }

    /// The number of failures of the unknown user.
    pub(crate) fn failures_of_stub(&self) -> usize {
        failures_of(&self.world.items(ATTEMPTS), "other")
    }

    /// Sets the number of used tries of the user's code in a budget.
    pub(crate) fn set_tries(&self, budget: &str, tries: usize) {
        if tries == 0 {
            return;
        }
        let names: Vec<String> = (0..tries).map(|name| format!("{name:08}")).collect();
        self.edit_code(|item| item[format!("{budget}_tries")] = json!({"SS": names}));
    }

    /// Records sends of codes in one of the user's budgets, each so many microseconds ago.
    pub(crate) fn set_sends(&self, budget: &str, ago: &[u64]) {
        let now = shared::clock::now();
        self.edit_code(|item| {
            for (place, ago) in ago.iter().enumerate() {
                let sent = now - Duration::from_micros(*ago);
                item[format!("{budget}_{place}")] = json!({"N": sent.as_micros().to_string()});
            }
        });
    }

    fn edit_code(&self, edit: impl FnOnce(&mut Value)) {
        let mut item = self.world.items(RESET_CODES).pop();
        let item = item.get_or_insert_with(|| json!({"username_hash": {"S": username_hash()}}));
        edit(item);
        self.put(RESET_CODES, item);
    }

    /// The number of used tries of the user's code in a budget.
    pub(crate) fn tries_of(&self, budget: &str) -> usize {
        tries_of(&self.world.items(RESET_CODES), budget)
    }

    /// The number of sends in one of the user's budgets.
    pub(crate) fn sends_of(&self, budget: &str) -> usize {
        sends_of(&self.world.items(RESET_CODES), budget)
    }

    /// Copies the user's only session until there are `count` sessions. The copies have the ids from 1 on, and each was
    /// used just before the one with the id below. The original was used after all of them, or else before.
    pub(crate) fn fill_sessions(&self, count: usize, own_is_last_used: bool) {
        let tables = self.world.tables();
        let mut state = self.world.state();
        let mut put = |table, item| {
            state.apply("PutItem", &json!({"TableName": table, "Item": item})).unwrap();
        };
        let ([session], [user]) = (&tables[SESSIONS][..], &tables[USERS][..]) else {
            panic!("not one session")
        };
        let last_use: i64 = session["last_used_at"]["N"].as_str().unwrap().parse().unwrap();
        for (id, age) in (1..count).zip(1..) {
            let mut copy = session.clone();
            copy[SESSION_ID]["N"] = json!(id.to_string());
            copy["last_used_at"]["N"] = json!((last_use - age).to_string());
            put(SESSIONS, copy);
        }
        if !own_is_last_used {
            let mut own = session.clone();
            own["last_used_at"]["N"] = json!((last_use - 1000).to_string());
            put(SESSIONS, own);
        }
        let mut user = user.clone();
        user["sessions_opened"]["N"] = json!(count.to_string());
        put(USERS, user);
    }

    /// Requests a code for the user, and returns it.
    pub(crate) fn code(&self) -> String {
        assert!(self.after(&Client::sends()).is_success());
        code(self.world.state().mails.last().unwrap())
    }
}

/// The key of the user's code.
pub(crate) fn username_hash() -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(USERNAME))
}

/// The code in a mail, which is the only run of six digits in its text.
pub(crate) fn code(mail: &Value) -> String {
    let text = mail["Content"]["Simple"]["Body"]["Text"]["Data"].as_str().unwrap();
    let mut runs = text.split(|character: char| !character.is_ascii_digit());
    runs.find(|run| run.len() == 6).unwrap().to_owned()
}
