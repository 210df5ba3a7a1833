//! Frames that say something of streams, or of the connection, and hold nothing for them.

use segue_sidecar_core::http2::{FrameHead, Reason, flag, kind};

use super::rules::{Target, depends_on};
use super::{ALIVE, Farewell, HEARD, LAST_STREAM, Role, Session, StreamError};

impl Session {
    /// Priorities mean nothing any more (RFC 9113 section 5.3.2). Those that never meant anything are
    /// refused as they always were.
    pub(super) fn priority(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Reason> {
        if head.stream == 0 {
            return Err(Reason::PROTOCOL_ERROR);
        }
        let reason = match payload.len() {
            5 if !depends_on(payload, head.stream) => return Ok(()),
            5 => Reason::PROTOCOL_ERROR,
            _ => Reason::FRAME_SIZE_ERROR,
        };
        match self.streams.key_of(head.stream) {
            Some(key) => self.violated(key, reason),
            None => Err(reason),
        }
    }

    pub(super) fn rst_stream(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Reason> {
        let reason = Reason(number(payload)?);
        let Target::Open(key) = self.target(head.stream)? else { return Ok(()) };
        let Some(stream) = self.streams.get(key) else { return Ok(()) };
        stream.fail(match reason {
            Reason::REFUSED_STREAM => StreamError::Unprocessed,
            reason => StreamError::Reset(reason),
        });
        self.close(key);
        let before = self.arrived.len();
        self.arrived.retain(|(arrived, _)| *arrived != key);
        if self.arrived.len() < before {
            self.streams.remove(key);
            if !self.resets.unseen() {
                return Err(Reason::ENHANCE_YOUR_CALM);
            }
        }
        Ok(())
    }

    pub(super) fn settings(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Reason> {
        if head.stream != 0 {
            return Err(Reason::PROTOCOL_ERROR);
        }
        if head.has(flag::ACK) {
            return if payload.is_empty() { Ok(()) } else { Err(Reason::FRAME_SIZE_ERROR) };
        }
        if !payload.len().is_multiple_of(6) {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        let before = self.peer.initial_window;
        self.peer.read(payload).map_err(|error| error.reason)?;
        self.has_settings = true;
        self.encoder.allow(self.peer.header_table_size);
        self.shifted(i64::from(self.peer.initial_window) - i64::from(before))?;
        let ack = FrameHead { length: 0, kind: kind::SETTINGS, flags: flag::ACK, stream: 0 };
        self.write_frame(ack, &[]);
        Ok(())
    }

    pub(super) fn pinged(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Reason> {
        let payload: [u8; 8] = payload.try_into().map_err(|_| Reason::FRAME_SIZE_ERROR)?;
        if head.stream != 0 {
            return Err(Reason::PROTOCOL_ERROR);
        }
        if !head.has(flag::ACK) {
            self.write_frame(FrameHead { flags: flag::ACK, ..head }, &payload);
            return Ok(());
        }
        if payload == HEARD && self.farewell == Farewell::Announced {
            self.farewell = Farewell::Final;
            self.write_goaway(self.last_peer, Reason::NO_ERROR);
        } else if payload == ALIVE {
            self.answers_to_pings += 1;
            if let Some(waker) = self.ping_waker.take() {
                waker.wake();
            }
        }
        Ok(())
    }

    pub(super) fn goaway(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Reason> {
        if head.stream != 0 {
            return Err(Reason::PROTOCOL_ERROR);
        }
        let last = payload.first_chunk().ok_or(Reason::FRAME_SIZE_ERROR)?;
        if payload.len() < 8 {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        let last = u32::from_be_bytes(*last) & LAST_STREAM;
        self.peer_leaves = true;
        if self.role == Role::Client {
            for stream in self.streams.each().filter(|stream| stream.id > last) {
                if !stream.is_over() {
                    stream.fail(StreamError::Unprocessed);
                    if std::mem::take(&mut stream.counts) {
                        self.open -= 1;
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn window_update(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Reason> {
        let increment = number(payload)? & LAST_STREAM;
        if head.stream == 0 {
            if increment == 0 {
                return Err(Reason::PROTOCOL_ERROR);
            }
            return self.opened(None, increment);
        }
        let Target::Open(key) = self.target(head.stream)? else { return Ok(()) };
        if increment == 0 {
            return self.violated(key, Reason::PROTOCOL_ERROR);
        }
        match self.opened(Some(key), increment) {
            Ok(()) => Ok(()),
            Err(reason) => self.violated(key, reason),
        }
    }
}

/// The one number that a frame holds.
fn number(payload: &[u8]) -> Result<u32, Reason> {
    let payload: [u8; 4] = payload.try_into().map_err(|_| Reason::FRAME_SIZE_ERROR)?;
    Ok(u32::from_be_bytes(payload))
}
