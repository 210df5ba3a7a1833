//! Fields as HTTP/2 knows them.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

/// Names that begin with a colon (RFC 9113 section 8.3, RFC 8441).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pseudo {
    Authority,
    Method,
    Path,
    Scheme,
    Status,
    Protocol,
}

/// One field of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    Pseudo(Pseudo, Bytes),
    Header(HeaderName, HeaderValue),
    /// One that HTTP does not allow: upper case, a colon, a line end. The message is malformed, the
    /// connection is not.
    Unfit,
}

impl Pseudo {
    /// The name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Authority => ":authority",
            Self::Method => ":method",
            Self::Path => ":path",
            Self::Scheme => ":scheme",
            Self::Status => ":status",
            Self::Protocol => ":protocol",
        }
    }

    fn of(name: &[u8]) -> Option<Self> {
        const ALL: [Pseudo; 6] = [
            Pseudo::Authority,
            Pseudo::Method,
            Pseudo::Path,
            Pseudo::Scheme,
            Pseudo::Status,
            Pseudo::Protocol,
        ];
        ALL.into_iter().find(|pseudo| pseudo.as_str().as_bytes() == name)
    }
}

/// A name before its value is known.
#[derive(Clone, Debug)]
pub enum Name {
    Pseudo(Pseudo),
    Header(HeaderName),
    Unfit,
}

impl Name {
    /// A name from its octets.
    pub fn of(name: &[u8]) -> Self {
        if name.first() == Some(&b':') {
            return Pseudo::of(name).map_or(Self::Unfit, Self::Pseudo);
        }
        HeaderName::from_lowercase(name).map_or(Self::Unfit, Self::Header)
    }

    /// The field of this name with a value. `secret`: it must stay out of all tables.
    pub fn with(self, value: Bytes, secret: bool) -> Field {
        match self {
            Self::Pseudo(pseudo) => Field::Pseudo(pseudo, value),
            Self::Header(name) => match HeaderValue::from_maybe_shared(value) {
                Ok(mut value) => {
                    if secret {
                        value.set_sensitive(true);
                    }
                    Field::Header(name, value)
                }
                Err(_) => Field::Unfit,
            },
            Self::Unfit => Field::Unfit,
        }
    }
}

impl Field {
    /// Its name.
    pub fn name(&self) -> Name {
        match self {
            Self::Pseudo(pseudo, _) => Name::Pseudo(*pseudo),
            Self::Header(name, _) => Name::Header(name.clone()),
            Self::Unfit => Name::Unfit,
        }
    }

    /// The octets of its name and value.
    pub fn octets(&self) -> usize {
        match self {
            Self::Pseudo(pseudo, value) => pseudo.as_str().len() + value.len(),
            Self::Header(name, value) => name.as_str().len() + value.len(),
            Self::Unfit => 0,
        }
    }
}
