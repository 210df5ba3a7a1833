//! Row 41: a sidecar that may open no more files.

use std::fs;
use std::net::TcpStream;
use std::time::Duration;

use segue_tests::binaries::Binaries;
use segue_tests::fetch::Fetch;
use segue_tests::load::{Load, Pace, Plan};
use segue_tests::mesh::Mesh;
use segue_tests::process::Program;
use segue_tests::wait;
use segue_tests::written::service;

use crate::alone;

const PATIENCE: Duration = Duration::from_secs(20);
const MOST_FILES: u32 = 90;
const COMPLAINT: &str = "cannot accept connections";

#[test]
fn who_is_served_goes_on_to_be_and_others_are_as_soon_as_there_is_room() {
    let _turn = alone();
    let mut mesh = Mesh::start().unwrap();
    let app = mesh.echo("v1").unwrap();
    mesh.apply(&service("chat", &[("v1", vec![app.address])])).unwrap();
    let limited = Program::new("limited", "prlimit", mesh.dir())
        .arg(format!("--nofile={MOST_FILES}:{MOST_FILES}"))
        .arg(Binaries::find().unwrap().sidecar())
        .flag("--service", "caller")
        .flag("--workers", "1")
        // Its default would keep away from the limit.
        .flag("--max-connections", "10000")
        .flag("--control-plane", format!("http://{}", mesh.control_plane().xds_address))
        .flag("--outbound-address", "127.0.0.1:0")
        .flag("--admin-address", "127.0.0.1:0")
        .start()
        .unwrap();
    let outbound = limited.listening("outbound").unwrap();
    let serves = || Fetch::get(outbound, "/").host("chat").send().is_ok_and(|it| it.status == 200);
    wait::until("it serves", PATIENCE, || serves().then_some(())).unwrap();

    // One at a time, so that its connection to the upstream is there already.
    let one = Plan { http1_connections: 1, http2_connections: 0, ..Plan::new(outbound, "chat") };
    let load = Load::start(Plan { pace: Pace::Open(100.0), ..one }).unwrap();
    let more = |than: u64| (load.report().requests > than).then_some(());
    wait::until("there is load", PATIENCE, || more(50)).unwrap();
    let crowd: Vec<TcpStream> =
        (0..2 * MOST_FILES).map(|_| TcpStream::connect(outbound).unwrap()).collect();
    let log = mesh.dir().join("limited.log");
    let complaints = || fs::read_to_string(&log).unwrap().matches(COMPLAINT).count();
    wait::until("it has no file left", PATIENCE, || (complaints() > 0).then_some(())).unwrap();
    let before = load.report().requests;
    wait::until("those that are connected are served", PATIENCE, || more(before + 200)).unwrap();
    // Two seconds, in which it tried again after 50 ms and ever longer pauses: it does not spin.
    let tried = complaints();
    assert!(tried <= 12, "{tried} tries");
    drop(crowd);
    wait::until("others are served again", PATIENCE, || serves().then_some(())).unwrap();
    let report = load.stop();
    assert_eq!(report.failed, 0, "{report}");
}
