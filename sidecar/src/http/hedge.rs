//! A request that goes out once more before its first attempt has failed: where an instance is slow
//! now and then, the wait is that for the faster of two (Dean and Barroso, "The Tail at Scale").

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use futures_util::StreamExt as _;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use http::{Request, Response};
use segue_sidecar_core::balance::{Ask, Tried};
use tokio::time::Instant;

use super::body::ResponseSource;
use super::forward::{self, Answered, Failed, Target};
use super::respond::Reject;
use super::retry::{self, Again, Cause, Retries};
use crate::body::RequestBody;
use crate::deadline::Deadline;
use crate::upstream::Running;
use crate::websocket::AsksForWebSocket;
use crate::worker::Worker;

/// An attempt that is over.
struct Done {
    /// Whether it began while another one ran.
    hedge: bool,
    at: usize,
    begun: Instant,
    running: Running,
    result: Result<Response<ResponseSource>, Failed>,
}

#[expect(clippy::large_enum_variant, reason = "one at a time, for one step")]
enum Event {
    Done(Done),
    /// The newest attempt has had its time.
    Slow,
    /// The request has had its time.
    Late,
}

/// Whether a request is one that may go out twice at a time: nothing is lost by it, and there is no
/// body that both attempts would have to read.
pub fn applies(target: Target<'_>, request: &Request<RequestBody>) -> bool {
    let retry = target.forward.and_then(|forward| forward.retry.as_ref());
    retry.is_some_and(|retry| retry.hedges)
        && request.body().is_empty()
        && retry::is_idempotent(request.method())
        && request.extensions().get::<AsksForWebSocket>().is_none()
}

/// Sends a request, to another endpoint as well where the first one takes its time, until the head of
/// a good answer comes; the attempts that are not needed any more are given up. Each further attempt
/// is one of the route's repetitions, and paid for by the cluster's budget.
pub async fn forward(
    worker: &Worker,
    target: Target<'_>,
    request: &mut Request<RequestBody>,
    deadline: &mut Deadline,
) -> Result<Answered, Reject> {
    let Target { cluster, living, forward } = target;
    let retry = forward.and_then(|forward| forward.retry.as_ref());
    let patience = forward.and_then(|forward| forward.try_timeout);
    let slot = living.cluster.counters.slot(worker.index);
    let mut retries = Retries::new(retry, request.method());
    let hash = forward::hash(target, request);
    let mut attempts: FuturesUnordered<LocalBoxFuture<'_, Done>> = FuturesUnordered::new();
    let mut slow = worker.deadlines.at(None);
    let (mut tried, mut fresh) = (Tried::default(), false);
    // What counts where nothing better comes.
    let mut kept: Option<Result<Answered, Reject>> = None;
    let mut begins = true;
    loop {
        if std::mem::take(&mut begins) {
            let ask = Ask { turn: living.cluster.turn(), draw: worker.draw(), hash, not: tried };
            let (at, instance) = living.instances.pick(cluster, ask).ok_or(Reject::NoEndpoint)?;
            let (pool, running) = (Rc::clone(&instance.pool), instance.run());
            let mut copy = retry::copy(request).ok_or(Reject::UpstreamClosed)?;
            let (hedge, begun) = (!attempts.is_empty(), Instant::now());
            attempts.push(Box::pin(async move {
                let result = forward::attempt(pool, cluster, &mut copy, fresh).await;
                Done { hedge, at, begun, running, result }
            }));
            tried = tried.with(at);
            slow.reset(patience.and_then(|patience| begun.checked_add(patience)));
        }
        let event = poll_fn(|context| {
            if let Poll::Ready(Some(done)) = attempts.poll_next_unpin(context) {
                return Poll::Ready(Event::Done(done));
            }
            if deadline.poll(context).is_ready() {
                return Poll::Ready(Event::Late);
            }
            slow.poll(context).map(|()| Event::Slow)
        })
        .await;
        let again = match event {
            Event::Late => return kept.unwrap_or(Err(Reject::Timeout)),
            Event::Slow => {
                slow.reset(None);
                let again = retries.once_more().filter(|it| forward::allowed(target, worker, *it));
                begins = again.is_some();
                if begins {
                    slot.hedged();
                    slot.retried();
                }
                continue;
            }
            Event::Done(Done { hedge, at, begun, running, result }) => {
                if living.instances.are_judged()
                    && let Some(sign) = forward::sign_of(&result, fresh)
                {
                    living.instances.observe(cluster, at, worker.index, sign);
                }
                match result {
                    Ok(response) => {
                        if let Some(instance) = living.instances.at(at) {
                            instance.answered(begun);
                        }
                        if !retries.counts_as_failure(response.status(), response.headers()) {
                            if hedge {
                                slot.hedge_won();
                            }
                            return Ok(Answered { response, running });
                        }
                        let again = retries.after_answer(response.status(), response.headers());
                        kept = Some(Ok(Answered { response, running }));
                        again
                    }
                    // Others may run; where none does, the line is for those who wait.
                    Err(failed) if failed.cause == Cause::Full && attempts.is_empty() => {
                        drop(attempts);
                        return forward::forward(worker, target, request, false, deadline).await;
                    }
                    Err(failed) => {
                        fresh |= failed.cause == Cause::Stale;
                        kept.get_or_insert(Err(failed.reject));
                        retries.after_failure(failed.cause)
                    }
                }
            }
        };
        match again.filter(|again| forward::allowed(target, worker, *again)) {
            Some(again) => {
                slot.retried();
                if let Again::Paid(pause) = again
                    && attempts.is_empty()
                {
                    forward::rest(retry::jittered(pause, worker.draw()), deadline).await?;
                }
                begins = true;
            }
            None if attempts.is_empty() => return kept.unwrap_or(Err(Reject::UpstreamClosed)),
            None => {}
        }
    }
}
