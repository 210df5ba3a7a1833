//! Bytes that two readers may understand differently, in both directions: each is refused, or has
//! exactly one meaning.

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode, Version};
use segue_sidecar_core::http1::fuzz::read_chunks;
use segue_sidecar_core::http1::{
    BodyLength, ChunkDecoder, ChunkError, Chunked, HeadEnd, HeadError, MOST_HEAD_BYTES,
    RequestHead, ResponseHead, parse_request, parse_response,
};

fn request(head: &[u8]) -> Result<RequestHead, HeadError> {
    let end = HeadEnd::of_request().find(head)?;
    let end = end.ok_or(HeadError::Malformed("not complete"))?;
    parse_request(Bytes::copy_from_slice(&head[..end]))
}

fn response(head: &[u8], to: &Method) -> Result<ResponseHead, HeadError> {
    let end = HeadEnd::of_response().find(head)?;
    let end = end.ok_or(HeadError::Malformed("not complete"))?;
    parse_response(&Bytes::copy_from_slice(&head[..end]), *to == Method::HEAD)
}

/// Fields with which neither a request nor an answer is read.
fn refused_fields() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = [
        // Row 1: two lengths.
        "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n",
        // Row 2: lists of codings.
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: identity, chunked\r\n",
        "Transfer-Encoding: ,chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: \r\n",
        // Row 3: codings in disguise.
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding: \x0bchunked\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked;q=1\r\n",
        // Row 6: lengths that are no numbers.
        "Content-Length: 1\r\nContent-Length: 2\r\n",
        "Content-Length: 1\r\nContent-Length: 1\r\n",
        "Content-Length: +1\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x1\r\n",
        "Content-Length: 1_0\r\n",
        "Content-Length: 1Z\r\n",
        "Content-Length: \r\n",
        "Content-Length: 1, 1\r\n",
        "Content-Length: 1 1\r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Content-Length: 99999999999999999999999\r\n",
        // Row 12: what is no field.
        "X: a\0b\r\n",
        "X: a\rb\r\n",
        "X: a\r\r\n",
        "X: a\x7fb\r\n",
        "X: a\r\n b\r\n",
        " X: a\r\n",
        "\tX: a\r\n",
        ": a\r\n",
        "X y: a\r\n",
        "X\t: a\r\n",
        "X\r\n",
        "X(: a\r\n",
        // Row 13: lines that end with LF alone.
        "X: a\nY: b\r\n",
        "X: a\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into();
    all.push(b"Transfer-Encoding: \x85chunked\r\n".to_vec());
    all.push(b"X\xe9: a\r\n".to_vec());
    all
}

#[test]
fn fields_with_two_meanings_are_refused_in_both_directions() {
    for fields in refused_fields() {
        let shown = String::from_utf8_lossy(&fields).into_owned();
        let ask = [b"POST / HTTP/1.1\r\nHost: a\r\n", &fields[..], b"\r\n"].concat();
        assert!(matches!(request(&ask), Err(HeadError::Malformed(_))), "request: {shown:?}");
        let answer = [b"HTTP/1.1 200 OK\r\n", &fields[..], b"\r\n"].concat();
        let read = response(&answer, &Method::GET);
        assert!(matches!(read, Err(HeadError::Malformed(_))), "answer: {shown:?}");
    }
}

#[test]
fn request_lines_that_are_no_request_lines_are_refused() {
    for line in [
        "",
        "GET",
        "GET /",
        "GET / HTTP/1.1 ",
        "GET  / HTTP/1.1",
        " GET / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET\t/\tHTTP/1.1",
        "GET / /b HTTP/1.1",
        "GET /\0 HTTP/1.1",
        "GET /a#b HTTP/1.1",
        "GET HTTP/1.1",
        "G=\"x / HTTP/1.1",
        "GET / HTTP/1.2",
        "GET / HTTP/2.0",
        "GET / http/1.1",
        "GET / HTTP/1.1\r",
        "GET / HTTP/1.1\nHost: b",
    ] {
        let head = format!("{line}\r\nHost: a\r\n\r\n");
        assert!(matches!(request(head.as_bytes()), Err(HeadError::Malformed(_))), "{line:?}");
    }
}

#[test]
fn status_lines_that_are_no_status_lines_are_refused() {
    for line in [
        "",
        "HTTP/1.1",
        "HTTP/1.1 ",
        "HTTP/1.1 20",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 200OK",
        "HTTP/1.1  200 OK",
        "HTTP/1.1 +20 OK",
        "HTTP/1.1 099 OK",
        "HTTP/2.0 200 OK",
        "HTTP/1.1 200 O\0K",
        "HTTP/1.1 200 O\rK",
        "HTTP/1.1 200 OK\n",
        "ICY 200 OK",
    ] {
        let head = format!("{line}\r\n\r\n");
        let read = response(head.as_bytes(), &Method::GET);
        assert!(matches!(read, Err(HeadError::Malformed(_))), "{line:?}");
    }
    // RFC 9112 section 4: the reason may be empty; that its blank is missing has no two meanings.
    for line in ["HTTP/1.1 200 ", "HTTP/1.1 200", "HTTP/1.1 200 Not So\tBad \u{e9}"] {
        let head = format!("{line}\r\n\r\n");
        assert_eq!(response(head.as_bytes(), &Method::GET).unwrap().status, StatusCode::OK);
    }
}

/// Row 4.
#[test]
fn there_are_no_chunks_in_http_1_0() {
    for fields in ["", "Connection: keep-alive\r\n"] {
        let ask = format!("POST / HTTP/1.0\r\n{fields}Transfer-Encoding: chunked\r\n\r\n");
        assert!(request(ask.as_bytes()).is_err());
        let answer = format!("HTTP/1.0 200 OK\r\n{fields}Transfer-Encoding: chunked\r\n\r\n");
        assert!(response(answer.as_bytes(), &Method::GET).is_err());
    }
}

/// Rows 5 and 14.
#[test]
fn each_message_has_one_length() {
    let asked = |rest: &str| {
        let head = request(format!("POST / HTTP/1.1\r\n{rest}\r\n").as_bytes()).unwrap();
        (head.body, head.message.keeps_alive(head.version))
    };
    assert_eq!(asked(""), (BodyLength::None, true));
    assert_eq!(asked("Content-Length: 0\r\n"), (BodyLength::None, true));
    assert_eq!(asked("content-length:\t007 \r\n"), (BodyLength::Known(7), true));
    assert_eq!(asked("Transfer-Encoding: Chunked\r\n"), (BodyLength::Chunked, true));
    assert_eq!(asked("Connection: x, Close\r\n"), (BodyLength::None, false));
    let old = request(b"POST / HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!((old.body, old.version), (BodyLength::None, Version::HTTP_10));
    assert!(!old.message.keeps_alive(old.version));

    let answered = |first: &str, rest: &str, to: &Method| {
        response(format!("HTTP/1.1 {first}\r\n{rest}\r\n").as_bytes(), to).unwrap().body
    };
    let (get, head) = (Method::GET, Method::HEAD);
    let (length, chunks) = ("Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n");
    assert_eq!(answered("200 OK", "", &get), BodyLength::UntilClose);
    assert_eq!(answered("200 OK", length, &get), BodyLength::Known(5));
    assert_eq!(answered("200 OK", chunks, &get), BodyLength::Chunked);
    assert_eq!(answered("200 OK", "Content-Length: 0\r\n", &get), BodyLength::None);
    for bare in ["100 Continue", "103 Early Hints", "204 No Content", "304 Not Modified"] {
        for fields in ["", length, chunks] {
            assert_eq!(answered(bare, fields, &get), BodyLength::None, "{bare}");
        }
    }
    for fields in ["", length, chunks] {
        assert_eq!(answered("200 OK", fields, &head), BodyLength::None);
    }
}

/// Row 38.
#[test]
fn long_heads_are_refused_before_they_end() {
    let line = format!("GET /{}", "a".repeat(9000));
    assert_eq!(HeadEnd::of_request().find(line.as_bytes()), Err(HeadError::TargetTooLong));
    let whole = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(8192));
    assert_eq!(request(whole.as_bytes()).unwrap_err(), HeadError::TargetTooLong);
    let fits = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(8191));
    assert!(request(fits.as_bytes()).is_ok());
    let long = format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(MOST_HEAD_BYTES));
    assert_eq!(HeadEnd::of_request().find(long.as_bytes()), Err(HeadError::TooLong));
    assert_eq!(HeadEnd::of_response().find(long.as_bytes()), Err(HeadError::TooLong));
    let fields = |count| format!("GET / HTTP/1.1\r\n{}\r\n", "X: a\r\n".repeat(count));
    assert!(request(fields(100).as_bytes()).is_ok());
    assert_eq!(request(fields(101).as_bytes()).unwrap_err(), HeadError::TooLong);
}

#[test]
fn one_empty_line_may_come_before_a_request_and_none_before_an_answer() {
    assert_eq!(request(b"\r\nGET /a HTTP/1.1\r\n\r\n").unwrap().target, "/a");
    assert!(request(b"\r\n\r\nGET /a HTTP/1.1\r\n\r\n").is_err());
    assert!(response(b"\r\nHTTP/1.1 200 OK\r\n\r\n", &Method::GET).is_err());
}

/// Rows 8, 9 and 10.
#[test]
fn chunks_that_are_no_chunks_are_refused() {
    let cases: &[(&[u8], ChunkError)] = &[
        (b"0x1\r\n", ChunkError::Size),
        (b"+1\r\n", ChunkError::Size),
        (b"-0\r\n", ChunkError::Size),
        (b"0_1\r\n", ChunkError::Size),
        (b" 1\r\n", ChunkError::Size),
        (b"\r\n", ChunkError::Size),
        (b";a\r\n", ChunkError::Size),
        (b"00000000000000001\r\n", ChunkError::Size),
        (b"1\nA\r\n", ChunkError::Size),
        (b"1\rA\r\n", ChunkError::Size),
        (b"1\r\rA\r\n", ChunkError::Size),
        (b"1 \r\nA\r\n", ChunkError::Extension),
        (b"5\r\nAAAAAXXX\r\n", ChunkError::End),
        (b"5\r\nAAAAA0\r\n\r\n", ChunkError::End),
        (b"5\r\nAAAAA\n0\r\n\r\n", ChunkError::End),
        (b"5\r\nAAAAA\r0\r\n\r\n", ChunkError::End),
        (b"0\r\n\n", ChunkError::Trailer("a line ends without CR LF")),
        (b"1;a=\"\r\nA\r\n", ChunkError::Extension),
        (b"1;a=\"b\nc\"\r\nA\r\n", ChunkError::Extension),
        (b"1;a\nA\r\n", ChunkError::Extension),
        (b"1;a\0\r\nA\r\n", ChunkError::Extension),
        (b"1;\r\nA\r\n", ChunkError::Extension),
        (b"1;a=\r\nA\r\n", ChunkError::Extension),
        (b"1;a b\r\nA\r\n", ChunkError::Extension),
        (b"1;a=\"b\"c\r\nA\r\n", ChunkError::Extension),
    ];
    for (bytes, error) in cases {
        let shown = String::from_utf8_lossy(bytes);
        assert_eq!(read_chunks(&[bytes]).1, Err(*error), "{shown:?}");
    }
}

#[test]
fn extensions_are_dropped_and_bounded() {
    let body = b"5;a;b=c ; d=\"e;\\\"\r\"\r\nhello\r\n0\r\n\r\n";
    assert_eq!(read_chunks(&[body]).1, Err(ChunkError::Extension), "CR in quotes");
    let body = b"5;a;b=c ; d = \"e;\\\"\t\"\r\nhello\r\n1;x\r\n!\r\n000;y\r\n\r\n";
    assert_eq!(read_chunks(&[body]), (b"hello!".to_vec(), Ok(true)));
    let long = format!("1;{}\r\n", "a".repeat(17 * 1024));
    assert_eq!(read_chunks(&[long.as_bytes()]).1, Err(ChunkError::ExtensionsTooLong));
    let many = "1;aaaaaaa\r\nA\r\n".repeat(2100);
    assert_eq!(read_chunks(&[many.as_bytes()]).1, Err(ChunkError::ExtensionsTooLong));
}

#[test]
fn a_size_has_at_most_64_bits() {
    assert_eq!(read_chunks(&[b"ffffffffffffffff\r\nAB"]), (b"AB".to_vec(), Ok(false)));
    assert_eq!(read_chunks(&[b"0000000000000001\r\nA\r\n"]), (b"A".to_vec(), Ok(false)));
}

fn trailers(section: &str) -> Result<http::HeaderMap, ChunkError> {
    let mut bytes = BytesMut::from(format!("0\r\n{section}\r\nNEXT").as_bytes());
    match ChunkDecoder::default().decode(&mut bytes)? {
        Chunked::End(trailers) => {
            assert_eq!(&bytes[..], b"NEXT", "what follows the body stays");
            Ok(trailers)
        }
        other => {
            assert!(matches!(other, Chunked::End(_)), "{other:?}");
            Ok(http::HeaderMap::new())
        }
    }
}

/// Row 11.
#[test]
fn trailers_that_lead_astray_do_not_pass() {
    let passed = trailers(
        "Content-Length: 5\r\nHost: evil\r\ngrpc-status: 0\r\nTransfer-Encoding: chunked\r\n\
         Authorization: x\r\nX-Segue-Version: v2\r\nX-Forwarded-For: ::1\r\nIf-Match: *\r\n\
         Proxy-Authorization: x\r\nx-checksum: a\r\n",
    )
    .unwrap();
    let names: Vec<&str> = passed.keys().map(http::HeaderName::as_str).collect();
    assert_eq!(names, ["grpc-status", "x-checksum"]);
    for bad in [":path: /admin\r\n", "X: a\r\n b\r\n", "X : a\r\n", "X: a\0\r\n"] {
        assert!(matches!(trailers(bad), Err(ChunkError::Trailer(_))), "{bad:?}");
    }
    assert!(trailers(&"X: a\r\n".repeat(50)).is_ok());
    assert!(trailers(&"X: a\r\n".repeat(51)).is_err());
    let long = format!("X: {}\r\n", "a".repeat(17 * 1024));
    assert_eq!(trailers(&long).unwrap_err(), ChunkError::TrailersTooLong);
}

/// Rows 27 and 28: only a plain request for WebSocket is one.
#[test]
fn only_websocket_is_switched_to() {
    let asks = |first: &str, fields: &str| {
        request(format!("{first}\r\n{fields}\r\n").as_bytes()).unwrap().asks_for_websocket()
    };
    let get = "GET / HTTP/1.1";
    assert!(asks(get, "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"));
    for fields in [
        "Upgrade: websocket\r\n",
        "Connection: upgrade\r\n",
        "Connection: upgrade\r\nUpgrade: h2c\r\n",
        "Connection: upgrade\r\nUpgrade: websocket, h2c\r\n",
        "Connection: upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: websocket\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n",
    ] {
        assert!(!asks(get, fields), "{fields:?}");
    }
    let fields = "Connection: upgrade\r\nUpgrade: websocket\r\n";
    assert!(!asks("POST / HTTP/1.1", fields) && !asks("GET / HTTP/1.0", fields));
    let agrees = |first: &str| {
        let head = format!("{first}\r\n{fields}\r\n");
        response(head.as_bytes(), &Method::GET).unwrap().agrees_to_websocket()
    };
    assert!(agrees("HTTP/1.1 101 Switching Protocols"));
    assert!(!agrees("HTTP/1.1 200 OK") && !agrees("HTTP/1.0 101 Switching Protocols"));
}
