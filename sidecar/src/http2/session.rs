//! What both ends know of a connection. Frames go in, frames come out; time and sockets are the
//! driver's.

mod control;
mod farewell;
mod flow;
mod receive;
mod resets;
mod rules;
mod send;
mod take;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Method, Request};
use segue_sidecar_core::flood::FrameBudget;
use segue_sidecar_core::http2::hpack::{Decoder, Encoder};
use segue_sidecar_core::http2::{
    FrameHead, MOST_WINDOW, OurSettings, PREFACE, PeerSettings, Reason, ReceiveWindow, SendWindow,
    kind, write_request,
};
use tokio::time::Instant;

use super::out::Out;
use super::stream::{Left, Stream, StreamError, Streams};
use resets::Resets;

/// The table that a peer may fill with fields (RFC 7541 section 4.2).
const TABLE_BYTES: usize = 4096;
/// The window of a connection that nobody changed.
const FIRST_WINDOW: u32 = 65_535;
const LAST_STREAM: u32 = MOST_WINDOW;

/// What one end allows the other.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Streams that the peer may have open.
    pub streams: u32,
    pub stream_window: u32,
    pub connection_window: u32,
    pub header_list_bytes: u32,
    /// Streams of a client before its server has told how many it takes.
    pub first_streams: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams: 100,
            stream_window: 256 * 1024,
            connection_window: 2 * 1024 * 1024,
            header_list_bytes: 60 * 1024,
            first_streams: 100,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Server,
    Client,
}

/// How far the end of a connection has come that lets its streams end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Farewell {
    No,
    /// The peer was told; streams that it opened before it heard so are served.
    Announced,
    /// No stream is taken any more.
    Final,
}

/// The payload of a question whether the peer is there, and of one whether it has heard that the
/// connection ends.
const ALIVE: [u8; 8] = *b"alive?  ";
const HEARD: [u8; 8] = *b"farewell";

/// A list of fields that is not complete.
struct Block {
    stream: u32,
    ends: bool,
    bytes: Vec<u8>,
}

/// A session, with those who hold halves of its streams.
pub type Shared = Rc<RefCell<Session>>;

#[expect(clippy::struct_excessive_bools, reason = "facts that do not depend on each other")]
pub struct Session {
    role: Role,
    limits: Limits,
    out: Out,
    encoder: Encoder,
    decoder: Decoder,
    peer: PeerSettings,
    send_window: SendWindow,
    receive_window: ReceiveWindow,
    streams: Streams,
    /// Streams that are open.
    open: u32,
    /// The highest stream of the peer's.
    last_peer: u32,
    next_ours: u32,
    /// Requests that came and nobody has begun to serve.
    arrived: VecDeque<(u32, Request<()>)>,
    has_preface: bool,
    has_settings: bool,
    block: Option<Block>,
    resets: Resets,
    budget: FrameBudget,
    begun: Instant,
    flooded: bool,
    farewell: Farewell,
    /// The peer takes no new streams.
    peer_leaves: bool,
    /// Nothing that comes is read any more.
    ended: bool,
    /// Nobody will open another stream.
    abandoned: bool,
    answers_to_pings: u64,
    ping_waker: Option<Waker>,
    driver: Option<Waker>,
    /// Whether the driver runs, and will send what is written.
    driven: bool,
    /// Keys of streams that wait for room which they share.
    waiting: Vec<u32>,
}

impl Session {
    /// The end that answers.
    pub fn server(limits: Limits) -> Self {
        Self::new(Role::Server, limits)
    }

    /// The end that asks.
    pub fn client(limits: Limits) -> Self {
        Self::new(Role::Client, limits)
    }

    fn new(role: Role, limits: Limits) -> Self {
        let mut out = Out::default();
        out.write(|page| {
            if role == Role::Client {
                page.extend_from_slice(PREFACE);
            }
            let settings = OurSettings {
                max_streams: (role == Role::Server).then_some(limits.streams),
                initial_window: limits.stream_window,
                max_header_list_bytes: limits.header_list_bytes,
            };
            settings.write(page);
            write_window_update(page, 0, limits.connection_window - FIRST_WINDOW);
        });
        Self {
            role,
            limits,
            out,
            encoder: Encoder::default(),
            decoder: Decoder::new(TABLE_BYTES),
            peer: PeerSettings::default(),
            send_window: SendWindow::default(),
            receive_window: ReceiveWindow::new(limits.connection_window),
            streams: Streams::default(),
            open: 0,
            last_peer: 0,
            next_ours: 1,
            arrived: VecDeque::new(),
            has_preface: role == Role::Client,
            has_settings: false,
            block: None,
            resets: Resets::default(),
            budget: FrameBudget::default(),
            begun: Instant::now(),
            flooded: false,
            farewell: Farewell::No,
            peer_leaves: false,
            ended: false,
            abandoned: false,
            answers_to_pings: 0,
            ping_waker: None,
            driver: None,
            driven: false,
            waiting: Vec::new(),
        }
    }

    /// The socket's side of what waits to be sent.
    pub fn out(&mut self) -> &mut Out {
        &mut self.out
    }

    /// Whether the peer said its settings.
    pub fn has_begun(&self) -> bool {
        self.has_settings
    }

    /// Whether frames are still read.
    pub fn is_alive(&self) -> bool {
        !self.ended
    }

    /// Whether the caller sent too many frames of little use.
    pub fn is_flooded(&self) -> bool {
        self.flooded
    }

    /// Whether nothing more can happen on it.
    pub fn is_over(&self) -> bool {
        let last = match self.role {
            Role::Server => self.farewell == Farewell::Final || self.peer_leaves,
            Role::Client => self.abandoned || self.peer_leaves,
        };
        self.ended || (last && self.open == 0 && self.arrived.is_empty() && self.out.is_empty())
    }

    /// The driver runs from here on, or does not.
    pub fn drive(&mut self, by: Option<&Waker>) {
        self.driven = by.is_some();
        if let Some(waker) = by {
            match &mut self.driver {
                Some(driver) => driver.clone_from(waker),
                None => self.driver = Some(waker.clone()),
            }
        }
    }

    fn wake_driver(&mut self) {
        if !self.driven
            && let Some(driver) = self.driver.take()
        {
            driver.wake();
        }
    }

    /// The next request, its stream's key, and whether a body follows.
    pub fn next_request(&mut self) -> Option<(u32, Request<()>)> {
        self.arrived.pop_front()
    }

    /// Streams that were cancelled before anybody looked at them, since the last look.
    pub fn take_unseen_resets(&mut self) -> u32 {
        self.resets.take_unseen()
    }

    /// Opens a stream with a request, whose target has a scheme, an authority and a path; its key.
    pub fn open<B>(&mut self, request: &Request<B>, ends: bool) -> Result<u32, StreamError> {
        if !self.may_open() {
            return Err(StreamError::Closed);
        }
        let id = self.next_ours;
        self.next_ours += 2;
        self.write_block(id, ends, |encoder, page| write_request(encoder, page, request));
        let mut stream = Stream::new(id, self.limits.stream_window, self.peer.initial_window);
        stream.is_bare = *request.method() == Method::HEAD;
        stream.sending = if ends { Left::Nothing } else { Left::Body };
        self.open += 1;
        Ok(self.streams.add(stream))
    }

    /// Whether a stream could be opened, were there room for it.
    pub fn may_open(&self) -> bool {
        !self.ended && !self.peer_leaves && self.next_ours <= LAST_STREAM
    }

    /// Streams that may be open at one time.
    pub fn most_streams(&self) -> u32 {
        match self.peer.max_streams {
            Some(most) => most,
            None if self.has_settings => u32::MAX,
            None => self.limits.first_streams,
        }
    }

    /// Whether the peer takes `CONNECT` with a protocol.
    pub fn takes_protocols(&self) -> bool {
        self.peer.extended_connect
    }

    /// Gives a stream up.
    pub fn reset(&mut self, key: u32, reason: Reason) {
        if let Some(stream) = self.streams.get(key)
            && !stream.is_over()
        {
            self.give_up(key, reason, StreamError::GivenUp);
        }
    }

    /// Ready when the stream was ended before its end.
    pub fn poll_reset(&mut self, key: u32, context: &Context<'_>) -> Poll<StreamError> {
        let Some(stream) = self.streams.get(key) else { return Poll::Ready(StreamError::Closed) };
        if let Some(error) = stream.error {
            return Poll::Ready(error);
        }
        note(&mut stream.send_waker, context);
        Poll::Pending
    }

    /// Nobody wants what comes on a stream any more.
    pub fn drop_receiver(&mut self, key: u32) {
        let Some(stream) = self.streams.get(key) else { return };
        stream.has_receiver = false;
        stream.receive_waker = None;
        let unread = stream.first.len() + stream.rest.len();
        stream.first = Bytes::new();
        stream.rest = bytes::BytesMut::new();
        if unread > 0 {
            self.taken(key, unread);
        }
        self.release(key);
    }

    /// Nobody sends on a stream any more.
    pub fn drop_sender(&mut self, key: u32) {
        let Some(stream) = self.streams.get(key) else { return };
        stream.has_sender = false;
        stream.send_waker = None;
        if stream.sending != Left::Nothing {
            self.reset(key, Reason::CANCEL);
        }
        self.release(key);
    }

    /// Forgets a stream that nobody holds, in the end by giving it up.
    fn release(&mut self, key: u32) {
        let Some(stream) = self.streams.get(key) else { return };
        if self.role == Role::Client && !stream.has_receiver {
            // An answer that nobody reads.
            self.reset(key, Reason::CANCEL);
        } else if stream.sending == Left::Nothing && !stream.has_receiver {
            // RFC 9113 section 8.1: the answer is complete, and the rest of the request not needed.
            self.reset(key, Reason::NO_ERROR);
        }
        if let Some(stream) = self.streams.get(key)
            && !stream.has_receiver
            && !stream.has_sender
        {
            if stream.waits {
                self.waiting.retain(|waiting| *waiting != key);
            }
            self.close(key);
            self.streams.remove(key);
        }
    }

    /// All that we send on a stream is written.
    fn sent_all(&mut self, key: u32) {
        if let Some(stream) = self.streams.get(key) {
            stream.sending = Left::Nothing;
        }
        self.close(key);
        self.release(key);
    }

    /// Counts a stream no more where it is over.
    fn close(&mut self, key: u32) {
        if let Some(stream) = self.streams.get(key)
            && stream.is_over()
            && std::mem::take(&mut stream.counts)
        {
            self.open -= 1;
            if self.open == 0 {
                self.wake_driver();
            }
        }
    }

    /// Tells the peer that a stream is given up.
    fn give_up(&mut self, key: u32, reason: Reason, error: StreamError) {
        let Some(stream) = self.streams.get(key) else { return };
        let id = stream.id;
        stream.fail(error);
        self.close(key);
        self.resets.ours(id);
        self.write_reset(id, reason);
    }
}

/// Notes whom to wake.
fn note(place: &mut Option<Waker>, context: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(context.waker()),
        None => *place = Some(context.waker().clone()),
    }
}

fn write_window_update(page: &mut Vec<u8>, stream: u32, increment: u32) {
    let head = FrameHead { length: 4, kind: kind::WINDOW_UPDATE, flags: 0, stream };
    page.extend_from_slice(&head.bytes());
    page.extend_from_slice(&increment.to_be_bytes());
}
