use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;

fn header(name: &str, value: &str) -> Field {
    Field::Header(name.parse().unwrap(), value.parse().unwrap())
}

fn pseudo(name: Pseudo, value: &str) -> Field {
    Field::Pseudo(name, value.to_owned().into())
}

fn decoded(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<Field>, HpackError> {
    let mut fields = Vec::new();
    decoder.decode(block, |field| fields.push(field)).map(|()| fields)
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let octet = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(octet).collect()
}

fn encoded(encoder: &mut Encoder, fields: &[Field]) -> Vec<u8> {
    let mut page = Vec::new();
    encoder.begin(&mut page);
    for field in fields {
        match field {
            Field::Pseudo(name, value) => encoder.pseudo(&mut page, *name, value),
            Field::Header(name, value) => encoder.header(&mut page, name, value),
            Field::Unfit => unreachable!(),
        }
    }
    page
}

/// RFC 7541 appendix C.4: requests in the Huffman code.
#[test]
fn requests_of_the_rfc() {
    let mut decoder = Decoder::new(4096);
    let base = |scheme: &str, path: &str| {
        vec![
            pseudo(Pseudo::Method, "GET"),
            pseudo(Pseudo::Scheme, scheme),
            pseudo(Pseudo::Path, path),
            pseudo(Pseudo::Authority, "www.example.com"),
        ]
    };
    let first = decoded(&mut decoder, &hex("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff"));
    assert_eq!(first.unwrap(), base("http", "/"));
    let second = decoded(&mut decoder, &hex("8286 84be 5886 a8eb 1064 9cbf")).unwrap();
    assert_eq!(second, [base("http", "/"), vec![header("cache-control", "no-cache")]].concat());
    let third = hex("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf");
    let third = decoded(&mut decoder, &third).unwrap();
    let custom = vec![header("custom-key", "custom-value")];
    assert_eq!(third, [base("https", "/index.html"), custom].concat());
}

/// RFC 7541 appendix C.5: answers that push each other out of a table of 256 octets.
#[test]
fn answers_of_the_rfc() {
    let mut decoder = Decoder::new(256);
    let answer = |status: &str, date: &str| {
        vec![
            pseudo(Pseudo::Status, status),
            header("cache-control", "private"),
            header("date", date),
            header("location", "https://www.example.com"),
        ]
    };
    let first =
        hex("4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133
         2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63
         6f6d");
    let date = "Mon, 21 Oct 2013 20:13:21 GMT";
    assert_eq!(decoded(&mut decoder, &first).unwrap(), answer("302", date));
    let second = decoded(&mut decoder, &hex("4803 3330 37c1 c0bf")).unwrap();
    assert_eq!(second, answer("307", date));
}

#[test]
fn what_repeats_is_one_octet_from_the_third_time_on() {
    let fields = [
        pseudo(Pseudo::Method, "POST"),
        pseudo(Pseudo::Path, "/chat.Chat/Say"),
        header("x-team", "search"),
    ];
    let mut encoder = Encoder::default();
    let mut decoder = Decoder::new(4096);
    let sizes = [(); 4].map(|()| {
        let block = encoded(&mut encoder, &fields);
        assert_eq!(decoded(&mut decoder, &block).unwrap(), fields);
        block.len()
    });
    assert!(sizes[0] > 30 && sizes[1] == sizes[0], "{sizes:?}");
    assert_eq!(sizes[2..], [3, 3]);
}

#[test]
fn what_differs_each_time_pushes_nothing_out() {
    let mut encoder = Encoder::default();
    let same = header("x-team", "search");
    for turn in 0..10_000 {
        let id = header("x-request-id", &format!("{turn:032}"));
        let block = encoded(&mut encoder, &[same.clone(), id]);
        assert_eq!(block[0], if turn < 2 { block[0] } else { 0xbe }, "{turn}");
    }
}

#[test]
fn secrets_enter_no_table() {
    let mut encoder = Encoder::default();
    let mut decoder = Decoder::new(4096);
    let mut secret = HeaderValue::from_static("k-1");
    secret.set_sensitive(true);
    let fields = [
        Field::Header(HeaderName::from_static("x-key"), secret),
        header("authorization", "Bearer a"),
        header("cookie", "session=1"),
    ];
    let blocks = [(); 4].map(|()| encoded(&mut encoder, &fields));
    assert!(blocks.iter().all(|block| *block == blocks[0]));
    let read = decoded(&mut decoder, &blocks[0]).unwrap();
    let sensitive =
        |field: &Field| matches!(field, Field::Header(_, value) if value.is_sensitive());
    assert_eq!(read.iter().map(sensitive).collect::<Vec<_>>(), [true, false, false]);
}

#[test]
fn a_table_of_another_size_is_told_before_it_is_used() {
    let fields = [header("x-team", "search"), header("x-other", "value")];
    let mut encoder = Encoder::default();
    for _ in 0..3 {
        encoded(&mut encoder, &fields);
    }
    encoder.allow(0);
    let block = encoded(&mut encoder, &fields);
    assert_eq!(block[0], 0x20);
    let mut decoder = Decoder::new(4096);
    assert_eq!(decoded(&mut decoder, &block).unwrap(), fields);
    assert_eq!(encoded(&mut encoder, &fields).len(), block.len() - 1);
    encoder.allow(100);
    assert_eq!(encoded(&mut encoder, &fields)[..2], [0x3f, 69]);
}

#[test]
fn broken_blocks_are_refused() {
    let refused = |block: &[u8]| decoded(&mut Decoder::new(4096), block).unwrap_err();
    assert_eq!(refused(&[0x80]), HpackError::Index);
    assert_eq!(refused(&[0xbe]), HpackError::Index);
    assert_eq!(refused(&[0x7e, 1, b'a']), HpackError::Index);
    assert_eq!(refused(&[0x00, 5, b'a']), HpackError::Truncated);
    assert_eq!(refused(&[0x00, 1, b'a', 0x81, 0xff]), HpackError::Huffman);
    assert_eq!(refused(&[0x82, 0x20]), HpackError::TableSize);
    assert_eq!(refused(&[0x3f, 0xff, 0x1f]), HpackError::TableSize);
    assert_eq!(refused(&[0xff]), HpackError::Truncated);
}

#[test]
fn what_http_does_not_allow_is_seen_and_the_table_stays_the_same() {
    let mut decoder = Decoder::new(4096);
    let mut block = vec![0x40, 1, b'A', 1, b'b'];
    block.extend_from_slice(&[0x40, 1, b'a', 1, b'\n']);
    block.extend_from_slice(&[0x40, 2, b':', b'x', 1, b'b']);
    block.extend_from_slice(&[0x40, 1, b'a', 1, b'b']);
    let fields = decoded(&mut decoder, &block).unwrap();
    assert_eq!(fields, [Field::Unfit, Field::Unfit, Field::Unfit, header("a", "b")]);
    let again = decoded(&mut decoder, &[0xbe, 0xbf, 0xc1]).unwrap();
    assert_eq!(again, [header("a", "b"), Field::Unfit, Field::Unfit]);
}

fn any_field() -> impl Strategy<Value = Field> {
    const NAMES: [&str; 6] = ["accept", "date", "x-a", "x-b", "content-type", "cookie"];
    let name = prop::sample::select(&NAMES[..]);
    let value = prop_oneof!["[a-c]{0,2}", "[ -~]{0,60}", "[a-b]{900,1100}"];
    prop_oneof![
        (name, value).prop_map(|(name, value)| header(name, value.trim())),
        "/[a-c]{0,3}".prop_map(|path| pseudo(Pseudo::Path, &path)),
        prop::sample::select(&["GET", "PUT"][..]).prop_map(|it| pseudo(Pseudo::Method, it)),
    ]
}

proptest! {
    /// Whatever is written is read, however often the table's size changes.
    #[test]
    fn both_sides_agree(
        blocks in prop::collection::vec(
            (prop::option::of(0usize..6000), prop::collection::vec(any_field(), 0..12)),
            0..30,
        ),
    ) {
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::new(4096));
        for (size, fields) in blocks {
            if let Some(size) = size {
                encoder.allow(size);
            }
            let block = encoded(&mut encoder, &fields);
            prop_assert_eq!(decoded(&mut decoder, &block).unwrap(), fields);
        }
    }

    #[test]
    fn any_octets_are_read_or_refused(blocks in prop::collection::vec(any::<Vec<u8>>(), 0..5)) {
        let mut decoder = Decoder::new(4096);
        for block in blocks {
            let _ = decoded(&mut decoder, &block);
        }
    }
}
