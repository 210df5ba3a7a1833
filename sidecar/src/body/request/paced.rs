//! A request's body that must come on: whoever opens many requests and sends next to nothing of
//! their bodies holds connections and memory here and upstream (slow body).

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::Instant;

use super::{BodyError, RequestBody};
use crate::deadline::Deadlines;
use crate::http1::{Pipe, PipedBody as _};

/// Waiting for the caller that is free.
const GRACE: Duration = Duration::from_secs(5);
/// What must have come for each second of waiting beyond that. There is no longest time: a large
/// body may take as long as it comes.
const LEAST_BYTES_PER_SECOND: u64 = 240;

/// What becomes of a paced body, as others see it.
#[derive(Debug, Default)]
pub struct Pace {
    /// The answer has begun: it is a conversation, which may rest.
    answered: Cell<bool>,
    slow: Cell<bool>,
}

impl Pace {
    /// From now on it may rest.
    pub fn answered(&self) {
        self.answered.set(true);
    }

    /// Whether the body was given up because it did not come on.
    pub fn is_too_slow(&self) -> bool {
        self.slow.get()
    }
}

/// The body. Only time in which somebody waits for the caller counts: an upstream that takes its
/// time is not the caller's fault.
pub struct Paced {
    pub(super) body: RequestBody,
    pace: Rc<Pace>,
    deadlines: Rc<Deadlines>,
    came_bytes: u64,
    waited: Duration,
    /// Since when, and until when, the next piece is waited for.
    waits: Option<(Instant, crate::deadline::Deadline)>,
}

impl Paced {
    /// Watches over a body.
    pub fn new(body: RequestBody, pace: Rc<Pace>, deadlines: &Rc<Deadlines>) -> Self {
        let deadlines = Rc::clone(deadlines);
        Self { body, pace, deadlines, came_bytes: 0, waited: Duration::ZERO, waits: None }
    }

    /// The next piece, or the end of patience.
    pub fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(frame) = &polled {
            let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
            self.came(data.map_or(0, Bytes::len));
            return polled;
        }
        if self.pace.answered.get() {
            self.waits = None;
            return Poll::Pending;
        }
        let paid = Duration::from_secs(self.came_bytes / LEAST_BYTES_PER_SECOND);
        let left = (GRACE + paid).saturating_sub(self.waited);
        let (_, until) = self.waits.get_or_insert_with(|| {
            let now = Instant::now();
            (now, self.deadlines.at(now.checked_add(left)))
        });
        if until.poll(context).is_ready() {
            self.pace.slow.set(true);
            return Poll::Ready(Some(Err(BodyError::Slow)));
        }
        Poll::Pending
    }

    /// Fills a pipe with the next piece, where it can come so; whether anything came.
    pub fn fill(&mut self, pipe: &mut Pipe) -> bool {
        let filled = self.body.fill(pipe);
        if filled {
            self.came(pipe.filled());
        }
        filled
    }

    fn came(&mut self, bytes: usize) {
        self.waited += self.waits.take().map_or(Duration::ZERO, |(since, _)| since.elapsed());
        self.came_bytes += bytes as u64;
    }

    /// What is known of the length.
    pub fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::{LocalSet, spawn_local};

    use super::*;
    use crate::http1::ServerConnection;

    /// A body of which so many bytes come, and how long it may take until it is given up.
    async fn patience(bytes: usize, answered: bool) -> Option<Duration> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut caller = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut connection = ServerConnection::new(listener.accept().await.unwrap().0);
        let head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n";
        caller.write_all(head).await.unwrap();
        caller.write_all(&vec![7; bytes]).await.unwrap();
        let request = poll_fn(|context| connection.poll_next(context, || {})).await;
        let body = request.unwrap().unwrap().into_body();
        let (pace, deadlines) = (Rc::new(Pace::default()), Rc::<Deadlines>::default());
        let watched = Rc::clone(&deadlines);
        let watching = spawn_local(async move { watched.run().await });
        if answered {
            pace.answered();
        }
        let mut paced = Paced::new(RequestBody::http1(body), Rc::clone(&pace), &deadlines);
        let begun = Instant::now();
        let reading = poll_fn(|context| {
            while let Some(Ok(_)) = std::task::ready!(paced.poll_frame(context)) {}
            Poll::Ready(begun.elapsed())
        });
        let given_up = tokio::time::timeout(Duration::from_hours(1), reading).await;
        watching.abort();
        assert_eq!(given_up.is_ok(), pace.is_too_slow());
        given_up.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_given_up_unless_it_comes_on() {
        let local = LocalSet::new();
        let none = local.run_until(patience(0, false)).await.unwrap();
        assert!((GRACE..GRACE + Duration::from_secs(1)).contains(&none), "{none:?}");
        let some = local.run_until(patience(2400, false)).await.unwrap();
        let paid = GRACE + Duration::from_secs(10);
        assert!((paid..paid + Duration::from_secs(1)).contains(&some), "{some:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_conversation_may_rest() {
        assert_eq!(LocalSet::new().run_until(patience(0, true)).await, None);
    }
}
