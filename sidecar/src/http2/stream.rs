//! One stream, and all of a connection.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::task::Waker;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response};
use segue_sidecar_core::http2::{Reason, ReceiveWindow, SendWindow};
use thiserror::Error;

/// Places of streams that stay when none is open.
const MOST_KEPT: usize = 8;

/// Why a stream ended before its end.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum StreamError {
    #[error("the peer gave the stream up: {0}")]
    Reset(Reason),
    #[error("the peer broke the rules of the stream: {0}")]
    Violated(Reason),
    #[error("the stream was given up here")]
    GivenUp,
    /// The peer ends the connection and has not looked at the stream.
    #[error("the peer did not work on the stream")]
    Unprocessed,
    #[error("the connection is over")]
    Closed,
}

/// What is still to come in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    Head,
    Body,
    Nothing,
}

/// One stream.
#[expect(clippy::struct_excessive_bools, reason = "facts that do not depend on each other")]
pub struct Stream {
    pub id: u32,
    pub error: Option<StreamError>,
    /// Whether it counts among those that are open.
    pub counts: bool,
    /// What comes.
    pub receiving: Left,
    pub receive_window: ReceiveWindow,
    /// What the head of an answer was.
    pub head: Option<Box<Response<()>>>,
    /// The first piece that came and was not taken, as it came; then all others, in one piece of
    /// memory: however small the pieces are, they hold no more than the window.
    pub first: Bytes,
    pub rest: BytesMut,
    pub trailers: Option<Box<HeaderMap>>,
    /// What is left of the length that the head stated.
    pub length: Option<u64>,
    /// Whether the answer has no body, whatever length it states.
    pub is_bare: bool,
    pub receive_waker: Option<Waker>,
    /// Whether somebody holds this half.
    pub has_receiver: bool,
    /// What goes.
    pub sending: Left,
    pub send_window: SendWindow,
    pub send_waker: Option<Waker>,
    pub has_sender: bool,
    /// Whether it waits for room that it shares with others.
    pub waits: bool,
}

/// All streams of a connection that somebody holds a half of.
#[derive(Default)]
pub struct Streams {
    all: Vec<Option<Stream>>,
    free: Vec<u32>,
    by_id: HashMap<u32, u32, BuildHasherDefault<IdHasher>>,
}

/// Identifiers are what they are: nobody but the peer is hurt by those that collide, and it may hold
/// a few hundred at a time.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, id: u32) {
        self.0 = (self.0 ^ u64::from(id)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl Stream {
    /// A stream that begins.
    pub fn new(id: u32, receive_window: u32, send_window: u32) -> Self {
        Self {
            id,
            error: None,
            counts: true,
            receiving: Left::Head,
            receive_window: ReceiveWindow::new(receive_window),
            head: None,
            first: Bytes::new(),
            rest: BytesMut::new(),
            trailers: None,
            length: None,
            is_bare: false,
            receive_waker: None,
            has_receiver: true,
            sending: Left::Head,
            send_window: SendWindow::new(send_window),
            send_waker: None,
            has_sender: true,
            waits: false,
        }
    }

    /// Whether both directions have ended, or it was given up.
    pub fn is_over(&self) -> bool {
        self.error.is_some() || (self.receiving == Left::Nothing && self.sending == Left::Nothing)
    }

    /// Ends it before its end.
    pub fn fail(&mut self, error: StreamError) {
        self.error.get_or_insert(error);
        self.wake_receiver();
        self.wake_sender();
    }

    /// Whoever receives may go on.
    pub fn wake_receiver(&mut self) {
        if let Some(waker) = self.receive_waker.take() {
            waker.wake();
        }
    }

    /// Whoever sends may go on.
    pub fn wake_sender(&mut self) {
        if let Some(waker) = self.send_waker.take() {
            waker.wake();
        }
    }
}

impl Streams {
    /// Adds a stream; its key.
    pub fn add(&mut self, stream: Stream) -> u32 {
        let id = stream.id;
        let key = if let Some(key) = self.free.pop() {
            self.all[key as usize] = Some(stream);
            key
        } else {
            self.all.push(Some(stream));
            self.all.len() as u32 - 1
        };
        self.by_id.insert(id, key);
        key
    }

    /// The key of a stream that is known.
    pub fn key_of(&self, id: u32) -> Option<u32> {
        self.by_id.get(&id).copied()
    }

    /// A stream by its key.
    pub fn get(&mut self, key: u32) -> Option<&mut Stream> {
        self.all.get_mut(key as usize)?.as_mut()
    }

    /// Forgets a stream.
    pub fn remove(&mut self, key: u32) -> Option<Stream> {
        let stream = self.all.get_mut(key as usize)?.take()?;
        self.by_id.remove(&stream.id);
        self.free.push(key);
        if self.by_id.is_empty() && self.all.capacity() > MOST_KEPT {
            // Little is held on idle connections.
            *self = Self::default();
        }
        Some(stream)
    }

    /// All of them.
    pub fn each(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.all.iter_mut().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_used_again() {
        let mut streams = Streams::default();
        let keys = [1, 3, 5].map(|id| streams.add(Stream::new(id, 0, 0)));
        assert_eq!(keys, [0, 1, 2]);
        assert_eq!(streams.remove(1).unwrap().id, 3);
        assert_eq!((streams.key_of(3), streams.key_of(5)), (None, Some(2)));
        assert_eq!(streams.add(Stream::new(7, 0, 0)), 1);
        assert_eq!(streams.each().map(|stream| stream.id).collect::<Vec<_>>(), [1, 7, 5]);
        assert!(streams.remove(9).is_none() && streams.get(9).is_none());
    }
}
