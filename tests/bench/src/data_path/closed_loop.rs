//! As many requests as fit through: what each of them, or each byte, costs in CPU time.

use std::io;
use std::path::Path;

use super::{LOAD_CORE, Outcome, PROXY_CORE, Plan, Quantity};
use crate::load::{self, Ask, Shape, Window};
use crate::measure;
use crate::peers::{self, Legs, Proxy, Setup, route_path};
use crate::upstream::{LARGE_BYTES, Upstream};

/// A window in which the hypervisor took more than this share of the time is dropped.
const MAX_STOLEN: f64 = 0.02;
/// How often a dropped window is repeated.
const REPEATS: u32 = 3;
const SECONDS: u32 = 5;

const BY_REQUEST: &[Quantity] = &[
    Quantity::new("CPU s / 1 M requests", "cpuSecondsPerMillionRequests", 1),
    Quantity::new("requests/s", "requestsPerSecond", 0),
    Quantity::new("p50 ms", "p50Milliseconds", 2),
    Quantity::new("p99 ms", "p99Milliseconds", 2),
    Quantity::new("RSS MiB", "residentMiB", 1),
    Quantity::new("idle RSS MiB", "idleResidentMiB", 1),
];
const BY_BYTE: &[Quantity] = &[
    Quantity::new("CPU s / GiB", "cpuSecondsPerGiB", 2),
    Quantity::new("GiB/s", "gibPerSecond", 2),
    Quantity::new("p50 ms", "p50Milliseconds", 2),
    Quantity::new("p99 ms", "p99Milliseconds", 2),
    Quantity::new("RSS MiB", "residentMiB", 1),
    Quantity::new("idle RSS MiB", "idleResidentMiB", 1),
];

/// Load of one kind on proxies that are all set up alike.
pub struct Work {
    pub name: String,
    setup: Setup,
    shape: Shape,
    /// Whether bytes are counted rather than requests.
    by_byte: bool,
}

impl Work {
    fn new(name: &str, legs: Legs, shape: Shape) -> Self {
        Self { name: name.into(), setup: Setup::new(legs), shape, by_byte: false }
    }

    fn large(name: &str, ask: Ask) -> Self {
        let shape = Shape::http1(4, SECONDS).asking(ask);
        Self { by_byte: true, ..Self::new(name, Legs::HTTP1, shape) }
    }

    fn routes(count: usize) -> Self {
        let ask = Ask::Get(format!("{}/x", route_path(count - 1)));
        let shape = Shape::http1(64, SECONDS).asking(ask);
        let name = format!("the last of {count} routes, HTTP/1.1, 64 keep-alive connections");
        let mut work = Self::new(&name, Legs::HTTP1, shape);
        work.setup.routes = count;
        work
    }
}

/// All works of this kind.
pub fn works() -> Vec<Work> {
    let http1 = || Shape::http1(64, SECONDS);
    let http2 = || Shape::http2(8, 32, SECONDS);
    let small = || Ask::Get("/".into());
    let mut grpc = Work::new(
        "gRPC unary, 8 connections × 32 streams, 128 B",
        Legs::HTTP2,
        http2().asking(Ask::Grpc),
    );
    grpc.setup.grpc = true;
    vec![
        Work::new(
            "HTTP/1.1 → HTTP/1.1, 64 keep-alive connections, 1 KiB",
            Legs::HTTP1,
            http1().asking(small()),
        ),
        Work::new(
            "HTTP/2 → HTTP/2, 8 connections × 32 streams, 1 KiB",
            Legs::HTTP2,
            http2().asking(small()),
        ),
        Work::new(
            "HTTP/2 → HTTP/1.1, 8 connections × 32 streams, 1 KiB",
            Legs { downstream_http2: true, upstream_http2: false },
            http2().asking(small()),
        ),
        Work::new(
            "HTTP/1.1 → HTTP/2, 64 keep-alive connections, 1 KiB",
            Legs { downstream_http2: false, upstream_http2: true },
            http1().asking(small()),
        ),
        grpc,
        Work::new(
            "a new connection for each request, HTTP/1.1, 64 at a time, 1 KiB",
            Legs::HTTP1,
            http1().asking(Ask::Once("/".into())),
        ),
        Work::large("10 MiB downloads, HTTP/1.1, 4 connections", Ask::Get("/large".into())),
        Work::large("10 MiB uploads, HTTP/1.1, 4 connections", Ask::Upload(LARGE_BYTES)),
        Work::routes(1),
        Work::routes(100),
        Work::routes(10_000),
    ]
}

/// Measures all proxies in interleaved rounds of rotating order.
pub fn measure(work: &Work, plan: &Plan) -> io::Result<Outcome> {
    let dir = tempfile::Builder::new().prefix("segue-bench-").tempdir()?;
    let upstream = Upstream::start(dir.path(), LOAD_CORE)?;
    let proxies =
        peers::start_all(work.setup, &upstream, dir.path(), PROXY_CORE, LOAD_CORE, &plan.only)?;
    let shape = work.shape.lasting(plan.seconds);
    let warm_up = work.shape.lasting(Some(1));
    let idle: Vec<f64> =
        proxies.iter().map(|it| measure::resident_mib(it.pid)).collect::<io::Result<_>>()?;
    let quantities = if work.by_byte { BY_BYTE } else { BY_REQUEST };
    let mut outcome = Outcome::new(&work.name, quantities);
    for round in 0..plan.rounds as usize {
        for turn in 0..proxies.len() {
            let at = (round + turn) % proxies.len();
            let proxy = &proxies[at];
            load::window(&warm_up, proxy.address, LOAD_CORE, dir.path())?;
            let (cpu, window) = undisturbed(&shape, proxy, dir.path(), &mut outcome.dropped)?;
            let resident = measure::resident_mib(proxy.pid)?;
            let gib = LARGE_BYTES as f64 / f64::from(1 << 30);
            let (cost, rate) = if work.by_byte {
                (cpu / (window.requests * gib), window.requests_per_second * gib)
            } else {
                (cpu * 1e6 / window.requests, window.requests_per_second)
            };
            let (p50, p99) = (window.p50 / 1e3, window.p99 / 1e3);
            outcome.add(proxy.name, &[cost, rate, p50, p99, resident, idle[at]], window.failed);
        }
    }
    Ok(outcome)
}

/// One window, again while the hypervisor takes the machine away, and the proxy's CPU seconds in it.
fn undisturbed(
    shape: &Shape,
    proxy: &Proxy,
    dir: &Path,
    dropped: &mut u32,
) -> io::Result<(f64, Window)> {
    let mut repeat = 0;
    loop {
        let cpu = measure::cpu_seconds(proxy.pid)?;
        let stolen = measure::stolen_seconds();
        let window = load::window(shape, proxy.address, LOAD_CORE, dir)?;
        let cpu = measure::cpu_seconds(proxy.pid)? - cpu;
        let seconds = window.requests / window.requests_per_second;
        let stolen = (measure::stolen_seconds() - stolen) / (2.0 * seconds);
        if stolen <= MAX_STOLEN || repeat == REPEATS {
            return Ok((cpu, window));
        }
        repeat += 1;
        *dropped += 1;
    }
}
