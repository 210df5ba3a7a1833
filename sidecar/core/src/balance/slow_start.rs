//! The share of an endpoint that is new: it grows with its age, so that cold caches fill before the
//! whole load comes.

use std::time::Duration;

/// Least share, whatever the age (Envoy's default).
const LEAST: f64 = 0.1;

/// The share of an endpoint of this age, from 0.1 to 1.0 at the end of the window.
pub fn share(age: Duration, window: Duration) -> f64 {
    if age >= window { 1.0 } else { (age.as_secs_f64() / window.as_secs_f64()).max(LEAST) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_grows_with_age() {
        let window = Duration::from_secs(10);
        let at = |millis| (share(Duration::from_millis(millis), window) * 100.0).round() as u32;
        assert_eq!(
            [0, 500, 1000, 5000, 9990, 10_000, 60_000].map(at),
            [10, 10, 10, 50, 100, 100, 100]
        );
        assert!((share(Duration::ZERO, Duration::ZERO) - 1.0).abs() < f64::EPSILON);
    }
}
