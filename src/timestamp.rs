//! Converts times to text and to stored numbers. Every function accepts every [`SystemTime`] and
//! every number: a wrong clock, a row edited by hand or a report from a peer must never cause a
//! panic.
//!
//! [`humantime`] panics on a time before 1970 or after 9999, so only this module calls its
//! formatters.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::limits;

/// Formats a time as RFC 3339 in UTC, to the millisecond. A time before 1970 or after 9999 becomes
/// the nearest time in that range.
#[must_use]
pub fn millis(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(writable(time)).to_string()
}

/// Formats a time like [`millis`], to the second.
#[must_use]
pub fn seconds(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(writable(time)).to_string()
}

/// Returns the time for a stored number of nanoseconds since 1970. A negative number means 1970.
#[must_use]
pub fn from_nanoseconds(stored: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(u64::try_from(stored).unwrap_or(0))
}

/// Returns the number of nanoseconds since 1970, or `None` if the time is before 1970 or after
/// 2262.
#[must_use]
pub fn nanoseconds(time: SystemTime) -> Option<i64> {
    i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_nanos()).ok()
}

/// Returns the nearest time that can be stored, see [`nanoseconds`].
#[must_use]
pub fn storable(time: SystemTime) -> SystemTime {
    time.clamp(UNIX_EPOCH, from_nanoseconds(i64::MAX))
}

/// Returns the nearest time that RFC 3339 can represent.
fn writable(time: SystemTime) -> SystemTime {
    time.clamp(UNIX_EPOCH, UNIX_EPOCH + (limits::TIME - Duration::from_nanos(1)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Generates times before and after 1970, over the whole range of `i64` seconds.
    fn any_time() -> impl Strategy<Value = SystemTime> {
        let edges = prop_oneof![Just(i64::MIN), Just(-1), Just(0), Just(i64::MAX), Just(253_402_300_799)];
        (prop_oneof![any::<i64>(), edges, -400_000_000_000..400_000_000_000_i64], 0..1_000_000_000_u32).prop_map(
            |(seconds, nanoseconds)| {
                let distance = Duration::new(seconds.unsigned_abs(), nanoseconds);
                let moved =
                    if seconds < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
                moved.unwrap_or(UNIX_EPOCH)
            },
        )
    }

    proptest! {
        #[test]
        fn every_time_is_written_and_read_back(time in any_time()) {
            for text in [millis(time), seconds(time)] {
                let read = humantime::parse_rfc3339(&text).expect("RFC 3339");
                prop_assert!(writable(time).duration_since(read).expect("not later") < Duration::from_secs(1));
            }
        }

        #[test]
        fn every_stored_number_is_a_time(stored in any::<i64>()) {
            let time = from_nanoseconds(stored);
            prop_assert_eq!(nanoseconds(time), Some(stored.max(0)));
            prop_assert!(!millis(time).is_empty());
        }

        #[test]
        fn a_time_that_cannot_be_stored_has_no_number_until_it_is_clamped(time in any_time()) {
            let is_storable = storable(time) == time;
            prop_assert_eq!(nanoseconds(time).is_some(), is_storable);
            prop_assert!(nanoseconds(storable(time)).is_some());
        }
    }

    #[test]
    fn times_outside_the_range_are_clamped() {
        let far = Duration::from_secs(1 << 40);
        assert_eq!(millis(UNIX_EPOCH - far), "1970-01-01T00:00:00.000Z");
        assert_eq!(millis(UNIX_EPOCH + far), "9999-12-31T23:59:59.999Z");
        assert_eq!(seconds(UNIX_EPOCH + far), "9999-12-31T23:59:59Z");
        assert_eq!(storable(UNIX_EPOCH - far), UNIX_EPOCH);
        assert_eq!(seconds(storable(UNIX_EPOCH + far)), "2262-04-11T23:47:16Z");
    }
}
