//! What became of handshakes, for metrics and logs.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustls::HandshakeKind;
use segue_shared::tls::reason_of;
use tokio::time::Instant;
use tracing::{debug, warn};

/// Lines of the log for refused handshakes.
const MOST_LINES: u32 = 100;
const LINES_TIME: Duration = Duration::from_secs(1);

/// Which end of the handshake this sidecar is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// It was called.
    Server,
    /// It called.
    Client,
}

impl End {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }
}

/// Counts handshakes of the whole sidecar.
#[derive(Debug, Default)]
pub struct Handshakes {
    /// Full and resumed ones, by end.
    done: [[AtomicU64; 2]; 2],
    refused: Mutex<BTreeMap<(End, &'static str), u64>>,
    lines: Mutex<Option<(Instant, u32)>>,
}

/// A number and what it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    pub end: End,
    /// A kind of handshake, or a reason for a refusal.
    pub what: &'static str,
    pub count: u64,
}

const KINDS: [&str; 2] = ["full", "resumed"];

impl Handshakes {
    /// A handshake succeeded.
    pub fn done(&self, end: End, kind: Option<HandshakeKind>) {
        let resumed = usize::from(kind == Some(HandshakeKind::Resumed));
        self.done[end as usize][resumed].fetch_add(1, Ordering::Relaxed);
    }

    /// One failed; the word for why.
    pub fn failed(&self, end: End, peer: SocketAddr, error: &io::Error) -> &'static str {
        let reason = reason_of(error);
        self.refused(end, peer, reason, &error.to_string());
        reason
    }

    /// A connection was refused.
    pub fn refused(&self, end: End, peer: SocketAddr, reason: &'static str, error: &str) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        *refused.entry((end, reason)).or_default() += 1;
        drop(refused);
        let end = end.as_str();
        if self.may_tell() {
            warn!(%peer, end, reason, error, "a connection was refused");
        } else {
            debug!(%peer, end, reason, error, "a connection was refused");
        }
    }

    /// Handshakes that succeeded.
    pub fn successes(&self) -> impl Iterator<Item = Told> {
        [End::Server, End::Client].into_iter().flat_map(move |end| {
            KINDS.into_iter().enumerate().map(move |(i, what)| {
                let count = self.done[end as usize][i].load(Ordering::Relaxed);
                Told { end, what, count }
            })
        })
    }

    /// Those that did not, by reason.
    pub fn refusals(&self) -> Vec<Told> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.iter().map(|((end, what), count)| Told { end: *end, what, count: *count }).collect()
    }

    fn may_tell(&self) -> bool {
        let now = Instant::now();
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, told) = match &mut *lines {
            Some(lines) if now.saturating_duration_since(lines.0) < LINES_TIME => lines,
            lines => lines.insert((now, 0)),
        };
        *told += 1;
        *told <= MOST_LINES
    }
}
