//! Whether a request that got no answer goes out once more. Always within the same version.

use std::time::Duration;

use http::{HeaderMap, Method, Request, StatusCode};
use segue_sidecar_core::snapshot::Retry;

use crate::body::{Kept, RequestBody};

/// Attempts on other endpoints after connections that could not be opened, unless the route says
/// otherwise.
const CONNECT_RETRIES: u32 = 2;
/// Attempts after a connection turned out to be closed: the next one is a new connection.
const STALE_RETRIES: u32 = 2;

/// Why an attempt failed, as far as retries care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// No connection came about.
    Connect,
    /// The connection was closed before the answer, most likely before the request came, and a
    /// second time does no harm.
    Stale,
    /// The connection was closed before the answer, or the time of the attempt was over, and nobody
    /// knows what the upstream did.
    Closed,
    /// All connections that the cluster may have are in use.
    Full,
    /// Anything that a repetition cannot cure.
    Final,
}

/// What may be done after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// Nothing of the request has reached an upstream: a second attempt is no more load than the
    /// first would have been.
    Free,
    /// A repetition that the budget has to pay for, after at most this pause.
    Paid(Duration),
}

/// What is left of a request's retries.
#[derive(Debug)]
pub struct Retries<'a> {
    policy: Option<&'a Retry>,
    /// Whether a second time does no more than the first.
    idempotent: bool,
    connect: u32,
    stale: u32,
    route: u32,
    pause: Duration,
}

impl<'a> Retries<'a> {
    /// All that a route allows for a request.
    pub fn new(policy: Option<&'a Retry>, method: &Method) -> Self {
        let attempts = policy.map_or(0, |policy| policy.attempts);
        Self {
            policy,
            idempotent: is_idempotent(method),
            connect: CONNECT_RETRIES.max(attempts),
            stale: STALE_RETRIES,
            route: attempts,
            pause: policy.map_or(Duration::ZERO, |policy| policy.backoff),
        }
    }

    /// Whether an attempt that is given up or thrown away might be repeated, so that a copy of the
    /// request is needed. `limited`: attempts have a time of their own.
    pub fn needs_copy(&self, limited: bool) -> bool {
        let picky = |policy: &Retry| {
            policy.reset || !policy.statuses.is_empty() || policy.grpc_statuses != 0
        };
        self.route > 0 && (limited || self.policy.is_some_and(picky))
    }

    /// What may be done after a failure; `None`: no more attempts.
    pub fn after_failure(&mut self, cause: Cause) -> Option<Again> {
        match cause {
            Cause::Connect => {
                self.connect = self.connect.checked_sub(1)?;
                Some(Again::Free)
            }
            Cause::Stale => {
                self.stale = self.stale.checked_sub(1)?;
                Some(Again::Free)
            }
            Cause::Closed if self.policy?.reset || self.idempotent => self.of_route(),
            Cause::Closed | Cause::Full | Cause::Final => None,
        }
    }

    /// What may be done after an answer; `None`: it is the answer.
    pub fn after_answer(&mut self, status: StatusCode, headers: &HeaderMap) -> Option<Again> {
        if self.counts_as_failure(status, headers) { self.of_route() } else { None }
    }

    /// Whether the route would have an answer repeated, were there attempts left.
    pub fn counts_as_failure(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        self.policy.is_some_and(|policy| {
            policy.statuses.contains(&status)
                || (policy.grpc_statuses != 0
                    && grpc_status(headers)
                        .is_some_and(|code| policy.grpc_statuses >> code & 1 == 1))
        })
    }

    /// One more attempt beside one that is slow; `None`: no more attempts.
    pub fn once_more(&mut self) -> Option<Again> {
        self.of_route()
    }

    fn of_route(&mut self) -> Option<Again> {
        self.route = self.route.checked_sub(1)?;
        let pause = self.pause;
        let longest = self.policy.map_or(pause, |policy| policy.max_backoff);
        self.pause = (pause * 2).min(longest.max(pause));
        Some(Again::Paid(pause))
    }
}

/// The status of a gRPC answer that is over with its head.
pub fn grpc_status(headers: &HeaderMap) -> Option<u32> {
    let status = headers.get("grpc-status")?.to_str().ok()?;
    status.parse().ok().filter(|code| *code < u32::BITS)
}

/// Any time up to a pause (full jitter), by a uniform draw: those who failed together do not come
/// back together.
pub fn jittered(pause: Duration, draw: u64) -> Duration {
    pause.mul_f64((draw >> 11) as f64 / (1u64 << 53) as f64)
}

/// Whether a second time does no more than the first (RFC 9110 section 9.2.2).
pub fn is_idempotent(method: &Method) -> bool {
    matches!(method.as_str(), "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE")
}

/// A copy to send again; only of requests without a body.
pub fn copy(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    request.body().is_empty().then(|| head(request))
}

/// A copy to send again, with its body: from now on, what passes of that is kept. Once more has
/// passed than can be kept, the copy is lost. In a box, because few requests have one.
pub fn keep(request: &mut Request<RequestBody>) -> Box<Request<RequestBody>> {
    let mut copy = Box::new(head(request));
    let kept = match std::mem::take(request.body_mut()) {
        RequestBody::Empty => return copy,
        RequestBody::Kept(kept) => kept,
        body => Kept::new(body),
    };
    *copy.body_mut() = RequestBody::Kept(kept.again());
    *request.body_mut() = RequestBody::Kept(kept);
    copy
}

fn head(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    copy
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MILLIS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn without_a_policy_only_unsent_requests_go_again() {
        let mut retries = Retries::new(None, &Method::GET);
        assert_eq!(retries.after_failure(Cause::Closed), None);
        assert_eq!(retries.after_answer(StatusCode::SERVICE_UNAVAILABLE, &HeaderMap::new()), None);
        assert_eq!(retries.after_failure(Cause::Connect), Some(Again::Free));
        assert_eq!(retries.after_failure(Cause::Connect), Some(Again::Free));
        assert_eq!(retries.after_failure(Cause::Connect), None);
        assert_eq!(retries.after_failure(Cause::Stale), Some(Again::Free));
        assert_eq!(retries.after_failure(Cause::Full), None);
    }

    fn policy() -> Retry {
        Retry {
            attempts: 3,
            statuses: vec![StatusCode::SERVICE_UNAVAILABLE],
            grpc_statuses: 1 << 14,
            hedges: false,
            reset: false,
            backoff: MILLIS(100),
            max_backoff: MILLIS(250),
        }
    }

    #[test]
    fn a_policy_repeats_what_it_lists_with_growing_pauses() {
        let policy = policy();
        let mut retries = Retries::new(Some(&policy), &Method::GET);
        let none = HeaderMap::new();
        let unavailable =
            HeaderMap::from_iter([("grpc-status".parse().unwrap(), "14".parse().unwrap())]);
        assert_eq!(retries.after_answer(StatusCode::OK, &none), None);
        let paid = |millis| Some(Again::Paid(MILLIS(millis)));
        assert_eq!(retries.after_answer(StatusCode::SERVICE_UNAVAILABLE, &none), paid(100));
        assert_eq!(retries.after_answer(StatusCode::OK, &unavailable), paid(200));
        assert_eq!(retries.after_failure(Cause::Closed), paid(250));
        assert!(!retries.needs_copy(true));
        assert_eq!(retries.after_failure(Cause::Closed), None);
    }

    #[test]
    fn what_an_upstream_may_have_done_is_repeated_only_where_that_is_safe_or_asked_for() {
        let (careful, bold) = (policy(), Retry { reset: true, ..policy() });
        for (method, policy, repeats) in [
            (Method::GET, &careful, true),
            (Method::PUT, &careful, true),
            (Method::POST, &careful, false),
            (Method::PATCH, &careful, false),
            (Method::POST, &bold, true),
        ] {
            let again = Retries::new(Some(policy), &method).after_failure(Cause::Closed);
            assert_eq!(again.is_some(), repeats, "{method} {policy:?}");
        }
    }

    proptest! {
        #[test]
        fn a_jittered_pause_is_anywhere_below(millis in 0u64..10_000, draw in any::<u64>()) {
            prop_assert!(jittered(MILLIS(millis), draw) <= MILLIS(millis));
            prop_assert_eq!(jittered(MILLIS(millis), 0), Duration::ZERO);
        }
    }
}
