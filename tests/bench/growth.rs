//! Measures how the number of users affects the operations and the time of a sign-in.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use axum::body::Bytes;
use dynoxide::actions::get_item::GetItemRequest;
use dynoxide::{AttributeValue, Database, ImportOptions};
use support::{Options, Stack};

use crate::Result;
use crate::calls::{self, Service};
use crate::endpoint::{Endpoint, Mode};
use crate::lambda::{Environment, Program};
use crate::report::{Report, median, progress, ratio};

/// The numbers of users of the stores.
const USERS: [usize; 3] = [1_000, 100_000, 1_000_000];
/// The number of users who sign in, each once.
const SIGNINS: usize = 30;
/// The number of users who sign in before without being measured.
const WARM_UP: usize = 5;
/// The number of users in a batch.
const CHUNK: usize = 10_000;

/// A store with its functions.
struct Population {
    users: usize,
    _stack: Stack,
    endpoint: Endpoint,
    environment: Environment,
    /// The time of each sign-in, in seconds.
    times: Vec<f64>,
    operations: usize,
}

/// Fills a store of each size in `folder`, signs in users of all stores in turn, and reports operations and times.
pub(crate) async fn measure(signin: &Program, folder: &Path, report: &mut Report) -> Result<()> {
    let mut populations = Vec::new();
    for users in USERS {
        progress(&format!("growth: {users} users"));
        let folder = folder.join(format!("growth-{users}"));
        populations.push(Population::start(users, signin, &folder).await?);
    }
    for round in 0..WARM_UP + SIGNINS {
        for population in &mut populations {
            population.sign_in(round, round >= WARM_UP).await?;
        }
    }
    let [few, ..] = &populations[..] else { return Err("no population".into()) };
    for population in &populations {
        let users = population.users;
        let operations = population.operations as f64 / SIGNINS as f64;
        report.figure(&format!("growth_ops_{users}"), operations);
        report
            .time(&format!("sign-in with {users} users, passed on to the store"), median(&population.times));
        if users != few.users {
            let time = ratio(&population.times, &few.times);
            report.figure(&format!("growth_time_{users}_vs_{}", few.users), time);
        }
    }
    for population in populations {
        population.environment.stop().await?;
        fs::remove_dir_all(folder.join(format!("growth-{}", population.users)))?;
    }
    Ok(())
}

impl Population {
    async fn start(users: usize, signin: &Program, folder: &Path) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        let options = Options { data_dir: Some(folder.to_owned()), ..Options::default() };
        let stack = Stack::start(options.clone()).await?;
        let model = Service::of(&stack)?.create_user("model", false).await?;
        stack.shutdown().await;
        let database = Database::new(&folder.join("dynamodb.sqlite").to_string_lossy())?;
        for (table, key) in [("USERS_TABLE", "username"), ("USER_IDS_TABLE", "user_id")] {
            let table = signin.function.variables.get(table).ok_or("the template names no such table")?;
            fill(&database, table, key, &model, users)?;
        }
        drop(database);

        let stack = Stack::start(options).await?;
        let endpoint = Endpoint::start(&stack.aws_url(), folder).await?;
        endpoint.answer(Mode::PassOn);
        let mut program = signin.clone();
        let functions = stack.template().functions()?;
        let function = functions.into_iter().find(|function| function.name == signin.function.name);
        program.function = function.ok_or("the template has no such function")?;
        program.log = folder.join("signin.log");
        let environment = program.start(&endpoint).await?;
        Ok(Self { users, _stack: stack, endpoint, environment, times: Vec::new(), operations: 0 })
    }

    /// Signs in a user who has not signed in before.
    async fn sign_in(&mut self, round: usize, is_measured: bool) -> Result<()> {
        let user = round * self.users / (WARM_UP + SIGNINS);
        let event = Bytes::from(calls::signin(&name(user)).to_string());
        self.endpoint.operations();
        let invocation = self.environment.invoke(&event).await?;
        if invocation.answer["statusCode"] != 200 {
            return Err(format!("user {user} of {}: {}", self.users, invocation.answer).into());
        }
        if is_measured {
            self.times.push(invocation.time.as_secs_f64());
            let operations = self.endpoint.operations();
            self.operations += operations.iter().filter(|operation| operation.is_of_dynamodb()).count();
        }
        Ok(())
    }
}

/// Writes `users` copies of an item to a table, with different names and ids.
fn fill(database: &Database, table: &str, key: &str, model: &str, users: usize) -> Result<()> {
    let model = HashMap::from([(key.to_owned(), AttributeValue::S(model.to_owned()))]);
    let model = GetItemRequest { table_name: table.to_owned(), key: model, ..GetItemRequest::default() };
    let model = database.get_item(model)?.item.ok_or("there is no model user")?;
    database.enable_bulk_loading()?;
    for first in (0..users).step_by(CHUNK) {
        let copies = (first..users.min(first + CHUNK)).map(|user| {
            let mut item = model.clone();
            for attribute in ["username", "display_username", "user_id"] {
                item.entry(attribute.to_owned()).and_modify(|value| *value = AttributeValue::S(name(user)));
            }
            item
        });
        let options = ImportOptions { record_streams: false, set_cached_at: false };
        database.import_items(table, copies.collect(), options)?;
    }
    Ok(database.disable_bulk_loading()?)
}

/// The name and the id of a user.
fn name(user: usize) -> String {
    format!("user.{user}")
}
