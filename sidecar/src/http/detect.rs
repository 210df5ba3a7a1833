//! What a caller's connection speaks, seen from its first bytes without taking them.

use std::io;
use std::time::Duration;

use segue_sidecar_core::detect::{MOST_BYTES, PREFACE, Spoken, spoken};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::listener::ConnectionWatch;

/// How long first bytes may be on their way from the first one to the last.
const BYTES_TIME: Duration = Duration::from_secs(2);
/// Between looks at first bytes that came in pieces, which hardly ever happens.
const PAUSE: Duration = Duration::from_millis(2);
/// A byte with which no request begins.
const HANDSHAKE_RECORD: u8 = 22;

/// Of a connection that was not captured: `None` where it was closed before its first byte. Whatever
/// is neither HTTP/2 nor TLS is for HTTP/1.1, which can say what is wrong with it.
pub async fn of_proxied(stream: &TcpStream, watch: &ConnectionWatch) -> io::Result<Option<Spoken>> {
    let mut bytes = [0; PREFACE.len()];
    let mut waited = Duration::ZERO;
    loop {
        let seen = stream.peek(&mut bytes).await?;
        if seen == 0 {
            return Ok(None);
        }
        watch.bytes_came();
        if bytes[0] == HANDSHAKE_RECORD {
            // In a box, because few do.
            return Box::pin(of_captured(stream, watch, BYTES_TIME)).await;
        }
        if bytes[..seen] != PREFACE[..seen] || waited > BYTES_TIME {
            return Ok(Some(Spoken::Http1));
        }
        if seen == PREFACE.len() {
            return Ok(Some(Spoken::Http2));
        }
        tokio::time::sleep(PAUSE).await;
        waited += PAUSE;
    }
}

/// Of a captured connection: one whose caller keeps silent for `silence` waits for a server that
/// speaks first, and that is no HTTP.
pub async fn of_captured(
    stream: &TcpStream,
    watch: &ConnectionWatch,
    silence: Duration,
) -> io::Result<Option<Spoken>> {
    let mut bytes = vec![0; MOST_BYTES];
    let late = Instant::now() + silence;
    loop {
        let Ok(seen) = timeout_at(late, stream.peek(&mut bytes)).await else {
            return Ok(Some(Spoken::Other));
        };
        let seen = seen?;
        if seen == 0 {
            return Ok(None);
        }
        watch.bytes_came();
        if let Some(spoken) = spoken(&bytes[..seen]) {
            return Ok(Some(spoken));
        }
        if Instant::now() >= late {
            return Ok(Some(Spoken::Other));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;
    use crate::listener::ConnectionWatches;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let caller = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (caller, listener.accept().await.unwrap().0)
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_keeps_silent_waits_for_its_server() {
        let watch = ConnectionWatches::default().watch();
        let (_caller, stream) = pair().await;
        let begun = Instant::now();
        let silence = Duration::from_secs(2);
        let found = of_captured(&stream, &watch, silence).await.unwrap();
        assert_eq!((found, begun.elapsed() >= silence), (Some(Spoken::Other), true));
    }

    #[tokio::test]
    async fn bytes_may_come_in_pieces() {
        let watch = ConnectionWatches::default().watch();
        let (mut caller, stream) = pair().await;
        let speaking = async {
            for piece in ["PRI * HTTP/2.0\r\n", "\r\nSM\r\n\r\n"] {
                caller.write_all(piece.as_bytes()).await.unwrap();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let (found, ()) = tokio::join!(of_proxied(&stream, &watch), speaking);
        assert_eq!(found.unwrap(), Some(Spoken::Http2));
        drop(caller);
        let (caller, stream) = pair().await;
        drop(caller);
        assert_eq!(of_proxied(&stream, &watch).await.unwrap(), None);
    }
}
