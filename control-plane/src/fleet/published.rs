//! When which revision was offered to all.

use segue_shared::ids::Revision;
use tokio::time::Instant;

/// Most publications that are remembered.
const MOST: usize = 1024;

/// Publications, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Published {
    times: Vec<(Revision, Instant)>,
}

impl Published {
    /// Notes that a revision is offered from now on. One that is not newer is no news.
    pub fn note(&mut self, revision: Revision, now: Instant) {
        if revision <= self.newest() {
            return;
        }
        if self.times.len() >= MOST {
            self.thin_out();
        }
        self.times.push((revision, now));
    }

    /// The newest revision that is offered.
    pub fn newest(&self) -> Revision {
        self.times.last().map_or(Revision::NONE, |(revision, _)| *revision)
    }

    /// Since when there is something newer than `reached`. `None` where that is the newest.
    pub fn newer_since(&self, reached: Revision) -> Option<Instant> {
        let first = self.times.partition_point(|(revision, _)| *revision <= reached);
        self.times.get(first).map(|(_, at)| *at)
    }

    /// Forgets every other one of the older half. An age that is then read is a little too short,
    /// never too long, and that of the very oldest stays exact.
    fn thin_out(&mut self) {
        let older = self.times.len() / 2;
        let mut at = 0;
        self.times.retain(|_| {
            at += 1;
            at > older || at % 2 == 1
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_node_is_behind_since_the_first_revision_that_it_lacks() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut published = Published::default();
        assert_eq!(published.newer_since(Revision::NONE), None);
        for (revision, seconds) in [(1, 0), (4, 10), (7, 20), (7, 30), (3, 40)] {
            published.note(Revision(revision), at(seconds));
        }
        for (reached, since) in
            [(0, Some(0)), (1, Some(10)), (3, Some(10)), (4, Some(20)), (7, None), (9, None)]
        {
            assert_eq!(published.newer_since(Revision(reached)), since.map(at), "{reached}");
        }
    }

    #[test]
    fn what_is_remembered_is_bounded_and_never_tells_too_long_an_age() {
        let start = Instant::now();
        let mut published = Published::default();
        for revision in 1..=10_000 {
            published.note(Revision(revision), start + Duration::from_secs(revision));
        }
        assert!(published.times.len() <= MOST);
        for reached in 0..10_000 {
            let exact = start + Duration::from_secs(reached + 1);
            assert!(published.newer_since(Revision(reached)).unwrap() >= exact);
        }
        let oldest = published.newer_since(Revision::NONE);
        assert_eq!(oldest, Some(start + Duration::from_secs(1)));
        assert_eq!(published.newer_since(Revision(10_000)), None);
    }
}
