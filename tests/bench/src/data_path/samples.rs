//! What was measured: for each proxy a series of samples of several quantities.

use std::collections::BTreeMap;

/// Something that is measured of each proxy.
#[derive(Clone, Copy)]
pub struct Quantity {
    /// With its unit, for people.
    pub name: &'static str,
    /// With its unit, for programs.
    pub key: &'static str,
    pub decimals: usize,
}

impl Quantity {
    pub const fn new(name: &'static str, key: &'static str, decimals: usize) -> Self {
        Self { name, key, decimals }
    }
}

/// What one proxy gave for one work.
pub struct Samples {
    /// One series for each quantity, with a sample for each round.
    pub series: Vec<Vec<f64>>,
    /// Requests without a good answer.
    pub failed: u64,
}

/// One work, and what each proxy gave for it.
pub struct Outcome {
    pub work: String,
    /// The first one is compared with the reference, round by round. Less is better.
    pub quantities: &'static [Quantity],
    pub proxies: BTreeMap<&'static str, Samples>,
    /// Windows dropped because the machine was taken away.
    pub dropped: u32,
}

impl Outcome {
    /// Nothing measured yet.
    pub fn new(work: impl Into<String>, quantities: &'static [Quantity]) -> Self {
        Self { work: work.into(), quantities, proxies: BTreeMap::new(), dropped: 0 }
    }

    /// Adds one round of a proxy: a value for each quantity, in their order.
    pub fn add(&mut self, proxy: &'static str, values: &[f64], failed: u64) {
        let samples = self.proxies.entry(proxy).or_insert_with(|| Samples {
            series: vec![Vec::new(); self.quantities.len()],
            failed: 0,
        });
        for (series, value) in samples.series.iter_mut().zip(values) {
            series.push(*value);
        }
        samples.failed += failed;
    }
}
