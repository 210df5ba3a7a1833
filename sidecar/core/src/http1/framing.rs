//! How long a body is (RFC 9112 section 6). Two answers to that question are none.

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{StatusCode, Version};

/// Where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// There is none.
    None,
    /// After so many bytes, at least one.
    Known(u64),
    /// After the last chunk.
    Chunked,
    /// Where the connection ends. Only answers have such bodies.
    UntilClose,
}

/// What a head says of the message that it begins and of the connection, gathered while its fields
/// are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Message {
    length: Option<u64>,
    said: u8,
}

const CHUNKED: u8 = 1;
const CLOSE: u8 = 1 << 1;
const KEEP_ALIVE: u8 = 1 << 2;
const CONTINUE: u8 = 1 << 3;
const TRAILERS: u8 = 1 << 4;
/// `upgrade` stands in `Connection`.
const SWITCH: u8 = 1 << 5;
const WEBSOCKET: u8 = 1 << 6;
/// `Upgrade` stands twice, or names another protocol than WebSocket.
const OTHER_PROTOCOL: u8 = 1 << 7;

impl Message {
    /// Takes notice of a field. `Err`: why the message has no one length.
    pub(super) fn note(
        &mut self,
        name: &HeaderName,
        value: &HeaderValue,
    ) -> Result<(), &'static str> {
        if *name == CONTENT_LENGTH {
            if self.length.is_some() {
                return Err("Content-Length stands twice");
            }
            self.length = Some(number(value.as_bytes())?);
        } else if *name == TRANSFER_ENCODING {
            if self.says(CHUNKED) || !value.as_bytes().eq_ignore_ascii_case(b"chunked") {
                return Err("Transfer-Encoding must be chunked and nothing else");
            }
            self.said |= CHUNKED;
        } else if *name == CONNECTION {
            for token in tokens(value) {
                if token.eq_ignore_ascii_case(b"close") {
                    self.said |= CLOSE;
                } else if token.eq_ignore_ascii_case(b"keep-alive") {
                    self.said |= KEEP_ALIVE;
                } else if token.eq_ignore_ascii_case(b"upgrade") {
                    self.said |= SWITCH;
                }
            }
        } else if *name == UPGRADE {
            let is_only = !self.says(WEBSOCKET);
            let is_websocket = value.as_bytes().eq_ignore_ascii_case(b"websocket");
            self.said |= if is_only && is_websocket { WEBSOCKET } else { OTHER_PROTOCOL };
        } else if *name == EXPECT && value.as_bytes().eq_ignore_ascii_case(b"100-continue") {
            self.said |= CONTINUE;
        } else if *name == TE && tokens(value).any(|it| it.eq_ignore_ascii_case(b"trailers")) {
            self.said |= TRAILERS;
        }
        Ok(())
    }

    /// Whether `Expect: 100-continue` stands in it.
    pub fn expects_continue(&self) -> bool {
        self.says(CONTINUE)
    }

    /// Whether `TE: trailers` stands in it.
    pub fn wants_trailers(&self) -> bool {
        self.says(TRAILERS)
    }

    /// The length of a request's body.
    pub fn of_request(&self, version: Version) -> Result<BodyLength, &'static str> {
        self.check(version)?;
        Ok(match self.length {
            _ if self.says(CHUNKED) => BodyLength::Chunked,
            None | Some(0) => BodyLength::None,
            Some(length) => BodyLength::Known(length),
        })
    }

    /// The length of an answer's body. `to_head`: the request was `HEAD`.
    pub fn of_response(
        &self,
        version: Version,
        status: StatusCode,
        to_head: bool,
    ) -> Result<BodyLength, &'static str> {
        self.check(version)?;
        let is_bare = status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        Ok(match self.length {
            _ if to_head || is_bare => BodyLength::None,
            _ if self.says(CHUNKED) => BodyLength::Chunked,
            None => BodyLength::UntilClose,
            Some(0) => BodyLength::None,
            Some(length) => BodyLength::Known(length),
        })
    }

    /// Whether the connection may serve another message after this one (RFC 9112 section 9.3).
    pub fn keeps_alive(&self, version: Version) -> bool {
        !self.says(CLOSE) && (version >= Version::HTTP_11 || self.says(KEEP_ALIVE))
    }

    /// Whether it asks for, or agrees to, a switch to WebSocket and to nothing else (RFC 6455
    /// section 4).
    pub fn switches_to_websocket(&self, version: Version) -> bool {
        version == Version::HTTP_11
            && self.says(SWITCH)
            && self.says(WEBSOCKET)
            && !self.says(OTHER_PROTOCOL)
    }

    fn says(&self, what: u8) -> bool {
        self.said & what != 0
    }

    fn check(&self, version: Version) -> Result<(), &'static str> {
        if self.says(CHUNKED) && self.length.is_some() {
            return Err("Content-Length beside Transfer-Encoding");
        }
        if self.says(CHUNKED) && version < Version::HTTP_11 {
            return Err("Transfer-Encoding in HTTP/1.0");
        }
        Ok(())
    }
}

/// The length that headers state; `Err` where they state no one number.
pub fn stated_length(headers: &HeaderMap) -> Result<Option<u64>, &'static str> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(None) };
    if lengths.next().is_some() {
        return Err("Content-Length stands twice");
    }
    number(length.as_bytes()).map(Some)
}

fn number(digits: &[u8]) -> Result<u64, &'static str> {
    const INVALID: &str = "Content-Length must be one number";
    if digits.is_empty() {
        return Err(INVALID);
    }
    digits.iter().try_fold(0u64, |sum, &digit| {
        if !digit.is_ascii_digit() {
            return Err(INVALID);
        }
        let sum = sum.checked_mul(10).and_then(|sum| sum.checked_add(u64::from(digit - b'0')));
        sum.ok_or(INVALID)
    })
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}
