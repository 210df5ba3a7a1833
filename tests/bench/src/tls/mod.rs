//! `bench tls`: what mTLS with callers costs: requests over connections that stay, and connections of
//! one request each, with full handshakes and with resumed sessions.

mod load;
mod peers;

use std::io;
use std::path::Path;

use segue_tests::authority::Authority;

pub use load::{Load, run_load};

use self::load::{Kind, Window};
use self::peers::{Proxy, start_all};
use crate::data_path::{Outcome, Quantity};
use crate::measure;
use crate::upstream::Upstream;

/// Each proxy has this core for itself; load and upstream share the other one.
const PROXY_CORE: u32 = 0;
const LOAD_CORE: u32 = 1;
const SECONDS: u32 = 5;
const CONNECTIONS: u32 = 64;
/// Handshakes at one time: as many as the client keeps tickets for one server. With more, proxies
/// that send one ticket a connection would pay for those that the client threw away.
const HANDSHAKES: u32 = 8;

const BY_REQUEST: &[Quantity] = &[
    Quantity::new("CPU µs a request", "cpuMicrosecondsPerRequest", 1),
    Quantity::new("requests/s", "requestsPerSecond", 0),
    Quantity::new("p50 ms", "p50Milliseconds", 2),
    Quantity::new("resumed %", "resumedPercent", 1),
    Quantity::new("RSS MiB", "residentMiB", 1),
];
const BY_HANDSHAKE: &[Quantity] = &[
    Quantity::new("CPU µs a connection", "cpuMicrosecondsPerConnection", 0),
    Quantity::new("handshakes/s", "handshakesPerSecond", 0),
    Quantity::new("p50 ms", "p50Milliseconds", 2),
    Quantity::new("resumed %", "resumedPercent", 1),
    Quantity::new("RSS MiB", "residentMiB", 1),
];

/// How much is measured.
pub struct Plan {
    pub rounds: u32,
    /// Seconds of a window, instead of the usual.
    pub seconds: Option<u32>,
    /// Only these proxies; all where it is empty.
    pub only: Vec<String>,
}

/// Measures all works, and hands each one on as soon as it is there.
pub fn run(plan: &Plan, mut done: impl FnMut(&Outcome)) -> io::Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for (name, kind, connections, quantities) in [
        (
            "mTLS → HTTP/1.1, 64 keep-alive connections, 1 KiB",
            Kind::KeepAlive,
            CONNECTIONS,
            BY_REQUEST,
        ),
        (
            "full handshake with client certificate and one request, 8 at a time",
            Kind::Full,
            HANDSHAKES,
            BY_HANDSHAKE,
        ),
        ("resumed session and one request, 8 at a time", Kind::Resumed, HANDSHAKES, BY_HANDSHAKE),
    ] {
        let mut outcome = Outcome::new(name, quantities);
        measure_one(plan, kind, connections, &mut outcome)?;
        done(&outcome);
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

/// Interleaved rounds in rotating order.
fn measure_one(plan: &Plan, kind: Kind, connections: u32, outcome: &mut Outcome) -> io::Result<()> {
    let dir = tempfile::Builder::new().prefix("segue-bench-").tempdir()?;
    let dir = dir.path();
    let authority = Authority::new(&dir.join("certificates"))?;
    let (own, caller) = (authority.of_service("app")?, authority.of_service("caller")?);
    let upstream = Upstream::start(dir, LOAD_CORE)?;
    let proxies = start_all(&own, upstream.http1, dir, PROXY_CORE, LOAD_CORE, &plan.only)?;
    let seconds = plan.seconds.unwrap_or(SECONDS);
    let window = |proxy: &Proxy, seconds: u32, log: &Path| {
        let load = Load {
            target: proxy.address,
            kind,
            connections,
            seconds,
            certificate: caller.certificate.clone(),
            key: caller.key.clone(),
        };
        load::window(&load, LOAD_CORE, log)
    };
    for round in 0..plan.rounds as usize {
        for turn in 0..proxies.len() {
            let proxy = &proxies[(round + turn) % proxies.len()];
            window(proxy, 1, dir)?;
            let cpu = measure::cpu_seconds(proxy.pid)?;
            let Window { requests, failed, resumed, p50_seconds } = window(proxy, seconds, dir)?;
            let cpu = measure::cpu_seconds(proxy.pid)? - cpu;
            let resident = measure::resident_mib(proxy.pid)?;
            let all = requests.max(1) as f64;
            let share = 100.0 * resumed as f64 / all;
            let share = if kind == Kind::KeepAlive { 0.0 } else { share };
            let rate = requests as f64 / f64::from(seconds);
            let values = [cpu * 1e6 / all, rate, p50_seconds * 1e3, share, resident];
            outcome.add(proxy.name, &values, failed);
        }
    }
    Ok(())
}
