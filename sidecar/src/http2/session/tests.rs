//! Sessions against all that a peer may send.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode};
use proptest::prelude::*;

use segue_sidecar_core::http2::{flag, write_response};

use super::*;

const LIMITS: Limits = Limits {
    streams: 3,
    stream_window: 70_000,
    connection_window: 100_000,
    header_list_bytes: 60 * 1024,
    first_streams: 3,
};

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let head = FrameHead { length: payload.len(), kind, flags, stream };
    [&head.bytes()[..], payload].concat()
}

fn request_block(encoder: &mut Encoder) -> Vec<u8> {
    let mut page = Vec::new();
    let request = Request::post("http://chat/a").header("x-team", "search").body(()).unwrap();
    write_request(encoder, &mut page, &request);
    page
}

fn response_block(encoder: &mut Encoder) -> Vec<u8> {
    let mut page = Vec::new();
    write_response(encoder, &mut page, StatusCode::OK, &HeaderMap::new());
    page
}

/// What the peer, or those who hold halves of streams, do next.
#[derive(Clone, Debug)]
enum Act {
    Frame {
        kind: u8,
        flags: u8,
        stream: u32,
        payload: Vec<u8>,
    },
    /// On a new stream of a caller, where none is named.
    Head {
        stream: Option<u32>,
        ends: bool,
    },
    Data {
        stream: u32,
        bytes: usize,
        padding: Option<u8>,
        ends: bool,
    },
    Take(usize),
    Answer(usize, bool),
    Send(usize, usize, bool),
    Trailers(usize),
    Reset(usize),
    DropReceiver(usize),
    DropSender(usize),
    Open(bool),
    Announce,
}

fn act() -> impl Strategy<Value = Act> {
    let stream = prop_oneof![9 => (0u32..8).prop_map(|it| 2 * it + 1), 1 => 0u32..16];
    let pick = 0usize..4;
    prop_oneof![
        1 => (0u8..11, any::<u8>(), stream.clone(), prop::collection::vec(any::<u8>(), 0..12))
            .prop_map(|(kind, flags, stream, payload)| Act::Frame { kind, flags, stream, payload }),
        6 => (prop::option::weighted(0.2, stream.clone()), any::<bool>()).prop_map(|(stream, ends)| Act::Head { stream, ends }),
        6 => (stream, 0usize..16_000, prop::option::of(any::<u8>()), any::<bool>())
            .prop_map(|(stream, bytes, padding, ends)| Act::Data { stream, bytes, padding, ends }),
        6 => pick.clone().prop_map(Act::Take),
        4 => (pick.clone(), any::<bool>()).prop_map(|(it, ends)| Act::Answer(it, ends)),
        4 => (pick.clone(), 0usize..40_000, any::<bool>())
            .prop_map(|(it, bytes, ends)| Act::Send(it, bytes, ends)),
        1 => pick.clone().prop_map(Act::Trailers),
        1 => pick.clone().prop_map(Act::Reset),
        2 => pick.clone().prop_map(Act::DropReceiver),
        2 => pick.prop_map(Act::DropSender),
        3 => any::<bool>().prop_map(Act::Open),
        1 => Just(Act::Announce),
    ]
}

/// A session, the halves of its streams that somebody holds, and what its peer's encoder knows.
struct World {
    session: Session,
    receivers: Vec<u32>,
    senders: Vec<u32>,
    encoder: Encoder,
}

impl World {
    fn new(mut session: Session) -> Self {
        let mut first = BytesMut::new();
        if session.role == Role::Server {
            first.extend_from_slice(PREFACE);
        }
        first.extend_from_slice(&frame(kind::SETTINGS, 0, 0, &[]));
        session.receive(&mut first).unwrap();
        Self { session, receivers: vec![], senders: vec![], encoder: Encoder::default() }
    }

    /// Whether the connection lives on.
    fn act(&mut self, act: &Act) -> bool {
        let session = &mut self.session;
        let mut context = Context::from_waker(Waker::noop());
        let of = |keys: &[u32], pick: usize| keys.get(pick % keys.len().max(1)).copied();
        match act {
            Act::Frame { kind, flags, stream, payload } => {
                return self.receive(&frame(*kind, *flags, *stream, payload));
            }
            Act::Head { stream, ends } => {
                let block = match session.role {
                    Role::Server => request_block(&mut self.encoder),
                    Role::Client => response_block(&mut self.encoder),
                };
                let newest = match session.role {
                    Role::Server => session.last_peer + if session.last_peer == 0 { 1 } else { 2 },
                    Role::Client => session.next_ours.saturating_sub(2).max(1),
                };
                let flags = flag::END_HEADERS | u8::from(*ends);
                let stream = stream.unwrap_or(newest);
                return self.receive(&frame(kind::HEADERS, flags, stream, &block));
            }
            Act::Data { stream, bytes, padding, ends } => {
                let mut payload = Vec::new();
                payload.extend(padding);
                payload.resize(payload.len() + bytes, 7);
                payload.resize(payload.len() + usize::from(padding.unwrap_or(0)), 0);
                let padded = if padding.is_some() { flag::PADDED } else { 0 };
                let flags = padded | u8::from(*ends);
                return self.receive(&frame(kind::DATA, flags, *stream, &payload));
            }
            Act::Take(pick) => {
                if let Some(key) = of(&self.receivers, *pick) {
                    let _ = session.poll_head(key, &context);
                    let _ = session.poll_data(key, &context);
                    let _ = session.take_trailers(key);
                }
            }
            Act::Answer(pick, ends) => {
                if let Some(key) = of(&self.senders, *pick)
                    && session.role == Role::Server
                    && session.streams.get(key).unwrap().sending == Left::Head
                {
                    let headers = HeaderMap::from_iter([(
                        http::header::SERVER,
                        HeaderValue::from_static("test"),
                    )]);
                    let _ = session.send_response(key, StatusCode::OK, &headers, *ends);
                }
            }
            Act::Send(pick, bytes, ends) => {
                if let Some(key) = of(&self.senders, *pick).filter(|key| may_send(session, *key))
                    && let Poll::Ready(Ok(room)) = session.poll_room(key, &context)
                {
                    let piece = Bytes::from(vec![1; room.min(*bytes)]);
                    let _ = session.send_data(key, piece, *ends);
                }
            }
            Act::Trailers(pick) => {
                if let Some(key) = of(&self.senders, *pick).filter(|key| may_send(session, *key)) {
                    let _ = session.send_trailers(key, &HeaderMap::new());
                }
            }
            Act::Reset(pick) => {
                if let Some(key) = of(&self.senders, *pick) {
                    session.reset(key, Reason::CANCEL);
                }
            }
            Act::DropReceiver(pick) => {
                if let Some(key) = of(&self.receivers, *pick) {
                    session.drop_receiver(key);
                    self.receivers.retain(|it| *it != key);
                }
            }
            Act::DropSender(pick) => {
                if let Some(key) = of(&self.senders, *pick) {
                    session.drop_sender(key);
                    self.senders.retain(|it| *it != key);
                }
            }
            Act::Open(ends) => {
                let request = Request::post("http://chat/a").body(()).unwrap();
                if session.role == Role::Client
                    && session.open < LIMITS.streams
                    && let Ok(key) = session.open(&request, *ends)
                {
                    self.receivers.push(key);
                    self.senders.push(key);
                }
            }
            Act::Announce if session.role == Role::Server => session.announce_end(),
            Act::Announce => {}
        }
        // Sent, and forgotten.
        let flushed = session.out().poll_flush(&mut tokio::io::sink(), &mut context);
        assert!(flushed.is_ready());
        session.made_room();
        true
    }

    fn receive(&mut self, bytes: &[u8]) -> bool {
        let mut received = BytesMut::from(bytes);
        let alive = self.session.receive(&mut received).is_ok();
        assert!(!alive || received.is_empty() || self.session.is_flooded());
        while let Some((key, _)) = self.session.next_request() {
            self.receivers.push(key);
            self.senders.push(key);
        }
        alive
    }

    fn check(&mut self) {
        let session = &mut self.session;
        let mut unread = 0;
        let (mut counted, mut known) = (0, 0);
        for stream in session.streams.each() {
            let here = (stream.first.len() + stream.rest.len()) as u32;
            if stream.error.is_none() && stream.has_receiver && stream.receiving != Left::Nothing {
                assert_eq!(stream.receive_window.untaken(), here, "the window of a stream");
            }
            assert!(stream.has_receiver || here == 0, "what nobody wants is kept");
            unread += here;
            counted += u32::from(stream.counts);
            known += 1;
            assert_eq!(stream.counts, !stream.is_over());
        }
        assert_eq!(session.receive_window.untaken(), unread, "the window of the connection");
        assert_eq!(session.open, counted);
        assert!(session.waiting.len() <= known, "those who wait are known");
        let mut held = self.receivers.clone();
        held.extend(&self.senders);
        held.sort_unstable();
        held.dedup();
        assert_eq!(known, held.len(), "streams that nobody holds");
    }
}

/// Whether it is a body's turn.
fn may_send(session: &mut Session, key: u32) -> bool {
    session.streams.get(key).is_some_and(|stream| stream.sending == Left::Body)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever the peer sends and those do who hold streams: what came is either kept for them or
    /// given back to the windows, and nothing stays of streams that nobody holds.
    #[test]
    fn nothing_is_lost_and_nothing_stays(
        is_server: bool,
        acts in prop::collection::vec(act(), 0..120),
    ) {
        let session = if is_server { Session::server(LIMITS) } else { Session::client(LIMITS) };
        let mut world = World::new(session);
        for act in &acts {
            if !world.act(act) {
                world.session.end(Reason::PROTOCOL_ERROR);
                break;
            }
            world.check();
        }
        for key in std::mem::take(&mut world.receivers) {
            world.session.drop_receiver(key);
        }
        for key in std::mem::take(&mut world.senders) {
            world.session.drop_sender(key);
        }
        prop_assert_eq!(world.session.open, 0);
        prop_assert_eq!(world.session.streams.each().count(), 0);
    }

    /// However the network cuts the bytes, the same comes of them.
    #[test]
    fn cuts_do_not_matter(
        acts in prop::collection::vec(act(), 0..40),
        cuts in prop::collection::vec(1usize..3000, 1..20),
    ) {
        let mut bytes = [PREFACE.to_vec(), frame(kind::SETTINGS, 0, 0, &[])].concat();
        let mut encoder = Encoder::default();
        let mut next = 1;
        for act in &acts {
            match act {
                Act::Head { stream, ends } => {
                    let flags = flag::END_HEADERS | u8::from(*ends);
                    let block = request_block(&mut encoder);
                    let stream = stream.unwrap_or(next);
                    next = next.max(stream) + 2;
                    bytes.extend(frame(kind::HEADERS, flags, stream, &block));
                }
                Act::Data { stream, bytes: length, ends, .. } => {
                    let payload = vec![7; *length];
                    bytes.extend(frame(kind::DATA, u8::from(*ends), *stream, &payload));
                }
                _ => {}
            }
        }
        let mut whole = Session::server(LIMITS);
        let outcome = whole.receive(&mut BytesMut::from(&bytes[..]));
        let mut cut = Session::server(LIMITS);
        let mut received = BytesMut::new();
        let (mut rest, mut cuts) = (&bytes[..], cuts.iter().cycle());
        let mut cut_outcome = Ok(());
        while !rest.is_empty() && cut_outcome.is_ok() {
            let (piece, after) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            received.extend_from_slice(piece);
            cut_outcome = cut.receive(&mut received);
            rest = after;
        }
        prop_assert_eq!(outcome, cut_outcome);
        prop_assert_eq!(whole.arrived.len(), cut.arrived.len());
        prop_assert_eq!(whole.receive_window.untaken(), cut.receive_window.untaken());
    }
}
