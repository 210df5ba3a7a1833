//! What proxies tell about callers: `X-Forwarded-*`, `Forwarded` (RFC 7239) and the like. Whoever is
//! no proxy that we trust cannot tell such things.

use std::net::IpAddr;

use http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};

/// What only the mesh may say begins so; in callers' requests it is taken off.
pub const INTERNAL_PREFIX: &str = "x-segue-";
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// Headers of one name that reach this are not joined further: heads have a limit.
const MOST_JOINED_BYTES: usize = 8 * 1024;

/// How far what the holder of a connection tells about others is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Not at all: what it tells is taken off, and what the connection tells is put there.
    Edge,
    /// It is a proxy of ours: what the connection tells is added to what it tells.
    Proxy,
    /// It is the application beside us, which is no hop of its own: what it tells of its own callers
    /// goes on as it is, and nothing is added.
    Application,
}

/// Which headers tell the upstream about the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardedHeaders {
    /// `X-Forwarded-For` and `X-Forwarded-Proto`.
    pub x_forwarded: bool,
    /// `Forwarded` (RFC 7239).
    pub forwarded: bool,
}

/// The holder of a connection, worked out once for all of its requests.
#[derive(Clone, Debug)]
pub struct Peer {
    trust: Trust,
    tells: ForwardedHeaders,
    /// Its address.
    address: HeaderValue,
    scheme: HeaderValue,
    /// The same as an element of `Forwarded`.
    element: HeaderValue,
}

/// Whether a header, in lower case, tells what proxies tell.
pub fn is_forwarding(name: &str) -> bool {
    match name {
        "forwarded" | "x-real-ip" | "x-original-url" | "x-rewrite-url" => true,
        _ => name.starts_with("x-forwarded-") || name.starts_with("x-envoy-"),
    }
}

/// Whether a header, in lower case, says who somebody is in the mesh.
pub fn is_identity(name: &str) -> bool {
    name.starts_with(INTERNAL_PREFIX) || name == "x-forwarded-client-cert"
}

impl Peer {
    /// Its address, as text.
    pub fn address(&self) -> &str {
        self.address.to_str().unwrap_or_default()
    }

    /// The holder of a connection of this scheme.
    pub fn new(address: IpAddr, scheme: &str, trust: Trust, tells: ForwardedHeaders) -> Self {
        let address = address.to_canonical();
        let node = match address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("\"[{address}]\""),
        };
        // Addresses and schemes are always good values.
        let value =
            |text: &str| HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("unknown"));
        Self {
            trust,
            tells,
            address: value(&address.to_string()),
            scheme: value(scheme),
            element: value(&format!("for={node};proto={scheme}")),
        }
    }

    /// How far it is believed.
    pub fn trust(&self) -> Trust {
        self.trust
    }

    /// Makes what the headers tell about callers true. `told` says whether any of them
    /// [tells](is_forwarding) something.
    pub fn sign(&self, headers: &mut HeaderMap, told: bool) {
        match self.trust {
            Trust::Application => {
                if told {
                    remove(headers, |name| is_identity(name) || name.starts_with("x-envoy-"));
                }
            }
            Trust::Edge => {
                if told {
                    remove(headers, is_forwarding);
                }
                if self.tells.x_forwarded {
                    headers.insert(FORWARDED_FOR, self.address.clone());
                    headers.insert(FORWARDED_PROTO, self.scheme.clone());
                }
                if self.tells.forwarded {
                    headers.insert(FORWARDED, self.element.clone());
                }
            }
            Trust::Proxy => {
                if self.tells.x_forwarded || headers.contains_key(FORWARDED_FOR) {
                    append(headers, &FORWARDED_FOR, &self.address);
                    headers.entry(FORWARDED_PROTO).or_insert_with(|| self.scheme.clone());
                }
                if self.tells.forwarded || headers.contains_key(FORWARDED) {
                    append(headers, &FORWARDED, &self.element);
                }
            }
        }
    }
}

fn remove(headers: &mut HeaderMap, is_unwanted: impl Fn(&str) -> bool) {
    let unwanted: Vec<HeaderName> =
        headers.keys().filter(|name| is_unwanted(name.as_str())).cloned().collect();
    for name in unwanted {
        headers.remove(name);
    }
}

/// Adds an element to a list, which stays one line: not all upstreams look beyond the first.
fn append(headers: &mut HeaderMap, name: &HeaderName, element: &HeaderValue) {
    let mut joined: Vec<u8> = Vec::new();
    for line in headers.get_all(name) {
        if !line.is_empty() {
            joined.extend_from_slice(line.as_bytes());
            joined.extend_from_slice(b", ");
        }
    }
    if joined.len() > MOST_JOINED_BYTES {
        joined.clear();
    }
    joined.extend_from_slice(element.as_bytes());
    let value = HeaderValue::from_bytes(&joined).unwrap_or_else(|_| element.clone());
    headers.insert(name, value);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOTH: ForwardedHeaders = ForwardedHeaders { x_forwarded: true, forwarded: true };
    const X_ONLY: ForwardedHeaders = ForwardedHeaders { x_forwarded: true, forwarded: false };

    fn signed(
        address: &str,
        trust: Trust,
        tells: ForwardedHeaders,
        lines: &[(&'static str, &'static str)],
    ) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let told = headers.keys().any(|name| is_forwarding(name.as_str()));
        Peer::new(address.parse().unwrap(), "http", trust, tells).sign(&mut headers, told);
        let mut all: Vec<String> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        all.sort_unstable();
        all
    }

    const SPOOFED: &[(&str, &str)] = &[
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-for", "7.7.7.7"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil"),
        ("x-forwarded-client-cert", "URI=spiffe://evil"),
        ("x-envoy-internal", "true"),
        ("forwarded", "for=6.6.6.6"),
        ("x-real-ip", "6.6.6.6"),
        ("x-original-url", "/admin"),
        ("x-user", "7"),
    ];

    #[test]
    fn at_an_edge_only_the_connection_tells_who_calls() {
        assert_eq!(
            signed("10.0.0.7", Trust::Edge, BOTH, SPOOFED),
            [
                "forwarded: for=10.0.0.7;proto=http",
                "x-forwarded-for: 10.0.0.7",
                "x-forwarded-proto: http",
                "x-user: 7"
            ]
        );
        let nothing = ForwardedHeaders { x_forwarded: false, forwarded: false };
        assert_eq!(signed("10.0.0.7", Trust::Edge, nothing, SPOOFED), ["x-user: 7"]);
    }

    #[test]
    fn a_proxy_of_ours_is_believed_and_its_own_address_added() {
        assert_eq!(
            signed("fd00::7", Trust::Proxy, X_ONLY, &SPOOFED[..3]),
            ["x-forwarded-for: 6.6.6.6, 7.7.7.7, fd00::7", "x-forwarded-proto: https"]
        );
        assert_eq!(
            signed("::ffff:10.0.0.7", Trust::Proxy, X_ONLY, &[("forwarded", "for=1.1.1.1")]),
            [
                "forwarded: for=1.1.1.1, for=10.0.0.7;proto=http",
                "x-forwarded-for: 10.0.0.7",
                "x-forwarded-proto: http"
            ]
        );
        assert_eq!(
            signed("fd00::7", Trust::Proxy, BOTH, &[])[0],
            "forwarded: for=\"[fd00::7]\";proto=http"
        );
    }

    #[test]
    fn the_application_tells_of_its_callers_but_not_who_it_is() {
        assert_eq!(
            signed("127.0.0.1", Trust::Application, BOTH, SPOOFED),
            [
                "forwarded: for=6.6.6.6",
                "x-forwarded-for: 6.6.6.6",
                "x-forwarded-for: 7.7.7.7",
                "x-forwarded-host: evil",
                "x-forwarded-proto: https",
                "x-original-url: /admin",
                "x-real-ip: 6.6.6.6",
                "x-user: 7"
            ]
        );
    }

    proptest! {
        #[test]
        fn nothing_that_a_stranger_tells_gets_past_an_edge(
            names in prop::collection::vec("(x-(forwarded|envoy)-[a-z]{1,5}|forwarded|x-real-ip|[a-z]{1,9})", 0..8),
        ) {
            let mut headers = HeaderMap::new();
            for name in &names {
                headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::from_static("forged"));
            }
            let told = headers.keys().any(|name| is_forwarding(name.as_str()));
            let peer = Peer::new([10, 0, 0, 7].into(), "http", Trust::Edge, X_ONLY);
            peer.sign(&mut headers, told);
            let forged = headers.iter().any(|(name, value)| {
                is_forwarding(name.as_str()) && value.as_bytes() == b"forged"
            });
            prop_assert!(!forged);
        }
    }
}
