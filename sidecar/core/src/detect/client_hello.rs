//! The server name in TLS's first message (RFC 8446 section 4.1.2, RFC 6066 section 3). Nothing else
//! of it is read, and nothing is judged but that: the peers speak TLS with each other.

/// A record holds at most 2^14 bytes in plain text (RFC 8446 section 5.1).
const MOST_RECORD_BYTES: usize = 1 << 14;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
/// Longest name of DNS in text.
const MOST_NAME_BYTES: usize = 253;
const MOST_LABEL_BYTES: usize = 63;

/// What the beginning of a connection is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientHello {
    /// A part of a `ClientHello` or of what may be one.
    Partial,
    /// A whole one, and its server name if it has one that can be a host's, in lower case.
    Name(Option<Box<str>>),
    /// None.
    Other,
}

/// Reads the beginning of a connection.
pub fn client_hello(bytes: &[u8]) -> ClientHello {
    let mut message = Vec::new();
    let mut rest = bytes;
    loop {
        match rest {
            [kind, major, _, high, low, body @ ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                if *kind != super::HANDSHAKE_RECORD
                    || *major != 3
                    || length == 0
                    || length > MOST_RECORD_BYTES
                {
                    return ClientHello::Other;
                }
                message.extend_from_slice(&body[..length.min(body.len())]);
                rest = body.get(length..).unwrap_or_default();
            }
            [kind, ..] if *kind != super::HANDSHAKE_RECORD => return ClientHello::Other,
            [_, major, ..] if *major != 3 => return ClientHello::Other,
            _ => return ClientHello::Partial,
        }
        match message.as_slice() {
            [CLIENT_HELLO, a, b, c, body @ ..] => {
                let length =
                    usize::try_from(u32::from_be_bytes([0, *a, *b, *c])).unwrap_or(usize::MAX);
                if length > super::MOST_BYTES {
                    return ClientHello::Name(None);
                }
                if let Some(body) = body.get(..length) {
                    return ClientHello::Name(server_name(body));
                }
            }
            [kind, ..] if *kind != CLIENT_HELLO => return ClientHello::Other,
            _ => {}
        }
        if rest.is_empty() {
            return ClientHello::Partial;
        }
    }
}

/// `None` where there is none, or the message is not well formed.
fn server_name(body: &[u8]) -> Option<Box<str>> {
    // legacy_version and random.
    let mut body = Reader(body.get(2 + 32..)?);
    body.vector8()?; // legacy_session_id
    body.vector16()?; // cipher_suites
    body.vector8()?; // legacy_compression_methods
    let mut extensions = Reader(body.vector16()?);
    loop {
        let kind = extensions.u16()?;
        let content = extensions.vector16()?;
        if kind != SERVER_NAME {
            continue;
        }
        let mut names = Reader(Reader(content).vector16()?);
        loop {
            let kind = names.u8()?;
            let name = names.vector16()?;
            if kind == HOST_NAME {
                return host_name(name);
            }
        }
    }
}

/// Letters, digits, hyphens and underscores in labels; no address and no trailing dot, as RFC 6066
/// says.
fn host_name(name: &[u8]) -> Option<Box<str>> {
    let is_label = |label: &[u8]| {
        (1..=MOST_LABEL_BYTES).contains(&label.len())
            && label.iter().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_'))
    };
    let text = std::str::from_utf8(name).ok()?;
    let is_host = name.len() <= MOST_NAME_BYTES && name.split(|byte| *byte == b'.').all(is_label);
    let is_address = text.parse::<std::net::IpAddr>().is_ok();
    (is_host && !is_address).then(|| text.to_ascii_lowercase().into())
}

/// Reads numbers and vectors of TLS's presentation language (RFC 8446 section 3).
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = self.u8()?;
        self.take(usize::from(length))
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vector16(content: &[u8]) -> Vec<u8> {
        [&(content.len() as u16).to_be_bytes()[..], content].concat()
    }

    /// A message as a client of today begins it, with these extensions.
    fn message(extensions: &[u8]) -> Vec<u8> {
        let body = [
            &[3, 3][..],
            &[7; 32],
            &[2, 1, 2],
            &vector16(&[0x13, 1, 0x13, 2]),
            &[1, 0],
            &vector16(extensions),
        ]
        .concat();
        let length = (body.len() as u32).to_be_bytes();
        [&[CLIENT_HELLO][..], &length[1..], &body].concat()
    }

    fn named(name: &[u8]) -> Vec<u8> {
        let entry = [&[HOST_NAME][..], &vector16(name)].concat();
        let extension = [&[0, 0][..], &vector16(&vector16(&entry))].concat();
        // Another extension goes before it.
        message(&[&[0, 23, 0, 0][..], &extension].concat())
    }

    fn records(message: &[u8], piece: usize) -> Vec<u8> {
        let of = |part: &[u8]| [&[22, 3, 1][..], &vector16(part)].concat();
        message.chunks(piece).flat_map(of).collect()
    }

    #[test]
    fn the_name_is_found_however_the_message_is_cut() {
        let message = named(b"Db.Shop.test");
        for piece in [1, 5, 50, 10_000] {
            let bytes = records(&message, piece);
            let expected = ClientHello::Name(Some("db.shop.test".into()));
            assert_eq!(client_hello(&bytes), expected, "{piece}");
            for end in 0..bytes.len() {
                assert_eq!(client_hello(&bytes[..end]), ClientHello::Partial, "{piece} {end}");
            }
        }
    }

    #[test]
    fn a_name_that_no_host_can_have_is_none() {
        let long = [b'a'; 64];
        for name in [&b""[..], b"a..b", b"a.", b"10.0.0.1", b"a\0b", b"a b", b"\xff", &long] {
            let bytes = records(&named(name), 1000);
            assert_eq!(client_hello(&bytes), ClientHello::Name(None), "{name:?}");
        }
        assert_eq!(client_hello(&records(&message(&[]), 1000)), ClientHello::Name(None));
    }

    #[test]
    fn what_is_no_client_hello_is_told() {
        for bytes in
            [&b"\x15\x03\x01"[..], b"\x16\x02", b"\x16\x03\x01\x00\x04\x02aaa", b"\x16\x03\x01\0\0"]
        {
            assert_eq!(client_hello(bytes), ClientHello::Other, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            client_hello(&bytes);
            client_hello(&records(&[&[CLIENT_HELLO, 0, 1, 0][..], &bytes].concat(), 40));
        }
    }
}
