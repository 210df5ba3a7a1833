//! The body of a message on its way out.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;
use segue_sidecar_core::http1::{Framing, LAST_CHUNK, write_chunk_size, write_trailers};
use thiserror::Error;

use super::pipe::{PIPED_BYTES, Piece, Pipe, PipedBody};
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

    /// The next piece of a body on its way here: a large one through a pipe, where it can come so
    /// and go on so.
    pub fn poll_piece<B: PipedBody>(
        &self,
        body: &mut B,
        takes_pipes: bool,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Piece, B::Error>>> {
        let is_large = matches!(self.form, Form::Known(left) if left >= PIPED_BYTES);
        if is_large
            && takes_pipes
            && let Some(mut pipe) = Pipe::borrow()
            && body.fill(&mut pipe)
        {
            return Poll::Ready(Some(Ok(Piece::Piped(pipe))));
        }
        Pin::new(body).poll_frame(context).map_ok(Piece::Frame)
    }

    /// Pushes the next piece into the wire, which has room. `last`: no other follows.
    pub fn push(&mut self, piece: Piece, last: bool, wire: &mut Wire) -> Result<(), WrongLength> {
        match piece {
            Piece::Frame(frame) => self.push_frame(frame, last, wire),
            Piece::Piped(pipe) => {
                self.count(pipe.filled())?;
                wire.push_pipe(pipe);
                if last { self.end(wire) } else { Ok(()) }
            }
        }
    }

    fn push_frame(
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
        match self.form {
            Form::Known(_) => {
                self.count(piece.len())?;
                wire.push(piece, b"");
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

    /// Counts bytes of a body whose length is known.
    fn count(&mut self, bytes: usize) -> Result<(), WrongLength> {
        if let Form::Known(left) = &mut self.form {
            *left = left.checked_sub(bytes as u64).ok_or(WrongLength)?;
            self.ended |= *left == 0;
        }
        Ok(())
    }
}
