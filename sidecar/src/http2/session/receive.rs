//! Frames that come. What breaks the rules of the connection is an error; what breaks those of one
//! stream ends that one.

use bytes::{Buf as _, BytesMut};
use http::{HeaderMap, StatusCode};
use segue_sidecar_core::http2::hpack::Field;
use segue_sidecar_core::http2::{
    FrameHead, HEAD_BYTES, LEAST_MAX_FRAME_BYTES, Malformed, PREFACE, Reason, RequestFields,
    ResponseFields, TrailerFields, flag, kind, unpad,
};

use super::rules::{Target, depends_on};
use super::{Block, Farewell, Left, Role, Session, Stream};

/// The largest list of fields as it is sent, whose parts are collected.
const MOST_BLOCK_BYTES: usize = 128 * 1024;

impl Session {
    /// Takes all complete frames off. An error is one of the connection.
    pub fn receive(&mut self, received: &mut BytesMut) -> Result<(), Reason> {
        if !self.has_preface {
            let come = received.len().min(PREFACE.len());
            if received[..come] != PREFACE[..come] {
                return Err(Reason::PROTOCOL_ERROR);
            }
            if come < PREFACE.len() {
                return Ok(());
            }
            received.advance(come);
            self.has_preface = true;
        }
        while let Some(head) = FrameHead::read(received) {
            self.check(head)?;
            if received.len() < HEAD_BYTES + head.length {
                break;
            }
            match head.kind {
                kind::DATA => {}
                kind::HEADERS => self.budget.received_headers(),
                _ if !self.is_affordable() => return Ok(()),
                _ => {}
            }
            if head.kind == kind::DATA {
                received.advance(HEAD_BYTES);
                self.data(head, received)?;
            } else {
                self.frame(head, &received[HEAD_BYTES..HEAD_BYTES + head.length])?;
                received.advance(HEAD_BYTES + head.length);
            }
        }
        Ok(())
    }

    /// What the head of a frame alone can break.
    fn check(&self, head: FrameHead) -> Result<(), Reason> {
        if head.length > LEAST_MAX_FRAME_BYTES {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        if !self.has_settings && (head.kind != kind::SETTINGS || head.has(flag::ACK)) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        if let Some(block) = &self.block
            && (head.kind != kind::CONTINUATION || head.stream != block.stream)
        {
            return Err(Reason::PROTOCOL_ERROR);
        }
        Ok(())
    }

    fn frame(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Reason> {
        match head.kind {
            kind::HEADERS => self.headers(head, payload),
            kind::CONTINUATION => self.continuation(head, payload),
            kind::PRIORITY => self.priority(head, payload),
            kind::RST_STREAM => self.rst_stream(head, payload),
            kind::SETTINGS => self.settings(head, payload),
            // We take none, and a client sends none.
            kind::PUSH_PROMISE => Err(Reason::PROTOCOL_ERROR),
            kind::PING => self.pinged(head, payload),
            kind::GOAWAY => self.goaway(head, payload),
            kind::WINDOW_UPDATE => self.window_update(head, payload),
            _ => Ok(()),
        }
    }

    fn data(&mut self, head: FrameHead, received: &mut BytesMut) -> Result<(), Reason> {
        self.receive_window.came(head.length)?;
        let key = match self.target(head.stream)? {
            Target::Open(key) => key,
            Target::Past => {
                received.advance(head.length);
                self.taken_of_connection(head.length);
                return self.after_the_end(head.stream);
            }
        };
        let content = unpad(head, &received[..head.length])?;
        let bytes = content.end - content.begin;
        if bytes == 0 && !head.has(flag::END_STREAM) && !self.is_affordable() {
            return Ok(());
        }
        let Some(stream) = self.streams.get(key) else { return Ok(()) };
        let violation = match stream.receiving {
            _ if stream.error.is_some() => None,
            Left::Nothing => Some(Reason::STREAM_CLOSED),
            Left::Head => Some(Reason::PROTOCOL_ERROR),
            Left::Body => {
                let ends = head.has(flag::END_STREAM);
                let left = stream.length.map(|length| length.checked_sub(bytes as u64));
                match (stream.receive_window.came(head.length), left) {
                    (Err(reason), _) => Some(reason),
                    (_, Some(None)) => Some(Reason::PROTOCOL_ERROR),
                    (_, Some(Some(left))) if ends && left > 0 => Some(Reason::PROTOCOL_ERROR),
                    (_, left) => {
                        stream.length = left.flatten();
                        if ends {
                            stream.receiving = Left::Nothing;
                        }
                        None
                    }
                }
            }
        };
        let wanted = violation.is_none() && stream.error.is_none() && stream.has_receiver;
        if wanted && bytes > 0 {
            if stream.first.is_empty() && stream.rest.is_empty() {
                received.advance(content.begin);
                stream.first = received.split_to(bytes).freeze();
                received.advance(head.length - content.end);
            } else {
                stream.rest.extend_from_slice(&received[content.begin..content.end]);
                received.advance(head.length);
            }
        } else {
            received.advance(head.length);
        }
        if wanted {
            stream.wake_receiver();
        }
        // Padding is taken at once, and so is what nobody wants.
        let taken = if wanted { head.length - bytes } else { head.length };
        if taken > 0 {
            self.taken(key, taken);
        }
        if let Some(reason) = violation {
            return self.violated(key, reason);
        }
        if head.has(flag::END_STREAM) {
            self.close(key);
        }
        Ok(())
    }

    fn headers(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Reason> {
        if head.stream == 0 {
            return Err(Reason::PROTOCOL_ERROR);
        }
        let content = unpad(head, payload)?;
        let depends_on_itself = head.has(flag::PRIORITY)
            && content
                .begin
                .checked_sub(5)
                .is_some_and(|at| depends_on(&payload[at..], head.stream));
        let fragment = &payload[content.begin..content.end];
        let ends = head.has(flag::END_STREAM);
        if depends_on_itself {
            return Err(Reason::PROTOCOL_ERROR);
        }
        if head.has(flag::END_HEADERS) {
            return self.fields(head.stream, ends, fragment);
        }
        self.block = Some(Block { stream: head.stream, ends, bytes: fragment.to_vec() });
        Ok(())
    }

    fn continuation(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Reason> {
        let block = self.block.as_mut().ok_or(Reason::PROTOCOL_ERROR)?;
        if block.bytes.len() + payload.len() > MOST_BLOCK_BYTES {
            return Err(Reason::ENHANCE_YOUR_CALM);
        }
        block.bytes.extend_from_slice(payload);
        if head.has(flag::END_HEADERS)
            && let Some(block) = self.block.take()
        {
            return self.fields(block.stream, block.ends, &block.bytes);
        }
        Ok(())
    }

    /// A whole list of fields. It is read whatever becomes of it, since later ones build on it.
    fn fields(&mut self, id: u32, ends: bool, block: &[u8]) -> Result<(), Reason> {
        if let Some(key) = self.streams.key_of(id) {
            let stream = self.streams.get(key);
            let awaits_head = stream.is_some_and(|stream| stream.receiving == Left::Head);
            return if awaits_head {
                self.response(key, ends, block)
            } else {
                self.trailers(key, ends, block)
            };
        }
        match self.role {
            Role::Server if id.is_multiple_of(2) => Err(Reason::PROTOCOL_ERROR),
            Role::Server if id > self.last_peer => self.request(id, ends, block),
            Role::Client if id.is_multiple_of(2) || id >= self.next_ours => {
                Err(Reason::PROTOCOL_ERROR)
            }
            Role::Server | Role::Client => {
                self.decode(block, |_| {})?;
                self.after_the_end(id)
            }
        }
    }

    fn decode(&mut self, block: &[u8], take: impl FnMut(Field)) -> Result<(), Reason> {
        self.decoder.decode(block, take).map_err(|_| Reason::COMPRESSION_ERROR)
    }

    fn request(&mut self, id: u32, ends: bool, block: &[u8]) -> Result<(), Reason> {
        let mut fields = RequestFields::default();
        self.decode(block, |field| fields.take(field))?;
        if self.farewell == Farewell::Final {
            // The peer heard that nobody works on it.
            return Ok(());
        }
        self.resets.opened(id, self.last_peer);
        self.last_peer = id;
        if self.open >= self.limits.streams {
            return self.refuse(id, Reason::REFUSED_STREAM);
        }
        let request = match fields.finish() {
            Ok(request) if !ends || request.length.unwrap_or(0) == 0 => request,
            Ok(_) | Err(Malformed::Fields) => return self.refuse(id, Reason::PROTOCOL_ERROR),
            Err(Malformed::TooLarge) => {
                let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
                self.write_block(id, true, |encoder, page| {
                    segue_sidecar_core::http2::write_response(
                        encoder,
                        page,
                        status,
                        &HeaderMap::new(),
                    );
                });
                return if ends { Ok(()) } else { self.refuse(id, Reason::NO_ERROR) };
            }
        };
        let mut stream = Stream::new(id, self.limits.stream_window, self.peer.initial_window);
        stream.receiving = if ends { Left::Nothing } else { Left::Body };
        stream.length = request.length;
        self.open += 1;
        let key = self.streams.add(stream);
        self.arrived.push_back((key, request.head));
        Ok(())
    }

    fn response(&mut self, key: u32, ends: bool, block: &[u8]) -> Result<(), Reason> {
        let mut fields = ResponseFields::default();
        self.decode(block, |field| fields.take(field))?;
        let Some(stream) = self.streams.get(key) else { return Ok(()) };
        if stream.error.is_some() {
            return Ok(());
        }
        let Ok(response) = fields.finish() else {
            return self.violated(key, Reason::PROTOCOL_ERROR);
        };
        let status = response.head.status();
        if status.is_informational() {
            // Nobody waits for it; and a switch of protocols is none of HTTP/2.
            if ends || status == StatusCode::SWITCHING_PROTOCOLS {
                return self.violated(key, Reason::PROTOCOL_ERROR);
            }
            return Ok(());
        }
        stream.is_bare |= matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if !stream.is_bare {
            if ends && response.length.unwrap_or(0) > 0 {
                return self.violated(key, Reason::PROTOCOL_ERROR);
            }
            stream.length = response.length;
        }
        stream.head = Some(Box::new(response.head));
        stream.receiving = if ends { Left::Nothing } else { Left::Body };
        stream.wake_receiver();
        self.close(key);
        Ok(())
    }

    fn trailers(&mut self, key: u32, ends: bool, block: &[u8]) -> Result<(), Reason> {
        let mut fields = TrailerFields::default();
        self.decode(block, |field| fields.take(field))?;
        let Some(stream) = self.streams.get(key) else { return Ok(()) };
        if stream.error.is_some() {
            return Ok(());
        }
        if stream.receiving == Left::Nothing {
            return self.violated(key, Reason::STREAM_CLOSED);
        }
        let trailers = fields.finish();
        let (Ok(trailers), true, 0) = (trailers, ends, stream.length.unwrap_or(0)) else {
            return self.violated(key, Reason::PROTOCOL_ERROR);
        };
        stream.receiving = Left::Nothing;
        if stream.has_receiver && !trailers.is_empty() {
            stream.trailers = Some(Box::new(trailers));
        }
        stream.wake_receiver();
        self.close(key);
        Ok(())
    }
}
