//! Consistent hashing on a ring (Karger et al., Consistent Hashing and Random Trees, 1997): each
//! endpoint has points by its weight, a key belongs to the first point at or after its own hash. An
//! endpoint that comes or goes moves only the keys of its own points.

use xxhash_rust::xxh3::xxh3_64;

use crate::snapshot::{Endpoint, RingPoint};

/// The ring of endpoints: at least about `least` points, at most about `most`, and at least one for
/// each endpoint. Depends on the endpoints alone, so that all sidecars have the same.
pub(super) fn ring(endpoints: &[Endpoint], least: u32, most: u32) -> Box<[RingPoint]> {
    let sum: f64 = endpoints.iter().map(|endpoint| f64::from(endpoint.weight)).sum();
    let lightest = endpoints.iter().map(|endpoint| endpoint.weight).min().unwrap_or(1);
    // So many points that the lightest endpoint has a whole number of them.
    let lightest = f64::from(lightest) / sum;
    let scale = ((lightest * f64::from(least)).ceil() / lightest).min(f64::from(most));
    let mut points = Vec::with_capacity(scale.max(0.0) as usize + endpoints.len());
    for (at, endpoint) in endpoints.iter().enumerate() {
        let count = (scale * f64::from(endpoint.weight) / sum).round().max(1.0) as u32;
        let address = endpoint.address.to_string();
        for i in 0..count {
            let hash = xxh3_64(format!("{address}_{i}").as_bytes());
            points.push(RingPoint { hash, endpoint: at as u32 });
        }
    }
    points.sort_unstable_by_key(|point| point.hash);
    points.into()
}

/// Endpoints in the order in which they follow a hash; the same one may come several times.
pub(super) fn walk(ring: &[RingPoint], hash: u64) -> impl Iterator<Item = usize> {
    let first = ring.partition_point(|point| point.hash < hash);
    let (before, after) = ring.split_at(first);
    after.iter().chain(before).map(|point| point.endpoint as usize)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::sample::{endpoints, equal};
    use super::*;

    fn owner(ring: &[RingPoint], key: u64) -> usize {
        walk(ring, xxh3_64(&key.to_le_bytes())).next().unwrap()
    }

    #[test]
    fn weights_hold_on_the_ring() {
        let ring = ring(&endpoints(&[(1, 0), (3, 0)]), 1024, 65_536);
        assert_eq!(ring.len(), 1024);
        let heavy = ring.iter().filter(|point| point.endpoint == 1).count();
        assert_eq!(heavy, 768);
        // Arcs of 1,024 random points: the share of 768 of them is 0.75 ± 4.9 σ, with
        // σ ≈ sqrt(0.75 · 0.25 / 1024) ≈ 0.0135 (Beta distribution).
        let keys = (0..20_000).filter(|&key| owner(&ring, key) == 1).count();
        assert!((13_600..16_400).contains(&keys), "{keys}");
    }

    #[test]
    fn a_ring_is_bounded_and_has_everybody() {
        let many = ring(&equal(500), 1, 100);
        assert_eq!(many.len(), 500);
        assert!(ring(&[], 1024, 65_536).is_empty());
        assert_eq!(walk(&[], 7).next(), None);
    }

    proptest! {
        #[test]
        fn only_keys_of_an_endpoint_that_went_move(count in 2usize..20, gone in 0usize..20) {
            let all = equal(count);
            let gone = gone % count;
            let mut rest = all.clone();
            rest.remove(gone);
            // Points a head stay the same, else the others' keys would move as well.
            let (before, after) = (
                ring(&all, 100 * count as u32, 100_000),
                ring(&rest, 100 * (count as u32 - 1), 100_000),
            );
            for key in 0..500 {
                let (old, new) = (owner(&before, key), owner(&after, key));
                if old != gone {
                    prop_assert_eq!(all[old].address, rest[new].address);
                }
            }
        }
    }
}
