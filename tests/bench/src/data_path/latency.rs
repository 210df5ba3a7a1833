//! What a proxy adds to the time of a request at a fixed rate, far below what it could take.

use std::io;

use super::{LOAD_CORE, Outcome, PROXY_CORE, Plan, Quantity};
use crate::load;
use crate::measure;
use crate::peers::{self, Legs, Setup};
use crate::upstream::Upstream;

/// Requests a second.
pub const RATES: [u32; 2] = [500, 5_000];
const SECONDS: u32 = 6;

const QUANTITIES: &[Quantity] = &[
    Quantity::new("added p50 µs", "addedP50Microseconds", 0),
    Quantity::new("added p99 µs", "addedP99Microseconds", 0),
    Quantity::new("CPU s / 1 M requests", "cpuSecondsPerMillionRequests", 1),
];

pub fn name(rate: u32) -> String {
    format!("added latency at {rate} requests/s, HTTP/1.1, open loop, 20 connections")
}

/// Measures all proxies, in each round against the upstream without any.
pub fn measure(rate: u32, plan: &Plan) -> io::Result<Outcome> {
    let dir = tempfile::Builder::new().prefix("segue-bench-").tempdir()?;
    let upstream = Upstream::start(dir.path(), LOAD_CORE)?;
    let setup = Setup::new(Legs::HTTP1);
    let proxies =
        peers::start_all(setup, &upstream, dir.path(), PROXY_CORE, LOAD_CORE, &plan.only)?;
    let seconds = plan.seconds.unwrap_or(SECONDS);
    let window = |target, seconds| load::paced(target, rate, seconds, LOAD_CORE, dir.path());
    let mut outcome = Outcome::new(name(rate), QUANTITIES);
    for round in 0..plan.rounds as usize {
        let direct = window(upstream.http1, seconds)?;
        for turn in 0..proxies.len() {
            let proxy = &proxies[(round + turn) % proxies.len()];
            window(proxy.address, 1)?;
            let cpu = measure::cpu_seconds(proxy.pid)?;
            let through = window(proxy.address, seconds)?;
            let cpu = measure::cpu_seconds(proxy.pid)? - cpu;
            let values =
                [through.p50 - direct.p50, through.p99 - direct.p99, cpu * 1e6 / through.requests];
            outcome.add(proxy.name, &values, through.failed);
        }
    }
    Ok(outcome)
}
