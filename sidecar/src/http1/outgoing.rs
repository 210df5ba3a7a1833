//! The body of a message on its way out.

use bytes::Bytes;
use http_body::Frame;
use segue_sidecar_core::http1::{Framing, LAST_CHUNK, write_chunk_size, write_trailers};
use thiserror::Error;

use super::wire::Wire;

/// A body that is not as long as its head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the body is longer or shorter than its head says")]
pub struct WrongLength;

/// What is still to go of a body.
#[derive(Debug)]
pub struct Outgoing {
    form: Form,
    ended: bool,
}

#[derive(Clone, Copy, Debug)]
enum Form {
    Known(u64),
    Chunked { trailers: bool },
    UntilClose,
}

impl Outgoing {
    /// A body as its head says. `trailers`: the receiver takes them.
    pub fn new(framing: Framing, trailers: bool) -> Self {
        let form = match framing {
            Framing::Length(length) => Form::Known(length),
            Framing::Chunked => Form::Chunked { trailers },
            Framing::Unsaid => Form::UntilClose,
        };
        Self { form, ended: false }
    }

    /// A body of which nothing goes.
    pub fn none() -> Self {
        Self { form: Form::Known(0), ended: true }
    }

    /// Whether the receiver takes the end of the connection for its end.
    pub fn ends_with_connection(&self) -> bool {
        matches!(self.form, Form::UntilClose)
    }

    /// Whether all of it was pushed.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Pushes the next frame into the wire, which has room. `last`: no frame follows.
    pub fn push(
        &mut self,
        frame: Frame<Bytes>,
        last: bool,
        wire: &mut Wire,
    ) -> Result<(), WrongLength> {
        match frame.into_data() {
            Ok(piece) => {
                self.push_piece(piece, last, wire)?;
                if last { self.end(wire) } else { Ok(()) }
            }
            Err(frame) => {
                let trailers = frame.into_trailers().ok();
                match (self.form, trailers) {
                    (Form::Chunked { trailers: true }, Some(trailers)) => {
                        write_trailers(wire.page(), &trailers);
                        self.ended = true;
                        Ok(())
                    }
                    (_, Some(_)) => self.end(wire),
                    (_, None) => Ok(()),
                }
            }
        }
    }

    /// Pushes the end.
    pub fn end(&mut self, wire: &mut Wire) -> Result<(), WrongLength> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        match self.form {
            Form::Known(0) | Form::UntilClose => Ok(()),
            Form::Known(_) => Err(WrongLength),
            Form::Chunked { .. } => {
                wire.page().extend_from_slice(LAST_CHUNK);
                Ok(())
            }
        }
    }

    fn push_piece(&mut self, piece: Bytes, last: bool, wire: &mut Wire) -> Result<(), WrongLength> {
        if piece.is_empty() {
            return Ok(());
        }
        match &mut self.form {
            Form::Known(left) => {
                *left = left.checked_sub(piece.len() as u64).ok_or(WrongLength)?;
                wire.push(piece, b"");
                if *left == 0 {
                    self.ended = true;
                }
            }
            Form::UntilClose => wire.push(piece, b""),
            Form::Chunked { .. } => {
                write_chunk_size(wire.page(), piece.len());
                wire.push(piece, if last { b"\r\n0\r\n\r\n" } else { b"\r\n" });
                self.ended = last;
            }
        }
        Ok(())
    }
}
