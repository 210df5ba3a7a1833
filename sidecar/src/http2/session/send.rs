//! What is said on streams.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use segue_sidecar_core::http2::hpack::Encoder;
use segue_sidecar_core::http2::{
    FrameHead, HEAD_BYTES, Reason, flag, kind, write_response, write_trailers,
};

use super::{Left, Session, StreamError};

impl Session {
    /// Begins an answer.
    pub fn send_response(
        &mut self,
        key: u32,
        status: StatusCode,
        headers: &HeaderMap,
        ends: bool,
    ) -> Result<(), StreamError> {
        let stream = self.streams.get(key).ok_or(StreamError::Closed)?;
        if let Some(error) = stream.error {
            return Err(error);
        }
        let id = stream.id;
        stream.sending = Left::Body;
        self.write_block(id, ends, |encoder, page| write_response(encoder, page, status, headers));
        if ends {
            self.sent_all(key);
        }
        Ok(())
    }

    /// Sends a piece of a body, which must not be larger than the room that there is for it.
    pub fn send_data(&mut self, key: u32, bytes: Bytes, ends: bool) -> Result<(), StreamError> {
        let stream = self.streams.get(key).ok_or(StreamError::Closed)?;
        if let Some(error) = stream.error {
            return Err(error);
        }
        let id = stream.id;
        stream.send_window.take(bytes.len());
        self.send_window.take(bytes.len());
        let mut rest = bytes;
        loop {
            let piece = rest.split_to(rest.len().min(self.peer.max_frame_bytes));
            let flags = if ends && rest.is_empty() { flag::END_STREAM } else { 0 };
            let head = FrameHead { length: piece.len(), kind: kind::DATA, flags, stream: id };
            self.out.write(|page| page.extend_from_slice(&head.bytes()));
            self.out.push(piece);
            self.budget.sent_data();
            if rest.is_empty() {
                break;
            }
        }
        if ends {
            self.sent_all(key);
        }
        self.wake_driver();
        Ok(())
    }

    /// Ends a body with trailers.
    pub fn send_trailers(&mut self, key: u32, trailers: &HeaderMap) -> Result<(), StreamError> {
        let stream = self.streams.get(key).ok_or(StreamError::Closed)?;
        if let Some(error) = stream.error {
            return Err(error);
        }
        let id = stream.id;
        self.write_block(id, true, |encoder, page| write_trailers(encoder, page, trailers));
        self.sent_all(key);
        Ok(())
    }

    pub(super) fn write_reset(&mut self, id: u32, reason: Reason) {
        let head = FrameHead { length: 4, kind: kind::RST_STREAM, flags: 0, stream: id };
        self.write_frame(head, &reason.0.to_be_bytes());
    }

    pub(super) fn write_frame(&mut self, head: FrameHead, payload: &[u8]) {
        self.out.write(|page| {
            page.extend_from_slice(&head.bytes());
            page.extend_from_slice(payload);
        });
        self.wake_driver();
    }

    /// Writes a list of fields, in as many frames as the peer needs it to be.
    pub(super) fn write_block(
        &mut self,
        id: u32,
        ends: bool,
        write: impl FnOnce(&mut Encoder, &mut Vec<u8>),
    ) {
        let (encoder, most) = (&mut self.encoder, self.peer.max_frame_bytes);
        self.out.write(|page| {
            let begin = page.len();
            page.extend_from_slice(&[0; HEAD_BYTES]);
            write(encoder, page);
            let length = page.len() - begin - HEAD_BYTES;
            let ends = if ends { flag::END_STREAM } else { 0 };
            let mut head = FrameHead {
                length: length.min(most),
                kind: kind::HEADERS,
                flags: ends | if length <= most { flag::END_HEADERS } else { 0 },
                stream: id,
            };
            page[begin..begin + HEAD_BYTES].copy_from_slice(&head.bytes());
            if length > most {
                let rest = page.split_off(begin + HEAD_BYTES + most);
                let mut pieces = rest.chunks(most).peekable();
                while let Some(piece) = pieces.next() {
                    head.length = piece.len();
                    head.kind = kind::CONTINUATION;
                    head.flags = if pieces.peek().is_none() { flag::END_HEADERS } else { 0 };
                    page.extend_from_slice(&head.bytes());
                    page.extend_from_slice(piece);
                }
            }
        });
        self.wake_driver();
    }
}
