//! The bytes of a connection, encrypted or not, for as long as it may last.
//!
//! A client that says nothing, takes nothing, or is no longer whom its certificate named holds its
//! connection open without any of hyper's timers being touched. So each read and each write looks
//! first whether the connection is over, and what ends it wakes whoever reads or writes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::transport::server::Connected;

use super::connections::Place;
use super::endings::Endings;
use super::peer::Peer;

/// Time for a client to begin.
const BEGIN: Duration = Duration::from_secs(10);
/// What a client begins with: 24 octets that are always the same, and the head of its first frame
/// (RFC 9113, 3.4 and 4.1). From then on keepalive finds out whether it is there.
const PREFACE_BYTES: usize = 24 + 9;

/// Boxed where it is encrypted: those buffers would be moved with each move of a plain one.
pub(super) type Io = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// A client's connection. It takes its place until it is dropped.
#[derive(Debug)]
pub struct Wire {
    io: Io,
    peer: Peer,
    place: Place,
    endings: Endings,
    /// Bytes that the client has yet to say of its beginning.
    unsaid: usize,
    /// When the connection ends, whatever happens, and the word for why.
    end: Option<(Instant, &'static str)>,
    /// The time for the beginning, then that of the end.
    alarm: Option<Pin<Box<Sleep>>>,
    /// The certificate's authority is no longer believed.
    disbelief: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// What is told to who reads and writes on.
    over: Option<io::ErrorKind>,
}

/// How long the client's certificate counts.
#[derive(Debug, Default)]
pub(super) struct Belief {
    pub until: Option<Instant>,
    pub disbelief: Option<WaitForCancellationFutureOwned>,
}

impl Wire {
    pub(super) fn new(io: Io, peer: Peer, place: Place, endings: Endings, belief: Belief) -> Self {
        let aged = place.until().map(|until| (until, "age"));
        let expired = belief.until.map(|until| (until, "expired"));
        let end = [aged, expired].into_iter().flatten().min();
        let begin = Instant::now() + BEGIN;
        let first = end.map_or(begin, |(end, _)| end.min(begin));
        Self {
            io,
            peer,
            place,
            endings,
            unsaid: PREFACE_BYTES,
            end,
            alarm: Some(Box::pin(sleep_until(first))),
            disbelief: belief.disbelief.map(Box::pin),
            over: None,
        }
    }

    /// Ready with an error once the connection is over.
    fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let kind = match self.over {
            Some(kind) => kind,
            None => ready!(self.poll_end(context)),
        };
        self.over = Some(kind);
        Poll::Ready(kind.into())
    }

    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<io::ErrorKind> {
        if self.place.poll_cut(context).is_ready() {
            // What the client does not take is not kept for it either. Where that fails, it is.
            let _ = self.socket().set_zero_linger();
            return Poll::Ready(io::ErrorKind::ConnectionAborted);
        }
        let disbelief = self.disbelief.as_mut().map(|disbelief| disbelief.as_mut().poll(context));
        let reason = match (disbelief, &mut self.alarm) {
            (Some(Poll::Ready(())), _) => Some("disbelieved"),
            (_, None) => return Poll::Pending,
            (_, Some(alarm)) => {
                ready!(alarm.as_mut().poll(context));
                self.end.filter(|(end, _)| *end <= Instant::now()).map(|(_, why)| why)
            }
        };
        let address = self.peer.address;
        match reason {
            Some(reason) => self.endings.ended(address, reason),
            None => self.endings.refused(address, "silent", "no HTTP/2 was begun in time"),
        }
        Poll::Ready(io::ErrorKind::TimedOut)
    }

    /// The client said so many bytes.
    fn said(&mut self, bytes: usize) {
        if self.unsaid == 0 {
            return;
        }
        self.unsaid = self.unsaid.saturating_sub(bytes);
        if self.unsaid == 0 {
            match (&mut self.alarm, self.end) {
                (Some(alarm), Some((end, _))) => alarm.as_mut().reset(end),
                (alarm, _) => *alarm = None,
            }
        }
    }

    fn socket(&self) -> &TcpStream {
        match &self.io {
            Either::Left(io) => io,
            Either::Right(io) => io.get_ref().0,
        }
    }

    /// The bytes, unless the connection is over.
    fn poll_io(&mut self, context: &mut Context<'_>) -> Result<Pin<&mut Io>, io::Error> {
        match self.poll_over(context) {
            Poll::Ready(error) => Err(error),
            Poll::Pending => Ok(Pin::new(&mut self.io)),
        }
    }
}

impl Connected for Wire {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(self.poll_io(context)?.poll_read(context, buffer))?;
        self.said(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_io(context)?.poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_io(context)?.poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_io(context)?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_io(context)?.poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use prometheus_client::metrics::gauge::Gauge;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;
    use crate::access::{AccessMetrics, Connections, Limits, Port, Share};

    /// Both ends of a connection.
    async fn pair() -> (Wire, TcpStream, Connections) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (io, address) = listener.accept().await.unwrap();
        let limits = Limits { most: 1, each: Share::of(1, None), age: None };
        let connections = Connections::new(limits, Gauge::default());
        let place = connections.enter(address).unwrap();
        let endings = Endings::of(Port::Xds, AccessMetrics::default());
        let peer = Peer { address, certificate: None, identity: None };
        let wire = Wire::new(Either::Left(io), peer, place, endings, Belief::default());
        (wire, client, connections)
    }

    #[tokio::test]
    async fn a_cut_ends_whatever_is_being_done() {
        let (mut wire, client, connections) = pair().await;
        // The client takes nothing, so that at some time there is no room for more.
        while wire.write(&[0; 8 * 1024]).now_or_never().is_some() {}
        let standing = tokio::spawn(async move {
            loop {
                if let Err(error) = wire.write_all(&[0; 8 * 1024]).await {
                    return (wire, error.kind());
                }
            }
        });
        tokio::task::yield_now().await;
        connections.cut(client.local_addr().unwrap());
        let (mut wire, kind) = standing.await.unwrap();
        assert_eq!(kind, io::ErrorKind::ConnectionAborted);
        let parts = [IoSlice::new(b"more")];
        for ended in [
            wire.write_vectored(&parts).await.unwrap_err(),
            wire.flush().await.unwrap_err(),
            wire.shutdown().await.unwrap_err(),
        ] {
            assert_eq!(ended.kind(), io::ErrorKind::ConnectionAborted);
        }
        drop(client);
    }
}
