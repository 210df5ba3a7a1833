//! Heads of requests and answers, from their first byte to the empty line.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use memchr::memchr;
use thiserror::Error;

use super::field;
use super::framing::{BodyLength, Message};

/// Longest head, its empty line included.
pub const MOST_HEAD_BYTES: usize = 60 * 1024;
/// Most fields of a head.
pub const MOST_FIELDS: usize = 100;
/// Longest request target.
pub const MOST_TARGET_BYTES: usize = 8 * 1024;
/// What may stand around a target in the first line.
const REST_OF_LINE_BYTES: usize = 256;
/// Fields for which there is room before the table grows.
const USUAL_FIELDS: usize = 12;

/// A head that is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeadError {
    #[error("{0}")]
    Malformed(&'static str),
    #[error("the target is longer than {MOST_TARGET_BYTES} bytes")]
    TargetTooLong,
    #[error("the head is longer than {MOST_HEAD_BYTES} bytes or {MOST_FIELDS} fields")]
    TooLong,
}

/// Looks for the end of a head in bytes that come piece by piece, at each byte once.
#[derive(Clone, Copy, Debug)]
pub struct HeadEnd {
    /// Begin of the line that is not complete yet.
    line: usize,
    looked: usize,
    /// Longest first line.
    most_first: usize,
    /// Whether an empty line may come first, as some callers send one after a body.
    may_begin_empty: bool,
}

/// A request without its body.
#[derive(Debug)]
pub struct RequestHead {
    pub method: Method,
    pub target: Uri,
    /// 1.0 or 1.1.
    pub version: Version,
    pub headers: HeaderMap,
    pub message: Message,
    pub body: BodyLength,
}

/// An answer without its body.
#[derive(Debug)]
pub struct ResponseHead {
    pub status: StatusCode,
    /// 1.0 or 1.1.
    pub version: Version,
    pub headers: HeaderMap,
    pub message: Message,
    pub body: BodyLength,
}

impl RequestHead {
    /// Whether it asks for a switch to WebSocket. `Upgrade` to anything else is not passed on.
    pub fn asks_for_websocket(&self) -> bool {
        self.method == Method::GET
            && self.body == BodyLength::None
            && self.message.switches_to_websocket(self.version)
    }

    /// The head with a body.
    pub fn into_request<B>(self, body: B) -> Request<B> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.target;
        *request.version_mut() = self.version;
        *request.headers_mut() = self.headers;
        request
    }
}

impl ResponseHead {
    /// Whether it agrees to a switch to WebSocket.
    pub fn agrees_to_websocket(&self) -> bool {
        self.status == StatusCode::SWITCHING_PROTOCOLS
            && self.message.switches_to_websocket(self.version)
    }

    /// The head with a body.
    pub fn into_response<B>(self, body: B) -> Response<B> {
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.version_mut() = self.version;
        *response.headers_mut() = self.headers;
        response
    }
}

impl HeadEnd {
    /// The end of a request's head.
    pub fn of_request() -> Self {
        let most_first = MOST_TARGET_BYTES + REST_OF_LINE_BYTES;
        Self { line: 0, looked: 0, most_first, may_begin_empty: true }
    }

    /// The end of an answer's head.
    pub fn of_response() -> Self {
        Self { line: 0, looked: 0, most_first: usize::MAX, may_begin_empty: false }
    }

    /// How long the head at the begin of `bytes` is; `None`: its end has not come. The same bytes
    /// must stand there at the next call, and more behind them.
    pub fn find(&mut self, bytes: &[u8]) -> Result<Option<usize>, HeadError> {
        while let Some(length) = memchr(b'\n', &bytes[self.looked..]) {
            let end = self.looked + length + 1;
            self.check_length(end)?;
            let line = &bytes[self.line..end];
            if !line.ends_with(b"\r\n") {
                return Err(HeadError::Malformed("a line of the head ends without CR LF"));
            }
            let is_empty = line.len() == 2;
            if is_empty && !(self.line == 0 && self.may_begin_empty) {
                return Ok(Some(end));
            }
            self.may_begin_empty = false;
            self.line = end;
            self.looked = end;
        }
        self.looked = bytes.len();
        self.check_length(bytes.len())?;
        Ok(None)
    }

    fn check_length(&self, seen: usize) -> Result<(), HeadError> {
        // Two bytes may stand before the first line.
        if self.line <= 2 && seen - self.line > self.most_first {
            return Err(HeadError::TargetTooLong);
        }
        if seen > MOST_HEAD_BYTES {
            return Err(HeadError::TooLong);
        }
        Ok(())
    }
}

/// Reads the head of a request as [`HeadEnd`] found it. Its parts share the memory of `head`.
pub fn parse_request(mut head: Bytes) -> Result<RequestHead, HeadError> {
    if head.starts_with(b"\r\n") {
        drop(head.split_to(2));
    }
    let first = first_line(&head)?;
    let line = &head[..first];
    let method_end = memchr(b' ', line).ok_or(REQUEST_LINE)?;
    let target_end = line.len().checked_sub(b" HTTP/1.1".len()).ok_or(REQUEST_LINE)?;
    if target_end <= method_end {
        return Err(REQUEST_LINE);
    }
    let version = match &line[target_end..] {
        b" HTTP/1.1" => Version::HTTP_11,
        b" HTTP/1.0" => Version::HTTP_10,
        _ => return Err(REQUEST_LINE),
    };
    let method = Method::from_bytes(&line[..method_end])
        .map_err(|_| HeadError::Malformed("the method is not valid"))?;
    let target = parse_target(head.slice(method_end + 1..target_end))?;
    let mut message = Message::default();
    let headers = parse_fields(&head, first + 2, &mut message)?;
    let body = message.of_request(version).map_err(HeadError::Malformed)?;
    Ok(RequestHead { method, target, version, headers, message, body })
}

/// Reads the head of an answer as [`HeadEnd`] found it. Its parts share the memory of `head`.
/// `to_head`: the request was `HEAD`, so that no body follows.
pub fn parse_response(head: &Bytes, to_head: bool) -> Result<ResponseHead, HeadError> {
    let first = first_line(head)?;
    let line = &head[..first];
    let (version, rest) = match line.split_at_checked(b"HTTP/1.1 ".len()) {
        Some((b"HTTP/1.1 ", rest)) => (Version::HTTP_11, rest),
        Some((b"HTTP/1.0 ", rest)) => (Version::HTTP_10, rest),
        _ => return Err(STATUS_LINE),
    };
    let (code, reason) = rest.split_at_checked(3).ok_or(STATUS_LINE)?;
    let is_text = |&byte: &u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
    // The blank before an absent reason may be absent as well: too many servers forget it.
    if !matches!(reason.first(), None | Some(b' ')) || !reason.iter().all(is_text) {
        return Err(STATUS_LINE);
    }
    let status = StatusCode::from_bytes(code).map_err(|_| STATUS_LINE)?;
    let mut message = Message::default();
    let headers = parse_fields(head, first + 2, &mut message)?;
    let body = message.of_response(version, status, to_head).map_err(HeadError::Malformed)?;
    Ok(ResponseHead { status, version, headers, message, body })
}

const REQUEST_LINE: HeadError = HeadError::Malformed("the request line is not valid");
const STATUS_LINE: HeadError = HeadError::Malformed("the status line is not valid");

/// Where the first line ends, its line end excluded.
fn first_line(head: &[u8]) -> Result<usize, HeadError> {
    line_end(head, 0).ok_or(HeadError::Malformed("the head has no first line"))
}

/// Where the line that begins at `from` ends, its line end excluded.
fn line_end(head: &[u8], from: usize) -> Option<usize> {
    let end = from + memchr(b'\n', head.get(from..)?)?;
    (end > from && head[end - 1] == b'\r').then(|| end - 1)
}

fn parse_target(target: Bytes) -> Result<Uri, HeadError> {
    const INVALID: HeadError = HeadError::Malformed("the request target is not valid");
    if target.len() > MOST_TARGET_BYTES {
        return Err(HeadError::TargetTooLong);
    }
    // A fragment never leaves its client; a reader that cuts it off sees another path than we do.
    if target.iter().any(|&byte| byte <= b' ' || byte == b'#' || byte == 0x7f) {
        return Err(INVALID);
    }
    Uri::from_maybe_shared(target).map_err(|_| INVALID)
}

fn parse_fields(
    head: &Bytes,
    mut from: usize,
    message: &mut Message,
) -> Result<HeaderMap, HeadError> {
    let mut headers = HeaderMap::with_capacity(USUAL_FIELDS);
    loop {
        let end = line_end(head, from).ok_or(HeadError::Malformed("the head has no end"))?;
        if end == from {
            return Ok(headers);
        }
        if headers.len() == MOST_FIELDS {
            return Err(HeadError::TooLong);
        }
        let (name, value) = field::parse(head, from..end).map_err(HeadError::Malformed)?;
        message.note(&name, &value).map_err(HeadError::Malformed)?;
        headers.append(name, value);
        from = end + 2;
    }
}
