//! Faults in operations behind a request: for every endpoint, every operation and every relevant fault, at the first
//! attempt and at all attempts.
//!
//! A fault may make a request temporarily unavailable, but nothing else: passwords, codes, sessions and mails stay
//! consistent, no try or attempt is counted too low, and the service works afterwards.

mod administration;
mod codes;
mod passwords;
mod rotation;
mod sessions;

use std::any::type_name;
use std::cell::RefCell;
use std::panic::AssertUnwindSafe;
use std::thread::available_parallelism;

use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, join_all};
use serde_json::{Value, json};
use support::{Fault, Plan};

use crate::answers::{SERVICE_UNAVAILABLE, SESSION_TOKEN_INCORRECT};
use crate::helpers::{ApiResponse, MINUTE, NEW_PASSWORD, PASSWORD, Service, User};

/// Settings with cheap hashes, no cache of secrets, and no minimum interval between rotations.
const SETTINGS: [(&str, &str); 6] = [
    ("ARGON2_MEMORY_KIB", "128"),
    ("ARGON2_ITERATIONS", "1"),
    ("SECRETS_CACHE_SECONDS", "0"),
    ("JWT_ROTATION_MIN_INTERVAL_SECONDS", "0"),
    // The requests of a stack come from one address.
    ("CODE_FAILURES_PER_IP", "1000000"),
    ("RESET_MAILS_PER_IP", "1000000"),
];
/// Stacks per core that run scenarios in parallel, one request at a time each. Most of the time is spent waiting.
const STACKS_PER_CORE: usize = 6;

/// Failures of a username before a request; one more costs no wait.
const FAILURES: u32 = 3;
/// Failures after which one more causes a wait that is longer than a request.
const LAST_FAILURES: u32 = 14;
/// Failures of an address before a request.
const FAILURES_OF_ADDRESS: u32 = 5;
/// Tries of a code before a request: all but the last.
const TRIES: usize = 11;

const JWT_SECRET: &str = "GetSecretValue jwt-secret";
const CODE_KEY: &str = "GetSecretValue code-key";
const GET_USER: &str = "GetItem users";
const GET_USER_ID: &str = "GetItem user-ids";
const READ_CANDIDATE: &str = "BatchGetItem";
const COMMIT: &str = "UpdateItem users";
const REPLACE_HASH: &str = "UpdateItem users 2";
const READ_ADDRESS: &str = "GetItem source-ips";
const CHARGE_ADDRESS: &str = "UpdateItem source-ips";
const KEEP_SESSION: &str = "PutItem sessions";
const GET_SESSION: &str = "GetItem sessions";
const USE_SESSION: &str = "UpdateItem sessions";
const END_SESSION: &str = "UpdateItem sessions";
const LIST_SESSIONS: &str = "Query sessions";
const DELETE_SESSION: &str = "DeleteItem sessions";
const REPLACE_CODE: &str = "UpdateItem reset-codes";
const RESERVE_TRY: &str = "UpdateItem reset-codes";
const GIVE_BACK_TRY: &str = "UpdateItem reset-codes 2";
const TRANSACTION: &str = "TransactWriteItems";
const RESTORE_CODE: &str = "UpdateItem reset-codes 2";
const MAIL: &str = "SendEmail example.com";
/// The mail to a user's second address.
const OTHER_MAIL: &str = "SendEmail example.org";
/// The mail to [`REFUSED_ADDRESS`].
const REFUSED_MAIL: &str = "SendEmail exa_mple.com";
const REPLACE_SECRET: &str = "PutSecretValue jwt-secret";

/// One request in a known state.
trait Scenario: Sized {
    /// The response if the service is available.
    type Reply;

    /// The operations without which the request is answered as unavailable.
    const NEEDS: &[&str];

    /// The needed operations whose outcome is looked up after a lost response.
    const LOOKED_UP: &[&str] = &[];

    async fn prepare(service: &Service) -> Self;

    /// Sends the request and asserts the documented response. Returns `None` if the service is unavailable.
    async fn request(&self, service: &Service) -> Option<Self::Reply>;

    /// Asserts the stored outcome, and that the service works.
    async fn check(self, service: &Service, reply: Option<Self::Reply>, struck: &Struck);
}

/// The injected fault, if any.
struct Struck(Option<Plan>);

impl Struck {
    /// Returns whether an operation ends in an error.
    fn fails(&self, operation: &str) -> bool {
        self.0
            .as_ref()
            .is_some_and(|plan| plan.attempts == Plan::EVERY_ATTEMPT && plan.operation == operation)
    }

    fn fails_any(&self, operations: &[&str]) -> bool {
        operations.iter().any(|operation| self.fails(operation))
    }

    /// Returns whether an operation ends in an error although it is applied.
    fn lost(&self, operation: &str) -> bool {
        self.fails(operation) && self.0.as_ref().is_some_and(|plan| plan.fault.is_applied())
    }

    /// Returns whether an operation ends in an error after it was applied, so that a look-up finds its outcome.
    fn known(&self, operation: &str) -> bool {
        self.lost(operation) && !self.late(operation)
    }

    /// Returns whether an operation is applied if it is reached.
    fn applied(&self, operation: &str) -> bool {
        !self.fails(operation) || self.lost(operation)
    }

    /// Returns whether an operation is applied after the response, perhaps again.
    fn late(&self, operation: &str) -> bool {
        self.0.as_ref().is_some_and(|plan| plan.fault == Fault::Late && plan.operation == operation)
    }

    /// Returns whether the mail service explicitly refuses a mail.
    fn refused(&self, mail: &str) -> bool {
        self.0.as_ref().is_some_and(|plan| plan.operation == mail && plan.fault.is_refusal())
    }

    /// The number of mails that arrive for one that is sent.
    fn mails(&self) -> usize {
        usize::from(self.applied(MAIL))
    }

    /// Returns whether an attempt is committed, even if the response of the commit is lost.
    fn committed(&self, before: &[&str]) -> bool {
        !self.fails_any(before) && self.applied(COMMIT)
    }

    /// The failures counted after a right password. `before` are the operations before its comparison.
    fn failures_after_right(&self, before: &[&str]) -> usize {
        if self.committed(before) { 0 } else { FAILURES as usize }
    }

    /// The failures counted after `failures` and a wrong password.
    fn failures_after_wrong(&self, failures: u32, before: &[&str]) -> usize {
        failures as usize + usize::from(self.committed(before))
    }

    /// The failures that a wrong password adds to the address.
    fn charged_to_address(&self, before: &[&str]) -> u32 {
        let reached = !self.fails_any(before) && !self.fails(COMMIT);
        u32::from(reached && self.applied(CHARGE_ADDRESS))
    }
}

/// A scenario as a value.
#[derive(Clone, Copy)]
struct Entry {
    name: &'static str,
    needs: &'static [&'static str],
    run: for<'a> fn(&'a Service, &'a Struck) -> LocalBoxFuture<'a, Vec<String>>,
}

impl Entry {
    fn of<S: Scenario + 'static>() -> Self {
        let name = type_name::<S>().rsplit("::").next().unwrap();
        Self { name, needs: S::NEEDS, run: |service, struck| run::<S>(service, struck).boxed_local() }
    }
}

#[tokio::test]
async fn no_fault_leaves_a_partial_change_or_a_count_too_low() {
    // This test starts its own stacks, so running it once, with the embedded services, is enough.
    if !support::embedded() || std::env::var_os("DYNAMODB_URL").is_some() {
        return;
    }
    let scenarios = [
        Entry::of::<passwords::SigningIn>(),
        Entry::of::<passwords::SigningInOnceMore>(),
        Entry::of::<passwords::WrongPassword>(),
        Entry::of::<passwords::ForcedChange>(),
        Entry::of::<passwords::Change>(),
        Entry::of::<passwords::WrongOldPassword>(),
        Entry::of::<passwords::ChangeInSettings>(),
        Entry::of::<passwords::RightCheck>(),
        Entry::of::<passwords::WrongCheck>(),
        Entry::of::<codes::Sending>(),
        Entry::of::<codes::SendingToTwo>(),
        Entry::of::<codes::SendingRefused>(),
        Entry::of::<codes::RightCode>(),
        Entry::of::<codes::WrongCode>(),
        Entry::of::<codes::Reset>(),
        Entry::of::<codes::WrongReset>(),
        Entry::of::<sessions::SessionSignin>(),
        Entry::of::<sessions::Authorize>(),
        Entry::of::<sessions::ListSessions>(),
        Entry::of::<sessions::DeleteSession>(),
        Entry::of::<sessions::LogOut>(),
        Entry::of::<administration::Create>(),
        Entry::of::<administration::Import>(),
        Entry::of::<administration::Deactivate>(),
        Entry::of::<administration::SetPassword>(),
        Entry::of::<administration::RevokeSessions>(),
        Entry::of::<administration::Unlock>(),
        Entry::of::<administration::Rename>(),
        Entry::of::<administration::Delete>(),
        Entry::of::<rotation::Rotate<0>>(),
        Entry::of::<rotation::Rotate<2>>(),
        Entry::of::<rotation::Rotate<3>>(),
    ];
    let stacks = STACKS_PER_CORE * available_parallelism().map_or(1, usize::from);
    let services = join_all((0..stacks).map(|_| Service::with_settings(SETTINGS))).await;
    let operations = on_each(&services, scenarios, async |service, scenario| {
        let operations = (scenario.run)(service, &Struck(None)).await;
        for needed in scenario.needs {
            assert!(operations.iter().any(|operation| operation == needed), "no {needed}: {operations:?}");
        }
        operations.into_iter().map(|operation| (scenario, operation)).collect::<Vec<_>>()
    })
    .await
    .concat();
    let faults = operations
        .iter()
        .flat_map(|(scenario, operation)| Plan::all_for(operation).map(|plan| (*scenario, plan)));
    let outcomes = on_each(&services, faults, async |service, (scenario, plan)| {
        let told = format!("{}: {plan}", scenario.name);
        let struck = Struck(Some(plan));
        let run = (scenario.run)(service, &struck);
        AssertUnwindSafe(run).catch_unwind().await.map_err(|_| told)
    })
    .await;
    #[expect(clippy::print_stdout, reason = "how much was tested")]
    {
        println!(
            "{} faults at {} operations of {} requests",
            outcomes.len(),
            operations.len(),
            scenarios.len()
        );
    }
    let failed: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[tokio::test]
async fn a_session_signs_in_although_five_attempts_of_an_operation_fail() {
    if !support::embedded() || std::env::var_os("DYNAMODB_URL").is_some() {
        return;
    }
    let service = Service::with_settings(SETTINGS).await;
    let faults = service.stack.as_ref().unwrap().faults();
    let (token, session_token) = service.session_of(&service.user().create().await).await;
    let failing = |operation: &str, fault| {
        faults.begin(Some(Plan { operation: operation.to_owned(), fault, attempts: 5 }));
    };
    for operation in [USE_SESSION, GET_USER, JWT_SECRET] {
        for fault in [Fault::Unavailable, Fault::CutAfter] {
            failing(operation, fault);
            let answer = service.session_signin(&session_token).await;
            assert!(faults.end().await.iter().any(|done| done == operation), "no {operation}");
            assert_eq!(answer.status, 202, "{fault:?} at {operation}: {answer:?}");
        }
    }
    // Other functions give up sooner.
    failing(GET_USER, Fault::Unavailable);
    service.sessions(&token).await.is_refused_for(SERVICE_UNAVAILABLE);
    faults.end().await;
}

/// Does all the work in parallel, one piece at a time on each stack.
async fn on_each<T, R>(
    services: &[Service],
    work: impl IntoIterator<Item = T>,
    act: impl AsyncFn(&Service, T) -> R,
) -> Vec<R> {
    let work = RefCell::new(work.into_iter());
    let done = services.iter().map(async |service| {
        let mut done = Vec::new();
        loop {
            let Some(piece) = work.borrow_mut().next() else { return done };
            done.push(act(service, piece).await);
        }
    });
    join_all(done).await.into_iter().flatten().collect()
}

/// Runs a scenario, and returns the operations of its request.
async fn run<S: Scenario>(service: &Service, struck: &Struck) -> Vec<String> {
    let faults = service.stack.as_ref().unwrap().faults();
    // A failed scenario may have left a fault behind.
    faults.end().await;
    let scenario = S::prepare(service).await;
    faults.begin(struck.0.clone());
    let reply = scenario.request(service).await;
    let operations = faults.end().await;
    if let Some(plan) = &struck.0 {
        assert!(operations.contains(&plan.operation), "{plan}: {operations:?}");
    }
    let is_found_out = |operation: &str| S::LOOKED_UP.contains(&operation) && struck.known(operation);
    let unavailable = S::NEEDS.iter().any(|operation| struck.fails(operation) && !is_found_out(operation));
    assert_eq!(reply.is_none(), unavailable, "unavailable, {:?}", struck.0);
    scenario.check(service, reply, struck).await;
    operations
}

/// Returns the response, or `None` if it says that the service is unavailable.
#[track_caller]
fn available(answer: ApiResponse) -> Option<ApiResponse> {
    if answer.status != 503 {
        return Some(answer);
    }
    answer.is_refused_for(SERVICE_UNAVAILABLE);
    None
}

/// Returns a response of `change_password`, or `None` if it says that the service is unavailable.
#[track_caller]
fn available_profile(answer: ApiResponse) -> Option<ApiResponse> {
    if answer.status != 503 {
        return Some(answer);
    }
    let body = answer.json();
    assert_eq!(body, json!({"success": false, "code": 503, "message": body["message"]}));
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    None
}

/// Returns a response of `manage_users`, or `None` if it says that the service is unavailable.
#[track_caller]
fn available_management(answer: Value) -> Option<Value> {
    if answer["ok"] == true {
        return Some(answer);
    }
    assert_eq!(answer, json!({"ok": false, "error_code": "service_unavailable", "msg": answer["msg"]}));
    None
}

/// The user of a scenario.
struct Account {
    user: User,
    token: String,
    session_token: String,
    stamp: String,
}

impl Account {
    /// Creates a user with a token and a session, and failures of the name and the address since.
    async fn new(service: &Service) -> Self {
        let user = service.user().with_password(PASSWORD).create().await;
        let (token, session_token) = service.session_of(&user).await;
        let account = Self { stamp: stamp(service, &user).await, user, token, session_token };
        let_fail(service, &account.user).await;
        account
    }

    /// Asserts the state of the user after a change to [`NEW_PASSWORD`], or the unchanged state. `kept` says whether the
    /// token stays valid after the change.
    async fn assert_changed(&self, service: &Service, changed: bool, kept: bool, struck: &Struck) {
        let Self { user, token, session_token, stamp } = self;
        assert_eq!(self::stamp(service, user).await != *stamp, changed, "stamp");
        assert_eq!(service.stored_user(user).await.contains_key("password_changed_at"), changed);
        assert_notices(service, user, changed, struck).await;
        assert_eq!(service.takes(token).await, !changed || kept, "token");
        let session = service.session_signin(session_token).await;
        if changed {
            session.is(SESSION_TOKEN_INCORRECT);
        } else {
            session.token_of_session();
        }
        assert_password(service, user, changed).await;
    }
}

/// Sets earlier failures of the user's name and of this client's address.
async fn let_fail(service: &Service, user: &User) {
    service.set_failures(&user.username, FAILURES, MINUTE).await;
    service.set_failures_of_address(FAILURES_OF_ADDRESS, 10 * MINUTE).await;
}

async fn stamp(service: &Service, user: &User) -> String {
    service.stored_user(user).await["security_stamp"].as_s().unwrap().clone()
}

/// Asserts that the password is [`NEW_PASSWORD`] if `changed`, and [`PASSWORD`] otherwise.
async fn assert_password(service: &Service, user: &User, changed: bool) {
    service.set_failures(&user.username, 0, MINUTE).await;
    service.signin(&user.username, if changed { NEW_PASSWORD } else { PASSWORD }).await.token();
}

/// Asserts the failures of the username in both budgets, and the failures added to the address.
async fn assert_failures(service: &Service, user: &User, failures: usize, of_address: u32) {
    assert_eq!(service.failures_of_both(&user.username).await, failures, "failures");
    assert_eq!(service.failures_of_address().await, FAILURES_OF_ADDRESS + of_address, "of the address");
}

/// Asserts that the user got a notice of the change, if there was one that the service could detect.
async fn assert_notices(service: &Service, user: &User, changed: bool, struck: &Struck) {
    let mails = service.mails_to(&user.email).await;
    let notices = mails.iter().filter(|mail| mail.subject.contains("was changed")).count();
    let unknown = struck.lost(TRANSACTION) && struck.late(TRANSACTION);
    let expected = if changed && !unknown { struck.mails() } else { 0 };
    assert_eq!(notices, expected, "notices");
}
