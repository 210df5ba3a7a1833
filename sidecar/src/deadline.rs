//! Deadlines of requests, by one coarse tick a worker.
//!
//! A timer of the runtime for each request costs more than the rest of the bookkeeping together.
//! Requests rarely reach their deadline, so all that is waited for stands in one table which a task
//! looks through at each tick.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// How late a deadline may be noticed.
pub const TICK: Duration = Duration::from_millis(20);
/// Ticks without anything to watch after which the tick rests.
const IDLE_TICKS: u32 = 50;

/// The deadlines of one worker.
#[derive(Default)]
pub struct Deadlines {
    entries: RefCell<Vec<Entry>>,
    free: RefCell<Vec<usize>>,
    armed: Cell<usize>,
    resting: Cell<bool>,
    begin: Notify,
}

enum Entry {
    Free,
    Waiting(Instant, Waker),
    Passed,
}

/// One deadline. Wakes the task that polled it last.
pub struct Deadline {
    table: Rc<Deadlines>,
    at: Option<Instant>,
    place: Option<usize>,
}

impl Deadlines {
    /// A deadline at a moment; `None` never passes.
    pub fn at(self: &Rc<Self>, at: Option<Instant>) -> Deadline {
        Deadline { table: Rc::clone(self), at, place: None }
    }

    /// Watches over the deadlines; runs as long as the worker.
    pub async fn run(&self) {
        loop {
            if self.armed.get() == 0 {
                self.resting.set(true);
                self.begin.notified().await;
                self.resting.set(false);
            }
            let mut idle = 0;
            while idle < IDLE_TICKS {
                tokio::time::sleep(TICK).await;
                idle = if self.armed.get() == 0 { idle + 1 } else { 0 };
                self.pass(Instant::now());
            }
        }
    }

    fn pass(&self, now: Instant) {
        if self.armed.get() == 0 {
            return;
        }
        for entry in self.entries.borrow_mut().iter_mut() {
            if matches!(entry, Entry::Waiting(at, _) if *at <= now)
                && let Entry::Waiting(_, waker) = std::mem::replace(entry, Entry::Passed)
            {
                waker.wake();
            }
        }
    }

    fn arm(&self, at: Instant, waker: Waker) -> usize {
        self.armed.set(self.armed.get() + 1);
        if self.resting.get() {
            self.begin.notify_one();
        }
        let entry = Entry::Waiting(at, waker);
        let mut entries = self.entries.borrow_mut();
        if let Some(place) = self.free.borrow_mut().pop() {
            entries[place] = entry;
            return place;
        }
        entries.push(entry);
        entries.len() - 1
    }
}

impl Deadline {
    /// The moment, if there is one.
    pub fn moment(&self) -> Option<Instant> {
        self.at
    }

    /// Another moment from now on.
    pub fn reset(&mut self, at: Option<Instant>) {
        self.leave();
        self.at = at;
    }

    fn leave(&mut self) {
        if let Some(place) = self.place.take() {
            self.table.entries.borrow_mut()[place] = Entry::Free;
            self.table.free.borrow_mut().push(place);
            self.table.armed.set(self.table.armed.get() - 1);
        }
    }

    /// Ready when the moment has passed.
    pub fn poll(&mut self, context: &Context<'_>) -> Poll<()> {
        let Some(at) = self.at else { return Poll::Pending };
        let Some(place) = self.place else {
            if at <= Instant::now() {
                return Poll::Ready(());
            }
            self.place = Some(self.table.arm(at, context.waker().clone()));
            return Poll::Pending;
        };
        match &mut self.table.entries.borrow_mut()[place] {
            Entry::Waiting(_, waker) => {
                waker.clone_from(context.waker());
                Poll::Pending
            }
            Entry::Passed | Entry::Free => Poll::Ready(()),
        }
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_passes_within_a_tick_and_frees_its_place() {
        let table = Rc::new(Deadlines::default());
        let watched = Rc::clone(&table);
        let local = tokio::task::LocalSet::new();
        local.spawn_local(async move { watched.run().await });
        local
            .run_until(async {
                let start = Instant::now();
                for wait in [5, 70, 3000] {
                    let wait = Duration::from_millis(wait);
                    let mut deadline = table.at(Some(Instant::now() + wait));
                    let begun = Instant::now();
                    poll_fn(|context| deadline.poll(context)).await;
                    assert!((wait..=wait + TICK * 2).contains(&begun.elapsed()));
                }
                assert!(start.elapsed() >= Duration::from_millis(3075));
                let mut moved = table.at(Some(Instant::now()));
                moved.reset(Some(Instant::now() + TICK * 3));
                let begun = Instant::now();
                poll_fn(|context| moved.poll(context)).await;
                assert!(begun.elapsed() >= TICK * 3);
                moved.reset(None);
                assert_eq!((table.armed.get(), table.entries.borrow().len()), (0, 1));
            })
            .await;
    }
}
