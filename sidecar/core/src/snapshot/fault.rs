//! Faults made on purpose, to see how callers bear them.

use std::time::Duration;

use http::StatusCode;

/// Shares are millionths of the requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InjectedFault {
    /// Time added, and to how many.
    pub delay: Option<(Duration, u32)>,
    /// What is answered instead, and to how many.
    pub abort: Option<(StatusCode, u32)>,
    /// Requests that are held at one time by each worker; further ones go on without delay.
    pub max_active: u32,
}

impl InjectedFault {
    /// What happens to a request, by two uniform draws.
    pub fn draw(&self, first: u64, second: u64) -> (Option<Duration>, Option<StatusCode>) {
        let hit = |draw: u64, share: u32| draw % 1_000_000 < u64::from(share);
        let delay = self.delay.filter(|(_, share)| hit(first, *share)).map(|(delay, _)| delay);
        let abort = self.abort.filter(|(_, share)| hit(second, *share)).map(|(status, _)| status);
        (delay, abort)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_requests_meet_faults() {
        let fault = InjectedFault {
            delay: Some((Duration::from_secs(1), 250_000)),
            abort: Some((StatusCode::BAD_GATEWAY, 1_000_000)),
            max_active: 1,
        };
        assert_eq!(fault.draw(249_999, 999_999).0, Some(Duration::from_secs(1)));
        assert_eq!(fault.draw(250_000, 0), (None, Some(StatusCode::BAD_GATEWAY)));
        let none = InjectedFault { delay: None, abort: Some((StatusCode::OK, 0)), ..fault };
        assert_eq!(none.draw(0, 0), (None, None));
    }
}
