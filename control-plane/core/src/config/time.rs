//! Durations of messages as durations of Rust.

use std::time::Duration;

/// The duration, zero where it is negative or no time at all; such values do not pass the door.
pub(super) fn to_duration(duration: prost_types::Duration) -> Duration {
    Duration::try_from(duration).unwrap_or_default()
}
