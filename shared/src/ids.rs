//! Names of things that both planes speak about.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The namespace of a resource that names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// The one monotone number of a committed configuration. 0 stands before the first commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision of an empty store.
    pub const NONE: Self = Self(0);

    /// The revision that the next commit gets.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A service and the namespace that it lives in; written `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    pub namespace: String,
    pub name: String,
}

impl ServiceName {
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Reads `namespace/name`, or `name` in the default namespace.
impl FromStr for ServiceName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (namespace, name) = text.split_once('/').unwrap_or((DEFAULT_NAMESPACE, text));
        Ok(Self::new(dns_label(namespace)?, dns_label(name)?))
    }
}

/// v1 or v2 of a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionLabel(String);

impl VersionLabel {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VersionLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for VersionLabel {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        dns_label(text).map(|label| Self(label.to_owned()))
    }
}

/// A name that is not a DNS label.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{0:?} is not a DNS label: use 1 to 63 lower-case letters, digits and '-', \
     beginning and ending with a letter or digit"
)]
pub struct InvalidName(pub String);

/// Checks a DNS label (RFC 1123 section 2.1).
pub fn dns_label(text: &str) -> Result<&str, InvalidName> {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let valid = (1..=63).contains(&bytes.len())
        && bytes.iter().all(|&byte| alphanumeric(byte) || byte == b'-')
        && bytes.first().copied().is_some_and(alphanumeric)
        && bytes.last().copied().is_some_and(alphanumeric);
    if valid { Ok(text) } else { Err(InvalidName(text.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_without_namespace_lives_in_default() {
        assert_eq!("chat".parse(), Ok(ServiceName::new("default", "chat")));
        assert_eq!("shop/cart".parse(), Ok(ServiceName::new("shop", "cart")));
    }

    #[test]
    fn labels_are_dns_labels() {
        for good in ["a", "v2", "a-b", "0", &"x".repeat(63)] {
            assert!(dns_label(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a/b", "ä", &"x".repeat(64)] {
            assert!(dns_label(bad).is_err(), "{bad}");
        }
    }
}
