//! What holds for all messages.
#![allow(clippy::unwrap_used, reason = "a test may fail so")]

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode, Uri};
use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop, prop_assert_eq, prop_oneof, proptest};
use segue_sidecar_core::http1::fuzz::{self, read_chunks};
use segue_sidecar_core::http1::{
    BodyLength, Connection, Framing, HeadEnd, LAST_CHUNK, parse_request, parse_response,
    write_chunk_size, write_request, write_response,
};

/// Any headers but those that the codec says itself.
fn headers() -> impl Strategy<Value = HeaderMap> {
    let value = vec(
        prop_oneof![0x21..=0x7eu8, 0x80..=0xffu8, prop::sample::select(b" \t".to_vec())],
        0..20,
    );
    vec(("[a-z][a-z0-9!#$%&'*+.^_`|~-]{0,12}", value), 0..20).prop_map(|fields| {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            let own = ["connection", "content-length", "transfer-encoding", "upgrade"];
            if !own.contains(&name.as_str()) {
                headers.append(name, HeaderValue::from_bytes(value.trim_ascii()).unwrap());
            }
        }
        headers
    })
}

fn framing() -> impl Strategy<Value = (Framing, BodyLength)> {
    prop_oneof![
        proptest::strategy::Just((Framing::Chunked, BodyLength::Chunked)),
        proptest::strategy::Just((Framing::Length(0), BodyLength::None)),
        (1..=u64::MAX).prop_map(|length| (Framing::Length(length), BodyLength::Known(length))),
    ]
}

/// Bytes with a good chance to look like HTTP.
fn near_http() -> impl Strategy<Value = Vec<u8>> {
    let word = prop::sample::select(vec![
        "GET ",
        "POST ",
        "/",
        "/a?b ",
        " HTTP/1.1",
        "HTTP/1.0 ",
        "HTTP/1.1 200 OK",
        "\r\n",
        "\r\n",
        "\r\n\r\n",
        "\n",
        "\r",
        ":",
        ": ",
        " ",
        "\t",
        "\0",
        "Host: a\r\n",
        "Content-Length: 5\r\n",
        "Content-Length: ",
        "Transfer-Encoding: chunked\r\n",
        "0\r\n\r\n",
        "5\r\nhello\r\n",
        "a;b=c",
        "\"",
        "\\",
        "ff",
        "1",
        "X",
        "\u{e9}",
        "Connection: close\r\n",
        "TE: trailers\r\n",
    ]);
    vec(word, 0..24).prop_map(|words| words.concat().into_bytes())
}

/// Splits bytes at these fractions of their length.
fn split<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    at.sort_unstable();
    at.push(bytes.len());
    let mut from = 0;
    let mut pieces = Vec::new();
    for to in at {
        pieces.push(&bytes[from..to]);
        from = to;
    }
    pieces
}

proptest! {
    #[test]
    fn a_written_request_is_read_as_it_was(
        method in "[A-Z][A-Za-z!-]{0,10}",
        path in "/[a-zA-Z0-9/%._~-]{0,30}(\\?[a-z=&]{0,10})?",
        headers in headers(),
        (framing, length) in framing(),
    ) {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let target = Uri::try_from(path).unwrap();
        let mut written = Vec::new();
        write_request(&mut written, &method, &target, &headers, framing, Connection::Unsaid);
        prop_assert_eq!(HeadEnd::of_request().find(&written), Ok(Some(written.len())));
        let mut head = parse_request(Bytes::from(written)).unwrap();
        head.headers.remove("content-length");
        head.headers.remove("transfer-encoding");
        prop_assert_eq!((head.method, head.target, head.body), (method, target, length));
        prop_assert_eq!(head.headers, headers);
    }

    #[test]
    fn a_written_answer_is_read_as_it_was(
        status in 200..=203u16,
        headers in headers(),
        (framing, length) in framing(),
        closes in any::<bool>(),
    ) {
        let status = StatusCode::from_u16(status).unwrap();
        let mut written = Vec::new();
        write_response(&mut written, status, &headers, framing, if closes { Connection::Close } else { Connection::Unsaid });
        let mut head = parse_response(&Bytes::from(written), false).unwrap();
        prop_assert_eq!(head.message.keeps_alive(head.version), !closes);
        for own in ["content-length", "transfer-encoding", "connection"] {
            head.headers.remove(own);
        }
        prop_assert_eq!((head.status, head.body), (status, length));
        prop_assert_eq!(head.headers, headers);
    }

    #[test]
    fn the_end_of_a_head_does_not_depend_on_the_pieces(
        bytes in near_http(),
        cuts in vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let whole = HeadEnd::of_request().find(&bytes);
        let mut end = HeadEnd::of_request();
        let mut seen = 0;
        let mut found = Ok(None);
        for piece in split(&bytes, &cuts) {
            seen += piece.len();
            found = end.find(&bytes[..seen]);
            if found != Ok(None) {
                break;
            }
        }
        prop_assert_eq!(found, whole);
    }

    #[test]
    fn a_body_in_chunks_does_not_depend_on_the_pieces(
        chunks in vec(vec(any::<u8>(), 1..300), 0..8),
        cuts in vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let mut written = Vec::new();
        for chunk in &chunks {
            write_chunk_size(&mut written, chunk.len());
            written.extend_from_slice(chunk);
            written.extend_from_slice(b"\r\n");
        }
        written.extend_from_slice(LAST_CHUNK);
        prop_assert_eq!(read_chunks(&split(&written, &cuts)), (chunks.concat(), Ok(true)));
    }

    #[test]
    fn whatever_is_accepted_has_one_form(bytes in near_http()) {
        fuzz::request_head(&bytes);
        fuzz::response_head(&bytes);
        fuzz::chunks(&bytes);
    }

    #[test]
    fn no_bytes_break_a_promise(bytes in vec(any::<u8>(), 0..200)) {
        fuzz::request_head(&bytes);
        fuzz::response_head(&bytes);
        fuzz::chunks(&bytes);
    }
}
