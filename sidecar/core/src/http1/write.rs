//! Heads and chunks as bytes, in the one form that we send.

use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Method, StatusCode, Uri};

use crate::canonical::may_trail;

/// The end of a body in chunks that has no trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// What a head says of the length of its body. It stands for whatever the headers say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Nothing: there is no body, or it ends with the connection.
    Unsaid,
    Length(u64),
    Chunked,
}

/// What a head says of its connection. It stands for whatever the headers say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// It stays.
    Unsaid,
    /// It ends after this message.
    Close,
    /// It is to become, or becomes, a WebSocket.
    WebSocket,
}

/// Writes the head of a request in origin form.
pub fn write_request(
    out: &mut Vec<u8>,
    method: &Method,
    target: &Uri,
    headers: &HeaderMap,
    framing: Framing,
    connection: Connection,
) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    let target = target.path_and_query().map_or("/", |target| target.as_str());
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    write_fields(out, headers);
    write_framing(out, framing);
    write_connection(out, connection);
    out.extend_from_slice(b"\r\n");
}

/// Writes the head of an answer.
pub fn write_response(
    out: &mut Vec<u8>,
    status: StatusCode,
    headers: &HeaderMap,
    framing: Framing,
    connection: Connection,
) {
    if status == StatusCode::OK {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    } else {
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(status.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    write_fields(out, headers);
    write_framing(out, framing);
    write_connection(out, connection);
    out.extend_from_slice(b"\r\n");
}

/// Writes what stands before the bytes of a chunk; CR LF comes behind them. `length` is not 0.
pub fn write_chunk_size(out: &mut Vec<u8>, length: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let significant = usize::BITS - length.leading_zeros();
    for digit in (0..significant.div_ceil(4)).rev() {
        out.push(DIGITS[length >> (4 * digit) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the end of a body in chunks, with those trailers that may pass.
pub fn write_trailers(out: &mut Vec<u8>, trailers: &HeaderMap) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.iter().filter(|(name, _)| may_trail(name.as_str())) {
        write_field(out, name.as_str().as_bytes(), value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

fn write_fields(out: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        if ![CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION, UPGRADE].contains(name) {
            write_field(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
}

fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    // Blanks around a value are no part of it, whatever protocol it came by.
    out.extend_from_slice(value.trim_ascii());
    out.extend_from_slice(b"\r\n");
}

fn write_framing(out: &mut Vec<u8>, framing: Framing) {
    match framing {
        Framing::Unsaid => {}
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Framing::Length(length) => {
            out.extend_from_slice(b"content-length: ");
            write_number(out, length);
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn write_connection(out: &mut Vec<u8>, connection: Connection) {
    out.extend_from_slice(match connection {
        Connection::Unsaid => b"",
        Connection::Close => b"connection: close\r\n",
        Connection::WebSocket => b"connection: upgrade\r\nupgrade: websocket\r\n",
    });
}

fn write_number(out: &mut Vec<u8>, mut number: u64) {
    // 2^64 has 20 digits.
    let mut digits = [0; 20];
    let mut from = digits.len();
    loop {
        from -= 1;
        digits[from] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[from..]);
}
