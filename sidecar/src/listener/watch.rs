//! What each caller's connection is doing, looked through by one coarse tick a worker: deadlines of
//! heads, idle connections, and the drain.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

/// From the first byte of a head to its end.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two requests.
const IDLE_TIMEOUT: Duration = Duration::from_mins(5);
/// The same while memory is short.
const SHORT_IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Part of the time that certificates count for after which nothing new is taken.
const SHARE_OF_CERTIFICATES: f64 = 0.9;

/// What a connection shall do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Go on.
    Stay,
    /// Tell the caller, where the protocol can, that nothing new is wanted (HTTP/2: GOAWAY).
    Announce,
    /// Finish what runs, take nothing new.
    Finish,
    /// Close at once.
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Head,
    Busy,
}

/// One connection.
pub struct ConnectionWatch {
    phase: Cell<Phase>,
    since: Cell<Instant>,
    verdict: Cell<Verdict>,
    waker: RefCell<Option<Waker>>,
    requests: Cell<u32>,
    /// When it takes nothing new, and when it is closed, whatever runs.
    end: Cell<Option<(Instant, Instant)>>,
    clock: Rc<Cell<Instant>>,
}

/// All connections of one worker.
pub struct ConnectionWatches {
    /// A connection that has ended must not live on in here: with its waker it would keep the memory
    /// of its whole task until the next tick.
    all: RefCell<Vec<Weak<ConnectionWatch>>>,
    clock: Rc<Cell<Instant>>,
}

impl Default for ConnectionWatches {
    fn default() -> Self {
        Self { all: RefCell::default(), clock: Rc::new(Cell::new(Instant::now())) }
    }
}

impl ConnectionWatches {
    /// Watches over a new connection until the caller drops its reference.
    pub fn watch(&self) -> Rc<ConnectionWatch> {
        let watch = Rc::new(ConnectionWatch {
            phase: Cell::new(Phase::Idle),
            since: Cell::new(self.clock.get()),
            verdict: Cell::new(Verdict::Stay),
            waker: RefCell::new(None),
            requests: Cell::new(0),
            end: Cell::new(None),
            clock: Rc::clone(&self.clock),
        });
        self.all.borrow_mut().push(Rc::downgrade(&watch));
        watch
    }

    /// Ends what is overdue. `end_idle` is set in the drain.
    pub fn tick(&self, now: Instant, end_idle: bool) {
        self.clock.set(now);
        self.all.borrow_mut().retain(|watch| {
            let Some(watch) = watch.upgrade() else { return false };
            let age = now.saturating_duration_since(watch.since.get());
            match watch.phase.get() {
                Phase::Head if age >= HEAD_TIMEOUT => watch.decide(Verdict::Close),
                Phase::Idle if age >= IDLE_TIMEOUT || end_idle => watch.decide(Verdict::Finish),
                _ => {}
            }
            match watch.end.get() {
                Some((_, close)) if now >= close => watch.decide(Verdict::Close),
                Some((finish, _)) if now >= finish => watch.decide(Verdict::Finish),
                _ => {}
            }
            true
        });
    }

    /// Ends those that have been idle for a while, though not for too long.
    pub fn end_idle(&self, now: Instant) {
        for watch in self.all.borrow().iter().filter_map(Weak::upgrade) {
            let age = now.saturating_duration_since(watch.since.get());
            if watch.phase.get() == Phase::Idle && age >= SHORT_IDLE_TIMEOUT {
                watch.decide(Verdict::Finish);
            }
        }
    }

    /// Tells all connections the same.
    pub fn decide(&self, verdict: Verdict) {
        for watch in self.all.borrow().iter().filter_map(Weak::upgrade) {
            watch.decide(verdict);
        }
    }

    /// Number of connections that are open.
    pub fn open(&self) -> usize {
        let mut all = self.all.borrow_mut();
        all.retain(|watch| watch.strong_count() > 0);
        all.len()
    }
}

impl ConnectionWatch {
    /// Bytes arrived: between two requests they begin a head.
    pub fn bytes_came(&self) {
        if self.phase.get() == Phase::Idle {
            self.enter(Phase::Head);
        }
    }

    fn request_began(&self) {
        self.requests.set(self.requests.get() + 1);
        self.enter(Phase::Busy);
    }

    fn request_ended(&self) {
        let left = self.requests.get().saturating_sub(1);
        self.requests.set(left);
        if left == 0 {
            self.enter(Phase::Idle);
        }
    }

    /// A request began; it ends when the guard is dropped.
    pub fn begin_request(self: &Rc<Self>) -> RunningRequest {
        self.request_began();
        RunningRequest(Rc::clone(self))
    }

    /// From here on it is the connection of somebody whose certificate, or ours, counts for so long.
    pub fn end_within(&self, left: Duration) {
        let now = Instant::now();
        let finish = now.checked_add(left.mul_f64(SHARE_OF_CERTIFICATES));
        self.end.set(finish.zip(now.checked_add(left)));
    }

    /// Whether the connection shall take nothing new.
    pub fn takes_no_more(&self) -> bool {
        self.verdict.get() >= Verdict::Finish
    }

    /// Waits until the connection shall take nothing new.
    pub async fn finished(&self) {
        poll_fn(|context| match self.verdict(context) {
            Verdict::Finish | Verdict::Close => Poll::Ready(()),
            Verdict::Stay | Verdict::Announce => Poll::Pending,
        })
        .await;
    }

    /// What to do; remembers the task to wake when that changes.
    pub fn verdict(&self, context: &Context<'_>) -> Verdict {
        let mut waker = self.waker.borrow_mut();
        match &mut *waker {
            Some(waker) => waker.clone_from(context.waker()),
            None => *waker = Some(context.waker().clone()),
        }
        self.verdict.get()
    }

    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(self.clock.get());
    }

    fn decide(&self, verdict: Verdict) {
        // It never becomes milder.
        if verdict > self.verdict.get() {
            self.verdict.set(verdict);
            if let Some(waker) = &*self.waker.borrow() {
                waker.wake_by_ref();
            }
        }
    }
}

/// A request that runs on a connection, to the end of its answer.
pub struct RunningRequest(Rc<ConnectionWatch>);

impl Drop for RunningRequest {
    fn drop(&mut self) {
        self.0.request_ended();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_has_ended_holds_its_task_no_more() {
        struct Task;
        impl std::task::Wake for Task {
            fn wake(self: std::sync::Arc<Self>) {}
        }
        let (watches, task) = (ConnectionWatches::default(), std::sync::Arc::new(Task));
        let watch = watches.watch();
        let waker = Waker::from(std::sync::Arc::clone(&task));
        assert_eq!(watch.verdict(&Context::from_waker(&waker)), Verdict::Stay);
        drop((watch, waker));
        assert_eq!(std::sync::Arc::strong_count(&task), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_head_is_closed_and_an_idle_connection_finished() {
        let watches = ConnectionWatches::default();
        let (slow, idle, busy) = (watches.watch(), watches.watch(), watches.watch());
        slow.bytes_came();
        busy.bytes_came();
        busy.request_began();
        let verdicts = || [&slow, &idle, &busy].map(|watch| watch.verdict.get());
        let start = Instant::now();
        watches.tick(start + Duration::from_secs(9), false);
        assert_eq!(verdicts(), [Verdict::Stay; 3]);
        watches.tick(start + Duration::from_secs(11), false);
        assert_eq!(verdicts(), [Verdict::Close, Verdict::Stay, Verdict::Stay]);
        watches.tick(start + Duration::from_secs(301), false);
        assert_eq!(verdicts(), [Verdict::Close, Verdict::Finish, Verdict::Stay]);
        busy.request_ended();
        watches.tick(start + Duration::from_secs(302), true);
        assert_eq!(busy.verdict.get(), Verdict::Finish);
        drop(slow);
        assert_eq!(watches.open(), 2);
    }
}
