//! A proxy that starts beside a control plane with many services: how long until it serves all of
//! them, and what it needs for that. Envoy and the sidecar get the same from the same control plane.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use segue_tests::admin::Admin;
use segue_tests::binaries::Binaries;
use segue_tests::fetch::Fetch;
use segue_tests::process::Process;
use segue_tests::{wait, written};

use super::{LOAD_CORE, Outcome, PROXY_CORE, Plan, Quantity};
use crate::measure;
use crate::peers::{envoy, segue};
use crate::upstream::Upstream;

/// Documents of one request: below the limit of its size.
const BATCH: usize = 2_000;
const PATIENCE: Duration = Duration::from_mins(2);

const QUANTITIES: &[Quantity] = &[
    Quantity::new("seconds until all are served", "seconds", 2),
    Quantity::new("CPU s", "cpuSeconds", 2),
    Quantity::new("RSS MiB", "residentMiB", 1),
];

pub fn name(services: usize) -> String {
    format!("a snapshot of {services} clusters and {services} routes")
}

/// Starts each proxy anew in each round.
pub fn measure(plan: &Plan) -> io::Result<Outcome> {
    let dir = tempfile::Builder::new().prefix("segue-bench-").tempdir()?;
    let dir = dir.path();
    let upstream = Upstream::start(dir, LOAD_CORE)?;
    let binaries = Binaries::find()?;
    let control_plane = segue::control_plane(&binaries, dir, LOAD_CORE)?;
    let xds = control_plane.listening("xds")?;
    let mut admin = Admin::connect(control_plane.listening("admin")?)?;
    let all: Vec<usize> = (0..plan.services).collect();
    for batch in all.chunks(BATCH) {
        let yaml =
            batch.iter().map(|&it| written::service(&host(it), &[("v1", vec![upstream.http1])]));
        admin.apply(yaml.collect::<String>())?;
    }
    let mut outcome = Outcome::new(name(plan.services), QUANTITIES);
    let wanted = |name: &str| plan.only.is_empty() || plan.only.iter().any(|it| it == name);
    for round in 0..plan.rounds.min(3) {
        let dir = dir.join(round.to_string());
        std::fs::create_dir(&dir)?;
        if wanted("segue") {
            let begun = Instant::now();
            let around = ["taskset".into(), "-c".into(), PROXY_CORE.to_string()];
            let sidecar = segue::sidecar(&binaries, &dir, &around, xds)?;
            let address = sidecar.listening("outbound")?;
            outcome.add("segue", &served(&sidecar, address, begun, plan.services)?, 0);
        }
        if wanted("envoy") {
            let begun = Instant::now();
            let (envoy, address) = envoy::start_with_xds(xds, &dir, PROXY_CORE)?;
            outcome.add("envoy", &served(&envoy, address, begun, plan.services)?, 0);
        }
    }
    Ok(outcome)
}

fn host(index: usize) -> String {
    format!("service-{index:05}")
}

fn served(
    proxy: &Process,
    address: SocketAddr,
    begun: Instant,
    services: usize,
) -> io::Result<[f64; 3]> {
    let probes = [0, services / 3, services * 2 / 3, services - 1];
    for probe in probes.map(host) {
        wait::until(&format!("{probe} is served"), PATIENCE, || {
            let answer = Fetch::get(address, "/").host(&probe).send().ok()?;
            (answer.status == 200).then_some(())
        })?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    Ok([seconds, measure::cpu_seconds(proxy.id())?, measure::resident_mib(proxy.id())?])
}
