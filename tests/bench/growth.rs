//! Whether a sign-in costs more operations or time when the store has more users.

use std::fs;
use std::path::Path;

use axum::body::Bytes;
use dynoxide::{AttributeValue, Database, ImportOptions, Item};
use serde_json::{Value, json};
use support::{Options, Stack};

use crate::Result;
use crate::calls::{self, PASSWORD};
use crate::endpoint::{Endpoint, Mode};
use crate::lambda::{Environment, Program};
use crate::report::{Report, median, progress, ratio};

/// How many users the stores have.
const USERS: [usize; 3] = [1_000, 100_000, 1_000_000];
/// How many of them sign in, each once.
const SIGNINS: usize = 30;
/// How many sign in before, unnoticed.
const WARM_UP: usize = 5;
/// How many users are written at once.
const CHUNK: usize = 10_000;

/// A store with its functions.
struct Population {
    users: usize,
    _stack: Stack,
    endpoint: Endpoint,
    environment: Environment,
    /// Of each sign-in, in seconds.
    times: Vec<f64>,
    operations: usize,
}

/// Fills a store of each size in `folder`, has users of all of them sign in by turns, and reports operations and times.
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
        let model = create_model(&stack).await?;
        stack.shutdown().await;
        fill(&folder.join("dynamodb.sqlite"), &model, users)?;

        let stack = Stack::start(options).await?;
        let endpoint = Endpoint::start(stack.aws_url(), folder).await?;
        endpoint.answer(Mode::PassOn);
        let mut program = signin.clone();
        let functions = stack.template().functions()?;
        let function = functions.into_iter().find(|function| function.name == signin.function.name);
        program.function = function.ok_or("the template has no such function")?;
        program.log = folder.join("signin.log");
        let environment = program.start(&endpoint).await?;
        Ok(Self { users, _stack: stack, endpoint, environment, times: Vec::new(), operations: 0 })
    }

    /// Signs in a user who has not before.
    async fn sign_in(&mut self, round: usize, noted: bool) -> Result<()> {
        let user = round * self.users / (WARM_UP + SIGNINS);
        let event = Bytes::from(calls::signin(&name(user)).to_string());
        self.endpoint.operations();
        let invocation = self.environment.invoke(&event).await?;
        if invocation.answer["statusCode"] != 200 {
            return Err(format!("user {user} of {}: {}", self.users, invocation.answer).into());
        }
        if noted {
            self.times.push(invocation.time.as_secs_f64());
            let operations = self.endpoint.operations();
            self.operations += operations.iter().filter(|operation| operation.is_of_dynamodb()).count();
        }
        Ok(())
    }
}

/// Creates a user by `manage_users`, and returns the items that this made, with the names of their tables.
async fn create_model(stack: &Stack) -> Result<[(String, Item); 2]> {
    let http = reqwest::Client::builder().no_proxy().build()?;
    let url = format!("{}/2015-03-31/functions/manage_users/invocations", stack.aws_url());
    let create = json!({
        "action": "create",
        "username": "model",
        "user_id": "model",
        "password": PASSWORD,
        "email_addresses": ["model@example.com"],
        "activated": true,
    });
    let answer: Value = http.post(url).body(create.to_string()).send().await?.json().await?;
    if answer["ok"] != true {
        return Err(format!("no model user: {answer}").into());
    }
    let functions = stack.template().functions()?;
    let variables = &functions.first().ok_or("the template has no function")?.variables;
    let item = async |variable: &str, key: &str| {
        let table = variables.get(variable).ok_or("no such table")?;
        let request = json!({"TableName": table, "Key": {key: {"S": "model"}}, "ConsistentRead": true});
        let answer = http
            .post(stack.aws_url())
            .header("x-amz-target", "DynamoDB_20120810.GetItem")
            .header("content-type", "application/x-amz-json-1.0")
            .body(request.to_string());
        let answer: Value = answer.send().await?.json().await?;
        Ok::<_, Box<dyn std::error::Error>>((table.clone(), serde_json::from_value(answer["Item"].clone())?))
    };
    Ok([item("USERS_TABLE", "username").await?, item("USER_IDS_TABLE", "user_id").await?])
}

/// Writes `users` copies of the model with names and ids of their own.
fn fill(file: &Path, model: &[(String, Item)], users: usize) -> Result<()> {
    let database = Database::new(&file.to_string_lossy())?;
    database.enable_bulk_loading()?;
    for first in (0..users).step_by(CHUNK) {
        for (table, model) in model {
            let copies = (first..users.min(first + CHUNK)).map(|user| {
                let mut item = model.clone();
                for attribute in ["username", "display_username", "user_id"] {
                    if let Some(value) = item.get_mut(attribute) {
                        *value = AttributeValue::S(name(user));
                    }
                }
                item
            });
            let options = ImportOptions { record_streams: false, set_cached_at: false };
            database.import_items(table, copies.collect(), options)?;
        }
    }
    database.disable_bulk_loading()?;
    Ok(())
}

/// The name and the id of a user.
fn name(user: usize) -> String {
    format!("user.{user}")
}
