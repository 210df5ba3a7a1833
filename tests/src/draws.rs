//! Draws that can be repeated: a failure is repeated by its seed.

use std::hash::{BuildHasher as _, RandomState};

/// The seed of tests that choose one (`SEGUE_TEST_SEED=…`).
const SEED: &str = "SEGUE_TEST_SEED";

/// A fixed sequence of draws.
#[derive(Clone, Debug)]
pub struct Draws(u64);

impl Draws {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A new sequence whose seed is printed, or that of the environment.
    pub fn printed() -> Self {
        let given = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| RandomState::new().hash_one(0_u8) >> 32);
        println!("{SEED}={seed}");
        Self::new(seed)
    }

    /// Another sequence, which goes its own way.
    #[must_use]
    pub fn apart(&mut self) -> Self {
        Self(u64::from(self.below(u32::MAX)) << 20)
    }

    /// Uniform in 0..limit.
    pub fn below(&mut self, limit: u32) -> u32 {
        // An LCG (Knuth's MMIX constants); the high bits are the good ones.
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as u32) % limit
    }

    /// One of them.
    pub fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len() as u32) as usize]
    }
}
