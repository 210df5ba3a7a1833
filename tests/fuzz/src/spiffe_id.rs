//! SPIFFE IDs, as text.

use std::sync::LazyLock;

use regex::Regex;
use segue_shared::spiffe::{MOST_ID_BYTES, SpiffeId};

/// SPIFFE-ID, sections 2.1 to 2.3, for workloads: a path must be there.
static SHAPE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\Aspiffe://(?<domain>[a-z0-9._-]{1,255})(?<path>(?:/[A-Za-z0-9._-]+)+)\z").unwrap()
});

pub fn check(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let found = text.parse::<SpiffeId>().ok();
    let expected = SHAPE.captures(text).filter(|parts| {
        let mut segments = parts["path"].split('/');
        text.len() <= MOST_ID_BYTES && !segments.any(|segment| segment == "." || segment == "..")
    });
    assert_eq!(found.is_some(), expected.is_some(), "{text:?}");
    let (Some(id), Some(expected)) = (found, expected) else { return };
    assert_eq!(id.domain().as_str(), &expected["domain"]);
    assert_eq!(id.path(), &expected["path"]);
    assert_eq!(id.to_string(), text, "there is one way to write it");
    if let Some(service) = id.service() {
        assert_eq!(SpiffeId::of_service(id.domain(), &service), id);
    }
}
