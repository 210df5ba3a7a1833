//! From request to cluster, by bucket.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::COOKIE;
use segue_shared::bucket;
use xxhash_rust::xxh3::xxh3_64;

use super::joined;
use crate::snapshot::{ClusterIndex, Split, SplitKey};

impl Split {
    /// The cluster of a request. `draw` is uniform over all of `u64` and decides where the request
    /// has no key; an empty key counts as none, so that clients without an id spread evenly.
    pub fn choose(&self, headers: &HeaderMap, draw: u64) -> ClusterIndex {
        if let [(_, only)] = self.ranges.as_slice() {
            return *only;
        }
        let bucket = self.bucket(headers).unwrap_or_else(|| bucket::of_draw(draw));
        let at = self.ranges.partition_point(|(end, _)| *end <= bucket);
        // A split without ranges leads to no cluster of any table.
        self.ranges.get(at).map_or(ClusterIndex::NONE, |(_, cluster)| *cluster)
    }

    fn bucket(&self, headers: &HeaderMap) -> Option<u16> {
        self.key.value(headers).map(|value| self.salt.bucket(&value))
    }
}

impl SplitKey {
    /// The value of a request, unless it is empty.
    fn value<'a>(&self, headers: &'a HeaderMap) -> Option<Cow<'a, [u8]>> {
        let value = match self {
            Self::Random => None,
            Self::Header(name) => joined(headers, name),
            Self::Cookie(name) => cookie(headers, name.as_bytes()).map(Cow::Borrowed),
        };
        value.filter(|value| !value.is_empty())
    }

    /// Hash of the value of a request, for tables of endpoints. It has nothing to do with buckets.
    pub fn hash(&self, headers: &HeaderMap) -> Option<u64> {
        self.value(headers).map(|value| xxh3_64(&value))
    }
}

/// The first cookie of a name, over all `Cookie` lines (HTTP/2 may send one a line).
fn cookie<'a>(headers: &'a HeaderMap, name: &[u8]) -> Option<&'a [u8]> {
    headers
        .get_all(COOKIE)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .find_map(|pair| pair.trim_ascii().strip_prefix(name)?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;
    use segue_shared::bucket::{Salt, TOTAL};

    use super::*;

    const OLD: ClusterIndex = ClusterIndex(0);
    const NEW: ClusterIndex = ClusterIndex(1);

    fn split(key: SplitKey, new: u16) -> Split {
        let mut ranges = Vec::new();
        if new < TOTAL {
            ranges.push((TOTAL - new, OLD));
        }
        if new > 0 {
            ranges.push((TOTAL, NEW));
        }
        Split { key, salt: Salt::new("chat"), ranges }
    }

    fn by_header(new: u16) -> Split {
        split(SplitKey::Header(HeaderName::from_static("x-user-id")), new)
    }

    fn user(id: &str) -> HeaderMap {
        HeaderMap::from_iter([(
            HeaderName::from_static("x-user-id"),
            HeaderValue::from_str(id).unwrap(),
        )])
    }

    #[test]
    fn no_key_moves_against_the_direction_of_a_rollout() {
        let steps = [0, 500, 1000, 5000, 10_000, 5000, 0].map(by_header);
        for i in 0..10_000u64 {
            let headers = user(&format!("user-{i}"));
            // The draw must not matter for a request with a key.
            let path: Vec<ClusterIndex> = steps
                .iter()
                .map(|step| step.choose(&headers, i.wrapping_mul(0x9e37_79b9)))
                .collect();
            assert!(path[..5].is_sorted(), "user-{i} went back on the way up: {path:?}");
            assert!(path[4..].iter().rev().is_sorted(), "user-{i} went back: {path:?}");
            assert_eq!(path[3], path[5], "half up and half down are the same half");
        }
    }

    #[test]
    fn weights_hold_on_average() {
        // 10,000 keys at 5 %: 500 ± 4.9 σ (σ = sqrt(10,000 · 0.05 · 0.95) ≈ 22).
        let split = by_header(500);
        let new =
            (0..10_000).filter(|i| split.choose(&user(&format!("user-{i}")), 0) == NEW).count();
        assert!((392..608).contains(&new), "{new}");
    }

    #[test]
    fn a_request_without_key_gets_the_draw() {
        let split = by_header(5000);
        for headers in [HeaderMap::new(), user("")] {
            assert_eq!(split.choose(&headers, 0), OLD);
            assert_eq!(split.choose(&headers, 5000), NEW);
        }
    }

    #[test]
    fn a_cookie_is_found_among_others_and_over_lines() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("asid=1; theme=dark"));
        headers.append(COOKIE, HeaderValue::from_static(" sid=user-7 ;x=y"));
        assert_eq!(cookie(&headers, b"sid"), Some(&b"user-7"[..]));
        assert_eq!(cookie(&headers, b"si"), None);
        let by_cookie = split(SplitKey::Cookie("sid".into()), 5000);
        let expected = if Salt::new("chat").bucket(b"user-7") < 5000 { OLD } else { NEW };
        assert_eq!(by_cookie.choose(&headers, 0), expected);
        assert_eq!(by_cookie.choose(&headers, 9999), expected);
    }

    proptest! {
        #[test]
        fn the_range_is_the_first_whose_end_is_above(
            ends in prop::collection::btree_set(1u16..TOTAL, 0..20),
            draw in any::<u64>(),
        ) {
            let ends: Vec<u16> = ends.into_iter().chain([TOTAL]).collect();
            let ranges: Vec<(u16, ClusterIndex)> =
                ends.iter().enumerate().map(|(i, &end)| (end, ClusterIndex(i as u32))).collect();
            let split = Split { key: SplitKey::Random, salt: Salt::new(""), ranges: ranges.clone() };
            let naive = ranges.iter().find(|(end, _)| bucket::of_draw(draw) < *end).unwrap().1;
            prop_assert_eq!(split.choose(&HeaderMap::new(), draw), naive);
        }
    }
}
