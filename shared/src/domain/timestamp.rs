use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

const RFC_3339_MICROSECONDS: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");

/// An instant in UTC with the resolution of one microsecond.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The instant `micros` microseconds after the Unix epoch.
    #[must_use]
    pub fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down: JWT's `NumericDate` and DynamoDB's TTL.
    #[must_use]
    pub fn as_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// The start of this instant's second.
    #[must_use]
    pub fn whole_seconds(self) -> Self {
        Self(self.as_seconds().saturating_mul(1_000_000))
    }

    /// The time from `earlier` to this instant; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The time between this instant and another one, whichever is earlier.
    #[must_use]
    pub fn abs_diff(self, other: Self) -> Duration {
        Duration::from_micros(self.0.abs_diff(other.0))
    }

    /// RFC 3339 in UTC with six digits of fraction, `2020-06-11T17:48:13.000000Z`.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        self.to_utc().and_then(|instant| instant.format(RFC_3339_MICROSECONDS).ok()).unwrap_or_default()
    }

    /// Parses RFC 3339, with any offset. Digits beyond the microsecond are cut off.
    #[must_use]
    pub fn parse_rfc3339(written: &str) -> Option<Self> {
        let instant = OffsetDateTime::parse(written, &Rfc3339).ok()?;
        i64::try_from(instant.unix_timestamp_nanos().div_euclid(1000)).ok().map(Self)
    }

    /// The date and the time of day in UTC; `None` beyond the year 9999.
    pub(crate) fn to_utc(self) -> Option<OffsetDateTime> {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1000).ok()
    }
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(micros(duration)))
    }
}

impl std::ops::Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(micros(duration)))
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_shown_in_rfc3339_with_six_digits() {
        assert_eq!(Timestamp::from_micros(1_591_897_693_000_000).to_rfc3339(), "2020-06-11T17:48:13.000000Z");
        assert_eq!(Timestamp::from_micros(1_591_897_693_000_042).to_rfc3339(), "2020-06-11T17:48:13.000042Z");
    }

    #[test]
    fn rfc3339_is_read_as_it_is_written() {
        for micros in [0, -1, 1_591_897_693_000_042, 253_402_300_799_999_999] {
            let instant = Timestamp::from_micros(micros);
            assert_eq!(Timestamp::parse_rfc3339(&instant.to_rfc3339()), Some(instant));
        }
        for written in ["2020-06-11T17:48:13Z", "2020-06-11T19:48:13+02:00", "2020-06-11T17:48:13.0000009Z"] {
            let read = Timestamp::parse_rfc3339(written);
            assert_eq!(read, Some(Timestamp::from_micros(1_591_897_693_000_000)), "{written}");
        }
        for written in ["", "2020-06-11", "2020-06-11T17:48:13", "2020-06-31T17:48:13Z", "1591897693"] {
            assert_eq!(Timestamp::parse_rfc3339(written), None, "{written}");
        }
    }

    #[test]
    fn seconds_are_rounded_down() {
        for (micros, seconds) in
            [(0, 0), (999_999, 0), (1_000_000, 1), (-1, -1), (1_591_897_693_000_042, 1_591_897_693)]
        {
            let instant = Timestamp::from_micros(micros);
            assert_eq!((instant.as_micros(), instant.as_seconds()), (micros, seconds));
            assert_eq!(instant.whole_seconds(), Timestamp::from_micros(seconds * 1_000_000));
        }
    }

    #[test]
    fn whole_seconds_have_no_fraction() {
        for (micros, whole) in [(0, 0), (999_999, 0), (1_000_000, 1_000_000), (-1, -1_000_000)] {
            assert_eq!(Timestamp::from_micros(micros).whole_seconds(), Timestamp::from_micros(whole));
        }
    }

    #[test]
    fn time_since_a_later_instant_is_zero() {
        let earlier = Timestamp::from_micros(5);
        let later = earlier + Duration::from_micros(7);
        assert_eq!(later.since(earlier), Duration::from_micros(7));
        assert_eq!(earlier.since(later), Duration::ZERO);
        assert_eq!(earlier.abs_diff(later), later.abs_diff(earlier));
        assert_eq!(earlier.abs_diff(later), Duration::from_micros(7));
    }
}
