//! A caller's connection: which protocol it speaks, then that protocol's server.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpStream;
use tracing::debug;

use super::caller::Caller;
use super::{server_http1, server_http2};
use crate::listener::ConnectionWatch;
use crate::worker::Worker;

/// What an HTTP/2 client with prior knowledge says first (RFC 9113 section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long a preface may be on its way from its first byte to its last.
const PREFACE_TIME: Duration = Duration::from_secs(2);
/// Between looks at a preface that came in pieces, which hardly ever happens.
const PREFACE_PAUSE: Duration = Duration::from_millis(2);

/// Serves a connection to its end.
pub async fn serve_connection(worker: Rc<Worker>, caller: Caller, stream: TcpStream) {
    let watch = worker.watches.watch();
    let detected = tokio::select! {
        detected = speaks_http2(&stream, &watch) => detected,
        () = watch.finished() => return,
    };
    match detected {
        Ok(Some(true)) => server_http2::serve(worker, caller, stream, watch).await,
        Ok(Some(false)) => server_http1::serve(worker, caller, stream, watch).await,
        Ok(None) => {}
        Err(error) => debug!(%error, "connection ended before its first request"),
    }
}

/// Looks at the first bytes without taking them; `None`: closed without any.
async fn speaks_http2(stream: &TcpStream, watch: &ConnectionWatch) -> io::Result<Option<bool>> {
    let mut bytes = [0; PREFACE.len()];
    let mut waited = Duration::ZERO;
    loop {
        let seen = stream.peek(&mut bytes).await?;
        if seen == 0 {
            return Ok(None);
        }
        watch.bytes_came();
        if bytes[..seen] != PREFACE[..seen] || waited > PREFACE_TIME {
            return Ok(Some(false));
        }
        if seen == PREFACE.len() {
            return Ok(Some(true));
        }
        tokio::time::sleep(PREFACE_PAUSE).await;
        waited += PREFACE_PAUSE;
    }
}
