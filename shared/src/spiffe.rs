//! Who a workload is, as its certificate says it: SPIFFE IDs (SPIFFE-ID, sections 2.1 to 2.3).
//!
//! Ours are `spiffe://<trust-domain>/ns/<namespace>/sa/<service>`. Those of others may have any path.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use crate::ids::{ServiceName, dns_label};

/// Longest ID.
pub const MOST_ID_BYTES: usize = 2048;
/// Longest trust domain.
const MOST_DOMAIN_BYTES: usize = 255;
const SCHEME: &str = "spiffe://";

/// Whose authorities count: lower-case letters, digits, `.`, `-` and `_`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(Arc<str>);

/// A workload. There is one way to write it: two that differ in a byte are two workloads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    domain: TrustDomain,
    /// Begins with `/` and names something.
    path: Arc<str>,
}

/// Text that is no SPIFFE ID of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvalidId {
    #[error("a SPIFFE ID has at most {MOST_ID_BYTES} bytes")]
    Length,
    #[error("a SPIFFE ID begins with `spiffe://`")]
    Scheme,
    #[error(
        "a trust domain has from 1 to {MOST_DOMAIN_BYTES} lower-case letters, digits, '.', '-' and '_'"
    )]
    Domain,
    #[error("a SPIFFE ID of a workload has a path: `/ns/<namespace>/sa/<service>`")]
    NoPath,
    #[error(
        "a segment of a path has letters, digits, '.', '-' and '_', and is neither `.` nor `..`"
    )]
    Segment,
}

/// `mesh.local`.
impl Default for TrustDomain {
    fn default() -> Self {
        Self("mesh.local".into())
    }
}

impl TrustDomain {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TrustDomain {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_')
        };
        let length = (1..=MOST_DOMAIN_BYTES).contains(&text.len());
        if length && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidId::Domain)
        }
    }
}

impl SpiffeId {
    /// The instances of a service.
    pub fn of_service(domain: &TrustDomain, service: &ServiceName) -> Self {
        let path = format!("/ns/{}/sa/{}", service.namespace, service.name);
        Self { domain: domain.clone(), path: path.into() }
    }

    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// The path, with its first `/`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The service whose instance it is, where the path has the form of ours.
    pub fn service(&self) -> Option<ServiceName> {
        let mut segments = self.path.split('/').skip(1);
        let mut next = || segments.next();
        let (ns, namespace, sa, name, end) = (next()?, next()?, next()?, next()?, next());
        let ours = ns == "ns" && sa == "sa" && end.is_none();
        let labels = dns_label(namespace).is_ok() && dns_label(name).is_ok();
        (ours && labels).then(|| ServiceName::new(namespace, name))
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}{}", self.domain, self.path)
    }
}

impl FromStr for SpiffeId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MOST_ID_BYTES {
            return Err(InvalidId::Length);
        }
        let rest = text.strip_prefix(SCHEME).ok_or(InvalidId::Scheme)?;
        let (domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let domain = domain.parse()?;
        let segments = path.strip_prefix('/').ok_or(InvalidId::NoPath)?;
        if segments.is_empty() {
            return Err(InvalidId::NoPath);
        }
        if segments.split('/').all(is_segment) {
            Ok(Self { domain, path: path.into() })
        } else {
            Err(InvalidId::Segment)
        }
    }
}

fn is_segment(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !text.is_empty() && text != "." && text != ".." && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<SpiffeId, InvalidId> {
        text.parse()
    }

    #[test]
    fn a_service_has_an_id_and_is_found_in_it() {
        let domain: TrustDomain = "mesh.test".parse().unwrap();
        let service = ServiceName::new("shop", "cart");
        let id = SpiffeId::of_service(&domain, &service);
        assert_eq!(id.to_string(), "spiffe://mesh.test/ns/shop/sa/cart");
        assert_eq!(read(&id.to_string()), Ok(id.clone()));
        assert_eq!(id.service(), Some(service));
        for foreign in ["/workload", "/ns/a", "/ns/a/sa/b/c", "/sa/a/ns/b", "/ns/A/sa/b"] {
            assert_eq!(
                read(&format!("spiffe://td{foreign}")).unwrap().service(),
                None,
                "{foreign}"
            );
        }
    }

    #[test]
    fn what_could_be_mistaken_for_another_id_is_none() {
        for (text, error) in [
            ("", InvalidId::Scheme),
            ("td/ns/a/sa/b", InvalidId::Scheme),
            ("SPIFFE://td/a", InvalidId::Scheme),
            ("https://td/a", InvalidId::Scheme),
            ("spiffe:/td/a", InvalidId::Scheme),
            ("spiffe:///a", InvalidId::Domain),
            ("spiffe://", InvalidId::Domain),
            ("spiffe://TD/a", InvalidId::Domain),
            ("spiffe://td:443/a", InvalidId::Domain),
            ("spiffe://u@td/a", InvalidId::Domain),
            ("spiffe://td%2e/a", InvalidId::Domain),
            ("spiffe://*/a", InvalidId::Domain),
            ("spiffe://td?x/a", InvalidId::Domain),
            ("spiffe://td\0/a", InvalidId::Domain),
            ("spiffe://tdé/a", InvalidId::Domain),
            ("spiffe://td", InvalidId::NoPath),
            ("spiffe://td/", InvalidId::NoPath),
            ("spiffe://td/a/", InvalidId::Segment),
            ("spiffe://td//a", InvalidId::Segment),
            ("spiffe://td/a//b", InvalidId::Segment),
            ("spiffe://td/.", InvalidId::Segment),
            ("spiffe://td/a/../b", InvalidId::Segment),
            ("spiffe://td/a/%2e%2e/b", InvalidId::Segment),
            ("spiffe://td/*", InvalidId::Segment),
            ("spiffe://td/a?b", InvalidId::Segment),
            ("spiffe://td/a#b", InvalidId::Segment),
            ("spiffe://td/a b", InvalidId::Segment),
            ("spiffe://td/a\0", InvalidId::Segment),
            ("spiffe://td/ä", InvalidId::Segment),
        ] {
            assert_eq!(read(text), Err(error), "{text:?}");
        }
        assert_eq!(read(&format!("spiffe://{}/a", "d".repeat(256))), Err(InvalidId::Domain));
        assert_eq!(read(&format!("spiffe://td/{}", "a".repeat(2048))), Err(InvalidId::Length));
        assert!(read("spiffe://td/A.b-c_1/...").is_ok());
    }

    /// Every byte, in a trust domain and in a path.
    #[test]
    fn each_byte_is_allowed_or_not() {
        for byte in 0..=255_u8 {
            let Ok(character) = std::str::from_utf8(std::slice::from_ref(&byte)) else { continue };
            let in_domain =
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
            // A slash begins another segment.
            let in_path = byte.is_ascii_alphanumeric() || b".-_/".contains(&byte);
            let found = (
                read(&format!("spiffe://t{character}d/a")).is_ok_and(|id| id.path() == "/a"),
                read(&format!("spiffe://td/a{character}a")).is_ok_and(|id| id.path().len() == 4),
            );
            assert_eq!(found, (in_domain, in_path), "{byte:#x}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_the_same(text in "spiffe://[a-z0-9._-]{0,9}(/[A-Za-z0-9._-]{0,4}){0,4}") {
            if let Ok(id) = read(&text) {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
