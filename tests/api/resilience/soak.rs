//! Mixed traffic on the release binaries for a quarter of an hour. Not part of `cargo test`, because it takes that
//! long: build the binaries, and run it by name (TESTING.md).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use support::{Options, Stack};
use tokio::time::{interval, sleep};
use uuid::Uuid;

use crate::answers::{
    CHANGE_PASSWORD, CHANGED_PASSWORD, CODE_CORRECT, CODE_INCORRECT, LOGGED_OUT, NEW_PASSWORD_SET,
    NO_CODE_REQUESTED, RATE_LIMIT_EXCEEDED, SESSION_TOKEN_INCORRECT, TOKEN_INCORRECT,
    USERNAME_OR_PASSWORD_INCORRECT,
};
use crate::helpers::{
    ApiResponse, NEW_PASSWORD, OTHER_ARGON2_HASH, PASSWORD, Service, User, WRONG_CODE, WRONG_PASSWORD, count,
};

/// The duration of the traffic in seconds, unless `SOAK_SECONDS` is set.
const DURATION: u64 = 15 * 60;
/// Users of the service at a time.
const PEOPLE: usize = 24;
/// The longest pause of a user between two requests, in milliseconds.
const THINK_TIME: u32 = 500;
/// The memory growth allowed from the second to the last third of the time, in KiB. Some growth is normal:
/// `lambda_runtime` sets an environment variable for each invocation, and glibc keeps every value, some 150 bytes.
const GROWTH: u64 = 2048;

/// The resident memory of each process of a function, in KiB, as it was sampled.
type Memory = BTreeMap<(String, u64), Vec<u64>>;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a quarter of an hour, and needs the release binaries"]
#[expect(clippy::print_stdout, reason = "it measures")]
async fn under_mixed_traffic_the_rules_stay_exact_and_memory_flat() {
    let seconds = std::env::var("SOAK_SECONDS").map_or(DURATION, |seconds| seconds.parse().unwrap());
    let binaries = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/release");
    let stack = Stack::start(Options { binaries: Some(binaries), ..Options::default() }).await.unwrap();
    let service = Service::at(&stack.api_url(), &stack.aws_url(), Some(stack));
    let (steps, end) = (AtomicUsize::new(0), Instant::now() + Duration::from_secs(seconds));

    let people = join_all((0..PEOPLE).map(async |number| {
        let mut lives = 0;
        while Instant::now() < end {
            live(&service.seen_from_elsewhere(), number, &steps).await;
            lives += 1;
        }
        lives
    }));
    let mut memory = Memory::new();
    let sampling = async {
        let mut interval = interval(Duration::from_secs(seconds.div_ceil(180)));
        while Instant::now() < end {
            interval.tick().await;
            sample(&mut memory);
        }
    };
    let (lives, ()) = tokio::join!(people, sampling);

    let (steps, lives) = (steps.load(Relaxed), lives.iter().sum::<usize>());
    println!("{steps} steps in {seconds} s, {lives} users, each answer the expected one");
    let longest = memory.values().map(Vec::len).max().unwrap();
    let mut grown = Vec::new();
    for ((function, process), samples) in &memory {
        assert_eq!(samples.len(), longest, "{function} ended and was started again");
        let median = |samples: &[u64]| {
            let mut samples = samples.to_vec();
            samples.sort_unstable();
            samples[samples.len() / 2]
        };
        let (before, after) =
            (median(&samples[longest / 3..2 * longest / 3]), median(&samples[2 * longest / 3..]));
        println!("{function:30} {process:8} {before:8} KiB, then {after:8} KiB");
        if after > before + GROWTH {
            grown.push(function);
        }
    }
    assert!(grown.is_empty(), "their memory grew: {grown:?}");
}

/// Notes the memory of every process of a function, which is every one that this process started.
fn sample(memory: &mut Memory) {
    for process in fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path()) {
        let (status, binary) =
            (fs::read_to_string(process.join("status")), fs::read_link(process.join("exe")));
        let (Ok(status), Ok(binary)) = (status, binary) else { continue };
        let number = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name))?;
            value.split_ascii_whitespace().next()?.parse::<u64>().ok()
        };
        if number("PPid:") == Some(std::process::id().into())
            && let (Some(pid), Some(size)) = (number("Pid:"), number("VmRSS:"))
        {
            let function = binary.file_name().unwrap().to_string_lossy().into_owned();
            memory.entry((function, pid)).or_default().push(size);
        }
    }
}

/// The whole life of a user, from creation to deletion.
async fn live(service: &Service, number: usize, steps: &AtomicUsize) {
    let think = async || {
        steps.fetch_add(1, Relaxed);
        sleep(Duration::from_millis(random(THINK_TIME).into())).await;
    };
    // Some come from elsewhere, with weaker hashes.
    let user = service.user().due_a_password_change();
    let user = if number.is_multiple_of(2) { user } else { user.with("password_hash", OTHER_ARGON2_HASH) };
    let user = user.create().await;
    let name = &user.username;
    think().await;

    service.signin(name, PASSWORD).await.is(CHANGE_PASSWORD);
    think().await;
    let (token, session) = service.session_of_forced_change(&user).await;
    think().await;
    for failures in 1..=1 + random(3) {
        service.signin(name, WRONG_PASSWORD).await.is(USERNAME_OR_PASSWORD_INCORRECT);
        think().await;
        assert_eq!(service.failures(name).await, failures as usize);
    }
    let other = service.signin(name, NEW_PASSWORD).await.token();
    assert_eq!(service.failures(name).await, 0);
    think().await;
    for _ in 0..=random(5) {
        let token = service.session_signin(&session).await.token_of_session();
        think().await;
        assert_eq!(service.session_ids(&token).await.len(), 1);
        think().await;
    }

    service.change_password(&token, NEW_PASSWORD, PASSWORD).await.is(NEW_PASSWORD_SET);
    think().await;
    assert!(service.takes(&token).await);
    service.sessions(&other).await.is(TOKEN_INCORRECT);
    service.session_signin(&session).await.is(SESSION_TOKEN_INCORRECT);
    think().await;
    let (token, session) = service.session_of(&user).await;
    think().await;

    forget(service, &user, number, &think).await;
    service.session_signin(&session).await.is(SESSION_TOKEN_INCORRECT);
    service.sessions(&token).await.is(TOKEN_INCORRECT);
    think().await;
    let (token, session) = service.session_of(&user).await;
    think().await;
    service.log_out(&token, &session).await.is(LOGGED_OUT);
    think().await;
    assert_eq!(service.manage_user("delete", &user).await["ok"], true);
    service.sessions(&token).await.is(TOKEN_INCORRECT);
    assert_eq!(service.mails_to(&user.email).await.len(), 5, "a notice of each change, and two codes");
}

/// Requests a code, loses it to wrong guesses, and resets the password with another code in parallel requests.
async fn forget(service: &Service, user: &User, number: usize, think: &impl AsyncFn()) {
    let name = &user.username;
    let used_up = service.code_for(user).await;
    think().await;
    let wrong = 12 + number;
    let guesses: Vec<ApiResponse> =
        join_all((0..wrong).map(async |_| service.check_code(name, WRONG_CODE).await)).await;
    assert_eq!(count(&guesses, [CODE_INCORRECT, RATE_LIMIT_EXCEEDED]), [12, number]);
    service.check_code(name, &used_up).await.is(RATE_LIMIT_EXCEEDED);
    think().await;

    let code = service.code_for(user).await;
    think().await;
    for _ in 0..11 {
        service.check_code(name, WRONG_CODE).await.is(CODE_INCORRECT);
    }
    service.check_code(name, &code).await.is(CODE_CORRECT);
    think().await;
    let resets: Vec<ApiResponse> =
        join_all((0..3).map(async |_| service.reset_password(name, &code, PASSWORD).await)).await;
    let [winners, _, _] = count(&resets, [CHANGED_PASSWORD, NO_CODE_REQUESTED, RATE_LIMIT_EXCEEDED]);
    assert_eq!(winners, 1);
    think().await;
}

/// A number below `below`.
fn random(below: u32) -> u32 {
    Uuid::new_v4().as_fields().0 % below
}
