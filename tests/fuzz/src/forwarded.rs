//! What callers tell about callers: a line with the trust (`edge`, `proxy`, `application`), what is
//! told to the upstream (`x` and `f`) and the caller's address; then headers, a line each.

use std::net::IpAddr;

use http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};
use segue_sidecar_core::canonical::{
    AddressRange, ForwardedHeaders, Peer, Trust, clean_trailers, is_forwarding, is_identity,
};

use crate::input::{lines, word};

const FOR: &str = "x-forwarded-for";
const PROTO: &str = "x-forwarded-proto";
/// A list that is longer is begun anew.
const LONG_BYTES: usize = 8 * 1024;

pub fn check(bytes: &[u8]) {
    let mut lines = lines(bytes);
    let (trust, rest) = word(lines.next().unwrap_or_default());
    let (tells, address) = word(rest);
    let trust = match trust {
        b"edge" => Trust::Edge,
        b"proxy" => Trust::Proxy,
        b"application" => Trust::Application,
        _ => return,
    };
    let tells =
        ForwardedHeaders { x_forwarded: tells.contains(&b'x'), forwarded: tells.contains(&b'f') };
    let address = String::from_utf8_lossy(address);
    address_range(&address);
    let Ok(address) = address.parse::<IpAddr>() else { return };
    let headers = headers(lines);
    trailers(headers.clone());
    let told = headers.keys().any(|name| is_forwarding(name.as_str()));
    let mut signed = headers.clone();
    Peer::new(address, "http", trust, tells).sign(&mut signed, told);

    for (name, _) in &headers {
        if !is_forwarding(name.as_str()) && !is_identity(name.as_str()) {
            assert_eq!(lines_of(&signed, name.as_str()), lines_of(&headers, name.as_str()));
        }
    }
    let address = address.to_canonical().to_string();
    match trust {
        Trust::Application => {
            for name in signed.keys().map(HeaderName::as_str) {
                assert!(!name.starts_with("x-envoy-") && name != "x-forwarded-client-cert");
                assert_eq!(lines_of(&signed, name), lines_of(&headers, name), "nothing is added");
            }
        }
        Trust::Edge => {
            let ours = |name: &str| match name {
                FOR | PROTO => tells.x_forwarded,
                "forwarded" => tells.forwarded,
                _ => false,
            };
            for name in signed.keys().map(HeaderName::as_str) {
                assert!(!is_forwarding(name) || ours(name), "{name} of a stranger");
            }
            if tells.x_forwarded {
                assert_eq!(lines_of(&signed, FOR), [address.as_bytes()]);
                assert_eq!(lines_of(&signed, PROTO), [b"http"]);
            }
            if tells.forwarded {
                assert_eq!(signed.get_all(FORWARDED).iter().count(), 1);
            }
        }
        Trust::Proxy => {
            added(&headers, &signed, FOR, tells.x_forwarded, &address);
            let element = if address.contains(':') {
                format!("for=\"[{address}]\";proto=http")
            } else {
                format!("for={address};proto=http")
            };
            added(&headers, &signed, "forwarded", tells.forwarded, &element);
        }
    }
}

fn headers<'a>(lines: impl Iterator<Item = &'a [u8]>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}

fn lines_of<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a [u8]> {
    headers.get_all(name).iter().map(HeaderValue::as_bytes).collect()
}

/// What a proxy told is one line, and our word stands at its end.
fn added(before: &HeaderMap, after: &HeaderMap, name: &str, always: bool, element: &str) {
    let told: Vec<&[u8]> =
        lines_of(before, name).into_iter().filter(|line| !line.is_empty()).collect();
    if !always && !before.contains_key(name) {
        assert!(!after.contains_key(name));
        return;
    }
    let mut expected = told.join(&b", "[..]);
    if !told.is_empty() {
        expected.extend_from_slice(b", ");
    }
    if expected.len() > LONG_BYTES {
        expected.clear();
    }
    expected.extend_from_slice(element.as_bytes());
    assert_eq!(lines_of(after, name), [expected]);
}

/// A range holds its own beginning, and every address is a range of one.
fn address_range(text: &str) {
    if let Ok(range) = text.parse::<AddressRange>() {
        let first = text.split('/').next().unwrap_or_default().trim();
        assert!(range.contains(first.parse().unwrap()), "{text}");
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        assert!(text.parse::<AddressRange>().unwrap().contains(address), "{text}");
    }
}

/// What is left of fields behind a body steers nothing.
fn trailers(mut fields: HeaderMap) {
    clean_trailers(&mut fields);
    for name in fields.keys().map(HeaderName::as_str) {
        let steers = ["content-length", "transfer-encoding", "host", "connection", "authorization"];
        assert!(!steers.contains(&name) && !is_forwarding(name) && !is_identity(name), "{name}");
    }
    let once = fields.clone();
    clean_trailers(&mut fields);
    assert_eq!(fields, once);
}
