//! The control plane under ten thousand streams: what one change costs, what stays bounded when
//! changes do not end, and what a restart does.

mod client;
mod herd;
mod mesh;
mod process;
mod report;
mod tally;
mod wire;

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use segue_tests::admin::Admin;
use serde_json::Value;

use crate::measure::{cpu_seconds, resident_mib};
use process::{ControlPlane, HerdProcess};

pub use herd::{Herd, run as run_herd};
pub use report::{json, print_table};

/// What is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Streams of the main part.
    pub streams: usize,
    /// Services of the main part.
    pub services: usize,
    /// Streams and services where the cost of one change is compared.
    pub compared_streams: usize,
    pub compared_services: Vec<usize>,
    /// Weight changes that are measured one by one.
    pub changes: u32,
    /// How long endpoints change.
    pub churn: Duration,
}

/// Endpoint changes a second.
const CHURN_RATE: u32 = 100;
/// Pause for the machine to settle between parts.
const SETTLE: Duration = Duration::from_secs(2);

/// One part: streams and services, and what one change costs among them.
#[derive(Debug, Default)]
pub struct Part {
    pub streams: usize,
    pub services: usize,
    /// Seconds until every stream had its first snapshot.
    pub opened_seconds: f64,
    pub idle_mib: f64,
    pub resident_mib: f64,
    /// One entry a weight change.
    pub changes: Vec<Change>,
}

/// What one weight change cost.
#[derive(Debug)]
pub struct Change {
    pub seen: Value,
    pub cpu_seconds: f64,
}

/// Endpoint changes without an end.
#[derive(Debug)]
pub struct Churn {
    pub made: u32,
    pub seconds: f64,
    pub cpu_seconds: f64,
    pub before_mib: f64,
    pub most_mib: f64,
    /// From the last change on until every stream had it.
    pub seen: Value,
    pub settled_seconds: f64,
}

/// A crash under all streams.
#[derive(Debug)]
pub struct Restart {
    pub seconds: f64,
    pub most_mib: f64,
    pub seen: Value,
}

/// All that was measured.
#[derive(Debug)]
pub struct Outcome {
    pub main: Part,
    pub churn: Churn,
    pub restart: Restart,
    pub compared: Vec<Part>,
}

pub fn run(plan: &Plan) -> io::Result<Outcome> {
    let mut compared = Vec::new();
    for &services in &plan.compared_services {
        let mut fixture = Fixture::start(services, plan.compared_streams)?;
        fixture.measure_changes(plan.changes)?;
        compared.push(fixture.part);
    }
    let mut fixture = Fixture::start(plan.services, plan.streams)?;
    fixture.measure_changes(plan.changes)?;
    let churn = fixture.churn(plan.churn)?;
    let restart = fixture.restart()?;
    Ok(Outcome { main: fixture.part, churn, restart, compared })
}

struct Fixture {
    part: Part,
    revision: u64,
    herd: HerdProcess,
    admin: Admin,
    control_plane: ControlPlane,
    _dir: tempfile::TempDir,
}

impl Fixture {
    fn start(services: usize, streams: usize) -> io::Result<Self> {
        eprintln!("{services} services, {streams} streams");
        let dir = tempfile::Builder::new().prefix("segue-bench-").tempdir()?;
        let control_plane = ControlPlane::start(dir.path())?;
        let mut admin = Admin::connect(control_plane.admin)?;
        let revision = mesh::declare(&mut admin, services)?;
        thread::sleep(SETTLE);
        let idle_mib = resident_mib(control_plane.id())?;
        let begun = Instant::now();
        let mut herd = HerdProcess::start(control_plane.xds, streams, revision)?;
        herd.hear("synced")?;
        let opened_seconds = begun.elapsed().as_secs_f64();
        thread::sleep(SETTLE);
        let resident_mib = resident_mib(control_plane.id())?;
        let part =
            Part { streams, services, opened_seconds, idle_mib, resident_mib, changes: Vec::new() };
        eprintln!("  {opened_seconds:.1} s until all have the first snapshot");
        Ok(Self { part, revision, herd, admin, control_plane, _dir: dir })
    }

    fn measure_changes(&mut self, changes: u32) -> io::Result<()> {
        for turn in 0..changes {
            thread::sleep(SETTLE);
            let index = (turn as usize * 7) % self.part.services;
            let yaml = mesh::weighted(index, 11 + turn % 50);
            self.herd.expect(self.revision + 1)?;
            let before = cpu_seconds(self.control_plane.id())?;
            self.revision = self.admin.apply(yaml)?;
            let seen = self.herd.hear("arrived")?;
            // The last ACKs are part of the cost.
            thread::sleep(Duration::from_millis(500));
            let cpu_seconds = cpu_seconds(self.control_plane.id())? - before;
            self.part.changes.push(Change { seen, cpu_seconds });
        }
        Ok(())
    }

    fn churn(&mut self, length: Duration) -> io::Result<Churn> {
        let before_mib = resident_mib(self.control_plane.id())?;
        let before = cpu_seconds(self.control_plane.id())?;
        let (begun, pause) = (Instant::now(), Duration::from_secs(1) / CHURN_RATE);
        let made = (length.as_secs_f64() * f64::from(CHURN_RATE)) as u32;
        self.herd.expect(self.revision + u64::from(made))?;
        let mut most_mib = before_mib;
        for turn in 0..made {
            let index = turn as usize % self.part.services;
            let generation = 1 + turn as usize / self.part.services;
            self.revision = self.admin.apply(mesh::declared(index, generation))?;
            if turn % CHURN_RATE == 0 {
                most_mib = most_mib.max(resident_mib(self.control_plane.id())?);
            }
            let due = begun + pause * (turn + 1);
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let ended = Instant::now();
        let seconds = (ended - begun).as_secs_f64();
        let seen = self.herd.hear("arrived")?;
        let settled_seconds = ended.elapsed().as_secs_f64();
        let cpu_seconds = cpu_seconds(self.control_plane.id())? - before;
        most_mib = most_mib.max(resident_mib(self.control_plane.id())?);
        Ok(Churn { made, seconds, cpu_seconds, before_mib, most_mib, seen, settled_seconds })
    }

    /// All streams come back at once, with what they hold.
    fn restart(&mut self) -> io::Result<Restart> {
        thread::sleep(SETTLE);
        let begun = Instant::now();
        self.control_plane.crash()?;
        self.admin = Admin::connect(self.control_plane.admin)?;
        self.herd.expect(self.revision + 1)?;
        self.revision = self.admin.apply(mesh::weighted(0, 77))?;
        let id = self.control_plane.id();
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let watched = {
            let stop = std::sync::Arc::clone(&stop);
            thread::spawn(move || {
                let mut most: f64 = 0.0;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    most = most.max(resident_mib(id).unwrap_or(0.0));
                    thread::sleep(Duration::from_millis(200));
                }
                most
            })
        };
        let seen = self.herd.hear("arrived")?;
        let seconds = begun.elapsed().as_secs_f64();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let most_mib = watched.join().unwrap_or(0.0);
        Ok(Restart { seconds, most_mib, seen })
    }
}
