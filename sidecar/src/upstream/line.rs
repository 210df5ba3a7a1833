//! Requests that wait for their cluster to have room, in the order in which they came. Each worker
//! has its own line; what ends on another worker is seen a little later.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::outcome::ClusterCounters;

/// Longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// After this time the line is looked after though nothing ended on this worker.
const OTHERS_TIME: Duration = Duration::from_millis(20);

/// The line of one cluster on one worker.
#[derive(Default)]
pub struct Line {
    waiting: Cell<u32>,
    moved: Notify,
}

/// A request's place in the line, until it is dropped.
pub struct Place {
    line: Rc<Line>,
    counters: Arc<ClusterCounters>,
    worker: usize,
    until: Instant,
}

impl Line {
    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.get() == 0
    }

    /// Something ended: the first may look for room.
    pub fn moved(&self) {
        if !self.is_empty() {
            self.moved.notify_one();
        }
    }

    /// A place at the end of the line; `None` where `most` wait on all workers.
    pub fn enter(
        self: &Rc<Self>,
        counters: &Arc<ClusterCounters>,
        worker: usize,
        most: u32,
    ) -> Option<Place> {
        if !counters.admits_pending(worker, most) {
            return None;
        }
        self.waiting.set(self.waiting.get() + 1);
        counters.slot(worker).waits();
        let until = Instant::now() + LONGEST_WAIT;
        Some(Place { line: Rc::clone(self), counters: Arc::clone(counters), worker, until })
    }
}

impl Place {
    /// Waits until it is worth to look again; `false` once the request has waited long enough.
    pub async fn next(&self) -> bool {
        if Instant::now() >= self.until {
            return false;
        }
        // Over time is no error: others may have made room.
        let _ = tokio::time::timeout(OTHERS_TIME, self.line.moved.notified()).await;
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.line.waiting.set(self.line.waiting.get().saturating_sub(1));
        self.counters.slot(self.worker).waits_no_more();
        // Whoever leaves may have taken the news that were for the next.
        self.line.moved();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Counters;

    #[tokio::test(start_paused = true)]
    async fn a_place_is_left_when_something_ends_or_after_a_second() {
        let counters = Counters::new(2).cluster(&Arc::from("a"), None);
        let line = Rc::new(Line::default());
        let place = line.enter(&counters, 0, 2).unwrap();
        let other = line.enter(&counters, 1, 2).unwrap();
        assert!(line.enter(&counters, 0, 2).is_none(), "two may wait");
        let begun = Instant::now();
        line.moved();
        assert!(place.next().await);
        assert_eq!(begun.elapsed(), Duration::ZERO);
        while other.next().await {}
        assert!((LONGEST_WAIT..LONGEST_WAIT + OTHERS_TIME).contains(&begun.elapsed()));
        drop((place, other));
        assert!(line.is_empty());
        assert_eq!(counters.totals().pending, 0);
    }
}
