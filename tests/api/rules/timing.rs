//! Response times must not reveal what responses hide. Absolute times depend on the machine, so every request is paired
//! with one that should take equally long, and the ratio of the two times is tested.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use support::{Fault, Plan};

use crate::answers::{
    CODE_INCORRECT, Documented, RATE_LIMIT_EXCEEDED, SENT, TOO_MANY_ATTEMPTS, USERNAME_OR_PASSWORD_INCORRECT,
};
use crate::helpers::{
    ApiResponse, CHANGE_MY_PASSWORD, CHANGE_PASSWORD, CHANGE_PASSWORD_AFTER_SIGNIN, CHECK_OLD_PASSWORD,
    NEW_PASSWORD, OTHER_ARGON2_HASH, PASSWORD, SIGNIN, Service, WRONG_CODE, WRONG_PASSWORD, unknown_username,
};

/// Pairs per comparison: both requests of each from one address stay within its budget of failures.
const PAIRS: usize = 40;
/// Pairs that run in parallel.
const AT_A_TIME: usize = 8;
/// The maximum of the ratio of two times, or of its inverse. It is loose, for noisy machines: without the hash that is
/// verified for unknown users, the ratio of a sign-in would be four.
const ALIKE: f64 = 1.25;
/// The maximum ratio for refused requests, which only allows for chance.
const REFUSED_ALIKE: f64 = 1.05;
/// Comparisons of requests that are refused.
const BLOCKS: usize = 15;
/// Pairs per such comparison.
const PAIRS_PER_BLOCK: usize = 4;

/// Sends a request for each name, in pairs of a known and an unknown name, asserts the expected response, and compares
/// the times.
async fn assert_alike<Request: Future<Output = ApiResponse>>(
    what: &str,
    pairs: &[(String, String)],
    expected: Documented,
    request: impl Fn(String) -> Request,
) {
    let timed = async |username: &String| {
        let start = Instant::now();
        let answer = request(username.clone()).await;
        let time = start.elapsed();
        answer.is(expected);
        time
    };
    let mut ratios = Vec::new();
    for (round, some) in pairs.chunks(AT_A_TIME).enumerate() {
        ratios.extend(
            join_all(some.iter().enumerate().map(async |(number, (known, unknown))| {
                let (known, unknown) = if (round + number).is_multiple_of(2) {
                    let known = timed(known).await;
                    (known, timed(unknown).await)
                } else {
                    let unknown = timed(unknown).await;
                    (timed(known).await, unknown)
                };
                log_ratio(known, unknown)
            }))
            .await,
        );
    }
    assert_around_one(&format!("{what}: known over unknown"), ratios, ALIKE);
}

/// Asserts that the median of these logarithms of ratios may be that of a ratio between `bound` and its inverse.
#[track_caller]
#[expect(clippy::print_stdout, reason = "the ratios are worth reading, whether they pass or not")]
fn assert_around_one(what: &str, log_ratios: Vec<f64>, bound: f64) {
    let count = log_ratios.len();
    let [low, middle, high] = median_with_interval(log_ratios).map(f64::exp);
    println!("{what} {middle:.3} ({low:.3} to {high:.3}), {count} pairs");
    assert!(low <= bound && high >= 1.0 / bound, "{what}: {middle:.3} ({low:.3} to {high:.3})");
}

fn log_ratio(a: Duration, b: Duration) -> f64 {
    (a.as_secs_f64() / b.as_secs_f64()).ln()
}

/// The median between the ends of its 99 % confidence interval, which are order statistics: whatever the samples'
/// distribution, as many of them lie on either side of its median as heads in as many throws of a coin.
fn median_with_interval(mut samples: Vec<f64>) -> [f64; 3] {
    samples.sort_unstable_by(f64::total_cmp);
    let (middle, last) = (samples.len() / 2, samples.len() - 1);
    // 2.576 standard deviations of the normal distribution, each of half the square root of their number.
    let deviation = (samples.len() * 1659 / 1000).isqrt() + 1;
    let low = (samples.len() / 2).saturating_sub(deviation);
    [samples[low], samples[middle], samples[last - low]]
}

/// A request that is refused at its commit, after the comparison of the password.
struct Refused<'a> {
    token: Option<&'a String>,
    body: Value,
}

impl Refused<'_> {
    /// Sends the request, and returns its time and the functions' operations. The name has used up its budget, but a stale
    /// read hides that until the commit.
    async fn time(&self, service: &Service, path: &str) -> (Duration, Vec<String>) {
        let request = service.request("POST", path).json(&self.body);
        let request = self.token.into_iter().fold(request, RequestBuilder::bearer_auth);
        let faults = service.stack.as_ref().unwrap().faults();
        faults.begin(Some(Plan { operation: "BatchGetItem".to_owned(), fault: Fault::Stale, attempts: 1 }));
        let start = Instant::now();
        let answer = ApiResponse::to(request).await;
        let time = start.elapsed();
        answer.is_refused_for(if path == CHANGE_PASSWORD { TOO_MANY_ATTEMPTS } else { RATE_LIMIT_EXCEEDED });
        (time, faults.end().await)
    }
}

/// Compares the operations and the times of two requests to `path` that are both refused at their commits. Of some pairs
/// in a row, the shortest times count: what makes others longer is the machine.
async fn assert_refused_alike(
    service: &Service,
    what: &str,
    path: &str,
    commits: [&str; 2],
    requests: [Refused<'_>; 2],
) {
    let mut ratios = Vec::new();
    for block in 0..=BLOCKS {
        let mut shortest = [Duration::MAX; 2];
        for round in 0..PAIRS_PER_BLOCK {
            for place in if (block + round) % 2 == 0 { [0, 1] } else { [1, 0] } {
                let (time, mut operations) = requests[place].time(service, path).await;
                shortest[place] = shortest[place].min(time);
                assert_eq!(operations.pop().as_deref(), Some(commits[place]), "{path}: {what}");
                assert_eq!(operations.pop().as_deref(), Some("BatchGetItem"), "{path}: {what}");
                assert!(operations.iter().all(|operation| operation.starts_with("Get")), "{operations:?}");
            }
        }
        // The first block finds the function cold.
        if block > 0 {
            ratios.push(log_ratio(shortest[0], shortest[1]));
        }
    }
    assert_around_one(&format!("{path}: {what}"), ratios, REFUSED_ALIKE);
}

/// Pairs of a known and an unknown username.
async fn pairs(service: &Service, count: usize) -> Vec<(String, String)> {
    let users = join_all((0..count).map(|_| service.user().create())).await;
    users.into_iter().map(|user| (user.username, unknown_username())).collect()
}

#[tokio::test]
async fn a_wrong_password_takes_as_long_as_an_unknown_user() {
    let service = &Service::new();
    let pairs = pairs(service, PAIRS).await;

    assert_alike("signin", &pairs, USERNAME_OR_PASSWORD_INCORRECT, async |username| {
        service.signin(&username, WRONG_PASSWORD).await
    })
    .await;
    let service = &service.seen_from_elsewhere();
    assert_alike("changePasswordAfterSignin", &pairs, USERNAME_OR_PASSWORD_INCORRECT, async |username| {
        service.change_password_after_signin(&username, WRONG_PASSWORD, NEW_PASSWORD).await
    })
    .await;
}

/// A service whose hashes take no longer than its other work, so that neither hides a difference in the other.
async fn with_short_hashes() -> Service {
    Service::with_settings([
        ("ARGON2_MEMORY_KIB", "8192"),
        ("ARGON2_ITERATIONS", "2"),
        ("SIGNIN_FAILURES_PER_IP", "0"),
    ])
    .await
}

/// A body with the fields of all endpoints that verify passwords.
fn body(username: &str, password: &str) -> Value {
    json!({
        "username": username,
        "password": password,
        "old_password": password,
        "new_password": NEW_PASSWORD,
        "new_password_check": NEW_PASSWORD,
        "stay_logged_in": true,
    })
}

#[tokio::test]
async fn right_and_wrong_passwords_are_refused_in_the_same_time() {
    let service = &with_short_hashes().await;
    let user = &service.user().create().await;
    let token = service.token_of(user).await;
    // An outdated hash: the right password would now have it replaced.
    service.set_stored_hash(user, OTHER_ARGON2_HASH).await;
    service.set_failures(&user.username, 20, Duration::ZERO).await;

    for (path, token) in [
        (SIGNIN, None),
        (CHANGE_PASSWORD_AFTER_SIGNIN, None),
        (CHANGE_PASSWORD, Some(&token)),
        (CHECK_OLD_PASSWORD, Some(&token)),
        (CHANGE_MY_PASSWORD, Some(&token)),
    ] {
        let requests = [PASSWORD, WRONG_PASSWORD]
            .map(|password| Refused { token, body: body(&user.username, password) });
        let what = "refused right over refused wrong";
        assert_refused_alike(service, what, path, ["UpdateItem users"; 2], requests).await;
    }
}

#[tokio::test]
async fn known_and_unknown_names_are_refused_in_the_same_time() {
    let service = &with_short_hashes().await;
    let user = service.user().with_password(PASSWORD).create().await;
    let names = [user.username, unknown_username()];
    for name in &names {
        service.set_failures(name, 20, Duration::ZERO).await;
    }

    for path in [SIGNIN, CHANGE_PASSWORD_AFTER_SIGNIN] {
        let requests = names.each_ref().map(|name| Refused { token: None, body: body(name, WRONG_PASSWORD) });
        let what = "refused known over refused unknown";
        assert_refused_alike(service, what, path, ["UpdateItem users", "UpdateItem attempts"], requests)
            .await;
    }
}

#[tokio::test]
async fn codes_of_known_and_unknown_users_take_the_same_time_in_safe_mode() {
    // All requests come from one address.
    let service = &Service::with_settings([
        ("PREVENT_USER_EXISTENCE_ERRORS", "true"),
        ("CODE_FAILURES_PER_IP", "0"),
        ("RESET_MAILS_PER_IP", "0"),
    ])
    .await;
    let pairs = pairs(service, PAIRS).await;

    for state in ["without", "with"] {
        assert_alike(&format!("checkCode {state} a code"), &pairs, CODE_INCORRECT, async |username| {
            service.check_code(&username, WRONG_CODE).await
        })
        .await;
        assert_alike(&format!("resetPassword {state} a code"), &pairs, CODE_INCORRECT, async |username| {
            service.reset_password(&username, WRONG_CODE, NEW_PASSWORD).await
        })
        .await;
        let send = async |username: String| service.send_email(&username).await;
        assert_alike(&format!("sendEmail {state} a code"), &pairs, SENT, send).await;
    }
}
