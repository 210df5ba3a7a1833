//! A caller's connection: which protocol it speaks, then that protocol's server.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use segue_sidecar_core::detect::Spoken;
use segue_sidecar_core::routing::Wanted;
use segue_sidecar_core::snapshot::InboundMtls;
use tokio::net::TcpStream;
use tracing::debug;

use super::caller::{Caller, Direction};
use super::{detect, server_http1, server_http2};
use crate::listener::ConnectionWatch;
use crate::tcp;
use crate::tls::{Alpn, End, Socket, accept};
use crate::worker::Worker;

/// Serves a connection to its end.
pub async fn serve_connection(worker: Rc<Worker>, caller: Caller, stream: TcpStream) {
    let watch = worker.watches.watch();
    let asked = asked_of(&worker, &caller);
    if asked == InboundMtls::Off
        && let Some(app) = tcp_app(&worker, &caller)
    {
        return Box::pin(tcp::pass(worker, stream.into(), app, watch)).await;
    }
    let detected = tokio::select! {
        detected = detect(&worker, &caller, &stream, &watch) => detected,
        () = watch.finished() => return,
    };
    match detected {
        Ok(Some(spoken)) if asked == InboundMtls::Off => {
            serve(worker, caller, stream.into(), spoken, watch).await;
        }
        Ok(Some(spoken)) => Box::pin(meet(worker, caller, stream, spoken, asked, watch)).await,
        Ok(None) => {}
        Err(error) => debug!(%error, "connection ended before its first request"),
    }
}

/// What a caller has to show. Where this sidecar has nothing to show itself, it asks for nothing.
fn asked_of(worker: &Worker, caller: &Caller) -> InboundMtls {
    match (caller.direction, caller.door.mtls) {
        (Direction::Outbound, _) | (_, None) => InboundMtls::Off,
        (Direction::Inbound, Some(otherwise)) => {
            worker.view().snapshot.inbound_mtls.unwrap_or(otherwise)
        }
    }
}

/// The application, where the caller is one of its own and it speaks no HTTP.
fn tcp_app(worker: &Worker, caller: &Caller) -> Option<SocketAddr> {
    worker.tcp_app().filter(|_| caller.direction == Direction::Inbound)
}

async fn detect(
    worker: &Worker,
    caller: &Caller,
    stream: &TcpStream,
    watch: &ConnectionWatch,
) -> io::Result<Option<Spoken>> {
    // Callers of what speaks no HTTP may wait for it to speak first.
    if caller.original.is_some() || tcp_app(worker, caller).is_some() {
        let silence = caller.door.capture.detect_timeout;
        return Box::pin(detect::of_captured(stream, watch, silence)).await;
    }
    detect::of_proxied(stream, watch).await
}

async fn serve(
    worker: Rc<Worker>,
    caller: Caller,
    socket: Socket,
    spoken: Spoken,
    watch: Rc<ConnectionWatch>,
) {
    match spoken {
        Spoken::Http2 => server_http2::serve(worker, caller, socket, watch).await,
        Spoken::Http1 => server_http1::serve(worker, caller, socket, watch).await,
        Spoken::Tls { server_name } => {
            Box::pin(pass(worker, caller, socket, server_name, watch)).await;
        }
        Spoken::Other => Box::pin(pass(worker, caller, socket, None, watch)).await,
    }
}

/// A caller that has to say who it is, unless plain text will do.
async fn meet(
    worker: Rc<Worker>,
    caller: Caller,
    stream: TcpStream,
    spoken: Spoken,
    asked: InboundMtls,
    watch: Rc<ConnectionWatch>,
) {
    let Ok(address) = stream.peer_addr() else { return };
    let refuse = |worker: &Worker, reason, error: &str| {
        worker.mesh.handshakes.refused(End::Server, address, reason, error);
    };
    let app = tcp_app(&worker, &caller);
    if !matches!(spoken, Spoken::Tls { .. }) {
        return match app {
            _ if asked == InboundMtls::Strict => {
                refuse(&worker, "plain_text", "callers must speak mTLS here");
            }
            Some(app) => tcp::pass(worker, stream.into(), app, watch).await,
            None => serve(worker, caller, stream.into(), spoken, watch).await,
        };
    }
    let accepted = tokio::select! {
        accepted = accept(&worker.mesh, stream, address) => accepted,
        () = watch.finished() => return,
    };
    let Some(accepted) = accepted else { return };
    watch.end_within(accepted.left);
    let caller = caller.known_as(address, accepted.caller.id);
    let socket = accepted.socket;
    match (app, accepted.alpn) {
        (Some(app), Some(Alpn::Tcp) | None) => tcp::pass(worker, socket, app, watch).await,
        (None, Some(Alpn::Http2)) => server_http2::serve(worker, caller, socket, watch).await,
        (None, Some(Alpn::Http1) | None) => {
            server_http1::serve(worker, caller, socket, watch).await;
        }
        (Some(_), Some(_)) | (None, Some(Alpn::Tcp)) => {
            refuse(&worker, "application_protocol", "the application speaks another protocol");
        }
    }
}

/// A connection that speaks no HTTP. Only the application's own ones are routed by name: what comes
/// from outside is for the application, which speaks HTTP.
async fn pass(
    worker: Rc<Worker>,
    caller: Caller,
    socket: Socket,
    server_name: Option<Box<str>>,
    watch: Rc<ConnectionWatch>,
) {
    let is_meant = |wanted| worker.view().snapshot.tcp.route(wanted).is_some();
    let wanted = Wanted { name: server_name.as_deref(), port: None, original: caller.original };
    let is_outbound = caller.direction == Direction::Outbound;
    if is_outbound && (caller.original.is_some() || is_meant(wanted)) {
        return tcp::serve(worker, socket, wanted, caller.passes_to(), watch).await;
    }
    // It is told in HTTP what it should have spoken.
    server_http1::serve(worker, caller, socket, watch).await;
}
