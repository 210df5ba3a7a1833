//! A sidecar that is asked to end lets every request end first.

use std::thread;
use std::time::{Duration, Instant};

use segue_tests::fetch::Fetch;
use segue_tests::load::{Load, Plan, Protocol};
use segue_tests::mesh::Mesh;
use segue_tests::wait;
use segue_tests::written::service;

use crate::alone;

#[test]
fn requests_in_flight_end_before_a_sidecar_does() {
    let _turn = alone();
    let mesh = Mesh::start().unwrap();
    let app = mesh.echo("v1").unwrap();
    let mut sidecar = mesh.sidecar("caller-1").unwrap();
    mesh.apply(&service("chat", &[("v1", vec![app.address])])).unwrap();
    let outbound = sidecar.outbound;

    // Eleven events in four seconds, over each protocol; and a request that waits two seconds.
    let in_flight: Vec<_> = [
        (Protocol::Http1, "/sse?n=11&ms=400"),
        (Protocol::Http2, "/sse?n=11&ms=400"),
        (Protocol::Http1, "/delay?ms=2000"),
        (Protocol::Http2, "/delay?ms=2000"),
    ]
    .map(|(protocol, path)| {
        let fetch = Fetch::get(outbound, path).host("chat").protocol(protocol);
        thread::spawn(move || (path, protocol, fetch.timeout(Duration::from_secs(20)).send()))
    })
    .into();
    let load = Load::start(Plan::new(outbound, "chat")).unwrap();
    wait::until("there is load", Duration::from_secs(10), || {
        (load.report().requests > 300).then_some(())
    })
    .unwrap();

    let asked = Instant::now();
    sidecar.process().ask_to_end().unwrap();
    for answer in in_flight {
        let (path, protocol, answer) = answer.join().unwrap();
        let answer = answer.unwrap_or_else(|error| panic!("{protocol:?} {path}: {error}"));
        assert_eq!(answer.status, 200);
        let events = String::from_utf8_lossy(&answer.body).matches("data:").count();
        assert!(!path.starts_with("/sse") || events == 11, "{events} events over {protocol:?}");
    }
    let status = sidecar.process().ended_within(Duration::from_secs(15)).unwrap();
    assert!(status.success(), "it ended with {status}");
    println!("drained in {:?}", asked.elapsed());
    let report = load.stop();
    // New connections are refused once it has ended; nothing that was on a connection is lost.
    let lost: Vec<_> =
        report.reasons.iter().filter(|(reason, _)| !reason.starts_with("connect")).collect();
    assert!(lost.is_empty(), "{report}");
}

/// Its answer may need other services, and it opens new connections for them.
#[test]
fn the_application_reaches_others_as_long_as_it_answers() {
    let _turn = alone();
    let mesh = Mesh::start().unwrap();
    let app = mesh.echo("v1").unwrap();
    let address = app.address.to_string();
    let mut sidecar = mesh.sidecar_with("chat-1", &[("--app-address", &address)]).unwrap();
    mesh.apply(&service("chat", &[("v1", vec![app.address])])).unwrap();
    sidecar.wait_ready().unwrap();

    let (inbound, outbound) = (sidecar.inbound, sidecar.outbound);
    let slow = Fetch::get(inbound, "/delay?ms=3000").host("chat").timeout(Duration::from_secs(20));
    let slow = thread::spawn(move || slow.send());
    wait::until("the application is at work", Duration::from_secs(10), || {
        let metrics = sidecar.metrics().unwrap();
        metrics.contains("\nsegue_requests_in_flight{cluster=\"inbound\"} 1\n").then_some(())
    })
    .unwrap();
    sidecar.process().ask_to_end().unwrap();
    wait::until("no one new comes in", Duration::from_secs(2), || {
        Fetch::get(inbound, "/").host("chat").send().err()
    })
    .unwrap();
    let needed = Fetch::get(outbound, "/").host("chat").send().unwrap();
    assert_eq!(needed.status, 200);
    assert_eq!(slow.join().unwrap().unwrap().status, 200);
    assert!(sidecar.process().ended_within(Duration::from_secs(15)).unwrap().success());
}
