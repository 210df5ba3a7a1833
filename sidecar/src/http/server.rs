//! A caller's connection: which protocol it speaks, then that protocol's server.

use std::rc::Rc;

use segue_sidecar_core::detect::Spoken;
use segue_sidecar_core::routing::Wanted;
use tokio::net::TcpStream;
use tracing::debug;

use super::caller::{Caller, Direction};
use super::{detect, server_http1, server_http2};
use crate::listener::ConnectionWatch;
use crate::tcp;
use crate::worker::Worker;

/// Serves a connection to its end.
pub async fn serve_connection(worker: Rc<Worker>, caller: Caller, stream: TcpStream) {
    let watch = worker.watches.watch();
    if let Some(app) = worker.tcp_app().filter(|_| caller.direction == Direction::Inbound) {
        return Box::pin(tcp::pass(worker, stream, app, watch)).await;
    }
    let detected = tokio::select! {
        detected = detect(&caller, &stream, &watch) => detected,
        () = watch.finished() => return,
    };
    match detected {
        Ok(Some(Spoken::Http2)) => server_http2::serve(worker, caller, stream, watch).await,
        Ok(Some(Spoken::Http1)) => server_http1::serve(worker, caller, stream, watch).await,
        Ok(Some(Spoken::Tls { server_name })) => {
            Box::pin(pass(worker, caller, stream, server_name, watch)).await;
        }
        Ok(Some(Spoken::Other)) => Box::pin(pass(worker, caller, stream, None, watch)).await,
        Ok(None) => {}
        Err(error) => debug!(%error, "connection ended before its first request"),
    }
}

async fn detect(
    caller: &Caller,
    stream: &TcpStream,
    watch: &ConnectionWatch,
) -> std::io::Result<Option<Spoken>> {
    match caller.original {
        Some(_) => {
            let silence = caller.door.capture.detect_timeout;
            Box::pin(detect::of_captured(stream, watch, silence)).await
        }
        None => detect::of_proxied(stream, watch).await,
    }
}

/// A connection that speaks no HTTP. Only the application's own ones are routed by name: what comes
/// from outside is for the application, which speaks HTTP.
async fn pass(
    worker: Rc<Worker>,
    caller: Caller,
    stream: TcpStream,
    server_name: Option<Box<str>>,
    watch: Rc<ConnectionWatch>,
) {
    let is_meant = |wanted| worker.view().snapshot.tcp.route(wanted).is_some();
    let wanted = Wanted { name: server_name.as_deref(), port: None, original: caller.original };
    let is_outbound = caller.direction == Direction::Outbound;
    if is_outbound && (caller.original.is_some() || is_meant(wanted)) {
        return tcp::serve(worker, stream, wanted, caller.passes_to(), watch).await;
    }
    // It is told in HTTP what it should have spoken.
    server_http1::serve(worker, caller, stream, watch).await;
}
