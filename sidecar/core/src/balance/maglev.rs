//! Consistent hashing by a table (Eisenbud et al., Maglev, 2016): each endpoint asks for the slots of
//! its own permutation in turn, until all slots are given. A look-up is one step; slots are spread
//! more evenly than on a ring, and a few more keys move when endpoints change.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::snapshot::Endpoint;

/// The table of `size` slots, which must be prime so that each permutation has all of them. Weights
/// are turns: one of half the weight asks half as often.
pub(super) fn table(endpoints: &[Endpoint], size: u32) -> Box<[u32]> {
    let heaviest = endpoints.iter().map(|endpoint| endpoint.weight).max().unwrap_or(1);
    let size = u64::from(size);
    let mut asking: Vec<Asking> =
        endpoints.iter().map(|endpoint| Asking::new(endpoint, heaviest, size)).collect();
    // A stable order, whatever the order in which the control plane names them.
    let mut order: Vec<usize> = (0..endpoints.len()).collect();
    order.sort_unstable_by_key(|&at| endpoints[at].address);
    let mut slots = vec![FREE; size as usize];
    let mut left = if endpoints.is_empty() { 0 } else { size };
    while left > 0 {
        for &at in &order {
            let ask = &mut asking[at];
            ask.turns += ask.share;
            if ask.turns < 1.0 || left == 0 {
                continue;
            }
            ask.turns -= 1.0;
            while slots[ask.next as usize] != FREE {
                ask.next = (ask.next + ask.skip) % size;
            }
            slots[ask.next as usize] = at as u32;
            left -= 1;
        }
    }
    if endpoints.is_empty() { Box::default() } else { slots.into() }
}

const FREE: u32 = u32::MAX;

/// An endpoint's permutation of the slots, and how often it may ask.
struct Asking {
    next: u64,
    skip: u64,
    share: f64,
    turns: f64,
}

impl Asking {
    fn new(endpoint: &Endpoint, heaviest: u32, size: u64) -> Self {
        let name = endpoint.address.to_string();
        Self {
            next: xxh3_64(name.as_bytes()) % size,
            skip: xxh3_64_with_seed(name.as_bytes(), 1) % (size - 1).max(1) + 1,
            share: f64::from(endpoint.weight) / f64::from(heaviest),
            turns: 0.0,
        }
    }
}

/// Endpoints in the order in which they stand for a hash: that of its slot, then those of other
/// slots, by hashing on.
pub(super) fn walk(table: &[u32], hash: u64) -> impl Iterator<Item = usize> {
    let mut hash = hash;
    std::iter::from_fn(move || {
        let slot = hash.checked_rem(table.len() as u64)?;
        hash = super::mixed(hash);
        table.get(slot as usize).map(|&at| at as usize)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::sample::{endpoints, equal};
    use super::*;

    fn counts(table: &[u32], endpoints: usize) -> Vec<usize> {
        let mut counts = vec![0; endpoints];
        for &at in table {
            counts[at as usize] += 1;
        }
        counts
    }

    #[test]
    fn slots_are_spread_evenly_and_by_weight() {
        let even = counts(&table(&equal(10), 65_537), 10);
        assert!(even.iter().all(|count| (6553..=6554).contains(count)), "{even:?}");
        let weighted = counts(&table(&endpoints(&[(1, 0), (2, 0), (1, 0)]), 65_537), 3);
        assert!(weighted[1].abs_diff(32_768) < 4, "{weighted:?}");
        assert!(table(&[], 11).is_empty());
        assert_eq!(walk(&[], 7).next(), None);
    }

    #[test]
    fn the_order_of_endpoints_does_not_matter() {
        let some = equal(7);
        let mut turned = some.clone();
        turned.reverse();
        let (a, b) = (table(&some, 1009), table(&turned, 1009));
        assert!(
            a.iter()
                .zip(&b)
                .all(|(&a, &b)| { some[a as usize].address == turned[b as usize].address })
        );
    }

    proptest! {
        #[test]
        fn few_keys_of_others_move(count in 3usize..12, gone in 0usize..12) {
            let all = equal(count);
            let gone = gone % count;
            let mut rest = all.clone();
            rest.remove(gone);
            let (before, after) = (table(&all, 5003), table(&rest, 5003));
            let moved = before.iter().zip(&after).filter(|&(&old, &new)| {
                old as usize != gone && all[old as usize].address != rest[new as usize].address
            });
            // The paper's figure 12: with about 500 slots an endpoint or more, under 10 %.
            prop_assert!(moved.count() < 5003 / 10);
        }
    }
}
