//! The drain signal: one tree of cancellation for a process, begun by SIGTERM or SIGINT.

use std::io;

pub use tokio_util::sync::CancellationToken as DrainSignal;

/// Waits for the first SIGTERM or SIGINT and says which it was.
pub async fn terminate() -> io::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}
