use std::time::Duration;

use super::Timestamp;

/// The number of changes of the password that a user may make in any [`PERIOD`].
const LIMIT: usize = 10;

/// The period that [`LIMIT`] applies to.
const PERIOD: Duration = Duration::from_hours(24);

/// The instants of the latest changes of a password by its user. Each change mails the user, so that their number is
/// limited: to 10 in any 24 hours. Resets and changes by an operator are not among them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OwnChanges(Vec<Timestamp>);

/// A change by the user that exceeds the limit; it is allowed after this time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TooManyChanges(pub Duration);

impl OwnChanges {
    /// Takes over stored instants.
    #[must_use]
    pub fn new(instants: Vec<Timestamp>) -> Self {
        Self(instants)
    }

    /// The instants to store, at most ten.
    #[must_use]
    pub fn instants(&self) -> &[Timestamp] {
        &self.0
    }

    /// These changes and another one at `now`, without those that no longer count.
    pub fn and_one_at(&self, now: Timestamp) -> Result<Self, TooManyChanges> {
        let counted = |change: &Timestamp| *change > now - PERIOD;
        let mut changes: Vec<_> = self.0.iter().copied().filter(counted).collect();
        match changes.iter().min() {
            Some(&oldest) if changes.len() >= LIMIT => Err(TooManyChanges((oldest + PERIOD).since(now))),
            _ => {
                changes.push(now);
                Ok(Self(changes))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_eleventh_change_has_to_wait_until_the_first_is_a_day_old() {
        let hour = Duration::from_hours(1);
        let start = Timestamp::from_micros(0);
        let mut changes = OwnChanges::default();
        for _ in 0..10 {
            changes = changes.and_one_at(start).unwrap();
        }
        assert_eq!(changes.and_one_at(start + hour), Err(TooManyChanges(23 * hour)));
        let last_moment = start + 24 * hour - Duration::from_micros(1);
        assert_eq!(changes.and_one_at(last_moment), Err(TooManyChanges(Duration::from_micros(1))));
        let next_day = start + 24 * hour;
        assert_eq!(changes.and_one_at(next_day).unwrap().instants(), [next_day]);
    }

    proptest! {
        #[test]
        fn no_day_has_more_than_ten_changes_and_no_change_waits_longer_than_it_must(
            pauses in prop::collection::vec(0_u64..30_000, 0..60),
        ) {
            let (mut now, mut made) = (Timestamp::from_micros(0), Vec::new());
            let mut changes = OwnChanges::default();
            for pause in pauses {
                now = now + Duration::from_secs(pause);
                let in_a_day = made.iter().filter(|change| now.since(**change) < PERIOD).count();
                match changes.and_one_at(now) {
                    Ok(after) => {
                        prop_assert!(in_a_day < 10 && after.instants().len() <= 10);
                        (changes, made) = (after, [made, vec![now]].concat());
                    }
                    Err(TooManyChanges(wait)) => {
                        prop_assert_eq!(in_a_day, 10);
                        prop_assert!(changes.and_one_at(now + wait).is_ok());
                        prop_assert!(changes.and_one_at(now + wait - Duration::from_micros(1)).is_err());
                    }
                }
            }
        }
    }
}
