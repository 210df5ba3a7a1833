//! What a connection speaks, by its first bytes.

mod client_hello;

pub use client_hello::{ClientHello, client_hello};

/// What an HTTP/2 client with prior knowledge says first (RFC 9113 section 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What is looked at before a decision, at most.
pub const MOST_BYTES: usize = 16 * 1024;
/// Longest name of a method that is taken for one.
const MOST_METHOD_BYTES: usize = 24;
/// The type of a TLS record that holds a part of a handshake (RFC 8446 section 5.1).
const HANDSHAKE_RECORD: u8 = 22;

/// What a connection speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spoken {
    Http1,
    /// With prior knowledge.
    Http2,
    /// TLS, with the name of the server that the client wants (RFC 6066 section 3), in lower case.
    Tls {
        server_name: Option<Box<str>>,
    },
    /// Anything else.
    Other,
}

/// What the first bytes say; `None`: the decision takes more of them. At [`MOST_BYTES`] there is
/// always one.
pub fn spoken(bytes: &[u8]) -> Option<Spoken> {
    let first = *bytes.first()?;
    let is_whole = bytes.len() >= MOST_BYTES;
    if first == HANDSHAKE_RECORD {
        return match client_hello(bytes) {
            ClientHello::Partial if is_whole => Some(Spoken::Tls { server_name: None }),
            ClientHello::Partial => None,
            ClientHello::Name(server_name) => Some(Spoken::Tls { server_name }),
            ClientHello::Other => Some(Spoken::Other),
        };
    }
    let seen = bytes.len().min(PREFACE.len());
    if bytes[..seen] == PREFACE[..seen] {
        return (seen == PREFACE.len()).then_some(Spoken::Http2);
    }
    http1(bytes).or_else(|| is_whole.then_some(Spoken::Other))
}

/// `GET / HTTP/1.1`: words alone are not enough, because the first line of many a protocol begins
/// with a word in capitals.
fn http1(bytes: &[u8]) -> Option<Spoken> {
    let method = bytes.iter().take(MOST_METHOD_BYTES + 1).take_while(|byte| is_token(**byte));
    let method = method.count();
    if method == 0 || method > MOST_METHOD_BYTES {
        return Some(Spoken::Other);
    }
    match bytes.get(method) {
        None => return None,
        Some(b' ') => {}
        Some(_) => return Some(Spoken::Other),
    }
    let line_end = bytes.iter().position(|byte| *byte == b'\n');
    let line = &bytes[..line_end.unwrap_or(bytes.len())];
    let version = memchr::memmem::find(&line[method..], b" HTTP/1.");
    match (version, line_end) {
        (Some(_), _) => Some(Spoken::Http1),
        (None, Some(_)) => Some(Spoken::Other),
        (None, None) => None,
    }
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn http_is_known_by_its_first_line() {
        for (bytes, expected) in [
            (&b"GET / HTTP/1.1\r\n"[..], Some(Spoken::Http1)),
            (b"GET / HTTP/1.", Some(Spoken::Http1)),
            (b"GET / HTT", None),
            (b"G", None),
            (b"PURGE /x HTTP/1.0\r\n", Some(Spoken::Http1)),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some(Spoken::Http2)),
            (b"PRI * HTTP/2.0\r\n", None),
            (b"EHLO client.test\r\n", Some(Spoken::Other)),
            (b"*1\r\n$4\r\nPING\r\n", Some(Spoken::Other)),
            (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", Some(Spoken::Other)),
            (b"SSH-2.0-client\r\n", Some(Spoken::Other)),
            (b"", None),
        ] {
            assert_eq!(spoken(bytes), expected, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    proptest! {
        #[test]
        fn more_bytes_never_change_a_decision(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut decided: Option<Spoken> = None;
            for end in 0..=bytes.len() {
                let now = spoken(&bytes[..end]);
                if let Some(before) = &decided {
                    prop_assert_eq!(Some(before), now.as_ref());
                }
                decided = now;
            }
        }

        #[test]
        fn there_is_a_decision_at_the_bound(byte in any::<u8>(), rest in any::<u8>()) {
            let mut bytes = vec![rest; MOST_BYTES];
            bytes[0] = byte;
            prop_assert!(spoken(&bytes).is_some());
        }
    }
}
