//! Whether the peer of an HTTP/2 connection is still there (RFC 9113 section 6.7): a host that
//! vanished, or a middlebox that forgot the connection, sends no end of it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

/// Between two questions.
const INTERVAL: Duration = Duration::from_secs(30);
/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks a peer for as long as this lives, on a task of its own: the timer costs the requests on the
/// connection nothing.
pub struct KeepAlive {
    heard: Rc<Heard>,
    _asking: Option<AbortOnDropHandle<()>>,
}

#[derive(Default)]
struct Heard {
    gone: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl KeepAlive {
    /// Begins to ask; on a thread of a worker.
    pub fn begin(pings: Option<PingPong>) -> Self {
        let heard = Rc::<Heard>::default();
        let asking = pings.map(|pings| {
            let heard = Rc::clone(&heard);
            AbortOnDropHandle::new(spawn_local(async move {
                watch(pings).await;
                heard.gone.set(true);
                if let Some(waker) = heard.waker.take() {
                    waker.wake();
                }
            }))
        });
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
async fn watch(mut pings: PingPong) {
    loop {
        sleep(INTERVAL).await;
        if !matches!(timeout(PATIENCE, pings.ping(Ping::opaque())).await, Ok(Ok(_))) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, duplex};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_answers_is_kept() {
        let (ours, theirs) = duplex(64 * 1024);
        tokio::spawn(async move {
            let mut server = h2::server::handshake(theirs).await.unwrap();
            while server.accept().await.is_some() {}
        });
        let (_sender, mut driver) = h2::client::handshake(ours).await.unwrap();
        let pings = driver.ping_pong().unwrap();
        tokio::spawn(driver);
        assert!(timeout(INTERVAL * 100, watch(pings)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_is_gone_is_noticed() {
        let (ours, mut theirs) = duplex(64 * 1024);
        // It takes everything and says nothing.
        tokio::spawn(async move {
            let mut bytes = [0; 1024];
            while theirs.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
        });
        let (_sender, mut driver) = h2::client::handshake(ours).await.unwrap();
        let pings = driver.ping_pong().unwrap();
        tokio::spawn(driver);
        let begun = Instant::now();
        watch(pings).await;
        assert_eq!(begun.elapsed(), INTERVAL + PATIENCE);
    }
}
