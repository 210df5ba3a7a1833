//! A captured connection that speaks no HTTP, to its end.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use segue_sidecar_core::routing::Wanted;
use tokio::net::TcpStream;
use tracing::debug;

use super::passage::{open, open_original};
use super::refusal::Refusal;
use crate::http1::Wire;
use crate::listener::{ConnectionWatch, Verdict};
use crate::worker::Worker;

/// Serves a connection. Where no service is meant, it goes where it wanted to go, if `passes` says
/// so.
pub async fn serve(
    worker: Rc<Worker>,
    stream: TcpStream,
    wanted: Wanted<'_>,
    passes: bool,
    watch: Rc<ConnectionWatch>,
) {
    let _running = watch.begin_request();
    let opened = match open(&worker, wanted).await {
        Some(opened) => opened,
        None => match wanted.original.filter(|_| passes) {
            Some(original) => open_original(&worker, original).await,
            None => Err(Refusal::NoRoute),
        },
    };
    let mut caller = Wire::new(stream);
    let mut passage = match opened {
        Ok(passage) => passage,
        Err(refusal) => {
            worker.counters.refused(refusal.reason());
            // Nothing can be said in a protocol that nobody here knows.
            caller.reset_at_end();
            return;
        }
    };
    let (upstream, mut tunnel) = passage.parts();
    let moved = poll_fn(|context| {
        if watch.verdict(context) == Verdict::Close {
            return Poll::Ready(Ok(()));
        }
        tunnel.poll(&mut caller, upstream, context)
    });
    if let Err(error) = moved.await {
        debug!(%error, "a connection broke off");
        // Each side sees that the other one did not end in order.
        caller.reset_at_end();
        upstream.reset_at_end();
    }
}
