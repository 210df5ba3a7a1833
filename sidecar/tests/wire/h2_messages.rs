//! HTTP in frames and compressed fields (RFC 9113 sections 4.3, 8.1 to 8.3, RFC 7541).

use crate::h2_judge::{
    ANSWERED, BAD, COMPRESSION_ERROR, Case, PROTOCOL_ERROR, Wanted, block, case, judge, open,
};
use crate::raw_http2::{
    DATA, END_HEADERS, END_STREAM, PUSH_PROMISE, fields, frame, get, head, integer,
};

const MALFORMED: Wanted = Wanted::Stream(&[PROTOCOL_ERROR]);

/// Fields of a request without body.
fn given(name: &'static str, given: &[(&str, &str)]) -> Case {
    case(name, &[head(1, END_STREAM, &fields(given))], MALFORMED)
}

/// One field more than a request needs.
fn more(name: &'static str, field: (&'static str, &'static str)) -> Case {
    given(name, &get(BAD, &[field]))
}

/// One field less than a request needs.
fn less(name: &'static str, field: &str) -> Case {
    let rest: Vec<_> = get(BAD, &[]).into_iter().filter(|(name, _)| *name != field).collect();
    given(name, &rest)
}

fn long(length: &str) -> Vec<u8> {
    head(1, 0, &fields(&get(BAD, &[("content-length", length)])))
}

fn messages() -> Vec<Case> {
    let piece = |flags| frame(DATA, flags, 1, b"test");
    vec![
        case(
            "8.1 a second head without end",
            &[open(1, BAD), head(1, 0, &fields(&[("x", "1")]))],
            MALFORMED,
        ),
        more("8.1.2 upper case in a name", ("X-TEST", "ok")),
        more("8.1.2.1 an unknown pseudo header", (":test", "ok")),
        more("8.1.2.1 a status", (":status", "200")),
        case(
            "8.1.2.1 a pseudo header in trailers",
            &[open(1, BAD), piece(0), head(1, END_STREAM, &fields(&[(":method", "GET")]))],
            MALFORMED,
        ),
        given(
            "8.1.2.1 a pseudo header behind others",
            &[&[("x", "1")][..], &get(BAD, &[])].concat(),
        ),
        more("8.1.2.2 Connection", ("connection", "keep-alive")),
        more("8.1.2.2 TE", ("te", "trailers, deflate")),
        given("8.1.2.3 an empty path", &get("", &[])),
        less("8.1.2.3 no method", ":method"),
        less("8.1.2.3 no scheme", ":scheme"),
        less("8.1.2.3 no path", ":path"),
        more("8.1.2.3 two methods", (":method", "GET")),
        more("8.1.2.3 two schemes", (":scheme", "http")),
        more("8.1.2.3 two paths", (":path", BAD)),
        case("8.1.2.6 a shorter body", &[long("5"), piece(END_STREAM)], MALFORMED),
        case("8.1.2.6 a longer body", &[long("1"), piece(END_STREAM)], MALFORMED),
        case(
            "8.1.2.6 a longer body in pieces",
            &[long("6"), piece(0), piece(END_STREAM)],
            MALFORMED,
        ),
        case(
            "8.1.2.6 a body of its length",
            &[
                head(1, 0, &fields(&get(ANSWERED, &[("content-length", "8")]))),
                piece(0),
                piece(END_STREAM),
            ],
            Wanted::Answer(1),
        ),
        case(
            "8.2 PUSH_PROMISE of a caller",
            &[
                open(1, ANSWERED),
                frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2][..], &block(BAD)].concat()),
            ],
            Wanted::Connection(&[PROTOCOL_ERROR]),
        ),
    ]
}

/// A request with this in its head.
fn compressed(name: &'static str, added: &[u8]) -> Case {
    let block = [&block(BAD), added].concat();
    case(name, &[head(1, END_STREAM, &block)], Wanted::Connection(&[COMPRESSION_ERROR]))
}

/// A field `x` with these bytes as its value, said to be of Huffman's code.
fn coded(value: &[u8]) -> Vec<u8> {
    let mut field = vec![0, 1, b'x'];
    integer(&mut field, 0x80, 7, value.len());
    field.extend_from_slice(value);
    field
}

fn compression() -> Vec<Case> {
    let mut indexed = vec![0x82, 0x86, 0x41, 4];
    indexed.extend_from_slice(b"chat\x44\x02/a");
    // Authority and path went into the dynamic table, and the last one is its first entry.
    let again = [0x82, 0x86, 0xbf, 0xbe];
    let mut size = Vec::new();
    integer(&mut size, 0x20, 5, 4097);
    let mut small = Vec::new();
    integer(&mut small, 0x20, 5, 0);
    small.extend(block(ANSWERED));
    vec![
        case(
            "HPACK 2.3.3 an entry of the dynamic table",
            &[head(1, END_STREAM, &indexed), head(3, END_STREAM, &again)],
            Wanted::Answer(3),
        ),
        compressed("HPACK 2.3.3 an index without entry", &[0x80 | 0x46]),
        compressed("HPACK 2.3.3 a name's index without entry", &[0x40 | 0x3f, 7, 1, b'a']),
        compressed("HPACK 4.2 a table's size at the end of a head", &[0x20]),
        case("HPACK 4.2 a table's size first", &[head(1, END_STREAM, &small)], Wanted::Answer(1)),
        // The letter `a` is 00011, and the padding should be three ones.
        case(
            "HPACK 5.2 padded as it must be",
            &[head(1, END_STREAM, &[block(ANSWERED), coded(&[0x1f])].concat())],
            Wanted::Answer(1),
        ),
        compressed("HPACK 5.2 padded by more than seven bits", &coded(&[0x1f, 0xff])),
        compressed("HPACK 5.2 padded by zeros", &coded(&[0x18])),
        compressed("HPACK 5.2 the end of strings", &coded(&[0xff, 0xff, 0xff, 0xff])),
        compressed("HPACK 6.1 index 0", &[0x80]),
        case(
            "HPACK 6.3 a table larger than allowed",
            &[head(1, END_STREAM, &[size, block(BAD)].concat())],
            Wanted::Connection(&[COMPRESSION_ERROR]),
        ),
        case(
            "4.3 a block that ends within a field",
            &[head(1, END_STREAM, &[&block(BAD)[..], &[0x40, 10, b'x']].concat())],
            Wanted::Connection(&[COMPRESSION_ERROR]),
        ),
    ]
}

#[tokio::test]
async fn messages_are_well_formed_or_refused() {
    judge(messages()).await;
}

#[tokio::test]
async fn blocks_are_decoded_or_end_the_connection() {
    judge(compression()).await;
}
