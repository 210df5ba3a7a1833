//! The one hash that decides which version a split key meets.
//!
//! A key has the same bucket on every sidecar, after every restart and in every release: the hash is
//! XXH3-64 of the key's bytes, seeded with XXH3-64 of the salt, modulo 10,000. Ranges of buckets
//! belong to versions; a growing weight only moves the border of a range, so that no key goes back
//! and forth.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Number of buckets; weights are counted in these units (basis points).
pub const TOTAL: u16 = 10_000;

/// The seed of the hash, made once from a salt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Salt(u64);

impl Salt {
    /// A salt from text, by default the service's name.
    pub fn new(text: &str) -> Self {
        Self(xxh3_64(text.as_bytes()))
    }

    /// The bucket of a key, 0 to 9,999.
    pub fn bucket(self, key: &[u8]) -> u16 {
        of_draw(xxh3_64_with_seed(key, self.0))
    }
}

/// The bucket of a uniform 64-bit draw, for requests without a key.
pub fn of_draw(draw: u64) -> u16 {
    (draw % u64::from(TOTAL)) as u16
}

/// Shares that sum to exactly [`TOTAL`] and are nearest to `weights`, by largest remainder (the
/// earlier one first where remainders are equal). All zero where all weights are.
pub fn shares(weights: &[u32]) -> Vec<u16> {
    let sum: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
    if sum == 0 {
        return vec![0; weights.len()];
    }
    let total = u64::from(TOTAL);
    let mut shares: Vec<u16> =
        weights.iter().map(|&weight| (u64::from(weight) * total / sum) as u16).collect();
    let given: u64 = shares.iter().map(|&share| u64::from(share)).sum();
    let mut by_remainder: Vec<usize> = (0..weights.len()).collect();
    by_remainder.sort_by_key(|&i| std::cmp::Reverse(u64::from(weights[i]) * total % sum));
    for &i in by_remainder.iter().take((total - given) as usize) {
        shares[i] += 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Buckets are a promise across releases: changing them would throw users between versions.
    #[test]
    fn buckets_never_change() {
        let salt = Salt::new("chat");
        let buckets: Vec<u16> =
            ["", "user-1", "user-2", "zoë"].iter().map(|key| salt.bucket(key.as_bytes())).collect();
        assert_eq!(buckets, PINNED);
    }
    const PINNED: [u16; 4] = [74, 4871, 9201, 2985];

    #[test]
    fn keys_spread_evenly() {
        // 100,000 keys in 10 ranges: each holds 10,000 ± 4.9 σ (σ = sqrt(n p q) ≈ 95), which a fair
        // hash misses once in about 100,000 choices of the salt.
        let salt = Salt::new("chat");
        let mut counts = [0i32; 10];
        for i in 0..100_000 {
            counts[usize::from(salt.bucket(format!("user-{i}").as_bytes())) / 1000] += 1;
        }
        assert!(counts.iter().all(|count| (count - 10_000).abs() < 465), "{counts:?}");
    }

    #[test]
    fn shares_keep_what_is_exact() {
        assert_eq!(shares(&[95, 5]), [9500, 500]);
        assert_eq!(shares(&[9999, 1]), [9999, 1]);
        assert_eq!(shares(&[1, 1, 1]), [3334, 3333, 3333]);
        assert_eq!(shares(&[0, 0]), [0, 0]);
    }

    proptest! {
        #[test]
        fn shares_sum_to_the_total(weights in prop::collection::vec(0u32..=u32::MAX, 1..20)) {
            prop_assume!(weights.iter().any(|&weight| weight > 0));
            let shares = shares(&weights);
            prop_assert_eq!(shares.iter().map(|&share| u32::from(share)).sum::<u32>(), 10_000);
            for (share, weight) in shares.iter().zip(&weights) {
                prop_assert!(*weight > 0 || *share == 0);
            }
        }
    }
}
