//! How long a username has to wait after failed sign-ins, and how long they are remembered.

use std::time::Duration;

/// Failures in a row that cost no wait.
pub(crate) const FREE_FAILURES: u32 = 10;

/// The longest wait, whatever the number of failures.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_mins(15);

/// After this long without an attempt that was let through, earlier failures are forgotten.
pub(crate) const QUIET_PERIOD: Duration = Duration::from_hours(24);

/// How long failures from one source IP address are added up.
pub(crate) const ADDRESS_WINDOW: Duration = Duration::from_mins(15);

/// The wait after `failures` failures in a row, counted from the last attempt that was let through: none below
/// the 10th, then 2^(n−10) seconds, at most 15 minutes (NIST SP 800-63B-4 §3.2.2 asks for such a limit).
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

    proptest! {
        #[test]
        fn never_shrinks_and_never_exceeds_the_longest(failures in 0..u32::MAX) {
            prop_assert!(wait_after(failures) <= wait_after(failures + 1));
            prop_assert!(wait_after(failures + 1) <= LONGEST_WAIT);
        }
    }
}
