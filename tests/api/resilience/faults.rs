//! What is answered, and what is stored, when an operation behind a request fails: for every endpoint, every operation
//! that it makes, and everything that can happen to that and makes a difference, at the first attempt and at all of them.
//!
//! A request may be refused for now, and nothing else is different from what it would be without the fault: passwords,
//! codes, sessions and mails agree, and no try or attempt is counted too low. Afterwards everything goes on.

use std::any::type_name;
use std::cell::RefCell;
use std::panic::AssertUnwindSafe;
use std::thread::available_parallelism;

use aws_sdk_dynamodb::types::AttributeValue;
use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, join_all};
use serde_json::{Value, json};
use support::{Fault, Plan};
use uuid::Uuid;

use crate::answers::{
    CHANGE_PASSWORD, CHANGED_PASSWORD, CODE_CORRECT, CODE_INCORRECT, LOGGED_OUT, NEW_PASSWORD_SET,
    NO_CODE_REQUESTED, NO_SESSION_TO_LOG_OUT, PASSWORD_CHANGED, PASSWORD_CORRECT, PASSWORD_INCORRECT,
    RATE_LIMIT_EXCEEDED, SENT, SERVICE_UNAVAILABLE, SESSION_DELETED, SESSION_NOT_FOUND,
    SESSION_TOKEN_INCORRECT, USERNAME_OR_PASSWORD_INCORRECT, change_password_errors,
};
use crate::helpers::{
    Answer, CHANGE_PASSWORD_AFTER_SIGNIN, MINUTE, Mail, NEW_PASSWORD, OTHER_ARGON2_HASH, PASSWORD,
    SESSION_SIGNIN, SIGNIN, Service, User, WRONG_CODE, WRONG_PASSWORD, unknown_username,
};
use crate::rules::rotation::{STEPS, step};

/// Hashes cost next to nothing, secrets are read for each request, and rotations may follow one another.
const SETTINGS: [(&str, &str); 6] = [
    ("ARGON2_MEMORY_KIB", "128"),
    ("ARGON2_ITERATIONS", "1"),
    ("SECRETS_CACHE_SECONDS", "0"),
    ("JWT_ROTATION_MIN_INTERVAL_SECONDS", "0"),
    // The requests of a stack come from one address.
    ("CODE_FAILURES_PER_IP", "1000000"),
    ("RESET_MAILS_PER_IP", "1000000"),
];
/// On how many stacks for each core scenarios run at once, one request at a time on each: most of the time is waiting.
const STACKS_PER_CORE: usize = 6;

/// Failures of a username before a request; one more costs no wait.
const FAILURES: u32 = 3;
/// So many that one more makes the username wait for longer than a request takes.
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
    /// What is answered if the service is available.
    type Reply;

    /// The operations without which it is not.
    const NEEDS: &[&str];

    /// Those of them whose outcome is looked up when their answers are lost.
    const LOOKED_UP: &[&str] = &[];

    async fn prepare(service: &Service) -> Self;

    /// Sends the request, and asserts the documented answer or that the service is unavailable, which is `None`.
    async fn request(&self, service: &Service) -> Option<Self::Reply>;

    /// Asserts what came of it, and that the service works.
    async fn check(self, service: &Service, reply: Option<Self::Reply>, struck: &Struck);
}

/// What went wrong.
struct Struck(Option<Plan>);

impl Struck {
    /// Whether an operation came to an error.
    fn fails(&self, operation: &str) -> bool {
        self.0
            .as_ref()
            .is_some_and(|plan| plan.attempts == Plan::EVERY_ATTEMPT && plan.operation == operation)
    }

    fn fails_any(&self, operations: &[&str]) -> bool {
        operations.iter().any(|operation| self.fails(operation))
    }

    /// Whether an operation came to an error although it was applied.
    fn lost(&self, operation: &str) -> bool {
        self.fails(operation) && self.0.as_ref().is_some_and(|plan| plan.fault.is_applied())
    }

    /// Whether an operation came to an error although it had been applied by then, which can be looked up.
    fn known(&self, operation: &str) -> bool {
        self.lost(operation) && !self.late(operation)
    }

    /// Whether an operation was applied, if it was come to.
    fn applied(&self, operation: &str) -> bool {
        !self.fails(operation) || self.lost(operation)
    }

    /// Whether an operation was applied after the answer, perhaps again.
    fn late(&self, operation: &str) -> bool {
        self.0.as_ref().is_some_and(|plan| plan.fault == Fault::Late && plan.operation == operation)
    }

    /// Returns whether the mail service answered that it did not take a mail.
    fn refused(&self, mail: &str) -> bool {
        self.0.as_ref().is_some_and(|plan| plan.operation == mail && plan.fault.is_refusal())
    }

    /// How many mails arrive where one is sent.
    fn mails(&self) -> usize {
        usize::from(self.applied(MAIL))
    }

    /// Returns whether an attempt was charged or cleared: it was committed, or the commit was applied after all.
    fn committed(&self, before: &[&str]) -> bool {
        !self.fails_any(before) && self.applied(COMMIT)
    }

    /// The failures counted after a right password, which is compared once the operations `before` are done.
    fn failures_after_right(&self, before: &[&str]) -> usize {
        if self.committed(before) { 0 } else { FAILURES as usize }
    }

    /// The failures counted after those that there were and a wrong password.
    fn failures_after_wrong(&self, failures: u32, before: &[&str]) -> usize {
        failures as usize + usize::from(self.committed(before))
    }

    /// The failures of the address that a wrong password adds.
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
async fn whatever_fails_nothing_is_half_done_or_counted_too_low() {
    // The stacks are started here, wherever the others are: once is enough.
    if !support::embedded() || std::env::var_os("DYNAMODB_URL").is_some() {
        return;
    }
    let scenarios = [
        Entry::of::<SigningIn>(),
        Entry::of::<SigningInOnceMore>(),
        Entry::of::<WrongPassword>(),
        Entry::of::<ForcedChange>(),
        Entry::of::<Change>(),
        Entry::of::<WrongOldPassword>(),
        Entry::of::<ChangeInSettings>(),
        Entry::of::<RightCheck>(),
        Entry::of::<WrongCheck>(),
        Entry::of::<Sending>(),
        Entry::of::<SendingToTwo>(),
        Entry::of::<SendingRefused>(),
        Entry::of::<RightCode>(),
        Entry::of::<WrongCode>(),
        Entry::of::<Reset>(),
        Entry::of::<WrongReset>(),
        Entry::of::<SessionSignin>(),
        Entry::of::<ListSessions>(),
        Entry::of::<DeleteSession>(),
        Entry::of::<LogOut>(),
        Entry::of::<Create>(),
        Entry::of::<Import>(),
        Entry::of::<Deactivate>(),
        Entry::of::<SetPassword>(),
        Entry::of::<RevokeSessions>(),
        Entry::of::<Unlock>(),
        Entry::of::<Rename>(),
        Entry::of::<Delete>(),
        Entry::of::<Rotate<0>>(),
        Entry::of::<Rotate<2>>(),
        Entry::of::<Rotate<3>>(),
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
    // Other functions answer sooner, that it cannot be told.
    failing(GET_USER, Fault::Unavailable);
    service.sessions(&token).await.is_refused_for(SERVICE_UNAVAILABLE);
    faults.end().await;
}

/// Does all the work, one piece at a time on each of the stacks.
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
    // What a scenario that failed may have left.
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

/// The answer, unless it is that the service is unavailable.
#[track_caller]
fn available(answer: Answer) -> Option<Answer> {
    if answer.status != 503 {
        return Some(answer);
    }
    answer.is_refused_for(SERVICE_UNAVAILABLE);
    None
}

/// The same of `change_password`.
#[track_caller]
fn available_profile(answer: Answer) -> Option<Answer> {
    if answer.status != 503 {
        return Some(answer);
    }
    let body = answer.json();
    assert_eq!(body, json!({"success": false, "code": 503, "message": body["message"]}));
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    None
}

/// The same of `manage_users`.
#[track_caller]
fn available_management(answer: Value) -> Option<Value> {
    if answer["ok"] == true {
        return Some(answer);
    }
    assert_eq!(answer, json!({"ok": false, "error_code": "service_unavailable", "msg": answer["msg"]}));
    None
}

/// A user as scenarios find it.
struct Account {
    user: User,
    token: String,
    session_token: String,
    stamp: String,
}

impl Account {
    /// A user who is signed in and stays so, and whose name and address have failed since.
    async fn new(service: &Service) -> Self {
        let user = service.user().with_password(PASSWORD).create().await;
        let (token, session_token) = service.session_of(&user).await;
        let account = Self { stamp: stamp(service, &user).await, user, token, session_token };
        let_fail(service, &account.user).await;
        account
    }

    /// Asserts that all of the user is as after a change of the password to [`NEW_PASSWORD`], or else as before.
    /// The token that made the change is `kept`.
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

/// Makes it so that the user's name and this client's address have failed before.
async fn let_fail(service: &Service, user: &User) {
    service.set_failures(&user.username, FAILURES, MINUTE).await;
    service.set_failures_of_address(FAILURES_OF_ADDRESS, 10 * MINUTE).await;
}

async fn stamp(service: &Service, user: &User) -> String {
    service.stored_user(user).await["security_stamp"].as_s().unwrap().clone()
}

/// Asserts that [`NEW_PASSWORD`] is the password, or else [`PASSWORD`].
async fn assert_password(service: &Service, user: &User, changed: bool) {
    service.set_failures(&user.username, 0, MINUTE).await;
    service.signin(&user.username, if changed { NEW_PASSWORD } else { PASSWORD }).await.token();
}

/// Asserts that so many failures of the username are counted in all, and so many more of the address.
async fn assert_failures(service: &Service, user: &User, failures: usize, of_address: u32) {
    assert_eq!(service.failures_of_both(&user.username).await, failures, "failures");
    assert_eq!(service.failures_of_address().await, FAILURES_OF_ADDRESS + of_address, "of the address");
}

/// Asserts that the user was told of the change if there was one, and the service could know of it.
async fn assert_notices(service: &Service, user: &User, changed: bool, struck: &Struck) {
    let mails = service.mails_to(&user.email).await;
    let notices = mails.iter().filter(|mail| mail.subject.contains("was changed")).count();
    let unknown = struck.lost(TRANSACTION) && struck.late(TRANSACTION);
    let expected = if changed && !unknown { struck.mails() } else { 0 };
    assert_eq!(notices, expected, "notices");
}

async fn code_id(service: &Service, user: &User) -> Option<String> {
    let item = service.stored_code(user).await?;
    Some(item.get("code_id")?.as_s().unwrap().clone())
}

/// A sign-in with the right password, to stay logged in, whose stored hash is outdated.
struct SigningIn(User);

impl Scenario for SigningIn {
    type Reply = (String, String);

    const NEEDS: &[&str] = &[READ_CANDIDATE, COMMIT, JWT_SECRET, KEEP_SESSION];

    async fn prepare(service: &Service) -> Self {
        let user = service.user().with("password_hash", OTHER_ARGON2_HASH).create().await;
        let_fail(service, &user).await;
        Self(user)
    }

    async fn request(&self, service: &Service) -> Option<Self::Reply> {
        let body = json!({"username": self.0.username, "password": PASSWORD, "stay_logged_in": true});
        let answer = available(service.post_json(SIGNIN, &body).await)?;
        Some(answer.token_and_session_token())
    }

    async fn check(self, service: &Service, reply: Option<Self::Reply>, struck: &Struck) {
        let user = self.0;
        let signed_in = reply.is_some();
        assert_failures(service, &user, struck.failures_after_right(&[READ_CANDIDATE]), 0).await;

        // A session whose answer is lost is kept, and nobody has its token.
        let kept = signed_in || struck.lost(KEEP_SESSION);
        assert_eq!(service.stored_sessions(&user).await.len(), usize::from(kept));
        let rehashed = (signed_in || struck.fails(KEEP_SESSION)) && struck.applied(REPLACE_HASH);
        assert_eq!(service.stored_hash(&user).await != OTHER_ARGON2_HASH, rehashed);
        let noted = service.stored_user(&user).await.contains_key("last_signin_at");
        assert_eq!(noted, struck.committed(&[READ_CANDIDATE]));

        if let Some((token, session_token)) = reply {
            assert!(service.takes(&token).await);
            service.session_signin(&session_token).await.token_of_session();
        } else {
            assert_password(service, &user, false).await;
        }
    }
}

/// A sign-in of a user who has as many sessions as there may be.
struct SigningInOnceMore(User);

impl Scenario for SigningInOnceMore {
    type Reply = String;

    const NEEDS: &[&str] = &[READ_CANDIDATE, COMMIT, JWT_SECRET, KEEP_SESSION];

    async fn prepare(service: &Service) -> Self {
        let user = service.user().with_password(PASSWORD).create().await;
        service.session_of(&user).await;
        service.fill_sessions(&user, 100).await;
        Self(user)
    }

    async fn request(&self, service: &Service) -> Option<String> {
        let body = json!({"username": self.0.username, "password": PASSWORD, "stay_logged_in": true});
        Some(available(service.post_json(SIGNIN, &body).await)?.token_and_session_token().1)
    }

    async fn check(self, service: &Service, reply: Option<String>, struck: &Struck) {
        let user = self.0;
        let kept = reply.is_some() || struck.lost(KEEP_SESSION);
        let one_ended = reply.is_some() && !struck.fails(LIST_SESSIONS) && struck.applied(DELETE_SESSION);
        let sessions = 100 + usize::from(kept) - usize::from(one_ended);
        assert_eq!(service.stored_sessions(&user).await.len(), sessions);
        if let Some(session_token) = reply {
            service.session_signin(&session_token).await.token_of_session();
        }
        // The next one does what this one did not.
        service.set_failures(&user.username, 0, MINUTE).await;
        service.session_of(&user).await;
        assert_eq!(service.stored_sessions(&user).await.len(), 100);
        let counted = service.stored_user(&user).await["sessions_opened"].as_n().unwrap().clone();
        assert_eq!(counted, "100");
    }
}

/// A sign-in with a wrong password, the last one before a wait.
struct WrongPassword(User);

impl Scenario for WrongPassword {
    type Reply = ();

    const NEEDS: &[&str] = &[READ_CANDIDATE, COMMIT, CHARGE_ADDRESS];

    async fn prepare(service: &Service) -> Self {
        let user = service.user().with_password(PASSWORD).create().await;
        let_fail(service, &user).await;
        service.set_failures(&user.username, LAST_FAILURES, MINUTE).await;
        Self(user)
    }

    async fn request(&self, service: &Service) -> Option<()> {
        let answer = available(service.signin(&self.0.username, WRONG_PASSWORD).await)?;
        answer.is(USERNAME_OR_PASSWORD_INCORRECT);
        Some(())
    }

    async fn check(self, service: &Service, _: Option<()>, struck: &Struck) {
        let user = self.0;
        let failures = struck.failures_after_wrong(LAST_FAILURES, &[READ_CANDIDATE]);
        let of_address = struck.charged_to_address(&[READ_CANDIDATE]);
        assert_failures(service, &user, failures, of_address).await;
        let again = service.signin(&user.username, PASSWORD).await;
        if failures > LAST_FAILURES as usize {
            again.is_refused_for(RATE_LIMIT_EXCEEDED);
        } else {
            again.token();
        }
    }
}

/// A forced change of the password, to stay logged in.
struct ForcedChange {
    user: User,
    stamp: String,
}

impl Scenario for ForcedChange {
    type Reply = (String, String);

    const NEEDS: &[&str] = &[READ_CANDIDATE, COMMIT, JWT_SECRET, TRANSACTION];
    const LOOKED_UP: &[&str] = &[TRANSACTION];

    async fn prepare(service: &Service) -> Self {
        let user = service.user().with_password(PASSWORD).due_a_password_change().create().await;
        let_fail(service, &user).await;
        Self { stamp: stamp(service, &user).await, user }
    }

    async fn request(&self, service: &Service) -> Option<Self::Reply> {
        let body = json!({
            "username": self.user.username,
            "old_password": PASSWORD,
            "new_password": NEW_PASSWORD,
            "stay_logged_in": true,
        });
        let answer = available(service.post_json(CHANGE_PASSWORD_AFTER_SIGNIN, &body).await)?;
        Some(answer.token_and_session_token())
    }

    async fn check(self, service: &Service, reply: Option<Self::Reply>, struck: &Struck) {
        let Self { user, stamp } = self;
        let changed = reply.is_some() || struck.lost(TRANSACTION);
        assert_failures(service, &user, struck.failures_after_right(&[READ_CANDIDATE]), 0).await;

        let stored = service.stored_user(&user).await;
        assert_eq!(self::stamp(service, &user).await != stamp, changed);
        assert_eq!(*stored["must_change_password"].as_bool().unwrap(), !changed);
        for instant in ["password_changed_at", "last_signin_at"] {
            assert_eq!(stored.contains_key(instant), changed, "{instant}");
        }
        assert_eq!(service.stored_sessions(&user).await.len(), usize::from(changed));
        assert_notices(service, &user, changed, struck).await;

        if let Some((token, session_token)) = &reply {
            assert!(service.takes(token).await);
            service.session_signin(session_token).await.token_of_session();
        }
        if !changed {
            service.set_failures(&user.username, 0, MINUTE).await;
            service.signin(&user.username, PASSWORD).await.is(CHANGE_PASSWORD);
            service.session_of_forced_change(&user).await;
        } else if reply.is_none() {
            assert_password(service, &user, true).await;
        }
    }
}

/// A change of the password by its user.
struct Change(Account);

/// What comes before the commit of an attempt of a signed-in user.
const BEFORE: [&str; 4] = [JWT_SECRET, GET_USER_ID, GET_SESSION, READ_CANDIDATE];
const RIGHT_NEEDS: [&str; 5] = [JWT_SECRET, GET_USER_ID, GET_SESSION, READ_CANDIDATE, COMMIT];
const WRONG_NEEDS: [&str; 6] = [JWT_SECRET, GET_USER_ID, GET_SESSION, READ_CANDIDATE, COMMIT, CHARGE_ADDRESS];

impl Scenario for Change {
    type Reply = ();

    const NEEDS: &[&str] = &[JWT_SECRET, GET_USER_ID, GET_SESSION, READ_CANDIDATE, COMMIT, TRANSACTION];
    const LOOKED_UP: &[&str] = &[TRANSACTION];

    async fn prepare(service: &Service) -> Self {
        Self(Account::new(service).await)
    }

    async fn request(&self, service: &Service) -> Option<()> {
        let changed = service.change_password(&self.0.token, PASSWORD, NEW_PASSWORD).await;
        available_profile(changed)?.is(NEW_PASSWORD_SET);
        Some(())
    }

    async fn check(self, service: &Service, reply: Option<()>, struck: &Struck) {
        let account = self.0;
        assert_failures(service, &account.user, struck.failures_after_right(&BEFORE), 0).await;
        let changed = reply.is_some() || struck.lost(TRANSACTION);
        account.assert_changed(service, changed, true, struck).await;
    }
}

/// A change of the password by somebody who does not know it.
struct WrongOldPassword(Account);

impl Scenario for WrongOldPassword {
    type Reply = ();

    const NEEDS: &[&str] = &WRONG_NEEDS;

    async fn prepare(service: &Service) -> Self {
        Self(Account::new(service).await)
    }

    async fn request(&self, service: &Service) -> Option<()> {
        let changed = service.change_password(&self.0.token, WRONG_PASSWORD, NEW_PASSWORD).await;
        let changed = available_profile(changed)?;
        assert_eq!((changed.status, changed.body), (422, change_password_errors(&[4])));
        Some(())
    }

    async fn check(self, service: &Service, _: Option<()>, struck: &Struck) {
        let account = self.0;
        let failures = struck.failures_after_wrong(FAILURES, &BEFORE);
        assert_failures(service, &account.user, failures, struck.charged_to_address(&BEFORE)).await;
        account.assert_changed(service, false, false, struck).await;
    }
}

/// A change of the password by its user, as the original clients make it.
struct ChangeInSettings(Change);

impl Scenario for ChangeInSettings {
    type Reply = ();

    const NEEDS: &[&str] = Change::NEEDS;
    const LOOKED_UP: &[&str] = Change::LOOKED_UP;

    async fn prepare(service: &Service) -> Self {
        Self(Change::prepare(service).await)
    }

    async fn request(&self, service: &Service) -> Option<()> {
        let Change(account) = &self.0;
        let changed = service.change_my_password(&account.token, PASSWORD, NEW_PASSWORD).await;
        available(changed)?.is(PASSWORD_CHANGED);
        Some(())
    }

    async fn check(self, service: &Service, reply: Option<()>, struck: &Struck) {
        self.0.check(service, reply, struck).await;
    }
}

/// A check of the right password.
struct RightCheck(Account);

impl Scenario for RightCheck {
    type Reply = ();

    const NEEDS: &[&str] = &RIGHT_NEEDS;

    async fn prepare(service: &Service) -> Self {
        Self(Account::new(service).await)
    }

    async fn request(&self, service: &Service) -> Option<()> {
        available(service.check_old_password(&self.0.token, PASSWORD).await)?.is(PASSWORD_CORRECT);
        Some(())
    }

    async fn check(self, service: &Service, _: Option<()>, struck: &Struck) {
        let account = self.0;
        assert_failures(service, &account.user, struck.failures_after_right(&BEFORE), 0).await;
        account.assert_changed(service, false, false, struck).await;
    }
}

/// A check of a wrong password.
struct WrongCheck(WrongOldPassword);

impl Scenario for WrongCheck {
    type Reply = ();

    const NEEDS: &[&str] = WrongOldPassword::NEEDS;

    async fn prepare(service: &Service) -> Self {
        Self(WrongOldPassword::prepare(service).await)
    }

    async fn request(&self, service: &Service) -> Option<()> {
        let WrongOldPassword(account) = &self.0;
        let checked = service.check_old_password(&account.token, WRONG_PASSWORD).await;
        available(checked)?.is(PASSWORD_INCORRECT);
        Some(())
    }

    async fn check(self, service: &Service, reply: Option<()>, struck: &Struck) {
        self.0.check(service, reply, struck).await;
    }
}

/// A user with a code of which two tries are used from a known network, from which it was requested, and three from
/// elsewhere.
struct EarlierCode {
    user: User,
    code: String,
    code_id: Option<String>,
    elsewhere: Service,
}

/// The state of a user's codes after a request for another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Codes {
    /// The earlier code counts, with its tries.
    Earlier,
    /// There is no code, and the send does not count.
    None,
    /// The new code counts, and so does its send.
    New,
}

impl EarlierCode {
    async fn new(service: &Service) -> Self {
        let user = service.user().with_password(PASSWORD).create().await;
        service.token_of(&user).await;
        let code = service.code_for(&user).await;
        let elsewhere = service.seen_from_elsewhere();
        service.set_tries(&user, 2).await;
        elsewhere.set_tries(&user, 3).await;
        Self { code_id: code_id(service, &user).await, user, code, elsewhere }
    }

    async fn assert_codes(&self, service: &Service, expected: Codes) {
        let Self { user, code, code_id, elsewhere } = self;
        let stored = self::code_id(service, user).await;
        let codes = match &stored {
            None => Codes::None,
            stored if stored == code_id => Codes::Earlier,
            _ => Codes::New,
        };
        assert_eq!(codes, expected);
        let tries = (service.tries(user).await, elsewhere.tries(user).await);
        assert_eq!(tries, if expected == Codes::Earlier { (2, 3) } else { (0, 0) }, "tries");
        assert_eq!(service.sends(user).await, 1 + usize::from(expected == Codes::New), "sends");
        let earlier = service.check_code(&user.username, code).await;
        earlier.is(match expected {
            Codes::Earlier => CODE_CORRECT,
            Codes::None => NO_CODE_REQUESTED,
            Codes::New => CODE_INCORRECT,
        });
    }
}

/// A reset code in place of an earlier one.
struct Sending(EarlierCode);

impl Scenario for Sending {
    type Reply = ();

    const NEEDS: &[&str] = &[CHARGE_ADDRESS, GET_USER, CODE_KEY, REPLACE_CODE, MAIL];

    async fn prepare(service: &Service) -> Self {
        Self(EarlierCode::new(service).await)
    }

    async fn request(&self, service: &Service) -> Option<()> {
        available(service.send_email(&self.0.user.username).await)?.is(SENT);
        Some(())
    }

    async fn check(self, service: &Service, reply: Option<()>, struck: &Struck) {
        let written = !struck.fails_any(&[CHARGE_ADDRESS, GET_USER, CODE_KEY, REPLACE_CODE]);
        let replaced = (written && !struck.refused(MAIL)) || struck.lost(REPLACE_CODE);
        let user = &self.0.user;
        let codes: Vec<_> = service.mails_to(&user.email).await[1..].iter().map(Mail::code).collect();
        assert_eq!(codes.len(), if written { struck.mails() } else { 0 }, "mails");
        assert!(reply.is_none() || !codes.is_empty());
        for sent in &codes {
            service.check_code(&user.username, sent).await.is(CODE_CORRECT);
        }
        self.0.assert_codes(service, if replaced { Codes::New } else { Codes::Earlier }).await;
        let again = service.code_for(user).await;
        service.reset_password(&user.username, &again, NEW_PASSWORD).await.is(CHANGED_PASSWORD);
    }
}

/// A reset code to two addresses, either of which may fail.
struct SendingToTwo(EarlierCode);

impl Scenario for SendingToTwo {
    type Reply = ();

    const NEEDS: &[&str] = &[CHARGE_ADDRESS, GET_USER, CODE_KEY, REPLACE_CODE];

    async fn prepare(service: &Service) -> Self {
        let earlier = EarlierCode::new(service).await;
        let elsewhere = format!("{}@example.org", earlier.user.username);
        service.set_stored_addresses(&earlier.user, &[&elsewhere, &earlier.user.email]).await;
        Self(earlier)
    }

    async fn request(&self, service: &Service) -> Option<()> {
        available(service.send_email(&self.0.user.username).await)?.is(SENT);
        Some(())
    }

    async fn check(self, service: &Service, reply: Option<()>, struck: &Struck) {
        let user = &self.0.user;
        let replaced = reply.is_some() || struck.lost(REPLACE_CODE);
        let mut mails = service.mails_to(&user.email).await.split_off(1);
        let first = mails.len();
        mails.extend(service.mails_to(&format!("{}@example.org", user.username)).await);
        let arrives = |mail| usize::from(reply.is_some() && struck.applied(mail));
        assert_eq!([first, mails.len() - first], [MAIL, OTHER_MAIL].map(arrives), "mails");
        for mail in &mails {
            service.check_code(&user.username, &mail.code()).await.is(CODE_CORRECT);
        }
        self.0.assert_codes(service, if replaced { Codes::New } else { Codes::Earlier }).await;
    }
}

/// A reset code to the only address of a user, which the mail service refuses.
struct SendingRefused(EarlierCode);

impl Scenario for SendingRefused {
    type Reply = ();

    /// It is unavailable in any case.
    const NEEDS: &[&str] = &[];

    async fn prepare(service: &Service) -> Self {
        let earlier = EarlierCode::new(service).await;
        service.make_unreachable(&earlier.user).await;
        Self(earlier)
    }

    async fn request(&self, service: &Service) -> Option<()> {
        let answer = service.send_email(&self.0.user.username).await;
        answer.is_refused_for(SERVICE_UNAVAILABLE);
        Some(())
    }

    async fn check(self, service: &Service, _: Option<()>, struck: &Struck) {
        let lost_once = struck.0.as_ref().is_some_and(|plan| {
            plan.operation == REPLACE_CODE && plan.fault == Fault::CutAfter && plan.attempts == 1
        });
        let expected = if lost_once {
            // The earlier code was in the response that was lost.
            Codes::None
        } else if struck.fails_any(&[CHARGE_ADDRESS, GET_USER, CODE_KEY]) {
            Codes::Earlier
        } else if struck.late(REPLACE_CODE) {
            // Applied, perhaps again, after the earlier code was restored.
            Codes::New
        } else if struck.fails(REPLACE_CODE) {
            if struck.lost(REPLACE_CODE) { Codes::New } else { Codes::Earlier }
        } else if (struck.fails(REFUSED_MAIL) && !struck.refused(REFUSED_MAIL))
            || !struck.applied(RESTORE_CODE)
        {
            Codes::New
        } else {
            Codes::Earlier
        };
        self.0.assert_codes(service, expected).await;
    }
}

/// A code of which one try is left.
struct LastTry(String);

impl LastTry {
    async fn new(service: &Service, user: &User) -> Self {
        let code = service.code_for(user).await;
        service.set_tries(user, TRIES).await;
        Self(code)
    }

    /// Asserts that so many tries are used, and that the right code is checked if one is left.
    async fn assert_tries(&self, service: &Service, user: &User, expected: usize) {
        assert_eq!(service.tries(user).await, expected, "tries");
        let again = service.check_code(&user.username, &self.0).await;
        again.is(if expected > TRIES { RATE_LIMIT_EXCEEDED } else { CODE_CORRECT });
    }
}

const CODE_NEEDS: [&str; 4] = [READ_ADDRESS, GET_USER, RESERVE_TRY, CODE_KEY];
const WRONG_CODE_NEEDS: [&str; 5] = [READ_ADDRESS, GET_USER, RESERVE_TRY, CODE_KEY, CHARGE_ADDRESS];

/// The right code, at the last try.
struct RightCode(User, LastTry);

impl Scenario for RightCode {
    type Reply = ();

    const NEEDS: &[&str] = &CODE_NEEDS;

    async fn prepare(service: &Service) -> Self {
        let user = service.user().with_password(PASSWORD).create().await;
        let code = LastTry::new(service, &user).await;
        Self(user, code)
    }

    async fn request(&self, service: &Service) -> Option<()> {
        let Self(user, LastTry(code)) = self;
        available(service.check_code(&user.username, code).await)?.is(CODE_CORRECT);
        Some(())
    }

    async fn check(self, service: &Service, _: Option<()>, struck: &Struck) {
        let kept = !struck.applied(GIVE_BACK_TRY) || struck.lost(RESERVE_TRY) || struck.late(RESERVE_TRY);
        self.1.assert_tries(service, &self.0, TRIES + usize::from(kept)).await;
    }
}

/// A wrong code, at the last try.
struct WrongCode(User, LastTry);

impl Scenario for WrongCode {
    type Reply = ();

    const NEEDS: &[&str] = &WRONG_CODE_NEEDS;

    async fn prepare(service: &Service) -> Self {
        let user = service.user().with_password(PASSWORD).create().await;
        let code = LastTry::new(service, &user).await;
        Self(user, code)
    }

    async fn request(&self, service: &Service) -> Option<()> {
        available(service.check_code(&self.0.username, WRONG_CODE).await)?.is(CODE_INCORRECT);
        Some(())
    }

    async fn check(self, service: &Service, reply: Option<()>, struck: &Struck) {
        let used = reply.is_some() || struck.lost(RESERVE_TRY) || struck.fails(CHARGE_ADDRESS);
        self.1.assert_tries(service, &self.0, TRIES + usize::from(used)).await;
    }
}

/// A reset with a wrong code, at the last try.
struct WrongReset(Account, LastTry);

impl Scenario for WrongReset {
    type Reply = ();

    const NEEDS: &[&str] = &WRONG_CODE_NEEDS;

    async fn prepare(service: &Service) -> Self {
        let account = Account::new(service).await;
        let code = LastTry::new(service, &account.user).await;
        Self(account, code)
    }

    async fn request(&self, service: &Service) -> Option<()> {
        let username = &self.0.user.username;
        available(service.reset_password(username, WRONG_CODE, NEW_PASSWORD).await)?.is(CODE_INCORRECT);
        Some(())
    }

    async fn check(self, service: &Service, reply: Option<()>, struck: &Struck) {
        let used = reply.is_some() || struck.lost(RESERVE_TRY) || struck.fails(CHARGE_ADDRESS);
        self.1.assert_tries(service, &self.0.user, TRIES + usize::from(used)).await;
        self.0.assert_changed(service, false, false, struck).await;
    }
}

/// A reset with the right code, at the last try.
struct Reset(Account, LastTry);

impl Scenario for Reset {
    type Reply = ();

    const NEEDS: &[&str] = &[READ_ADDRESS, GET_USER, RESERVE_TRY, CODE_KEY, TRANSACTION];
    const LOOKED_UP: &[&str] = &[TRANSACTION];

    async fn prepare(service: &Service) -> Self {
        let account = Account::new(service).await;
        let code = LastTry::new(service, &account.user).await;
        Self(account, code)
    }

    async fn request(&self, service: &Service) -> Option<()> {
        let Self(account, LastTry(code)) = self;
        let reset = service.reset_password(&account.user.username, code, NEW_PASSWORD).await;
        available(reset)?.is(CHANGED_PASSWORD);
        Some(())
    }

    async fn check(self, service: &Service, reply: Option<()>, struck: &Struck) {
        let Self(account, LastTry(code)) = &self;
        let (user, changed) = (&account.user, reply.is_some() || struck.lost(TRANSACTION));
        let failures = if changed { 0 } else { FAILURES as usize };
        assert_eq!(service.failures(&user.username).await, failures);
        assert_eq!(code_id(service, user).await.is_none(), changed);
        if changed {
            assert_eq!(service.tries(user).await, 0);
            service.check_code(&user.username, code).await.is(NO_CODE_REQUESTED);
        } else {
            let expected = TRIES + usize::from(struck.lost(RESERVE_TRY));
            self.1.assert_tries(service, user, expected).await;
        }
        account.assert_changed(service, changed, false, struck).await;
    }
}

/// A session token for a new token.
struct SessionSignin(Account);

impl Scenario for SessionSignin {
    type Reply = String;

    const NEEDS: &[&str] = &[USE_SESSION, GET_USER, JWT_SECRET];

    async fn prepare(service: &Service) -> Self {
        Self(Account::new(service).await)
    }

    async fn request(&self, service: &Service) -> Option<String> {
        let body = json!({"session_token": self.0.session_token, "session_information": "Chrome"});
        Some(available(service.post_json(SESSION_SIGNIN, &body).await)?.token_of_session())
    }

    async fn check(self, service: &Service, reply: Option<String>, struck: &Struck) {
        let Account { user, session_token, .. } = self.0;
        let [session] = &service.stored_sessions(&user).await[..] else { panic!("not one session") };
        let noted = struck.applied(USE_SESSION);
        assert_eq!(session["information"].as_s().unwrap() == "Chrome", noted);
        if let Some(token) = reply {
            assert!(service.takes(&token).await);
        }
        service.session_signin(&session_token).await.token_of_session();
    }
}

/// The list of sessions.
struct ListSessions(Account);

impl Scenario for ListSessions {
    type Reply = usize;

    const NEEDS: &[&str] = &[JWT_SECRET, GET_USER_ID, GET_SESSION, GET_USER, LIST_SESSIONS];

    async fn prepare(service: &Service) -> Self {
        Self(Account::new(service).await)
    }

    async fn request(&self, service: &Service) -> Option<usize> {
        let answer = available(service.sessions(&self.0.token).await)?;
        assert_eq!(answer.status, 200, "{answer:?}");
        Some(answer.json()["sessions"].as_array().unwrap().len())
    }

    async fn check(self, service: &Service, reply: Option<usize>, _: &Struck) {
        assert_eq!(reply.unwrap_or(1), 1);
        assert_eq!(service.session_ids(&self.0.token).await.len(), 1);
    }
}

const END_SESSION_NEEDS: [&str; 5] = [JWT_SECRET, GET_USER_ID, GET_SESSION, GET_USER, END_SESSION];

/// The end of a session, by its id.
struct DeleteSession {
    account: Account,
    id: String,
}

impl Scenario for DeleteSession {
    type Reply = ();

    const NEEDS: &[&str] = &END_SESSION_NEEDS;

    async fn prepare(service: &Service) -> Self {
        let account = Account::new(service).await;
        let id = service.session_ids(&account.token).await.remove(0);
        Self { account, id }
    }

    async fn request(&self, service: &Service) -> Option<()> {
        available(service.delete_session(&self.account.token, &self.id).await)?.is(SESSION_DELETED);
        Some(())
    }

    async fn check(self, service: &Service, reply: Option<()>, struck: &Struck) {
        let Account { user, token, .. } = &self.account;
        let ended = reply.is_some() || struck.lost(END_SESSION);
        assert_eq!(service.stored_sessions(user).await.is_empty(), ended);
        assert_eq!(service.takes(token).await, !ended);
        let again = service.delete_session(&service.token_of(user).await, &self.id).await;
        again.is(if ended { SESSION_NOT_FOUND } else { SESSION_DELETED });
    }
}

/// The end of a session, by its token.
struct LogOut(Account);

impl Scenario for LogOut {
    type Reply = ();

    const NEEDS: &[&str] = &END_SESSION_NEEDS;

    async fn prepare(service: &Service) -> Self {
        Self(Account::new(service).await)
    }

    async fn request(&self, service: &Service) -> Option<()> {
        available(service.log_out(&self.0.token, &self.0.session_token).await)?.is(LOGGED_OUT);
        Some(())
    }

    async fn check(self, service: &Service, reply: Option<()>, struck: &Struck) {
        let Account { user, token, session_token, .. } = &self.0;
        let ended = reply.is_some() || struck.lost(END_SESSION);
        assert_eq!(service.stored_sessions(user).await.is_empty(), ended);
        assert_eq!(service.takes(token).await, !ended);
        let again = service.log_out(&service.token_of(user).await, session_token).await;
        again.is(if ended { NO_SESSION_TO_LOG_OUT } else { LOGGED_OUT });
    }
}

/// A new user.
struct Create {
    username: String,
    user_id: String,
}

impl Create {
    fn payload(&self) -> Value {
        let Self { username, user_id } = self;
        json!({
            "action": "create", "username": username, "user_id": user_id, "password": PASSWORD, "activated": true,
        })
    }
}

impl Scenario for Create {
    type Reply = Value;

    const NEEDS: &[&str] = &[TRANSACTION];

    async fn prepare(_: &Service) -> Self {
        Self { username: unknown_username(), user_id: Uuid::new_v4().to_string() }
    }

    async fn request(&self, service: &Service) -> Option<Value> {
        available_management(service.manage(&self.payload()).await)
    }

    async fn check(self, service: &Service, reply: Option<Value>, struck: &Struck) {
        let created = reply.is_some() || struck.lost(TRANSACTION);
        let user = service.item(&service.tables.users, "username", &self.username).await;
        let user_id = service.item(&service.tables.user_ids, "user_id", &self.user_id).await;
        assert_eq!((user.is_some(), user_id.is_some()), (created, created));
        let again = service.manage(&self.payload()).await;
        assert_eq!(again["error_code"].as_str(), created.then_some("user_exists"), "{again}");
        service.signin(&self.username, PASSWORD).await.token();
    }
}

/// Two new users at once.
struct Import([String; 2]);

impl Scenario for Import {
    type Reply = Value;

    const NEEDS: &[&str] = &[];

    async fn prepare(_: &Service) -> Self {
        Self([unknown_username(), unknown_username()])
    }

    async fn request(&self, service: &Service) -> Option<Value> {
        let users = self.0.each_ref().map(|username| json!({"username": username, "password": PASSWORD}));
        available_management(service.manage(&json!({"action": "import", "users": users})).await)
    }

    async fn check(self, service: &Service, reply: Option<Value>, struck: &Struck) {
        let reply = reply.unwrap();
        let failed = reply["failed"].as_array().unwrap();
        let (first, second) = (TRANSACTION.to_owned(), format!("{TRANSACTION} 2"));
        assert_eq!(failed.len(), usize::from(struck.fails_any(&[&first, &second])), "{reply}");
        assert_eq!(reply["created"], 2 - failed.len());
        for username in &self.0 {
            let refused = failed.iter().find(|failed| failed["username"] == **username);
            assert!(refused.is_none_or(|refused| refused["error_code"] == "service_unavailable"));
            let lost = struck.lost(&first) || struck.lost(&second);
            let stored = service.item(&service.tables.users, "username", username).await;
            assert_eq!(stored.is_some(), refused.is_none() || lost);
        }
    }
}

/// A user who may no longer sign in.
struct Deactivate(Account);

impl Scenario for Deactivate {
    type Reply = Value;

    const NEEDS: &[&str] = &[GET_USER, TRANSACTION];

    async fn prepare(service: &Service) -> Self {
        Self(Account::new(service).await)
    }

    async fn request(&self, service: &Service) -> Option<Value> {
        let username = &self.0.user.username;
        let update = json!({"action": "update", "username": username, "activated": false});
        available_management(service.manage(&update).await)
    }

    async fn check(self, service: &Service, reply: Option<Value>, struck: &Struck) {
        let Account { user, token, session_token, stamp } = &self.0;
        let done = reply.is_some() || struck.lost(TRANSACTION);
        assert_eq!(self::stamp(service, user).await != *stamp, done);
        assert_eq!(*service.stored_user(user).await["activated"].as_bool().unwrap(), !done);
        assert_eq!(service.takes(token).await, !done);
        service.update(user, json!({"activated": true})).await;
        assert_eq!(service.takes(token).await, !done);
        assert_eq!(service.session_signin(session_token).await.status == 202, !done);
        assert_password(service, user, false).await;
    }
}

/// A password that an operator sets.
struct SetPassword(Account);

impl Scenario for SetPassword {
    type Reply = Value;

    const NEEDS: &[&str] = &[GET_USER, TRANSACTION];
    const LOOKED_UP: &[&str] = &[TRANSACTION];

    async fn prepare(service: &Service) -> Self {
        Self(Account::new(service).await)
    }

    async fn request(&self, service: &Service) -> Option<Value> {
        let username = &self.0.user.username;
        let set = json!({"action": "set_password", "username": username, "password": NEW_PASSWORD});
        available_management(service.manage(&set).await)
    }

    async fn check(self, service: &Service, reply: Option<Value>, struck: &Struck) {
        if let Some(reply) = &reply {
            let shown = service.manage_user("get", &self.0.user).await;
            assert_eq!(reply["user"], shown["user"]);
            assert!(shown["user"]["password_changed_at"].is_string(), "{shown}");
        }
        let changed = reply.is_some() || struck.lost(TRANSACTION);
        self.0.assert_changed(service, changed, false, struck).await;
    }
}

/// The end of all of a user's sessions.
struct RevokeSessions(Account);

impl Scenario for RevokeSessions {
    type Reply = Value;

    const NEEDS: &[&str] = &[GET_USER, TRANSACTION];

    async fn prepare(service: &Service) -> Self {
        Self(Account::new(service).await)
    }

    async fn request(&self, service: &Service) -> Option<Value> {
        available_management(service.manage_user("revoke_sessions", &self.0.user).await)
    }

    async fn check(self, service: &Service, reply: Option<Value>, struck: &Struck) {
        let Account { user, token, session_token, stamp } = &self.0;
        let done = reply.is_some() || struck.lost(TRANSACTION);
        assert_eq!(self::stamp(service, user).await != *stamp, done);
        assert_eq!(service.takes(token).await, !done);
        assert_eq!(service.session_signin(session_token).await.status == 202, !done);
        assert_password(service, user, false).await;
    }
}

/// A user whose failures, tries and sends are forgotten.
struct Unlock(Account, LastTry);

impl Scenario for Unlock {
    type Reply = Value;

    const NEEDS: &[&str] = &[GET_USER, TRANSACTION];

    async fn prepare(service: &Service) -> Self {
        let account = Account::new(service).await;
        let code = LastTry::new(service, &account.user).await;
        Self(account, code)
    }

    async fn request(&self, service: &Service) -> Option<Value> {
        available_management(service.manage_user("unlock", &self.0.user).await)
    }

    async fn check(self, service: &Service, reply: Option<Value>, struck: &Struck) {
        let user = &self.0.user;
        let done = reply.is_some() || struck.lost(TRANSACTION);
        assert_eq!(service.failures(&user.username).await, if done { 0 } else { FAILURES as usize });
        assert_eq!(service.sends(user).await, usize::from(!done));
        self.1.assert_tries(service, user, if done { 0 } else { TRIES }).await;
    }
}

/// A user who gets another name while a code is live.
struct Rename {
    account: Account,
    new_username: String,
    session_owner: AttributeValue,
}

impl Rename {
    async fn rename(&self, service: &Service) -> Value {
        let (old, new) = (&self.account.user.username, &self.new_username);
        service.manage(&json!({"action": "rename", "username": old, "new_username": new})).await
    }
}

impl Scenario for Rename {
    type Reply = Value;

    const NEEDS: &[&str] = &[GET_USER, TRANSACTION];

    async fn prepare(service: &Service) -> Self {
        let account = Account::new(service).await;
        service.code_for(&account.user).await;
        let session_owner = service.stored_user(&account.user).await["session_owner"].clone();
        Self { account, new_username: unknown_username(), session_owner }
    }

    async fn request(&self, service: &Service) -> Option<Value> {
        available_management(self.rename(service).await)
    }

    async fn check(self, service: &Service, reply: Option<Value>, struck: &Struck) {
        let Account { user, token, session_token, .. } = &self.account;
        let done = reply.is_some() || struck.lost(TRANSACTION);
        let renamed =
            User { username: self.new_username.clone(), id: user.id.clone(), email: user.email.clone() };
        let (present, former) = if done { (&renamed, user) } else { (user, &renamed) };
        let stored =
            async |user: &User| service.item(&service.tables.users, "username", &user.username).await;
        assert!(stored(present).await.is_some() && stored(former).await.is_none());
        let id = service.item(&service.tables.user_ids, "user_id", &user.id).await.unwrap();
        assert_eq!(*id["username"].as_s().unwrap(), present.username);
        // A code is that of a name, and so are failures.
        assert_eq!(service.stored_code(user).await.is_none(), done);
        assert!(service.stored_code(&renamed).await.is_none());
        let failures = if done { 0 } else { FAILURES as usize };
        assert_eq!(service.failures(&present.username).await, failures);

        assert_eq!(service.takes(token).await, !done);
        assert_eq!(service.session_signin(session_token).await.status == 202, !done);
        // They are deleted once, and otherwise expire.
        let tidied = reply.is_some() && !struck.fails(LIST_SESSIONS) && struck.applied(DELETE_SESSION);
        assert_eq!(service.session_rows(self.session_owner.clone()).await.is_empty(), tidied);
        assert_password(service, present, false).await;
        let again = self.rename(service).await;
        assert_eq!(again["error_code"].as_str(), done.then_some("unknown_username"), "{again}");
    }
}

/// A user who is deleted while a code is live.
struct Delete(Account, AttributeValue);

impl Scenario for Delete {
    type Reply = Value;

    const NEEDS: &[&str] = &[GET_USER, TRANSACTION];

    async fn prepare(service: &Service) -> Self {
        let account = Account::new(service).await;
        service.code_for(&account.user).await;
        let owner = service.stored_user(&account.user).await["session_owner"].clone();
        Self(account, owner)
    }

    async fn request(&self, service: &Service) -> Option<Value> {
        available_management(service.manage_user("delete", &self.0.user).await)
    }

    async fn check(self, service: &Service, reply: Option<Value>, struck: &Struck) {
        let Account { user, token, session_token, .. } = &self.0;
        let done = reply.is_some() || struck.lost(TRANSACTION);
        // That is tried once, and the rest expires.
        let tidied = reply.is_some() && !struck.fails(LIST_SESSIONS) && struck.applied(DELETE_SESSION);
        assert_eq!(service.session_rows(self.1).await.is_empty(), tidied);
        let stored = [
            service.item(&service.tables.users, "username", &user.username).await,
            service.item(&service.tables.user_ids, "user_id", &user.id).await,
            service.stored_code(user).await,
        ];
        assert_eq!(stored.map(|item| item.is_none()), [done; 3]);
        assert_eq!(service.takes(token).await, !done);
        assert_eq!(service.session_signin(session_token).await.status == 202, !done);
        let again = service.manage_user("delete", user).await;
        assert_eq!(again["error_code"].as_str(), done.then_some("unknown_username"), "{again}");
    }
}

/// One step of a rotation of the secret that signs tokens; the earlier ones are done. Step 1 has no operations.
struct Rotate<const STEP: usize> {
    version: String,
    before: String,
    user: User,
    token: String,
}

impl<const STEP: usize> Scenario for Rotate<STEP> {
    type Reply = ();

    const NEEDS: &[&str] = match STEP {
        0 => &[JWT_SECRET, REPLACE_SECRET],
        _ => &[JWT_SECRET],
    };

    async fn prepare(service: &Service) -> Self {
        let user = service.user().with_password(PASSWORD).create().await;
        let token = service.token_of(&user).await;
        let before = service.jwt_secret().await.version_id;
        let version = Uuid::new_v4().to_string();
        for done in &STEPS[..STEP] {
            step(service, done, &version).await.unwrap();
        }
        Self { version, before, user, token }
    }

    /// A step that fails is asked for again.
    async fn request(&self, service: &Service) -> Option<()> {
        let Err(failed) = step(service, STEPS[STEP], &self.version).await else {
            return Some(());
        };
        let cause = failed["errorMessage"].as_str().unwrap();
        let (operation, _) = cause.split_once(": ").unwrap();
        assert!(["GetSecretValue", "PutSecretValue"].contains(&operation), "{cause}");
        None
    }

    async fn check(self, service: &Service, reply: Option<()>, struck: &Struck) {
        let made_current = STEP > 0 || reply.is_some() || struck.lost(REPLACE_SECRET);
        let current = service.jwt_secret().await.version_id;
        assert_eq!(current, if made_current { self.version.clone() } else { self.before.clone() });
        for again in STEPS {
            step(service, again, &self.version).await.unwrap();
        }
        let secret = json!({"SecretId": service.jwt_secret_id});
        let stages = service.secrets_manager("DescribeSecret", &secret).await["VersionIdsToStages"].clone();
        assert!(stages[&self.version].as_array().unwrap().contains(&json!("AWSCURRENT")), "{stages}");
        assert_eq!(stages[&self.before], json!(["AWSPREVIOUS"]));
        assert!(service.takes(&self.token).await);
        assert!(service.takes(&service.token_of(&self.user).await).await);
    }
}
