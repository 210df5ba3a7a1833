//! A captured connection that speaks no HTTP, to its end.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;

use segue_sidecar_core::routing::Wanted;
use tracing::debug;

use super::passage::{Passage, open, open_app, open_original};
use super::refusal::Refusal;
use crate::http1::Wire;
use crate::listener::{ConnectionWatch, Verdict};
use crate::tls::Socket;
use crate::worker::Worker;

/// Serves a connection. Where no service is meant, it goes to `otherwise`, if anywhere.
pub async fn serve(
    worker: Rc<Worker>,
    socket: Socket,
    wanted: Wanted<'_>,
    otherwise: Option<SocketAddr>,
    watch: Rc<ConnectionWatch>,
) {
    let _running = watch.begin_request();
    let opened = match open(&worker, wanted).await {
        Some(opened) => opened,
        None => match otherwise {
            Some(original) => open_original(&worker, original).await,
            None => Err(Refusal::NoRoute),
        },
    };
    pass_through(&worker, socket, opened, &watch).await;
}

/// Passes a connection on to the local application, which speaks no HTTP.
pub async fn pass(worker: Rc<Worker>, socket: Socket, app: SocketAddr, watch: Rc<ConnectionWatch>) {
    let _running = watch.begin_request();
    let opened = open_app(&worker, app).await;
    pass_through(&worker, socket, opened, &watch).await;
}

async fn pass_through(
    worker: &Worker,
    socket: Socket,
    opened: Result<Passage, Refusal>,
    watch: &ConnectionWatch,
) {
    let mut caller = Wire::new(socket);
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
