//! After a switch of protocols (RFC 9110 section 7.8): bytes that nobody here reads, both ways.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, Sleep, sleep};

use super::wire::Wire;

/// Between looks at whether anything moves: a timer for each message would cost more.
const LOOK: Duration = Duration::from_mins(1);
/// Longest time in which nothing moves after a switch to WebSocket: who means to stay sends pings.
const IDLE_TIMEOUT: Duration = Duration::from_mins(10);
/// The same where one side has ended.
const MOST_IDLE_LOOKS_HALF_CLOSED: u32 = 1;
/// Room for what is received at once.
const ROOM_BYTES: usize = 16 * 1024;

/// One end of a tunnel.
pub trait TunnelEnd {
    /// What came next; `None`: the peer sends no more.
    fn poll_take(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>>;

    /// Whether more may be given before all has gone.
    fn has_room(&self) -> bool;

    /// Gives a piece that is to go; only while there is room.
    fn give(&mut self, piece: Bytes);

    /// Sends until all has gone.
    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Tells the peer that nothing more comes.
    fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// A tunnel between two connections.
pub struct Tunnel {
    /// From the caller to the upstream.
    there: Flow,
    /// From the upstream to the caller.
    back: Flow,
    moved: bool,
    idle_looks: u32,
    /// Looks in a row that find nothing moved, before the tunnel is closed.
    most_idle_looks: u32,
    look: Pin<Box<Sleep>>,
    traffic: Option<Rc<dyn Traffic>>,
}

/// Hears of bytes that moved.
pub trait Traffic {
    /// From the caller to the upstream.
    fn there(&self, bytes: usize);

    /// From the upstream to the caller.
    fn back(&self, bytes: usize);
}

/// One direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Moves,
    /// The sender has ended; the receiver is told when it has all.
    Ends,
    Ended,
}

impl Tunnel {
    /// A tunnel after a switch to WebSocket.
    pub fn of_websocket() -> Self {
        Self::within(Some(IDLE_TIMEOUT))
    }

    /// A tunnel in which nothing may move for about `idle`; `None`: for ever.
    pub fn within(idle: Option<Duration>) -> Self {
        let looks = idle.map(|idle| idle.as_secs().div_ceil(LOOK.as_secs()));
        let looks = looks.and_then(|looks| u32::try_from(looks).ok()).unwrap_or(u32::MAX);
        Self {
            there: Flow::Moves,
            back: Flow::Moves,
            moved: false,
            idle_looks: 0,
            most_idle_looks: looks.max(1),
            look: Box::pin(sleep(LOOK)),
            traffic: None,
        }
    }

    /// The same one, which tells of what moves.
    #[must_use]
    pub fn counted_by(self, traffic: Rc<dyn Traffic>) -> Self {
        Self { traffic: Some(traffic), ..self }
    }

    /// Moves bytes. Ready when both sides have ended, one of them failed, or nothing moved for long.
    pub fn poll(
        &mut self,
        caller: &mut dyn TunnelEnd,
        upstream: &mut dyn TunnelEnd,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let (mut went, mut came) = (0, 0);
        let there = self.there.poll(caller, upstream, &mut went, context);
        let back = self.back.poll(upstream, caller, &mut came, context);
        self.moved |= went + came > 0;
        if let Some(traffic) = &self.traffic {
            traffic.there(went);
            traffic.back(came);
        }
        let (there, back) = (there?, back?);
        if there.is_ready() && back.is_ready() {
            return Poll::Ready(Ok(()));
        }
        while self.look.as_mut().poll(context).is_ready() {
            self.look.as_mut().reset(Instant::now() + LOOK);
            let idle = !std::mem::take(&mut self.moved);
            self.idle_looks = if idle { self.idle_looks.saturating_add(1) } else { 0 };
            let half_closed = there.is_ready() || back.is_ready();
            let most = if half_closed { MOST_IDLE_LOOKS_HALF_CLOSED } else { self.most_idle_looks };
            if self.idle_looks >= most {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        Poll::Pending
    }
}

impl Flow {
    fn poll(
        &mut self,
        from: &mut dyn TunnelEnd,
        to: &mut dyn TunnelEnd,
        moved: &mut usize,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match self {
                Self::Moves if !to.has_room() => ready!(to.poll_flush(context))?,
                Self::Moves => match from.poll_take(context)? {
                    Poll::Ready(Some(piece)) => {
                        *moved += piece.len();
                        to.give(piece);
                    }
                    Poll::Ready(None) => *self = Self::Ends,
                    Poll::Pending => {
                        ready!(to.poll_flush(context))?;
                        return Poll::Pending;
                    }
                },
                Self::Ends => {
                    ready!(to.poll_flush(context))?;
                    ready!(to.poll_shutdown(context))?;
                    *self = Self::Ended;
                }
                Self::Ended => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl TunnelEnd for Wire {
    fn poll_take(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        if self.received.is_empty() && ready!(self.poll_receive(context, ROOM_BYTES))? == 0 {
            return Poll::Ready(Ok(None));
        }
        Poll::Ready(Ok(Some(self.received.split().freeze())))
    }

    fn has_room(&self) -> bool {
        Wire::has_room(self)
    }

    fn give(&mut self, piece: Bytes) {
        self.push(piece, b"");
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Wire::poll_flush(self, context)
    }

    fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Wire::poll_shutdown(self, context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair() -> (Wire, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Wire::new(listener.accept().await.unwrap().0), peer)
    }

    #[tokio::test]
    async fn bytes_pass_both_ways_until_both_sides_have_ended() {
        let ((mut near, mut caller), (mut far, mut upstream)) = (pair().await, pair().await);
        let mut tunnel = Tunnel::of_websocket();
        let moving = poll_fn(|context| tunnel.poll(&mut near, &mut far, context));
        let talking = async {
            let large = vec![7; 1_000_000];
            caller.write_all(&large).await.unwrap();
            caller.shutdown().await.unwrap();
            let mut all = Vec::new();
            upstream.read_to_end(&mut all).await.unwrap();
            assert!(all == large);
            // One side has ended, and the other may still speak.
            upstream.write_all(b"bye").await.unwrap();
            drop(upstream);
            all.clear();
            caller.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, b"bye");
        };
        let (moved, ()) = tokio::join!(moving, talking);
        moved.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_in_which_nothing_moves_is_closed() {
        let ((mut near, caller), (mut far, _upstream)) = (pair().await, pair().await);
        let mut tunnel = Tunnel::of_websocket();
        let begun = Instant::now();
        let ended = poll_fn(|context| tunnel.poll(&mut near, &mut far, context)).await;
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() >= IDLE_TIMEOUT);
        drop(caller);
        let (begun, mut tunnel) = (Instant::now(), Tunnel::of_websocket());
        let ended = poll_fn(|context| tunnel.poll(&mut near, &mut far, context)).await;
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() <= LOOK * 2);
    }
}
