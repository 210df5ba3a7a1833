//! Everything at once and for long: every kind of call, pushes, applications that move and crash,
//! callers that behave badly. No failure is left unexplained, and the sidecar does not grow.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use segue_tests::admin::Admin;
use segue_tests::draws::Draws;
use segue_tests::load::{Load, Pace, Plan};
use segue_tests::mesh::{Mesh, Sidecar};
use segue_tests::mixed::{Kind, Mixed, Targets, tcp_echo};
use segue_tests::wait;
use segue_tests::written::service_of;

use crate::apps::Apps;
use crate::config::{State, push};
use crate::{alone, full};

const KINDS: [(Kind, usize); 16] = [
    (Kind::Events1, 3),
    (Kind::Events2, 3),
    (Kind::Upload1, 2),
    (Kind::Upload2, 2),
    (Kind::GrpcUnary, 2),
    (Kind::GrpcStream, 2),
    (Kind::WebSocket, 3),
    (Kind::Tcp, 2),
    (Kind::Download1, 1),
    (Kind::SlowReader1, 1),
    (Kind::SlowReader2, 1),
    (Kind::Vanishing1, 1),
    (Kind::Vanishing2, 1),
    (Kind::Aborted1, 1),
    (Kind::Aborted2, 1),
    (Kind::HalfOpen, 3),
];
const ACTIVATION_LIMIT: Duration = Duration::from_secs(30);
const PUSH_EVERY: Duration = Duration::from_millis(200);
/// One step in so many is a crash instead of a push.
const CRASH_EVERY: u32 = 12;
/// After an application is back, what met its crash may still end badly for so long.
const CRASH_GRACE: Duration = Duration::from_secs(2);
const SAMPLE_EVERY: Duration = Duration::from_millis(250);
/// What the resident memory may differ by from the middle third of the time to the last.
const MOST_GROWTH_BYTES: u64 = 5 << 20;
/// The same for a short time: in the first minute the allocator, the pools and the tables of the
/// 16 kinds of calls still find their size, about 15 MiB in a debug build.
const MOST_EARLY_GROWTH_BYTES: u64 = 10 << 20;
const LONG: Duration = Duration::from_mins(5);
const BACK_LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_soak_of_everything_leaves_no_failure_unexplained_and_nothing_behind() {
    let _turn = alone();
    let length = length();
    let mesh = Mesh::start().unwrap();
    let mut apps = Apps::start(&mesh, 0..3);
    let mut sidecar = mesh.sidecar("caller-1").unwrap();
    let mut admin = mesh.admin().unwrap();
    let mut draws = Draws::printed();
    let pid = sidecar.process().id();
    let files_before = open_files(pid).unwrap();

    let mut state = State { retries: true, ..State::default() };
    let tcp = service_of("tcp", "bytes", &[("v1", vec![tcp_echo().unwrap()])])
        .replace("spec:\n", "spec:\n  port: 7\n");
    let revision = admin.apply(tcp + &state.yaml(&apps.addresses())).unwrap();
    admin.wait_activated(revision, ACTIVATION_LIMIT).unwrap();
    let (http, grpc, tcp) = ("chat".into(), "calls".into(), "bytes:7".into());
    let targets = Targets { sidecar: sidecar.outbound, http, grpc, tcp };
    let mixed = Mixed::start(&targets, &KINDS, draws.apart()).unwrap();
    let plan = Plan { pace: Pace::Open(200.0), ..Plan::new(sidecar.outbound, "chat") };
    let load = Load::start(plan).unwrap();

    let memory = Memory::watch(pid);
    let end = Instant::now() + length;
    let (mut pushes, mut crashes) = (0, 0);
    while Instant::now() < end {
        if (pushes + crashes) % CRASH_EVERY == CRASH_EVERY - 1 {
            // Of each version another instance is there, so that requests that may be repeated can.
            let next = State { endpoints: [[true; 2]; 3], ..state.clone() };
            let revision = push(&mut admin, &state, &next, &apps.addresses());
            admin.wait_activated(revision, ACTIVATION_LIMIT).unwrap();
            state = next;
            let excuse = mixed.excuse(CRASH_GRACE);
            apps.crash(&mesh, &mut draws);
            drop(excuse);
            crashes += 1;
        } else {
            let next = state.changed(&mut draws);
            let revision = push(&mut admin, &state, &next, &apps.addresses());
            state = next;
            pushes += 1;
            if draws.below(3) == 0 {
                admin.wait_activated(revision, ACTIVATION_LIMIT).unwrap();
                apps.replace(&mesh, &state, &mut draws);
            }
        }
        std::thread::sleep(PUSH_EVERY);
    }
    let memory = memory.stop();
    let report = mixed.stop();
    let requests = load.stop();
    println!("{length:?}, {pushes} pushes, {crashes} crashes\n{requests}\n{report}");
    println!("resident, KiB, in the middle and at the end: {} {}", memory.0 >> 10, memory.1 >> 10);
    report.assert_explained(&KINDS);
    assert_eq!(requests.failed, 0, "what may be repeated is: {requests}");
    let most = if length >= LONG { MOST_GROWTH_BYTES } else { MOST_EARLY_GROWTH_BYTES };
    assert!(
        memory.1 <= memory.0 + most,
        "the sidecar grew from {} to {} bytes",
        memory.0,
        memory.1
    );
    all_is_given_back(&sidecar, &mut admin, pid, files_before);
}

/// Without callers and services the sidecar is what it was before.
fn all_is_given_back(sidecar: &Sidecar, admin: &mut Admin, pid: u32, files_before: usize) {
    for kind in ["Route", "TrafficPolicy", "Service"] {
        let names = admin.names(kind).unwrap();
        let all: Vec<(&str, &str)> = names.iter().map(|name| (kind, name.as_str())).collect();
        if !all.is_empty() {
            let revision = admin.delete(&all).unwrap();
            admin.wait_activated(revision, ACTIVATION_LIMIT).unwrap();
        }
    }
    let mut files = 0;
    wait::until("files are back to where they were", BACK_LIMIT, || {
        files = open_files(pid).ok()?;
        (files <= files_before).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {files} are open, {files_before} were"));
    let metrics = sidecar.metrics().unwrap();
    assert!(metrics.contains("\nsegue_downstream_connections 0\n"), "{metrics}");
    let busy = metrics
        .lines()
        .find(|line| line.starts_with("segue_requests_in_flight{") && !line.ends_with(" 0"));
    assert_eq!(busy, None, "requests that nobody waits for");
    println!("files: {files_before} before, {files} after");
}

/// 20 seconds; half an hour, or as long as is said, where there is time for it.
fn length() -> Duration {
    let minutes = std::env::var("SEGUE_SOAK_MINUTES").ok();
    let minutes = minutes.and_then(|text| text.parse::<u64>().ok());
    match (minutes, full()) {
        (Some(minutes), _) => Duration::from_secs(60 * minutes),
        (None, true) => Duration::from_mins(30),
        (None, false) => Duration::from_secs(20),
    }
}

/// Samples of the resident memory of a process.
struct Memory {
    stop: std::sync::mpsc::Sender<()>,
    thread: std::thread::JoinHandle<Vec<u64>>,
}

impl Memory {
    fn watch(pid: u32) -> Self {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            let mut samples = Vec::new();
            while stopped.recv_timeout(SAMPLE_EVERY).is_err() {
                samples.push(resident_bytes(pid).unwrap());
            }
            samples
        });
        Self { stop, thread }
    }

    /// The medians of the middle third and of the last.
    fn stop(self) -> (u64, u64) {
        self.stop.send(()).unwrap();
        let samples = self.thread.join().unwrap();
        let third = samples.len() / 3;
        let median = |samples: &[u64]| {
            let mut samples = samples.to_vec();
            samples.sort_unstable();
            samples[samples.len() / 2]
        };
        (median(&samples[third..2 * third]), median(&samples[2 * third..]))
    }
}

fn resident_bytes(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.map(|kib| kib << 10).ok_or_else(|| io::Error::other("no VmRSS"))
}

fn open_files(pid: u32) -> io::Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}
