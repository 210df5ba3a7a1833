//! Whether the peer of an HTTP/2 connection is still there (RFC 9113 section 6.7): a host that
//! vanished, or a middlebox that forgot the connection, sends no end of it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::http2::Pinger;

/// Between two questions.
const INTERVAL: Duration = Duration::from_secs(30);
/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks a peer for as long as this lives, on a task of its own: the timer costs the requests on the
/// connection nothing.
pub struct KeepAlive {
    heard: Rc<Heard>,
    _asking: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Heard {
    gone: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl KeepAlive {
    /// Begins to ask; on a thread of a worker.
    pub fn begin(pinger: Pinger) -> Self {
        let heard = Rc::<Heard>::default();
        let told = Rc::clone(&heard);
        let asking = AbortOnDropHandle::new(spawn_local(async move {
            watch(&pinger).await;
            told.gone.set(true);
            if let Some(waker) = told.waker.take() {
                waker.wake();
            }
        }));
        Self { heard, _asking: asking }
    }

    /// Ready when the peer answers no more.
    pub fn poll_gone(&self, context: &Context<'_>) -> Poll<()> {
        if self.heard.gone.get() {
            return Poll::Ready(());
        }
        let mut waker = self.heard.waker.borrow_mut();
        match &mut *waker {
            Some(waker) => waker.clone_from(context.waker()),
            None => *waker = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

/// Asks again and again; ready when no answer comes.
async fn watch(pinger: &Pinger) {
    loop {
        sleep(INTERVAL).await;
        if timeout(PATIENCE, pinger.ping()).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};
    use tokio::task::LocalSet;
    use tokio::time::Instant;

    use super::*;
    use crate::http2::{Limits, Requests, begin_client};

    fn client(io: DuplexStream) -> (Requests, Pinger) {
        let (requests, mut driver) = begin_client(io, Limits::default());
        let pinger = driver.pinger();
        spawn_local(async move { poll_fn(|context| driver.poll(context)).await });
        (requests, pinger)
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_answers_is_kept() {
        let (ours, theirs) = duplex(64 * 1024);
        tokio::spawn(async move {
            let mut server = h2::server::handshake(theirs).await.unwrap();
            while server.accept().await.is_some() {}
        });
        let watching = async {
            let (_requests, pinger) = client(ours);
            assert!(timeout(INTERVAL * 100, watch(&pinger)).await.is_err());
        };
        LocalSet::new().run_until(watching).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_is_gone_is_noticed() {
        let (ours, mut theirs) = duplex(64 * 1024);
        // It takes everything and says nothing.
        tokio::spawn(async move {
            let mut bytes = [0; 1024];
            while theirs.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
        });
        let watching = async {
            let (_requests, pinger) = client(ours);
            let begun = Instant::now();
            watch(&pinger).await;
            assert_eq!(begun.elapsed(), INTERVAL + PATIENCE);
        };
        LocalSet::new().run_until(watching).await;
    }
}
