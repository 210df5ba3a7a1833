//! A new release of the sidecar takes the place of the running one.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use segue_tests::fetch::Fetch;
use segue_tests::load::{Load, Plan};
use segue_tests::mesh::Mesh;
use segue_tests::wait;
use segue_tests::written::service;

use crate::alone;

const PATIENCE: Duration = Duration::from_secs(20);

/// More and fewer workers than the process before has.
const WORKERS: [&str; 8] = ["2", "1", "3", "3", "1", "4", "2", "2"];

#[test]
fn no_caller_is_refused_or_cut_while_releases_follow_each_other() {
    let _turn = alone();
    let mesh = Mesh::start().unwrap();
    let (v1, v2) = (mesh.echo("v1").unwrap(), mesh.echo("v2").unwrap());
    let mut sidecar = mesh.sidecar("caller-1").unwrap();
    mesh.apply(&service("chat", &[("v1", vec![v1.address])])).unwrap();
    let outbound = sidecar.outbound;
    let load = Load::start(Plan::new(outbound, "chat")).unwrap();
    let newcomers = Newcomers::begin(outbound);
    wait::until("there is load", PATIENCE, || (load.report().requests > 300).then_some(()))
        .unwrap();

    let stream = Fetch::get(outbound, "/sse?n=20&ms=300").host("chat").timeout(PATIENCE);
    let stream = thread::spawn(move || stream.send());
    wait::until("the stream runs", PATIENCE, || {
        let metrics = sidecar.metrics().ok()?;
        let now = metrics.lines().find(|it| it.starts_with("segue_requests_in_flight{"))?;
        (!now.ends_with(" 0")).then_some(())
    })
    .unwrap();
    let mut old = Vec::new();
    for workers in WORKERS {
        old.push(sidecar.take_over(&[("--workers", workers)]).unwrap());
        let served = load.report().requests;
        wait::until("the load goes on", PATIENCE, || {
            (load.report().requests > served + 100).then_some(())
        })
        .unwrap();
    }
    let events = stream.join().unwrap().unwrap().body;
    let events = String::from_utf8_lossy(&events).matches("data:").count();
    assert_eq!(events, 20, "the old process served its stream to the end");
    for mut process in old {
        let status = process.ended_within(PATIENCE).unwrap();
        assert!(status.success(), "it drained and ended with {status}");
    }
    // The last one follows the control plane, alone.
    mesh.apply(&service("chat", &[("v2", vec![v2.address])])).unwrap();
    let answer = Fetch::get(outbound, "/").host("chat").send().unwrap();
    assert_eq!(answer.version, "v2");
    let (count, failures) = newcomers.end();
    assert!(failures.is_empty(), "{} of {count} new connections: {failures:?}", failures.len());
    assert!(count > 100, "{count}");
    let report = load.stop();
    assert_eq!(report.failed, 0, "{report}");
}

#[test]
fn what_cannot_take_the_place_leaves_the_running_one() {
    let _turn = alone();
    let mesh = Mesh::start().unwrap();
    let v1 = mesh.echo("v1").unwrap();
    let mut sidecar = mesh.sidecar("caller-1").unwrap();
    mesh.apply(&service("chat", &[("v1", vec![v1.address])])).unwrap();
    let outbound = sidecar.outbound;

    // It has been given everything by the time it finds that it cannot start.
    let nowhere = mesh.dir().join("missing/access.log");
    let flags = [("--access-log", nowhere.to_str().unwrap())];
    let error = sidecar.take_over(&flags).unwrap_err().to_string();
    assert!(error.contains("access.log"), "{error}");
    let path = mesh.dir().join("caller-1").join("takeover.sock");
    for words in ["segue-takeover 9\n", "GET / HTTP/1.1\r\n\r\n", "segue-takeover 1\nserved!\n", ""]
    {
        let mut stranger = UnixStream::connect(&path).unwrap();
        stranger.set_read_timeout(Some(PATIENCE)).unwrap();
        stranger.write_all(words.as_bytes()).unwrap();
        stranger.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        let _reset_or_end = stranger.read_to_end(&mut answer);
        assert!(!answer.ends_with(b"done\n"), "{words:?}");
    }
    assert_eq!(Fetch::get(outbound, "/").host("chat").send().unwrap().status, 200);

    // It can still be taken over by one that does it right.
    let mut old = sidecar.take_over(&[]).unwrap();
    assert!(old.ended_within(PATIENCE).unwrap().success());
    assert_eq!(Fetch::get(outbound, "/").host("chat").send().unwrap().status, 200);
}

/// Callers that open a connection for each request.
struct Newcomers {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    thread: thread::JoinHandle<Vec<String>>,
}

impl Newcomers {
    fn begin(outbound: std::net::SocketAddr) -> Self {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (until, counted) = (Arc::clone(&stop), Arc::clone(&count));
        let thread = thread::spawn(move || {
            let mut failures = Vec::new();
            while !until.load(Ordering::Relaxed) {
                match Fetch::get(outbound, "/").host("chat").send() {
                    Ok(answer) if answer.status == 200 => {}
                    Ok(answer) => failures.push(format!("status {}", answer.status)),
                    Err(error) => failures.push(error.to_string()),
                }
                counted.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(2));
            }
            failures
        });
        Self { stop, count, thread }
    }

    fn end(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let failures = self.thread.join().unwrap();
        (self.count.load(Ordering::Relaxed), failures)
    }
}
