//! How long a username has to wait after failed sign-ins, and how long they are remembered.

use std::time::Duration;

use super::Timestamp;

/// Failures in a row that cost no wait.
pub(crate) const FREE_FAILURES: u32 = 10;

/// The longest wait, for any number of failures.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_mins(15);

/// After this long without an attempt that was charged, earlier failures are forgotten.
const QUIET_PERIOD: Duration = Duration::from_hours(24);

/// The failed attempts in a row of one budget of a username.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Failures {
    count: u32,
    /// When the last one was charged; `None` if none ever was.
    last_at: Option<Timestamp>,
}

impl Failures {
    /// Takes over a stored count, and the instant at which the last failure was charged.
    #[must_use]
    pub(crate) fn new(count: u32, last_at: Option<Timestamp>) -> Self {
        Self { count, last_at }
    }

    /// The time until the next attempt is let through; `None` if it is let through now.
    #[must_use]
    pub(crate) fn wait(&self, now: Timestamp) -> Option<Duration> {
        // The longest wait is over long before failures are forgotten.
        let wait = (self.last_at? + wait_after(self.count)).since(now);
        (!wait.is_zero()).then_some(wait)
    }

    /// The instant of the last failure if 24 quiet hours have cleared them all by now; `None` if they count.
    #[must_use]
    pub(crate) fn forgotten_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.last_at.filter(|last_at| self.count > 0 && *last_at + QUIET_PERIOD <= now)
    }

    /// When failures that were charged at `now` are forgotten.
    #[must_use]
    pub(crate) fn forgotten_after(now: Timestamp) -> Timestamp {
        now + QUIET_PERIOD
    }
}

/// The wait after `failures` failures in a row, counted from the last attempt that was charged: none below the 10th,
/// then 2^(n−10) seconds, at most 15 minutes (NIST SP 800-63B-4 §3.2.2 asks for such a limit).
#[must_use]
pub(crate) fn wait_after(failures: u32) -> Duration {
    let Some(doublings) = failures.checked_sub(FREE_FAILURES) else {
        return Duration::ZERO;
    };
    let seconds = 1_u64.checked_shl(doublings).unwrap_or(u64::MAX);
    Duration::from_secs(seconds).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn doubles_from_the_tenth_failure_to_fifteen_minutes() {
        let seconds: Vec<u64> = (8..22).map(|failures| wait_after(failures).as_secs()).collect();
        assert_eq!(seconds, [0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]);
    }

    #[test]
    fn without_failures_nothing_has_to_wait_and_nothing_is_forgotten() {
        for failures in [Failures::default(), Failures::new(0, Some(Timestamp::from_micros(0)))] {
            let now = Timestamp::from_micros(0) + 2 * QUIET_PERIOD;
            assert_eq!((failures.wait(now), failures.forgotten_at(now)), (None, None));
        }
    }

    #[test]
    fn failures_are_forgotten_after_twenty_four_quiet_hours_and_no_sooner() {
        let last_at = Timestamp::from_micros(0);
        let failures = Failures::new(1, Some(last_at));
        let next_day = Timestamp::from_micros(24 * 60 * 60 * 1_000_000);
        assert_eq!(failures.forgotten_at(next_day - Duration::from_micros(1)), None);
        assert_eq!(failures.forgotten_at(next_day), Some(last_at));
        assert_eq!(Failures::forgotten_after(last_at), next_day);
    }

    proptest! {
        #[test]
        fn never_shrinks_and_never_exceeds_the_longest(failures in 0..u32::MAX) {
            prop_assert!(wait_after(failures) <= wait_after(failures + 1));
            prop_assert!(wait_after(failures + 1) <= LONGEST_WAIT);
        }

        #[test]
        fn an_attempt_waits_until_the_wait_is_over_and_no_longer(count in 1_u32..40, passed in 0_u64..100_000) {
            let last_at = Timestamp::from_micros(0);
            let failures = Failures::new(count, Some(last_at));
            let now = last_at + Duration::from_secs(passed);
            let is_forgotten = passed >= 24 * 60 * 60;
            prop_assert_eq!(failures.forgotten_at(now), is_forgotten.then_some(last_at));
            match failures.wait(now) {
                None => prop_assert!(is_forgotten || Duration::from_secs(passed) >= wait_after(count)),
                Some(wait) => {
                    prop_assert_eq!(Duration::from_secs(passed) + wait, wait_after(count));
                    prop_assert_eq!(failures.wait(now + wait), None);
                }
            }
        }
    }
}
