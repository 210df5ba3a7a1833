//! gRPC messages on an HTTP/2 stream (gRPC over HTTP/2, "Length-Prefixed-Message").
//!
//! Ours instead of tonic's because a buffer there keeps the size of the largest message it ever
//! held, for as long as the stream lasts: ten thousand times a first response of a megabyte.

use std::future::poll_fn;
use std::marker::PhantomData;
use std::mem;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::Stream;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame};
use prost::Message;
use segue_control_plane_core::xds::PART_BYTES;
use tonic::body::Body;
use tonic::{Code, Status};

use super::open::Inbox;
use super::unread::{HEAD_BYTES, Unread};

/// Largest request.
const MAX_REQUEST_BYTES: usize = 4 * 1024 * 1024;
/// Largest response: a snapshot's resources of one type.
const MAX_RESPONSE_BYTES: usize = 64 * 1024 * 1024;

/// The messages of a request's body. Holds memory only while a message is incomplete.
#[derive(Debug)]
pub(super) struct Requests<T> {
    body: Body,
    unread: Unread,
    inbox: Inbox,
    /// Whether the request that is being read is a large one whose turn has come.
    in_turn: bool,
    of: PhantomData<fn() -> T>,
}

impl<T: Message + Default> Requests<T> {
    pub fn new(body: Body, inbox: Inbox) -> Self {
        Self { body, unread: Unread::default(), inbox, in_turn: false, of: PhantomData }
    }

    /// The next message; `None` when the client has ended the stream. May be dropped and called
    /// again at any time.
    pub async fn next(&mut self) -> Result<Option<T>, Status> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Whether a large request has begun, which waits for its turn, or for the rest of it.
    pub fn is_large(&self) -> bool {
        self.unread.announced() > PART_BYTES
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<T>, Status>> {
        loop {
            if let Some(message) = take_message(&mut self.unread)? {
                if mem::take(&mut self.in_turn) {
                    self.inbox.end();
                }
                return Poll::Ready(Ok(Some(message)));
            }
            if !self.in_turn && self.is_large() {
                ready!(self.inbox.poll_begin(cx));
                self.in_turn = true;
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    // Trailers of a request say nothing.
                    if let Ok(data) = frame.into_data() {
                        self.unread.push(data);
                    }
                }
                // The client reset the stream, which is how some of them leave.
                Some(Err(status)) if status.code() == Code::Cancelled => {
                    return Poll::Ready(Ok(None));
                }
                Some(Err(status)) => return Poll::Ready(Err(status)),
                None if !self.unread.has_remaining() => return Poll::Ready(Ok(None)),
                None => {
                    let cut = Status::invalid_argument("the stream ends within a message");
                    return Poll::Ready(Err(cut));
                }
            }
        }
    }
}

/// The first message of `unread` where all of it is there.
fn take_message<T: Message + Default>(unread: &mut Unread) -> Result<Option<T>, Status> {
    let Some([compressed, ..]) = unread.head() else { return Ok(None) };
    if compressed != 0 {
        return Err(Status::unimplemented("messages must not be compressed"));
    }
    let length = unread.announced();
    if length > MAX_REQUEST_BYTES {
        return Err(Status::resource_exhausted(format!(
            "a request of {length} bytes: {MAX_REQUEST_BYTES} is the most"
        )));
    }
    if unread.remaining() < HEAD_BYTES + length {
        return Ok(None);
    }
    unread.advance(HEAD_BYTES);
    let message = T::decode(unread.take(length))
        .map_err(|error| Status::invalid_argument(format!("not the expected message: {error}")))?;
    Ok(Some(message))
}

/// A buffer for the first part of a message of `part_bytes`. It begins with the head of the frame,
/// for which `bytes` says how long the whole message is.
pub(super) fn begin(bytes: usize, part_bytes: usize) -> Result<BytesMut, Status> {
    let length = u32::try_from(bytes).ok().filter(|_| bytes <= MAX_RESPONSE_BYTES);
    let length = length.ok_or_else(|| {
        Status::resource_exhausted(format!(
            "a response of {bytes} bytes: {MAX_RESPONSE_BYTES} is the most; let the service \
             declare dependsOn, or subscribe to fewer names"
        ))
    })?;
    let mut frame = BytesMut::with_capacity(HEAD_BYTES + part_bytes);
    frame.put_u8(0);
    frame.put_u32(length);
    Ok(frame)
}

type Chunks = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

/// A response's body: chunks of frames as they come, then the status as trailers.
pub(super) struct Responses {
    /// `None` once the status is told.
    chunks: Option<Chunks>,
    peer: Option<SocketAddr>,
}

impl Responses {
    pub fn new(
        chunks: impl Stream<Item = Result<Bytes, Status>> + Send + 'static,
        peer: Option<SocketAddr>,
    ) -> Self {
        Self { chunks: Some(Box::pin(chunks)), peer }
    }
}

impl HttpBody for Responses {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(chunks) = &mut self.chunks else { return Poll::Ready(None) };
        let status = match ready!(chunks.as_mut().poll_next(cx)) {
            Some(Ok(chunk)) => return Poll::Ready(Some(Ok(Frame::data(chunk)))),
            Some(Err(status)) => {
                let (code, reason) = (status.code(), status.message());
                tracing::info!(peer = ?self.peer, ?code, reason, "stream ended");
                status
            }
            None => Status::ok(""),
        };
        self.chunks = None;
        let mut trailers = HeaderMap::with_capacity(2);
        let told = status.add_header(&mut trailers).map(|()| Frame::trailers(trailers));
        Poll::Ready(Some(told))
    }

    fn is_end_stream(&self) -> bool {
        self.chunks.is_none()
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;
    use http_body_util::{BodyExt as _, Full, StreamBody};

    use super::*;
    use crate::access::Ticket;
    use crate::metrics::StreamMetrics;
    use crate::xds::Settings;
    use crate::xds::open::OpenStreams;

    fn message(type_url: &str) -> DiscoveryRequest {
        DiscoveryRequest { type_url: type_url.to_owned(), ..DiscoveryRequest::default() }
    }

    fn framed(message: &DiscoveryRequest) -> Bytes {
        let bytes = message.encoded_len();
        let mut frame = begin(bytes, bytes).unwrap();
        message.encode(&mut frame).unwrap();
        frame.freeze()
    }

    fn inbox() -> Inbox {
        let open = OpenStreams::alone(&Settings::default(), &StreamMetrics::default());
        open.enter(None, Ticket::default()).unwrap().inbox()
    }

    fn body(bytes: impl Into<Bytes>) -> Requests<DiscoveryRequest> {
        let body = Full::new(bytes.into()).map_err(|never| match never {});
        Requests::new(Body::new(body), inbox())
    }

    #[tokio::test]
    async fn messages_arrive_however_they_are_cut() {
        let all = [framed(&message("a")), framed(&message("")), framed(&message("c"))].concat();
        for size in 1..=all.len() {
            let frames: Vec<_> = all
                .chunks(size)
                .map(|part| Ok::<_, Status>(Frame::data(Bytes::copy_from_slice(part))))
                .collect();
            let cut = StreamBody::new(futures_util::stream::iter(frames));
            let mut requests = Requests::<DiscoveryRequest>::new(Body::new(cut), inbox());
            for expected in ["a", "", "c"] {
                assert_eq!(requests.next().await.unwrap().unwrap().type_url, expected);
            }
            assert!(requests.next().await.unwrap().is_none());
            assert!(requests.unread.is_idle(), "nothing is kept between messages");
        }
    }

    #[tokio::test]
    async fn what_is_no_request_is_refused_with_its_reason() {
        let huge = [&[0_u8][..], &u32::MAX.to_be_bytes()].concat();
        let compressed = [1, 0, 0, 0, 0];
        let nonsense = [0, 0, 0, 0, 2, 0xff, 0xff];
        let cut = [0, 0, 0, 0, 9, 1];
        let nested = {
            let mut bytes = Vec::new();
            for _ in 0..200 {
                bytes = nested_struct(&bytes);
            }
            let node = field(3, &bytes);
            let request = field(2, &node);
            [&[0][..], &(u32::try_from(request.len()).unwrap()).to_be_bytes(), &request].concat()
        };
        for (bytes, code) in [
            (huge, Code::ResourceExhausted),
            (compressed.to_vec(), Code::Unimplemented),
            (nonsense.to_vec(), Code::InvalidArgument),
            (cut.to_vec(), Code::InvalidArgument),
            (nested, Code::InvalidArgument),
        ] {
            assert_eq!(body(bytes).next().await.unwrap_err().code(), code);
        }
    }

    /// A `Struct` whose one field holds a `Struct` again.
    fn nested_struct(inner: &[u8]) -> Vec<u8> {
        let value = field(5, inner);
        field(1, &field(2, &value))
    }

    fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
        let mut encoded = Vec::new();
        let wire = prost::encoding::WireType::LengthDelimited;
        prost::encoding::encode_key(number, wire, &mut encoded);
        prost::encoding::encode_varint(bytes.len() as u64, &mut encoded);
        encoded.extend_from_slice(bytes);
        encoded
    }

    #[test]
    fn a_response_beyond_the_limit_is_not_begun() {
        let refused = begin(MAX_RESPONSE_BYTES + 1, 1);
        assert_eq!(refused.unwrap_err().code(), Code::ResourceExhausted);
    }

    #[tokio::test]
    async fn the_status_follows_the_chunks() {
        let chunks = [Ok(Bytes::from_static(b"ab")), Err(Status::aborted("enough"))];
        let told = Responses::new(futures_util::stream::iter(chunks), None).collect().await;
        let told = told.unwrap();
        let trailers = told.trailers().unwrap();
        assert_eq!(trailers["grpc-status"], "10");
        assert_eq!(told.to_bytes(), "ab");
    }
}
