//! The cap on callers' connections of the whole sidecar.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Default of the cap, where the system allows as many files.
const MOST_CONNECTIONS: usize = 10_000;
/// Files for everything but connections.
const OTHER_FILES: u64 = 64;

/// Counts connections and lets no more in than the cap. Clones are the same gate.
#[derive(Clone, Debug)]
pub struct ConnectionGate(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    most: usize,
    open: AtomicUsize,
    refused: AtomicU64,
}

/// A connection that was let in; leaves when it is dropped.
#[derive(Debug)]
pub struct Entered(Arc<Counts>);

impl ConnectionGate {
    /// A gate for at most this many connections.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Counts { most, open: AtomicUsize::new(0), refused: AtomicU64::new(0) }))
    }

    /// A place for one more connection. `None`: it must be closed.
    pub fn enter(&self) -> Option<Entered> {
        let counts = &self.0;
        if counts.open.fetch_add(1, Ordering::Relaxed) < counts.most {
            return Some(Entered(Arc::clone(counts)));
        }
        counts.open.fetch_sub(1, Ordering::Relaxed);
        self.refuse();
        None
    }

    /// Counts a connection that is closed at once for another reason.
    pub fn refuse(&self) {
        self.0.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Connections that are open.
    pub fn open(&self) -> usize {
        self.0.open.load(Ordering::Relaxed)
    }

    /// Connections that were closed at once, because the cap was reached or memory is short.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The default cap: 10,000, but no more than half of the files that the process may open, because
/// each connection may need another one to an upstream. Asks the system for as many as it gives.
pub fn default_cap() -> usize {
    let files = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1024);
    let half = (files / 2).saturating_sub(OTHER_FILES).max(1);
    usize::try_from(half).unwrap_or(usize::MAX).min(MOST_CONNECTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_enter_than_the_cap_and_a_place_comes_free() {
        let gate = ConnectionGate::new(2);
        let (first, _second) = (gate.enter(), gate.enter());
        assert!(first.is_some() && gate.enter().is_none());
        assert_eq!((gate.open(), gate.refused()), (2, 1));
        drop(first);
        assert!(gate.enter().is_some());
    }

    #[test]
    fn the_default_leaves_files_for_upstreams() {
        assert!((1..=MOST_CONNECTIONS).contains(&default_cap()));
    }
}
