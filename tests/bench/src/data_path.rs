//! Requests through one proxy: what each costs in CPU time, and how many fit through.

use std::collections::BTreeMap;
use std::io;

use crate::load::{self, Shape};
use crate::measure;
use crate::peers::{self, Legs};
use crate::upstream::Upstream;

const PROXY_CORE: u32 = 0;
const LOAD_CORE: u32 = 1;
/// A window in which the hypervisor took more than this share of the time is dropped.
const MAX_STOLEN: f64 = 0.02;
/// How often a dropped window is repeated.
const REPEATS: u32 = 3;

/// How much is measured.
pub struct Plan {
    pub rounds: u32,
    /// Seconds of a window, instead of the work's own.
    pub seconds: Option<u32>,
    /// Only these proxies; all where it is empty.
    pub only: Vec<String>,
}

/// What one proxy gave for one work.
#[derive(Default)]
pub struct Series {
    pub cpu_seconds_per_million: Vec<f64>,
    pub requests_per_second: Vec<f64>,
    pub p50: Vec<f64>,
    pub p99: Vec<f64>,
    pub resident_mib: Vec<f64>,
    pub idle_resident_mib: f64,
    pub failed: u64,
}

/// One work and its series by proxy.
pub struct Outcome {
    pub work: &'static str,
    pub series: BTreeMap<&'static str, Series>,
    /// Windows dropped because the machine was taken away.
    pub dropped: u32,
}

struct Work {
    name: &'static str,
    legs: Legs,
    shape: Shape,
}

const WORKS: &[Work] = &[
    Work {
        name: "HTTP/1.1 → HTTP/1.1, 64 keep-alive connections, 1 KiB",
        legs: Legs { downstream_http2: false, upstream_http2: false },
        shape: Shape { http2: false, connections: 64, streams: 1, seconds: 5 },
    },
    Work {
        name: "HTTP/2 → HTTP/2, 8 connections × 32 streams, 1 KiB",
        legs: Legs { downstream_http2: true, upstream_http2: true },
        shape: Shape { http2: true, connections: 8, streams: 32, seconds: 5 },
    },
    Work {
        name: "HTTP/2 → HTTP/1.1, 8 connections × 32 streams, 1 KiB",
        legs: Legs { downstream_http2: true, upstream_http2: false },
        shape: Shape { http2: true, connections: 8, streams: 32, seconds: 5 },
    },
    Work {
        name: "HTTP/1.1 → HTTP/2, 64 keep-alive connections, 1 KiB",
        legs: Legs { downstream_http2: false, upstream_http2: true },
        shape: Shape { http2: false, connections: 64, streams: 1, seconds: 5 },
    },
];

/// Measures all works.
pub fn run(plan: &Plan) -> io::Result<Vec<Outcome>> {
    WORKS.iter().map(|work| measure_work(work, plan)).collect()
}

fn measure_work(work: &Work, plan: &Plan) -> io::Result<Outcome> {
    let dir = tempfile::Builder::new().prefix("segue-bench-").tempdir()?;
    let upstream = Upstream::start(dir.path(), LOAD_CORE)?;
    let proxies =
        peers::start_all(work.legs, &upstream, dir.path(), PROXY_CORE, LOAD_CORE, &plan.only)?;
    let shape = Shape { seconds: plan.seconds.unwrap_or(work.shape.seconds), ..work.shape };
    let warm_up = Shape { seconds: 1, ..shape };

    let mut outcome = Outcome { work: work.name, series: BTreeMap::new(), dropped: 0 };
    for proxy in &proxies {
        let idle_resident_mib = measure::resident_mib(proxy.pid)?;
        outcome.series.insert(proxy.name, Series { idle_resident_mib, ..Series::default() });
    }
    for round in 0..plan.rounds as usize {
        for turn in 0..proxies.len() {
            let proxy = &proxies[(round + turn) % proxies.len()];
            load::window(warm_up, proxy.address, LOAD_CORE, dir.path())?;
            for repeat in 0..=REPEATS {
                let cpu = measure::cpu_seconds(proxy.pid)?;
                let stolen = measure::stolen_seconds();
                let window = load::window(shape, proxy.address, LOAD_CORE, dir.path())?;
                let cpu = measure::cpu_seconds(proxy.pid)? - cpu;
                let seconds = window.requests / window.requests_per_second;
                let stolen = (measure::stolen_seconds() - stolen) / (2.0 * seconds);
                if stolen > MAX_STOLEN && repeat < REPEATS {
                    outcome.dropped += 1;
                    continue;
                }
                let series = outcome.series.entry(proxy.name).or_default();
                series.cpu_seconds_per_million.push(cpu * 1e6 / window.requests);
                series.requests_per_second.push(window.requests_per_second);
                series.p50.push(window.p50);
                series.p99.push(window.p99);
                series.resident_mib.push(measure::resident_mib(proxy.pid)?);
                series.failed += window.failed;
                break;
            }
        }
    }
    Ok(outcome)
}
