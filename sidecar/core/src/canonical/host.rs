//! The one spelling of an authority: lower case, without a trailing dot and without the default port
//! (RFC 3986 section 6.2.3). What is matched is what the upstream sees.

use std::fmt;
use std::net::Ipv6Addr;

use http::HeaderValue;

/// A host with an optional port, in its one spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanonHost {
    value: HeaderValue,
    /// Length of the host, without colon and port.
    name_bytes: u16,
    /// The default port, where the caller wrote it out.
    named_default: Option<u16>,
}

/// What is no host with an optional port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostFault;

/// The parts of an authority as it was written.
struct Parts<'a> {
    name: &'a [u8],
    port: Option<u16>,
    /// Whether the port is spelled as a number is.
    port_is_plain: bool,
}

impl CanonHost {
    /// Canonicalises; `default_port` is that of the scheme. Allocates nothing where the authority is
    /// canonical already.
    pub fn of(value: HeaderValue, default_port: u16) -> Result<Self, HostFault> {
        let parts = Parts::of(value.as_bytes())?;
        let name = match parts.name {
            [b'[', ..] => parts.name,
            name => name.strip_suffix(b".").unwrap_or(name),
        };
        check_name(name)?;
        let port = parts.port.filter(|&port| port != default_port);
        let named_default = parts.port.filter(|&port| port == default_port);
        let name_bytes = u16::try_from(name.len()).map_err(|_| HostFault)?;
        let same = name.len() == parts.name.len()
            && parts.port_is_plain
            && named_default.is_none()
            && !name.iter().any(u8::is_ascii_uppercase);
        if same {
            return Ok(Self { value, name_bytes, named_default });
        }
        let mut text = name.to_ascii_lowercase();
        if let Some(port) = port {
            text.extend_from_slice(format!(":{port}").as_bytes());
        }
        let value = HeaderValue::from_bytes(&text).map_err(|_| HostFault)?;
        Ok(Self { value, name_bytes, named_default })
    }

    /// What goes on to the upstream.
    pub fn value(&self) -> &HeaderValue {
        &self.value
    }

    /// The same as text.
    pub fn as_str(&self) -> &str {
        // Checked: all of it is ASCII that can be seen.
        self.value.to_str().unwrap_or_default()
    }

    /// The host alone; an IPv6 address with its brackets.
    pub fn name(&self) -> &str {
        self.as_str().get(..usize::from(self.name_bytes)).unwrap_or_default()
    }

    /// The default port, where the caller wrote it out.
    pub fn named_default_port(&self) -> Option<u16> {
        self.named_default
    }

    /// Whether both mean the same place, written with a port or without.
    pub fn is(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl fmt::Display for HostFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("exactly one valid Host is needed")
    }
}

impl std::error::Error for HostFault {}

impl<'a> Parts<'a> {
    fn of(authority: &'a [u8]) -> Result<Self, HostFault> {
        let colon = authority.iter().rposition(|&byte| byte == b':');
        // The colons of an IPv6 address stand before its bracket.
        let colon = colon.filter(|&at| !authority[at..].contains(&b']'));
        let Some(colon) = colon else {
            return Ok(Self { name: authority, port: None, port_is_plain: true });
        };
        let (name, digits) = (&authority[..colon], &authority[colon + 1..]);
        // RFC 3986 allows an empty port, which means none.
        if digits.is_empty() {
            return Ok(Self { name, port: None, port_is_plain: false });
        }
        if !digits.iter().all(u8::is_ascii_digit) {
            return Err(HostFault);
        }
        let text = std::str::from_utf8(digits).map_err(|_| HostFault)?;
        let port = text.parse().map_err(|_| HostFault)?;
        let port_is_plain = digits[0] != b'0' || digits.len() == 1;
        Ok(Self { name, port: Some(port), port_is_plain })
    }
}

/// Letters, digits, `-_.` in labels that are not empty, or an IPv6 address in brackets.
fn check_name(name: &[u8]) -> Result<(), HostFault> {
    if let [b'[', address @ .., b']'] = name {
        let address = std::str::from_utf8(address).map_err(|_| HostFault)?;
        return address.parse::<Ipv6Addr>().map(drop).map_err(|_| HostFault);
    }
    let mut before = b'.';
    for &byte in name {
        let good = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if !good && (byte != b'.' || before == b'.') {
            return Err(HostFault);
        }
        before = byte;
    }
    if before == b'.' { Err(HostFault) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canon(text: &str) -> Result<CanonHost, HostFault> {
        CanonHost::of(HeaderValue::from_bytes(text.as_bytes()).map_err(|_| HostFault)?, 80)
    }

    #[test]
    fn each_host_has_one_spelling() {
        for (given, expected, name) in [
            ("chat", "chat", "chat"),
            ("CHAT", "chat", "chat"),
            ("chat.", "chat", "chat"),
            ("Chat.Default.:80", "chat.default", "chat.default"),
            ("chat:80", "chat", "chat"),
            ("chat:080", "chat", "chat"),
            ("chat:", "chat", "chat"),
            ("chat:8080", "chat:8080", "chat"),
            ("chat.:08080", "chat:8080", "chat"),
            ("my_app-1.x", "my_app-1.x", "my_app-1.x"),
            ("127.0.0.1:1", "127.0.0.1:1", "127.0.0.1"),
            ("[::1]", "[::1]", "[::1]"),
            ("[2001:DB8::1]:80", "[2001:db8::1]", "[2001:db8::1]"),
            ("[::1]:443", "[::1]:443", "[::1]"),
        ] {
            let host = canon(given).unwrap();
            assert_eq!((host.as_str(), host.name()), (expected, name), "{given}");
        }
        assert_eq!(canon("chat:80").unwrap().named_default_port(), Some(80));
        assert_eq!(canon("chat").unwrap().named_default_port(), None);
        assert!(canon("CHAT.").unwrap().is(&canon("chat:80").unwrap()));
    }

    #[test]
    fn a_canonical_host_is_not_copied() {
        for host in ["chat", "chat.default:8080", "[::1]", "127.0.0.1:1"] {
            let value = HeaderValue::from_str(host).unwrap();
            let bytes = value.as_bytes().as_ptr();
            let canonical = CanonHost::of(value, 80).unwrap();
            assert_eq!(canonical.value().as_bytes().as_ptr(), bytes, "{host}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for bad in [
            "",
            ".",
            ":",
            ":80",
            "a b",
            "a/b",
            "u@a",
            "a:b",
            "a:b:c",
            "a:80:80",
            "a:65536",
            "a:-1",
            "a..",
            "a..b",
            ".a",
            "a,b",
            "a%20b",
            "a\\b",
            "a?b",
            "a#b",
            "[::1",
            "::1",
            "[]",
            "[a]",
            "[::1]x",
            "[::1]:x",
            "[::1].",
            "a[::1]",
            "caf\u{e9}",
            "*",
            "a\tb",
        ] {
            assert_eq!(canon(bad), Err(HostFault), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_second_time_changes_nothing(
            text in "[aA.:0-9\\[\\]_-]{0,6}(\\.|:80|:8080|:080)?",
        ) {
            if let Ok(once) = canon(&text) {
                let twice = CanonHost::of(once.value().clone(), 80).unwrap();
                prop_assert!(twice.is(&once));
                prop_assert_eq!((twice.name(), twice.as_str()), (once.name(), once.as_str()));
                prop_assert!(!once.as_str().bytes().any(|byte| byte.is_ascii_uppercase()));
                prop_assert!(!once.name().ends_with('.'));
            }
        }
    }
}
