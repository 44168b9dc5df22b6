//! Builds the JSON types of [`wire`](crate::wire) from the views of the registry, the layout and
//! the cluster.

mod cluster;
mod diagnosis;
mod events;
mod hosts;
mod plugins;
mod trace;

use std::time::{Duration, SystemTime};

use crate::timestamp;

/// Returns a time in UTC as RFC 3339, to the millisecond.
fn time(time: SystemTime) -> String {
    timestamp::millis(time)
}

/// Returns milliseconds, to the microsecond.
fn milliseconds(duration: Duration) -> f64 {
    // 2^32 µs are more than an hour, and f64 represents each exactly.
    let micros = u32::try_from(duration.as_micros()).unwrap_or(u32::MAX);
    f64::from(micros) / 1000.0
}

#[cfg(test)]
mod tests;
