//! Traffic through one proxy at a time: what it costs in CPU time, in latency and in memory.

mod closed_loop;
mod idle;
mod latency;
mod samples;
mod snapshot;

use std::io;

pub use samples::{Outcome, Quantity, Samples};

/// Each proxy has this core for itself; load, upstream and control plane share the other one.
const PROXY_CORE: u32 = 0;
const LOAD_CORE: u32 = 1;

/// How much is measured.
pub struct Plan {
    pub rounds: u32,
    /// Seconds of a window, instead of the work's own.
    pub seconds: Option<u32>,
    /// Only these proxies; all where it is empty.
    pub only: Vec<String>,
    /// Only works whose name holds one of these; all where it is empty.
    pub works: Vec<String>,
    /// Services of the snapshot that is applied.
    pub services: usize,
}

impl Plan {
    fn wants(&self, work: &str) -> bool {
        self.works.is_empty() || self.works.iter().any(|part| work.contains(part.as_str()))
    }
}

/// Measures all works that the plan wants, and hands each one on as soon as it is there.
pub fn run(plan: &Plan, mut done: impl FnMut(&Outcome)) -> io::Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    let mut keep = |outcome: Option<Outcome>| {
        if let Some(outcome) = outcome {
            done(&outcome);
            outcomes.push(outcome);
        }
    };
    for work in closed_loop::works() {
        keep(plan.wants(&work.name).then(|| closed_loop::measure(&work, plan)).transpose()?);
    }
    for rate in latency::RATES {
        let name = latency::name(rate);
        keep(plan.wants(&name).then(|| latency::measure(rate, plan)).transpose()?);
    }
    keep(plan.wants(idle::NAME).then(|| idle::measure(plan)).transpose()?);
    let name = snapshot::name(plan.services);
    keep(plan.wants(&name).then(|| snapshot::measure(plan)).transpose()?);
    Ok(outcomes)
}
