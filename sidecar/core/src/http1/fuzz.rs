//! Entries for fuzzing: each takes any bytes and panics where a promise of this module is broken.

use bytes::{Bytes, BytesMut};

use super::chunked::{ChunkDecoder, Chunked};
use super::framing::BodyLength;
use super::head::{HeadEnd, parse_request, parse_response};
use super::write::{Connection, Framing, write_request, write_response};

/// Whatever is read as the head of a request, written is read as the same.
pub fn request_head(bytes: &[u8]) {
    let Ok(Some(end)) = HeadEnd::of_request().find(bytes) else { return };
    let Ok(head) = parse_request(Bytes::copy_from_slice(&bytes[..end])) else { return };
    if head.target.scheme().is_some() || head.target.path_and_query().is_none() {
        // Only the origin form is written.
        return;
    }
    let mut written = Vec::new();
    let framing = framing(head.body);
    write_request(
        &mut written,
        &head.method,
        &head.target,
        &head.headers,
        framing,
        Connection::Unsaid,
    );
    assert_eq!(HeadEnd::of_request().find(&written), Ok(Some(written.len())));
    let mut canonical = Vec::new();
    if let Ok(again) = parse_request(Bytes::from(written.clone())) {
        assert_eq!((&again.method, &again.target), (&head.method, &head.target));
        assert_eq!(again.body, head.body);
        write_request(
            &mut canonical,
            &again.method,
            &again.target,
            &again.headers,
            framing,
            Connection::Unsaid,
        );
    }
    assert_eq!(written, canonical);
}

/// Whatever is read as the head of an answer, written is read as the same.
pub fn response_head(bytes: &[u8]) {
    let Ok(Some(end)) = HeadEnd::of_response().find(bytes) else { return };
    let Ok(head) = parse_response(&Bytes::copy_from_slice(&bytes[..end]), false) else { return };
    let mut written = Vec::new();
    let framing = framing(head.body);
    write_response(&mut written, head.status, &head.headers, framing, Connection::Unsaid);
    let again = parse_response(&Bytes::from(written.clone()), false);
    let mut canonical = Vec::new();
    if let Ok(again) = again {
        assert_eq!((again.status, again.body), (head.status, head.body));
        write_response(&mut canonical, again.status, &again.headers, framing, Connection::Unsaid);
    }
    assert_eq!(written, canonical);
}

/// A body in chunks reads the same whole as byte by byte.
pub fn chunks(bytes: &[u8]) {
    let whole = read_chunks(&[bytes]);
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(whole, read_chunks(&single));
}

/// The bytes of a body that comes in these pieces, and whether it ended, is still incomplete, or is
/// malformed.
pub fn read_chunks(pieces: &[&[u8]]) -> (Vec<u8>, Result<bool, super::ChunkError>) {
    let mut decoder = ChunkDecoder::default();
    let (mut buffer, mut body) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Chunked::Data(bytes)) => body.extend_from_slice(&bytes),
                Ok(Chunked::End(_)) => return (body, Ok(true)),
                Ok(Chunked::More) => break,
                Err(error) => return (body, Err(error)),
            }
        }
    }
    (body, Ok(false))
}

fn framing(body: BodyLength) -> Framing {
    match body {
        BodyLength::None | BodyLength::UntilClose => Framing::Unsaid,
        BodyLength::Known(length) => Framing::Length(length),
        BodyLength::Chunked => Framing::Chunked,
    }
}
