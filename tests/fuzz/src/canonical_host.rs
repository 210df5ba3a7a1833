//! Authorities: `s` (https) or anything else (http), then the value of `Host`.

use std::net::Ipv6Addr;
use std::sync::LazyLock;

use http::HeaderValue;
use http::uri::Authority;
use regex::Regex;
use segue_sidecar_core::canonical::CanonHost;

/// Host and port as RFC 3986 section 3.2.2 has them, without the rarities of registered names.
static SHAPE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\A(?:(?<name>[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)\.?|\[(?<v6>[^\[\]]*)\])(?::(?<port>[0-9]*))?\z")
        .unwrap()
});

pub fn check(bytes: &[u8]) {
    let Some((scheme, authority)) = bytes.split_first() else { return };
    let default_port = if *scheme == b's' { 443 } else { 80 };
    let Ok(value) = HeaderValue::from_bytes(authority) else { return };
    let expected = str::from_utf8(authority).ok().and_then(|text| reference(text, default_port));
    let found = CanonHost::of(value, default_port).ok();
    assert_eq!(found.as_ref().map(|host| host.as_str().to_owned()), expected);
    let Some(host) = found else { return };
    let again = CanonHost::of(host.value().clone(), default_port).unwrap();
    assert!(again.is(&host), "a second time changes nothing");
    assert_eq!((again.as_str(), again.name()), (host.as_str(), host.name()));
    assert_eq!(again.named_default_port(), None);
    assert!(host.as_str().starts_with(host.name()) && !host.name().is_empty());
    // What others read in it is the same.
    let seen: Authority = host.as_str().parse().unwrap();
    assert_eq!(seen.host(), host.name());
    assert_ne!(seen.port_u16(), Some(default_port));
}

/// The one spelling of an authority; `None` for what is none.
fn reference(text: &str, default_port: u16) -> Option<String> {
    let parts = SHAPE.captures(text)?;
    let name = match (parts.name("name"), parts.name("v6")) {
        (Some(name), _) => name.as_str().to_ascii_lowercase(),
        (_, Some(address)) => {
            address.as_str().parse::<Ipv6Addr>().ok()?;
            format!("[{}]", address.as_str().to_ascii_lowercase())
        }
        (None, None) => return None,
    };
    if name.len() > usize::from(u16::MAX) {
        return None;
    }
    let digits = parts.name("port").map_or("", |port| port.as_str());
    if digits.is_empty() {
        return Some(name);
    }
    let port: u16 = digits.parse().ok()?;
    Some(if port == default_port { name } else { format!("{name}:{port}") })
}
