//! That what must not be told is not told by time either. Absolute times say nothing here: every request is paired
//! with one that should take as long, made beside it, and what counts is their ratio.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::answers::{CODE_INCORRECT, Documented, SENT, USERNAME_OR_PASSWORD_INCORRECT};
use crate::helpers::{Answer, NEW_PASSWORD, Service, WRONG_CODE, WRONG_PASSWORD, unknown_username};

/// Pairs per comparison: both requests of each from one address stay within its budget of failures.
const PAIRS: usize = 40;
/// How many pairs are under way at a time.
const AT_A_TIME: usize = 8;
/// What the ratio of two times may be at most, or its inverse. Loose, for noisy machines: without the hash that is
/// verified for nobody, a sign-in's ratio is four.
const ALIKE: f64 = 1.25;

/// Asks about one name after the other, in pairs of one that is somebody's and one that is nobody's, and compares the
/// times of the answers, which all have to be the documented one.
#[expect(clippy::print_stdout, reason = "the ratios are worth reading, whether they pass or not")]
async fn assert_alike<Request: Future<Output = Answer>>(
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
    let count = ratios.len();
    let [low, middle, high] = median_with_interval(ratios).map(f64::exp);
    println!("{what}: known over unknown {middle:.3} ({low:.3} to {high:.3}), {count} pairs");
    assert!(low <= ALIKE && high >= 1.0 / ALIKE, "{what}: {middle:.3} ({low:.3} to {high:.3})");
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

/// Names of users beside names of nobody.
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

#[tokio::test]
async fn in_safe_mode_codes_of_known_and_unknown_users_take_as_long() {
    // One address asks about all names.
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
