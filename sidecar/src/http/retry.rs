//! Whether a request that got no answer goes out once more. Always within the same version.

use std::time::Duration;

use http::{Method, Request, StatusCode};
use segue_sidecar_core::snapshot::Retry;

use crate::body::RequestBody;

/// Attempts on other endpoints after connections that could not be opened, unless the route says
/// otherwise.
const CONNECT_RETRIES: u32 = 2;
/// Attempts after a connection turned out to be closed: the next one is a new connection.
const STALE_RETRIES: u32 = 2;
/// Pause before a route's own retry where it names none.
const DEFAULT_BACKOFF: Duration = Duration::from_millis(25);
const LONGEST_BACKOFF: Duration = Duration::from_millis(250);

/// Why an attempt failed, as far as retries care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// No connection came about.
    Connect,
    /// The connection was closed before the answer, most likely before the request came, and a
    /// second time does no harm.
    Stale,
    /// The connection was closed before the answer, and nobody knows what the upstream did.
    Closed,
    /// Anything that a repetition cannot cure.
    Final,
}

/// What is left of a request's retries.
#[derive(Debug)]
pub struct Retries<'a> {
    policy: Option<&'a Retry>,
    connect: u32,
    stale: u32,
    route: u32,
    pause: Duration,
}

impl<'a> Retries<'a> {
    /// All that a route allows.
    pub fn new(policy: Option<&'a Retry>) -> Self {
        let attempts = policy.map_or(0, |policy| policy.attempts);
        Self {
            policy,
            connect: CONNECT_RETRIES.max(attempts),
            stale: STALE_RETRIES,
            route: attempts,
            pause: policy.map_or(DEFAULT_BACKOFF, |policy| policy.backoff),
        }
    }

    /// Whether an answer might be thrown away for another attempt.
    pub fn looks_at_answers(&self) -> bool {
        self.route > 0 && self.policy.is_some_and(|policy| !policy.statuses.is_empty())
    }

    /// The pause before another attempt after a failure; `None`: no more attempts.
    pub fn after_failure(&mut self, cause: Cause) -> Option<Duration> {
        match cause {
            Cause::Connect => {
                self.connect = self.connect.checked_sub(1)?;
                Some(Duration::ZERO)
            }
            Cause::Stale => {
                self.stale = self.stale.checked_sub(1)?;
                Some(Duration::ZERO)
            }
            Cause::Closed if self.policy.is_some_and(|policy| policy.connect_failure) => {
                self.route_pause()
            }
            Cause::Closed | Cause::Final => None,
        }
    }

    /// The pause before another attempt after an answer with this status; `None`: it is the answer.
    pub fn after_answer(&mut self, status: StatusCode) -> Option<Duration> {
        let listed = self.policy.is_some_and(|policy| policy.statuses.contains(&status));
        if listed { self.route_pause() } else { None }
    }

    fn route_pause(&mut self) -> Option<Duration> {
        self.route = self.route.checked_sub(1)?;
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_BACKOFF.max(pause));
        Some(pause)
    }
}

/// Whether a second time does no more than the first (RFC 9110 section 9.2.2).
pub fn is_idempotent(method: &Method) -> bool {
    matches!(method.as_str(), "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE")
}

/// A copy to send again; only of requests without a body.
pub fn copy(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    if !request.body().is_empty() {
        return None;
    }
    let mut copy = Request::new(RequestBody::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    Some(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_policy_only_unsent_requests_go_again() {
        let mut retries = Retries::new(None);
        assert_eq!(retries.after_failure(Cause::Closed), None);
        assert_eq!(retries.after_answer(StatusCode::SERVICE_UNAVAILABLE), None);
        assert_eq!(retries.after_failure(Cause::Connect), Some(Duration::ZERO));
        assert_eq!(retries.after_failure(Cause::Connect), Some(Duration::ZERO));
        assert_eq!(retries.after_failure(Cause::Connect), None);
        assert_eq!(retries.after_failure(Cause::Stale), Some(Duration::ZERO));
    }

    #[test]
    fn a_policy_repeats_listed_statuses_with_growing_pauses() {
        let policy = Retry {
            attempts: 2,
            statuses: vec![StatusCode::SERVICE_UNAVAILABLE],
            connect_failure: true,
            backoff: Duration::from_millis(200),
        };
        let mut retries = Retries::new(Some(&policy));
        assert_eq!(retries.after_answer(StatusCode::OK), None);
        let millis = Duration::from_millis;
        assert_eq!(retries.after_answer(StatusCode::SERVICE_UNAVAILABLE), Some(millis(200)));
        assert_eq!(retries.after_failure(Cause::Closed), Some(millis(250)));
        assert_eq!(retries.after_failure(Cause::Closed), None);
    }
}
