//! The fields that both sides know before anything was said (RFC 7541 appendix A).

use std::sync::LazyLock;

use http::header::{self, HeaderName, HeaderValue};

use super::field::{Field, Pseudo};

/// The number of fields; indexes begin at 1.
pub const FIELDS: usize = 61;

const PSEUDO: [(Pseudo, &str); 14] = [
    (Pseudo::Authority, ""),
    (Pseudo::Method, "GET"),
    (Pseudo::Method, "POST"),
    (Pseudo::Path, "/"),
    (Pseudo::Path, "/index.html"),
    (Pseudo::Scheme, "http"),
    (Pseudo::Scheme, "https"),
    (Pseudo::Status, "200"),
    (Pseudo::Status, "204"),
    (Pseudo::Status, "206"),
    (Pseudo::Status, "304"),
    (Pseudo::Status, "400"),
    (Pseudo::Status, "404"),
    (Pseudo::Status, "500"),
];

const HEADERS: [(HeaderName, &str); FIELDS - PSEUDO.len()] = [
    (header::ACCEPT_CHARSET, ""),
    (header::ACCEPT_ENCODING, "gzip, deflate"),
    (header::ACCEPT_LANGUAGE, ""),
    (header::ACCEPT_RANGES, ""),
    (header::ACCEPT, ""),
    (header::ACCESS_CONTROL_ALLOW_ORIGIN, ""),
    (header::AGE, ""),
    (header::ALLOW, ""),
    (header::AUTHORIZATION, ""),
    (header::CACHE_CONTROL, ""),
    (header::CONTENT_DISPOSITION, ""),
    (header::CONTENT_ENCODING, ""),
    (header::CONTENT_LANGUAGE, ""),
    (header::CONTENT_LENGTH, ""),
    (header::CONTENT_LOCATION, ""),
    (header::CONTENT_RANGE, ""),
    (header::CONTENT_TYPE, ""),
    (header::COOKIE, ""),
    (header::DATE, ""),
    (header::ETAG, ""),
    (header::EXPECT, ""),
    (header::EXPIRES, ""),
    (header::FROM, ""),
    (header::HOST, ""),
    (header::IF_MATCH, ""),
    (header::IF_MODIFIED_SINCE, ""),
    (header::IF_NONE_MATCH, ""),
    (header::IF_RANGE, ""),
    (header::IF_UNMODIFIED_SINCE, ""),
    (header::LAST_MODIFIED, ""),
    (header::LINK, ""),
    (header::LOCATION, ""),
    (header::MAX_FORWARDS, ""),
    (header::PROXY_AUTHENTICATE, ""),
    (header::PROXY_AUTHORIZATION, ""),
    (header::RANGE, ""),
    (header::REFERER, ""),
    (header::REFRESH, ""),
    (header::RETRY_AFTER, ""),
    (header::SERVER, ""),
    (header::SET_COOKIE, ""),
    (header::STRICT_TRANSPORT_SECURITY, ""),
    (header::TRANSFER_ENCODING, ""),
    (header::USER_AGENT, ""),
    (header::VARY, ""),
    (header::VIA, ""),
    (header::WWW_AUTHENTICATE, ""),
];

static ALL: LazyLock<Vec<Field>> = LazyLock::new(|| {
    let pseudo = PSEUDO.iter().map(|&(name, value)| Field::Pseudo(name, value.as_bytes().into()));
    let headers = HEADERS.iter();
    let headers =
        headers.map(|(name, value)| Field::Header(name.clone(), HeaderValue::from_static(value)));
    pseudo.chain(headers).collect()
});

/// A field by its index, 1 to [`FIELDS`].
pub fn field(index: usize) -> Option<&'static Field> {
    ALL.get(index.checked_sub(1)?)
}

/// Places of names by their hash; open addressing.
struct Names([u8; SLOTS]);

const SLOTS: usize = 256;

static NAMES: LazyLock<Names> = LazyLock::new(|| {
    let mut slots = [0; SLOTS];
    for (place, (name, _)) in HEADERS.iter().enumerate() {
        let mut slot = slot_of(name.as_str());
        while slots[slot] != 0 {
            slot = (slot + 1) % SLOTS;
        }
        slots[slot] = (PSEUDO.len() + place + 1) as u8;
    }
    Names(slots)
});

fn slot_of(name: &str) -> usize {
    super::sample::hash(name.as_bytes()) as usize % SLOTS
}

/// The index of the first field with this name; 0 where there is none.
pub fn index_of(name: &HeaderName) -> usize {
    let slots = &NAMES.0;
    let mut slot = slot_of(name.as_str());
    while let index @ 1.. = usize::from(slots[slot]) {
        if HEADERS[index - PSEUDO.len() - 1].0 == *name {
            return index;
        }
        slot = (slot + 1) % SLOTS;
    }
    0
}

/// The index of the first field with this pseudo name; 0 where there is none.
pub fn index_of_pseudo(name: Pseudo) -> usize {
    PSEUDO.iter().position(|(known, _)| *known == name).map_or(0, |place| place + 1)
}

/// The index of a whole pseudo field; 0 where there is none.
pub fn index_of_pseudo_field(name: Pseudo, value: &[u8]) -> usize {
    let of = |known: &(Pseudo, &str)| known.0 == name && known.1.as_bytes() == value;
    PSEUDO.iter().position(of).map_or(0, |place| place + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_found() {
        for (place, (name, _)) in HEADERS.iter().enumerate() {
            assert_eq!(index_of(name), place + 15);
        }
        assert_eq!(index_of(&HeaderName::from_static("x-other")), 0);
        assert_eq!(
            (index_of(&header::ACCEPT_CHARSET), index_of(&header::WWW_AUTHENTICATE)),
            (15, 61)
        );
        assert_eq!(index_of_pseudo(Pseudo::Status), 8);
        assert_eq!(index_of_pseudo(Pseudo::Protocol), 0);
        assert_eq!(index_of_pseudo_field(Pseudo::Method, b"POST"), 3);
        assert_eq!(index_of_pseudo_field(Pseudo::Method, b"PUT"), 0);
        assert!(field(0).is_none() && field(61).is_some() && field(62).is_none());
    }
}
