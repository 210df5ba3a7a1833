//! Takes connections off a listening socket.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use segue_shared::shutdown::DrainSignal;
use tokio::net::{TcpListener, TcpStream};
use tracing::warn;

/// Pause after the first failure; doubles up to [`LONGEST_PAUSE`] while failures follow.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Accepts until the drain begins and gives each connection, with the address that it comes from, to
/// `serve`. What was connected before the drain is still taken.
pub async fn accept(
    listener: TcpListener,
    drain: DrainSignal,
    serve: impl Fn(TcpStream, SocketAddr),
) {
    let mut pause = FIRST_PAUSE;
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            () = drain.cancelled() => return,
        };
        match accepted {
            Ok((stream, address)) => {
                pause = FIRST_PAUSE;
                let _kept_if_refused = stream.set_nodelay(true);
                serve(stream, address);
            }
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                // Out of files or memory: spinning would not free any.
                warn!(%error, ?pause, "cannot accept connections");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}
