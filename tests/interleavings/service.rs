//! The service in this process, up to its calls of AWS, which wait until they are chosen to be answered.

use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use aws_sdk_dynamodb::config::http::{HttpRequest, HttpResponse};
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::{
    AsyncSleep, BehaviorVersion, Credentials, Region, SharedCredentialsProvider, Sleep,
    StalledStreamProtectionConfig,
};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_types::SdkConfig;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use change_my_password::ChangeMyPassword;
use change_password::ChangePassword;
use change_password_after_signin::ChangePasswordAfterSignin;
use dynoxide::Database;
use forgot_password_check_code::CheckCode;
use forgot_password_reset_password::ResetPassword;
use forgot_password_send_email::SendEmail;
use futures_util::future::BoxFuture;
use lambda_http::http::Method;
use lambda_http::{Body, Request, RequestExt, Response};
use lambda_runtime::{Context, LambdaEvent};
use manage_users::ManageUsers;
use serde_json::{Value, json};
use session_signin::SessionSignin;
use sessions::Sessions;
use sha2::{Digest, Sha256};
use shared::endpoint::{Endpoint, answer};
use shared::function::Function;
use shared::password_changes::PasswordChanges;
use shared::settings::Settings;
use shared::store::Store;
use signin::Signin;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::{JoinSet, spawn_blocking, yield_now};

use crate::explorer::{Step, runtime};

pub(crate) const USERNAME: &str = "st.huber";
pub(crate) const PASSWORD: &str = "Password1234!";
/// A code that never is anybody's: it is too short.
pub(crate) const WRONG_CODE: &str = "48290";

const USERS: &str = "postern-users";
const USER_IDS: &str = "postern-user-ids";
const RESET_CODES: &str = "postern-reset-codes";
const SESSIONS: &str = "postern-sessions";
const ATTEMPTS: &str = "postern-attempts";
const SOURCE_IPS: &str = "postern-source-ips";
/// What tells the items of one partition apart: a number, in one table alone.
const SESSION_ID: &str = "session_id";
/// The tables and their partition keys.
const TABLES: [(&str, &str); 6] = [
    (USERS, "username"),
    (USER_IDS, "user_id"),
    (RESET_CODES, "username_hash"),
    (SESSIONS, "session_owner"),
    (ATTEMPTS, "subject"),
    (SOURCE_IPS, "subject"),
];

/// The secret that everything is signed and hashed with.
const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// What a client does, from the request to the answer.
pub(crate) struct Client {
    connect: Box<dyn Fn(&SdkConfig) -> Act>,
    /// Whether answers to its calls can get lost.
    pub(crate) loses: bool,
}

/// Does it once.
type Act = Box<dyn Fn() -> BoxFuture<'static, Answer>>;

/// What a client is answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

/// A call that was applied to the tables.
pub(crate) struct Applied {
    pub(crate) client: usize,
    pub(crate) call: String,
    /// Whether it did something, rather than being refused.
    pub(crate) done: bool,
    /// True if its answer got lost.
    pub(crate) lost: bool,
}

/// The tables that runs begin with.
pub(crate) struct Beginning {
    world: World,
    runtime: Runtime,
}

/// What a run came to.
pub(crate) struct End<'a> {
    /// In the order of the scenario's clients.
    pub(crate) answers: Vec<Answer>,
    /// In the order in which the calls were applied.
    pub(crate) applied: Vec<Applied>,
    pub(crate) mails: Vec<Value>,
    tables: BTreeMap<&'static str, Vec<Value>>,
    world: World,
    runtime: &'a Runtime,
}

/// The clients of a scenario, each with a function of its own, which stays warm from run to run.
pub(crate) struct Clients {
    acts: Vec<Act>,
    world: World,
}

/// Clients on their way.
pub(crate) struct Run {
    world: World,
    clients: JoinSet<(usize, Answer)>,
    /// Whether any client went on since this was last looked at.
    moved: Arc<AtomicBool>,
}

/// AWS, as all clients of one run reach it.
#[derive(Clone)]
struct World(Arc<Mutex<State>>);

struct State {
    database: Database,
    waiting: Vec<Waiting>,
    applied: Vec<Applied>,
    mails: Vec<Value>,
    /// True if SES refuses all mails.
    refuses_mails: bool,
}

struct Waiting {
    step: Step,
    operation: String,
    body: Vec<u8>,
    answer: oneshot::Sender<Result<HttpResponse, ConnectorError>>,
}

/// The connection of one client to AWS; of nobody's where calls are answered at once.
#[derive(Clone)]
struct Connection {
    world: World,
    client: Option<usize>,
}

impl Client {
    fn new(connect: impl Fn(&SdkConfig) -> Act + 'static) -> Self {
        Self { connect: Box::new(connect), loses: true }
    }

    /// Sends a body to an endpoint, with a token if there is one.
    fn of<E: Endpoint>(token: Option<&str>, body: &Value) -> Self {
        let authorization = token.map(|token| format!("Bearer {token}"));
        let body = body.to_string();
        Self::new(move |aws| {
            let endpoint = start::<E>(aws);
            let (authorization, body) = (authorization.clone(), body.clone());
            Box::new(move || {
                let (endpoint, mut request) = (Arc::clone(&endpoint), Request::new(Body::from(body.clone())));
                *request.method_mut() = Method::POST;
                if let Some(authorization) = &authorization {
                    request.headers_mut().insert("authorization", authorization.parse().unwrap());
                }
                Box::pin(async move { Answer::from(answer(&*endpoint, &request).await) })
            })
        })
    }

    /// The same client where no answer to its calls gets lost.
    pub(crate) fn without_losses(self) -> Self {
        Self { loses: false, ..self }
    }

    /// Sends a body to an endpoint from a source address.
    fn of_from<E: Endpoint>(address: &str, body: &Value) -> Self {
        Self::within::<E>(0, address, body)
    }

    /// The same where so many wrong passwords of one source address are answered.
    fn within<E: Endpoint>(failures_per_ip: u32, address: &str, body: &Value) -> Self {
        let mut event: Value =
            serde_json::from_str(include_str!("../../events/signin/without_session.json")).unwrap();
        event["body"] = body.to_string().into();
        event["requestContext"]["http"]["sourceIp"] = address.into();
        Self::new(move |aws| {
            let (function, event) = (start_within::<E>(failures_per_ip, aws), event.to_string());
            Box::new(move || {
                let function = Arc::clone(&function);
                let request = lambda_http::request::from_str(&event).unwrap();
                Box::pin(async move { Answer::from(answer(&*function, &request).await) })
            })
        })
    }

    pub(crate) fn sends() -> Self {
        Self::of::<SendEmail>(None, &json!({"username": USERNAME}))
    }

    pub(crate) fn sends_from(address: &str) -> Self {
        Self::of_from::<SendEmail>(address, &json!({"username": USERNAME}))
    }

    pub(crate) fn checks(code: &str) -> Self {
        Self::of::<CheckCode>(None, &json!({"username": USERNAME, "code": code}))
    }

    pub(crate) fn checks_from(address: &str, code: &str) -> Self {
        Self::of_from::<CheckCode>(address, &json!({"username": USERNAME, "code": code}))
    }

    pub(crate) fn resets(code: &str, new: &str) -> Self {
        let body = json!({"username": USERNAME, "code": code, "new_password": new});
        Self::of::<ResetPassword>(None, &body)
    }

    /// Signs in to stay logged in.
    pub(crate) fn signs_in(password: &str) -> Self {
        Self::of::<Signin>(None, &json!({"username": USERNAME, "password": password, "stay_logged_in": true}))
    }

    /// Signs in with this name, from this source address.
    pub(crate) fn signs_in_from(address: &str, username: &str, password: &str) -> Self {
        Self::signs_in_within(0, address, username, password)
    }

    /// The same where so many wrong passwords of one source address are answered.
    pub(crate) fn signs_in_within(
        failures_per_ip: u32,
        address: &str,
        username: &str,
        password: &str,
    ) -> Self {
        let body = json!({"username": username, "password": password});
        Self::within::<Signin>(failures_per_ip, address, &body)
    }

    /// Signs in without staying logged in.
    pub(crate) fn signs_in_once(password: &str) -> Self {
        Self::of::<Signin>(None, &json!({"username": USERNAME, "password": password}))
    }

    /// Makes the change that is due, to stay logged in.
    pub(crate) fn makes_due_change(new: &str) -> Self {
        let body = json!({
            "username": USERNAME,
            "old_password": PASSWORD,
            "new_password": new,
            "stay_logged_in": true,
        });
        Self::of::<ChangePasswordAfterSignin>(None, &body)
    }

    pub(crate) fn changes(token: &str, new: &str) -> Self {
        Self::changes_from(token, PASSWORD, new)
    }

    pub(crate) fn changes_from(token: &str, old: &str, new: &str) -> Self {
        let body = json!({"old_password": old, "new_password": new, "new_password_check": new});
        Self::of::<ChangePassword>(Some(token), &body)
    }

    /// Changes the password as the original clients do.
    pub(crate) fn changes_in_settings(token: &str, new: &str) -> Self {
        let body = json!({"old_password": PASSWORD, "new_password": new});
        Self::of::<ChangeMyPassword>(Some(token), &body)
    }

    /// Shows a token to see whether it counts: there is nothing else in the request, so 422 means that it does.
    pub(crate) fn shows(token: &str) -> Self {
        Self::of::<ChangePassword>(Some(token), &json!({}))
    }

    /// Ends the session of a session token.
    pub(crate) fn logs_out(token: &str, session_token: &str) -> Self {
        Self::of::<Sessions>(Some(token), &json!({"session_token": session_token}))
    }

    /// Ends all sessions that are listed, by their ids, and is answered how many there were.
    pub(crate) fn ends_sessions(token: &str) -> Self {
        let authorization = format!("Bearer {token}");
        Self::new(move |aws| {
            let function = start::<Sessions>(aws);
            let authorization = authorization.clone();
            Box::new(move || {
                let (function, authorization) = (Arc::clone(&function), authorization.clone());
                Box::pin(async move {
                    let ask = async |method: Method, id: &str| {
                        let mut request = Request::new(Body::Empty);
                        *request.method_mut() = method;
                        request.headers_mut().insert("authorization", authorization.parse().unwrap());
                        let id = HashMap::from([("id".to_owned(), id.to_owned())]);
                        Answer::from(answer(&*function, &request.with_path_parameters(id)).await)
                    };
                    let list = ask(Method::GET, "").await;
                    let listed = list.body["sessions"].as_array().unwrap();
                    for session in listed {
                        assert!(ask(Method::DELETE, &session["id"].to_string()).await.is_success());
                    }
                    Answer { status: 200, body: json!(listed.len()) }
                })
            })
        })
    }

    /// Shows a session token for a new token.
    pub(crate) fn returns(session_token: &str) -> Self {
        Self::of::<SessionSignin>(None, &json!({"session_token": session_token}))
    }

    /// Has `manage_users` do something with the user.
    pub(crate) fn manages(action: &str, fields: Value) -> Self {
        let mut payload = fields;
        payload["action"] = json!(action);
        payload["username"] = json!(USERNAME);
        Self::new(move |aws| {
            let function = Arc::new(ManageUsers::new(&settings(0), aws).unwrap());
            let payload = payload.clone();
            Box::new(move || {
                let payload = serde_json::value::to_raw_value(&payload).unwrap();
                let event = LambdaEvent::new(payload, Context::default());
                let function = Arc::clone(&function);
                Box::pin(async move {
                    let answer = function.invoke(event).await.unwrap();
                    Answer { status: 200, body: serde_json::to_value(answer).unwrap() }
                })
            })
        })
    }

    /// Time: sets an instant of the user's item in a table back by an hour, if it is there.
    fn passes(table: &'static str, instant: &'static str) -> Self {
        let (_, key) = TABLES.into_iter().find(|(name, _)| *name == table).unwrap();
        let value = if table == RESET_CODES { username_hash() } else { USERNAME.to_owned() };
        Self::new(move |aws| {
            use aws_sdk_dynamodb::types::AttributeValue::{N, S};
            let hour = Duration::from_hours(1).as_micros();
            let update = aws_sdk_dynamodb::Client::new(aws)
                .update_item()
                .table_name(table)
                .key(key, S(value.clone()))
                .condition_expression(format!("attribute_exists({instant})"))
                .update_expression(format!("SET {instant} = {instant} - :hour"))
                .expression_attribute_values(":hour", N(hour.to_string()));
            Box::new(move || {
                let update = update.clone();
                Box::pin(async move {
                    let status = if update.send().await.is_ok() { 200 } else { 400 };
                    Answer { status, body: Value::Null }
                })
            })
        })
    }

    pub(crate) fn lets_code_expire() -> Self {
        Self::passes(RESET_CODES, "expires_at")
    }

    pub(crate) fn lets_wait_end() -> Self {
        Self::passes(USERS, "other_attempt_at")
    }
}

fn start<E: Endpoint>(aws: &SdkConfig) -> Arc<E> {
    start_within(0, aws)
}

fn start_within<E: Endpoint>(failures_per_ip: u32, aws: &SdkConfig) -> Arc<E> {
    Arc::new(<E as Endpoint>::new(&settings(failures_per_ip), aws).unwrap())
}

fn settings(failures_per_ip: u32) -> Settings {
    Settings::new(move |variable| {
        let value = match variable {
            "SIGNIN_FAILURES_PER_IP" => return Some(failures_per_ip.to_string()),
            // A search may take longer than codes live by default. To let one expire takes an hour off.
            "RESET_CODE_TTL_SECONDS" => "3600",
            "ARGON2_MEMORY_KIB" => "128",
            "ARGON2_ITERATIONS" => "1",
            "MAIL_FROM" => "no-reply@example.com",
            // All clients have one address, whose budget would be one more item between them.
            "CODE_FAILURES_PER_IP" | "RESET_MAILS_PER_IP" => "0",
            _ => return None,
        };
        Some(value.to_owned())
    })
}

impl From<Response<Body>> for Answer {
    fn from(response: Response<Body>) -> Self {
        let body = serde_json::from_slice(response.body()).unwrap();
        Self { status: response.status().as_u16(), body }
    }
}

impl Answer {
    pub(crate) fn is_success(&self) -> bool {
        self.status == 200
    }

    /// The error's code, or else what is said of it.
    pub(crate) fn error(&self) -> &str {
        let body = &self.body;
        let error = body["error_code"].as_str().or(body["msg"].as_str()).or(body["message"].as_str());
        assert!(!self.is_success(), "{body}");
        error.unwrap()
    }

    pub(crate) fn token(&self) -> &str {
        self.body["token"].as_str().unwrap()
    }

    pub(crate) fn session_token(&self) -> &str {
        self.body["session_token"].as_str().unwrap()
    }
}

impl Beginning {
    /// No user at all.
    pub(crate) fn empty() -> Self {
        Self { world: World::new(), runtime: runtime() }
    }

    /// An activated user with [`PASSWORD`], but for `fields`.
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

    /// Has a client do what it does before the others begin.
    pub(crate) fn after(&self, client: &Client) -> Answer {
        self.world.answer(client, &self.runtime)
    }

    /// A beginning of its own with the same tables.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self::empty();
        copy.world.fill(&self.world);
        copy
    }

    /// The store of these tables, whose calls are answered at once.
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

    /// Makes it so that the user has failed so often in a budget, the last time at this instant in microseconds.
    pub(crate) fn set_failures(&self, budget: &str, failures: u32, last_at: i64) {
        let mut item = self.world.items(USERS)[0].clone();
        item[format!("{budget}_failures")] = json!({"N": failures.to_string()});
        item[format!("{budget}_attempt")] = json!({"S": "earlier"});
        item[format!("{budget}_attempt_at")] = json!({"N": last_at.to_string()});
        self.put(USERS, &item);
    }

    /// When DynamoDB may remove the counters of the unknown name, in seconds since the Unix epoch.
    pub(crate) fn end_of_stub(&self) -> Option<i64> {
        end_of_life(&self.world.items(ATTEMPTS))
    }

    /// When DynamoDB may remove the counter of the source address.
    pub(crate) fn end_of_address(&self) -> Option<i64> {
        end_of_life(&self.world.items(SOURCE_IPS))
    }

    /// Makes it so that a source address has used up its budget of wrong passwords in a window that is over.
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

    /// Gives the user a code with this id, which never expires.
    pub(crate) fn put_code(&self, id: &str) {
        self.edit_code(|item| {
            item["code_id"] = json!({"S": id});
            item["expires_at"] = json!({"N": i64::MAX.to_string()});
        });
    }

    fn put(&self, table: &str, item: &Value) {
        self.world.state().apply("PutItem", &json!({"TableName": table, "Item": item})).unwrap();
    }

    /// The failures in a budget of the user.
    pub(crate) fn failures_of(&self, budget: &str) -> usize {
        failures_of(&self.world.items(USERS), budget)
    }

    /// The failures of the unknown name, if there are any.
    pub(crate) fn failures_of_stub(&self) -> usize {
        failures_of(&self.world.items(ATTEMPTS), "other")
    }

    /// Makes it so that so many tries of the user's code are used in a budget.
    pub(crate) fn set_tries(&self, budget: &str, tries: usize) {
        if tries == 0 {
            return;
        }
        let names: Vec<String> = (0..tries).map(|name| format!("{name:08}")).collect();
        self.edit_code(|item| item[format!("{budget}_tries")] = json!({"SS": names}));
    }

    /// Makes it so that codes were sent to the user in a budget so many microseconds ago.
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

    /// The used tries of the user's code in a budget.
    pub(crate) fn tries_of(&self, budget: &str) -> usize {
        tries_of(&self.world.items(RESET_CODES), budget)
    }

    /// The sends that are counted in a budget of the user.
    pub(crate) fn sends_of(&self, budget: &str) -> usize {
        sends_of(&self.world.items(RESET_CODES), budget)
    }

    /// Gives the user copies of the session that there is until there are so many, with the ids from 1 on. The session
    /// itself was used last of all, or else before all others, which were each used before the one before it.
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

    /// Has a code sent to the user.
    pub(crate) fn code(&self) -> String {
        assert!(self.after(&Client::sends()).is_success());
        code(self.world.state().mails.last().unwrap())
    }
}

/// The key of the user's code.
fn username_hash() -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(USERNAME))
}

/// The code in a mail: the only run of six digits in its text.
pub(crate) fn code(mail: &Value) -> String {
    let text = mail["Content"]["Simple"]["Body"]["Text"]["Data"].as_str().unwrap();
    let mut runs = text.split(|character: char| !character.is_ascii_digit());
    runs.find(|run| run.len() == 6).unwrap().to_owned()
}

impl Clients {
    pub(crate) fn new(clients: &[Client]) -> Self {
        let world = World::new();
        let acts =
            clients.iter().enumerate().map(|(number, client)| (client.connect)(&world.connect(Some(number))));
        Self { acts: acts.collect(), world }
    }

    /// Lets all of them begin.
    pub(crate) async fn start(&self, beginning: &Beginning) -> Run {
        let world = self.world.clone();
        world.fill(&beginning.world);
        let (mut clients, moved) = (JoinSet::new(), Arc::new(AtomicBool::new(false)));
        for (number, act) in self.acts.iter().enumerate() {
            let (mut act, moved) = (act(), Arc::clone(&moved));
            clients.spawn(poll_fn(move |context| {
                moved.store(true, Ordering::Relaxed);
                act.as_mut().poll(context).map(|answer| (number, answer))
            }));
        }
        let run = Run { world, clients, moved };
        run.settle().await;
        run
    }
}

impl Run {
    /// Returns once every client waits for an answer or is at its end. What is hashed for one is hashed on the same
    /// thread and before what is sent there now, so that if nobody moved meanwhile, nobody will.
    async fn settle(&self) {
        while {
            self.moved.store(false, Ordering::Relaxed);
            spawn_blocking(|| ()).await.unwrap();
            yield_now().await;
            self.moved.load(Ordering::Relaxed)
        } {}
    }

    /// The steps that can come next, in an order that is the same in each run.
    pub(crate) fn steps(&self) -> Vec<Step> {
        let mut steps: Vec<Step> = self.world.state().waiting.iter().map(|call| call.step.clone()).collect();
        steps.sort_by(|a, b| (a.client, &a.call).cmp(&(b.client, &b.call)));
        assert!(steps.windows(2).all(|pair| pair[0] != pair[1]), "two calls are alike");
        steps
    }

    pub(crate) async fn take(&mut self, step: &Step) {
        let (answer, outcome) = {
            let mut state = self.world.state();
            let waiting = |call: &Waiting| call.step == Step { lost: false, ..step.clone() };
            let place = state.waiting.iter().position(waiting).expect("a run of the same steps");
            let Waiting { operation, body, answer, .. } = state.waiting.swap_remove(place);
            let body: Value = serde_json::from_slice(&body).unwrap();
            let outcome = state.apply(&operation, &body);
            let done = outcome.is_ok();
            state.applied.push(Applied {
                client: step.client,
                call: step.call.clone(),
                done,
                lost: step.lost,
            });
            (answer, outcome)
        };
        let lost = || Err(ConnectorError::io("the answer got lost".into()));
        answer.send(if step.lost { lost() } else { Ok(response(outcome)) }).unwrap();
        self.settle().await;
    }

    pub(crate) fn end(mut self, runtime: &Runtime) -> End<'_> {
        let mut answers = BTreeMap::new();
        while let Some(answer) = self.clients.try_join_next() {
            answers.extend([answer.unwrap()]);
        }
        assert!(self.clients.is_empty(), "a client waits for something else than a call");
        let tables = self.world.tables();
        let (applied, mails) = {
            let mut state = self.world.state();
            (std::mem::take(&mut state.applied), std::mem::take(&mut state.mails))
        };
        let answers = answers.into_values().collect();
        End { answers, applied, mails, tables, world: self.world, runtime }
    }
}

impl End<'_> {
    /// What a client is answered that comes after all others.
    pub(crate) fn after(&self, client: &Client) -> Answer {
        self.world.answer(client, self.runtime)
    }

    pub(crate) fn password_is(&self, password: &str) -> bool {
        let answer = self.after(&Client::signs_in(password));
        answer.is_success() || ["not_activated", "change_password"].contains(&answer.error())
    }

    /// Whether the token of a sign-in counts, and the session too, which it always does if the other one does.
    pub(crate) fn takes(&self, signed_in: &Answer) -> bool {
        let session = self.after(&Client::returns(signed_in.body["session_token"].as_str().unwrap()));
        let taken = self.takes_token(signed_in.token());
        assert_eq!(session.status, if taken { 202 } else { 400 });
        taken
    }

    pub(crate) fn takes_token(&self, token: &str) -> bool {
        match self.after(&Client::shows(token)).status {
            422 => true,
            401 => false,
            status => panic!("{status}"),
        }
    }

    /// The item of the user's code, live or not.
    pub(crate) fn code(&self) -> &Value {
        &self.tables[RESET_CODES][0]
    }

    /// The used tries of the user's code in both budgets together.
    pub(crate) fn tries(&self) -> usize {
        self.tries_of("known") + self.tries_of("other")
    }

    pub(crate) fn tries_of(&self, budget: &str) -> usize {
        tries_of(&self.tables[RESET_CODES], budget)
    }

    /// The sends that are counted in both budgets together.
    pub(crate) fn sends(&self) -> usize {
        self.sends_of("known") + self.sends_of("other")
    }

    pub(crate) fn sends_of(&self, budget: &str) -> usize {
        sends_of(&self.tables[RESET_CODES], budget)
    }

    /// How many of the user's sessions were not ended one by one.
    pub(crate) fn sessions(&self) -> usize {
        self.tables[SESSIONS].iter().filter(|session| session["ended_by"].is_null()).count()
    }

    pub(crate) fn session_ids(&self) -> Vec<usize> {
        let id = |session: &Value| session[SESSION_ID]["N"].as_str().unwrap().parse().unwrap();
        self.tables[SESSIONS].iter().map(id).collect()
    }

    /// The failures in the budget `known` or `other` of the user.
    pub(crate) fn failures_of(&self, budget: &str) -> usize {
        failures_of(&self.tables[USERS], budget)
    }

    /// The networks from which the user's right password came, the most recent one first.
    pub(crate) fn networks(&self) -> Vec<String> {
        let networks = self.tables[USERS][0]["networks"]["L"].as_array().into_iter().flatten();
        networks.map(|network| network["S"].as_str().unwrap().to_owned()).collect()
    }

    /// The failures of the unknown name, if there are any.
    pub(crate) fn failures_of_stub(&self) -> usize {
        failures_of(&self.tables[ATTEMPTS], "other")
    }

    /// The failures that are counted against the only source address.
    pub(crate) fn failures_of_address(&self) -> usize {
        self.tables[SOURCE_IPS][0]["failures"]["N"].as_str().unwrap().parse().unwrap()
    }

    /// How many items there are in all tables.
    pub(crate) fn items(&self) -> usize {
        self.tables.values().map(Vec::len).sum()
    }

    /// The places, among the calls that were applied, of those of a client that did what they were to do.
    pub(crate) fn done(&self, client: usize, call: &str) -> Vec<usize> {
        let done = |applied: &Applied| applied.done && applied.client == client && applied.call == call;
        (0..self.applied.len()).filter(|place| done(&self.applied[*place])).collect()
    }

    /// Whether the answer to such a call of a client got lost.
    pub(crate) fn lost(&self, client: usize, call: &str) -> bool {
        self.applied.iter().any(|applied| applied.lost && applied.client == client && applied.call == call)
    }

    /// The number of sessions that the user's row counts.
    pub(crate) fn sessions_opened(&self) -> usize {
        self.tables[USERS][0]["sessions_opened"]["N"].as_str().unwrap().parse().unwrap()
    }

    /// How many changes of the password by the user are remembered.
    pub(crate) fn own_changes(&self) -> usize {
        self.tables[USERS][0]["own_changes"]["L"].as_array().unwrap().len()
    }

    /// How many mails tell of a changed password.
    pub(crate) fn notices(&self) -> usize {
        self.mails.len() - self.mails_with_codes().len()
    }

    pub(crate) fn mails_with_codes(&self) -> Vec<&Value> {
        let subject =
            |mail: &Value| mail["Content"]["Simple"]["Subject"]["Data"].as_str().unwrap().to_owned();
        self.mails.iter().filter(|mail| subject(mail).starts_with("Reset")).collect()
    }
}

/// The time to live of the first of these items.
fn end_of_life(items: &[Value]) -> Option<i64> {
    items.first().map(|item| item["ttl"]["N"].as_str().unwrap().parse().unwrap())
}

/// The failures in a budget of the first of these items.
fn failures_of(items: &[Value], budget: &str) -> usize {
    let count = items.first().map(|item| &item[format!("{budget}_failures")]["N"]);
    count.and_then(Value::as_str).map_or(0, |count| count.parse().unwrap())
}

fn tries_of(codes: &[Value], budget: &str) -> usize {
    let tries = codes.first().map(|code| &code[format!("{budget}_tries")]["SS"]);
    tries.and_then(Value::as_array).map_or(0, Vec::len)
}

fn sends_of(codes: &[Value], budget: &str) -> usize {
    let Some(code) = codes.first() else { return 0 };
    let sent = |place: &usize| code[format!("{budget}_{place}")]["N"].as_str().is_some_and(|at| at != "0");
    (0..10).filter(sent).count()
}

impl World {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(State::new())))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Has a client do what it does while nobody else does anything.
    fn answer(&self, client: &Client, runtime: &Runtime) -> Answer {
        let _context = runtime.enter();
        let act = (client.connect)(&self.connect(None));
        runtime.block_on(act())
    }

    /// Begins anew with the tables of `other`.
    fn fill(&self, other: &Self) {
        let mut state = State::new();
        for (table, items) in other.tables() {
            for item in items {
                state.apply("PutItem", &json!({"TableName": table, "Item": item})).unwrap();
            }
        }
        state.refuses_mails = other.state().refuses_mails;
        *self.state() = state;
    }

    fn tables(&self) -> BTreeMap<&'static str, Vec<Value>> {
        TABLES.map(|(table, _)| (table, self.items(table))).into()
    }

    fn items(&self, table: &str) -> Vec<Value> {
        let scan = self.state().apply("Scan", &json!({"TableName": table})).unwrap();
        scan["Items"].as_array().unwrap().clone()
    }

    /// The SDK as the functions use it. Its back-offs are over at once, and its time-outs never come.
    fn connect(&self, client: Option<usize>) -> SdkConfig {
        let connector = SharedHttpConnector::new(Connection { world: self.clone(), client });
        let http = http_client_fn(move |_, _| connector.clone());
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-central-1"))
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
                "test", "test", None, None, "test",
            )))
            .endpoint_url("http://aws")
            .http_client(http)
            .sleep_impl(BackOff)
            .retry_config(RetryConfig::standard().with_max_backoff(MAX_BACK_OFF))
            // It looks at its clock again and again while a call waits.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .build()
    }
}

/// Shorter than any time-out.
const MAX_BACK_OFF: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct BackOff;

impl AsyncSleep for BackOff {
    fn sleep(&self, duration: Duration) -> Sleep {
        if duration > MAX_BACK_OFF {
            Sleep::new(std::future::pending())
        } else {
            Sleep::new(std::future::ready(()))
        }
    }
}

impl State {
    fn new() -> Self {
        let database = Database::memory().unwrap();
        for (table, key) in TABLES {
            let mut attributes = vec![json!({"AttributeName": key, "AttributeType": "S"})];
            let mut keys = vec![json!({"AttributeName": key, "KeyType": "HASH"})];
            if table == SESSIONS {
                attributes.push(json!({"AttributeName": SESSION_ID, "AttributeType": "N"}));
                keys.push(json!({"AttributeName": SESSION_ID, "KeyType": "RANGE"}));
            }
            let definition = json!({
                "TableName": table,
                "BillingMode": "PAY_PER_REQUEST",
                "AttributeDefinitions": attributes,
                "KeySchema": keys,
            });
            database.create_table(serde_json::from_value(definition).unwrap()).unwrap();
        }
        Self { database, waiting: Vec::new(), applied: Vec::new(), mails: Vec::new(), refuses_mails: false }
    }

    /// What DynamoDB answers, or the status and the body of its refusal.
    fn apply(&mut self, operation: &str, body: &Value) -> Result<Value, (u16, String)> {
        macro_rules! call {
            ($method:ident) => {{
                let request = serde_json::from_value(body.clone()).unwrap();
                match self.database.$method(request) {
                    Ok(answer) => Ok(serde_json::to_value(answer).unwrap()),
                    Err(error) => Err((error.status_code(), error.to_json())),
                }
            }};
        }
        match operation {
            "BatchGetItem" => call!(batch_get_item),
            "DeleteItem" => call!(delete_item),
            "GetItem" => call!(get_item),
            "PutItem" => call!(put_item),
            "Query" => call!(query),
            "Scan" => call!(scan),
            "TransactWriteItems" => call!(transact_write_items),
            "UpdateItem" => call!(update_item),
            _ => panic!("no client calls {operation}"),
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Connection")
    }
}

impl HttpConnector for Connection {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let body = request.body().bytes().unwrap().to_vec();
        let target = request.headers().get("x-amz-target").and_then(|target| target.split_once('.'));
        let mut state = self.world.state();
        let answer = match (target, self.client) {
            (None, _) if state.refuses_mails => Err((400, json!({"message": "refused"}).to_string())),
            (None, _) => {
                state.mails.push(serde_json::from_slice(&body).unwrap());
                Ok(json!({"MessageId": "1"}))
            }
            (Some(("secretsmanager", _)), _) => {
                Ok(json!({"VersionId": "1", "SecretString": SECRET, "CreatedDate": 0}))
            }
            (Some((_, operation)), None) => state.apply(operation, &serde_json::from_slice(&body).unwrap()),
            (Some((_, operation)), Some(client)) => {
                let (answer, answered) = oneshot::channel();
                let step = step(client, operation, &serde_json::from_slice(&body).unwrap());
                state.waiting.push(Waiting { step, operation: operation.to_owned(), body, answer });
                return HttpConnectorFuture::new(async { answered.await.expect("a run that goes on") });
            }
        };
        HttpConnectorFuture::ready(Ok(response(answer)))
    }
}

fn response(outcome: Result<Value, (u16, String)>) -> HttpResponse {
    let (status, body) = match outcome {
        Ok(answer) => (200, answer.to_string()),
        Err(refusal) => refusal,
    };
    HttpResponse::new(status.try_into().unwrap(), body.into())
}

/// What answering a call is a step of.
fn step(client: usize, operation: &str, body: &Value) -> Step {
    let item = |request: &Value| {
        let table = request["TableName"].as_str().unwrap();
        let (_, key) = TABLES.into_iter().find(|(name, _)| *name == table).unwrap();
        // The sessions of a user count as one: their ids are others in each run, and queries read them all.
        let values = ["Key", "Item"].map(|name| &request[name][key]["S"]);
        let of_query = &request["ExpressionAttributeValues"][":owner"]["S"];
        let [value, ..] =
            values.into_iter().chain([of_query]).filter(|value| !value.is_null()).collect::<Vec<_>>()[..]
        else {
            panic!("no key in {request}");
        };
        format!("{table} {value}")
    };
    let keys =
        |(table, request): (&String, &Value)| item(&json!({"TableName": table, "Key": request["Keys"][0]}));
    let (call, items) = if let Some(tables) = body["RequestItems"].as_object() {
        (operation.to_owned(), tables.iter().map(|table| (keys(table), false)).collect())
    } else if let Some(writes) = body["TransactItems"].as_array() {
        let requests = writes.iter().flat_map(|write| write.as_object().unwrap().values());
        (operation.to_owned(), requests.map(|request| (item(request), true)).collect())
    } else {
        let call = format!("{operation} {}", body["TableName"].as_str().unwrap());
        (call, vec![(item(body), !["GetItem", "Query"].contains(&operation))])
    };
    Step { client, call, lost: false, items }
}
