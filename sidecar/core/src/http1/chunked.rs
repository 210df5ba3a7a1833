//! Bodies in chunks (RFC 9112 section 7.1), read piece by piece.

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use thiserror::Error;

use super::trailer;

/// Extensions of all chunks of a body together.
const MOST_EXTENSION_BYTES: usize = 16 * 1024;
const MOST_TRAILER_BYTES: usize = 16 * 1024;
/// Digits of a size that fits 64 bits.
const MOST_DIGITS: u8 = 16;

/// A body that is not in chunks as it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ChunkError {
    #[error("the size of a chunk is not valid")]
    Size,
    #[error("an extension of a chunk is not valid")]
    Extension,
    #[error("the extensions of the chunks are longer than {MOST_EXTENSION_BYTES} bytes")]
    ExtensionsTooLong,
    #[error("a chunk does not end where its size says")]
    End,
    #[error("a trailer is not valid: {0}")]
    Trailer(&'static str),
    #[error("the trailers are longer than {MOST_TRAILER_BYTES} bytes")]
    TrailersTooLong,
}

/// The next part of a body.
#[derive(Debug)]
pub enum Chunked {
    /// More bytes are needed.
    More,
    /// Never empty. Where chunks end is not told.
    Data(Bytes),
    /// The end, with the trailers that may pass.
    End(HeaderMap),
}

/// Reads one body.
#[derive(Debug)]
pub struct ChunkDecoder {
    state: State,
    extension_bytes: usize,
    /// What came of the trailers.
    trailers: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Size { digits: u8, size: u64 },
    Extension { size: u64, at: Extension },
    SizeEnd { size: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    Trailers,
    Ended,
}

/// Where in `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted ) ] )` a byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extension {
    /// Behind the size or a complete extension, after a blank.
    Between,
    BeforeName,
    Name,
    AfterName,
    BeforeValue,
    Value,
    Quoted,
    Escaped,
    AfterQuoted,
}

impl Default for ChunkDecoder {
    fn default() -> Self {
        let state = State::Size { digits: 0, size: 0 };
        Self { state, extension_bytes: 0, trailers: Vec::new() }
    }
}

impl ChunkDecoder {
    /// Whether the end was read.
    pub fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// Takes the next part from the front of `bytes`. What stands behind the end stays there. After
    /// an error nothing more must be read.
    pub fn decode(&mut self, bytes: &mut BytesMut) -> Result<Chunked, ChunkError> {
        loop {
            if let State::Data { left } = self.state {
                if bytes.is_empty() {
                    return Ok(Chunked::More);
                }
                let take = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                let left = left - take as u64;
                self.state = if left == 0 { State::DataCr } else { State::Data { left } };
                return Ok(Chunked::Data(bytes.split_to(take).freeze()));
            }
            if matches!(self.state, State::Ended) {
                return Ok(Chunked::End(HeaderMap::new()));
            }
            let Some(&byte) = bytes.first() else { return Ok(Chunked::More) };
            bytes.advance(1);
            self.state = match self.state {
                State::Size { digits, size } => size_byte(byte, digits, size)?,
                State::Extension { size, at } => {
                    self.extension_bytes += 1;
                    if self.extension_bytes > MOST_EXTENSION_BYTES {
                        return Err(ChunkError::ExtensionsTooLong);
                    }
                    extension_byte(byte, size, at)?
                }
                State::SizeEnd { size: 0 } if byte == b'\n' => State::Trailers,
                State::SizeEnd { size } if byte == b'\n' => State::Data { left: size },
                State::SizeEnd { .. } => return Err(ChunkError::Size),
                State::DataCr if byte == b'\r' => State::DataLf,
                State::DataLf if byte == b'\n' => State::Size { digits: 0, size: 0 },
                State::DataCr | State::DataLf => return Err(ChunkError::End),
                State::Trailers => match self.trailer_byte(byte)? {
                    Some(trailers) => {
                        self.state = State::Ended;
                        return Ok(Chunked::End(trailers));
                    }
                    None => State::Trailers,
                },
                state @ (State::Data { .. } | State::Ended) => state,
            };
        }
    }

    /// Takes a byte of the trailers; the trailers, where it was their last.
    fn trailer_byte(&mut self, byte: u8) -> Result<Option<HeaderMap>, ChunkError> {
        self.trailers.push(byte);
        if self.trailers.len() > MOST_TRAILER_BYTES {
            return Err(ChunkError::TrailersTooLong);
        }
        if byte != b'\n' {
            return Ok(None);
        }
        if !self.trailers.ends_with(b"\r\n") {
            return Err(ChunkError::Trailer("a line ends without CR LF"));
        }
        let is_end = self.trailers == b"\r\n" || self.trailers.ends_with(b"\r\n\r\n");
        if !is_end {
            return Ok(None);
        }
        let section = Bytes::from(std::mem::take(&mut self.trailers));
        trailer::parse(&section).map(Some).map_err(ChunkError::Trailer)
    }
}

fn size_byte(byte: u8, digits: u8, size: u64) -> Result<State, ChunkError> {
    let digit = match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        b'A'..=b'F' => byte - b'A' + 10,
        _ if digits == 0 => return Err(ChunkError::Size),
        b'\r' => return Ok(State::SizeEnd { size }),
        b';' => return Ok(State::Extension { size, at: Extension::BeforeName }),
        b' ' | b'\t' => return Ok(State::Extension { size, at: Extension::Between }),
        _ => return Err(ChunkError::Size),
    };
    if digits == MOST_DIGITS {
        return Err(ChunkError::Size);
    }
    Ok(State::Size { digits: digits + 1, size: size << 4 | u64::from(digit) })
}

fn extension_byte(byte: u8, size: u64, at: Extension) -> Result<State, ChunkError> {
    let is_blank = matches!(byte, b' ' | b'\t');
    let at = match (at, byte) {
        (Extension::Name | Extension::Value | Extension::AfterQuoted, b'\r') => {
            return Ok(State::SizeEnd { size });
        }
        (Extension::BeforeName | Extension::Name, _) if is_token(byte) => Extension::Name,
        (Extension::BeforeValue | Extension::Value, _) if is_token(byte) => Extension::Value,
        (Extension::BeforeValue, b'"') => Extension::Quoted,
        (Extension::Name | Extension::AfterName, b'=') => Extension::BeforeValue,
        (Extension::Quoted, b'"') => Extension::AfterQuoted,
        (Extension::Quoted, b'\\') => Extension::Escaped,
        (Extension::Quoted | Extension::Escaped, _) if is_text(byte) => Extension::Quoted,
        (Extension::BeforeName | Extension::BeforeValue, _) if is_blank => at,
        (Extension::Name | Extension::AfterName, _) if is_blank => Extension::AfterName,
        (Extension::Value | Extension::AfterQuoted | Extension::Between, _) if is_blank => {
            Extension::Between
        }
        (
            Extension::Name
            | Extension::AfterName
            | Extension::Value
            | Extension::AfterQuoted
            | Extension::Between,
            b';',
        ) => Extension::BeforeName,
        _ => return Err(ChunkError::Extension),
    };
    Ok(State::Extension { size, at })
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}
