//! The handshake of WebSocket where it changes between HTTP/1.1 (RFC 6455), which proves by a key
//! that both sides mean it, and HTTP/2 (RFC 8441), which has a method for it.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::{HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY};

/// Among the extensions of a request: it asks for a switch to WebSocket, and nothing of what its
/// caller sends behind it is read before an answer agrees to that.
#[derive(Clone, Copy, Debug)]
pub struct AsksForWebSocket;

/// What RFC 6455 section 1.3 appends to a key.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A key for a request whose caller has none, and what the answer to it must say. `None` where the
/// system gives no random bytes.
pub fn add_key(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let mut nonce = [0; 16];
    rand::fill(&mut nonce).ok()?;
    let key = HeaderValue::try_from(STANDARD.encode(nonce)).ok()?;
    let accept = accept_of(&key);
    headers.insert(SEC_WEBSOCKET_KEY, key);
    accept
}

/// Takes the key off, for an upstream that wants none. Gives what its caller wants to hear.
pub fn take_key(headers: &mut HeaderMap) -> Option<HeaderValue> {
    headers.remove(SEC_WEBSOCKET_KEY).as_ref().and_then(accept_of)
}

/// Takes what an answer says to a key off; whether it is what it should be.
pub fn take_accept(headers: &mut HeaderMap, expected: &HeaderValue) -> bool {
    headers.remove(SEC_WEBSOCKET_ACCEPT).is_some_and(|accept| accept == *expected)
}

fn accept_of(key: &HeaderValue) -> Option<HeaderValue> {
    let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key.as_bytes(), GUID].concat());
    HeaderValue::try_from(STANDARD.encode(digest)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_answered_as_the_rfc_says() {
        // The example of RFC 6455 section 1.3.
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        let mut headers = HeaderMap::from_iter([(SEC_WEBSOCKET_KEY, key)]);
        let accept = take_key(&mut headers).unwrap();
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(headers.is_empty());
    }

    #[test]
    fn only_the_answer_to_the_key_is_one() {
        let mut asked = HeaderMap::new();
        let expected = add_key(&mut asked).unwrap();
        assert_eq!(asked[SEC_WEBSOCKET_KEY].len(), 24);
        let mut answer = HeaderMap::from_iter([(SEC_WEBSOCKET_ACCEPT, expected.clone())]);
        assert!(take_accept(&mut answer, &expected) && answer.is_empty());
        assert!(!take_accept(&mut answer, &expected));
        let other = add_key(&mut asked).unwrap();
        answer.insert(SEC_WEBSOCKET_ACCEPT, other);
        assert!(!take_accept(&mut answer, &expected));
    }
}
