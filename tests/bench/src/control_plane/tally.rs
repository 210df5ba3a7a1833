//! What all streams together have seen, without a lock between them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use serde_json::{Value, json};
use tokio::sync::Notify;

/// State of a stream.
#[derive(Debug, Default)]
struct Seen {
    /// Revision of the last mark. 0: none on this stream.
    revision: AtomicU64,
    /// When the expected revision came, in nanoseconds since the start. 0: not yet.
    at: AtomicU64,
    received: AtomicU64,
    marks: AtomicU64,
    had_mark: AtomicBool,
}

/// Counts of all streams.
#[derive(Debug)]
pub struct Tally {
    start: Instant,
    seen: Vec<Seen>,
    sent: AtomicU64,
    lost: AtomicU64,
    expected: AtomicU64,
    waiting: AtomicU64,
    /// Told when the last stream has the expected revision.
    pub arrived: Notify,
}

impl Tally {
    pub fn new(streams: usize) -> Self {
        let seen = (0..streams).map(|_| Seen::default()).collect();
        Self {
            start: Instant::now(),
            seen,
            sent: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            expected: AtomicU64::new(u64::MAX),
            waiting: AtomicU64::new(0),
            arrived: Notify::new(),
        }
    }

    pub fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Relaxed);
    }

    pub fn received(&self, index: usize, bytes: usize) {
        self.seen[index].received.fetch_add(bytes as u64, Relaxed);
    }

    /// A mark came: the stream has the whole of a revision.
    pub fn marked(&self, index: usize, revision: u64) {
        let seen = &self.seen[index];
        seen.marks.fetch_add(1, Relaxed);
        seen.had_mark.store(true, Relaxed);
        let before = seen.revision.swap(revision, Relaxed);
        let expected = self.expected.load(Relaxed);
        if before < expected && revision >= expected {
            seen.at.store(self.now(), Relaxed);
            if self.waiting.fetch_sub(1, Relaxed) == 1 {
                self.arrived.notify_one();
            }
        }
    }

    /// A stream ended.
    pub fn left(&self, index: usize) {
        self.lost.fetch_add(1, Relaxed);
        let before = self.seen[index].revision.swap(0, Relaxed);
        let expected = self.expected.load(Relaxed);
        if expected != u64::MAX && before >= expected {
            self.waiting.fetch_add(1, Relaxed);
        }
    }

    /// From now on waits for this revision on every stream, and counts anew. Nothing must arrive
    /// meanwhile.
    pub fn expect(&self, revision: u64) {
        let mut waiting = 0;
        for seen in &self.seen {
            seen.at.store(0, Relaxed);
            seen.received.store(0, Relaxed);
            seen.marks.store(0, Relaxed);
            waiting += u64::from(seen.revision.load(Relaxed) < revision);
        }
        self.sent.store(0, Relaxed);
        self.waiting.store(waiting, Relaxed);
        self.expected.store(revision, Relaxed);
    }

    /// Streams that have the expected revision.
    pub fn has(&self) -> usize {
        let expected = self.expected.load(Relaxed);
        self.seen.iter().filter(|seen| seen.revision.load(Relaxed) >= expected).count()
    }

    pub fn streams(&self) -> usize {
        self.seen.len()
    }

    /// Revision of the stream's last mark. 0: none yet.
    pub fn revision(&self, index: usize) -> u64 {
        self.seen[index].revision.load(Relaxed)
    }

    /// Whether a mark came since this was last asked.
    pub fn had_mark(&self, index: usize) -> bool {
        self.seen[index].had_mark.swap(false, Relaxed)
    }

    /// Nanoseconds since the start.
    pub fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// What there is to tell, with times since `begun`.
    pub fn summary(&self, begun: u64) -> Value {
        let sorted = |of: &dyn Fn(&Seen) -> u64| {
            let mut all: Vec<u64> = self.seen.iter().map(of).collect();
            all.sort_unstable();
            all
        };
        let at = sorted(&|seen| seen.at.load(Relaxed).saturating_sub(begun));
        let received = sorted(&|seen| seen.received.load(Relaxed));
        let marks = sorted(&|seen| seen.marks.load(Relaxed));
        json!({
            "streams": self.seen.len(),
            "have": self.has(),
            "lost": self.lost.load(Relaxed),
            "p50Ms": millis(quantile(&at, 0.5)),
            "p99Ms": millis(quantile(&at, 0.99)),
            "maxMs": millis(quantile(&at, 1.0)),
            "bytesP50": quantile(&received, 0.5),
            "bytesMax": quantile(&received, 1.0),
            "marksMin": quantile(&marks, 0.0),
            "marksP50": quantile(&marks, 0.5),
            "sentBytes": self.sent.load(Relaxed),
        })
    }
}

fn quantile(sorted: &[u64], q: f64) -> u64 {
    let at = ((sorted.len() as f64 * q).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
    sorted.get(at).copied().unwrap_or(0)
}

fn millis(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_has_arrived_when_every_stream_has_it() {
        let tally = Tally::new(2);
        tally.expect(5);
        tally.marked(0, 5);
        tally.marked(0, 6);
        assert_eq!(tally.has(), 1);
        tally.marked(1, 4);
        assert_eq!(tally.has(), 1);
        tally.marked(1, 7);
        assert_eq!((tally.has(), tally.waiting.load(Relaxed)), (2, 0));
        tally.left(1);
        assert_eq!((tally.has(), tally.waiting.load(Relaxed)), (1, 1));
    }

    #[test]
    fn quantiles_of_few_values() {
        assert_eq!(quantile(&[1, 2, 3, 4], 0.5), 2);
        assert_eq!(quantile(&[1, 2, 3, 4], 1.0), 4);
        assert_eq!(quantile(&[], 0.5), 0);
    }
}
