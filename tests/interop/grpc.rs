//! gRPC's own xDS clients follow everything that can happen, without a failed call.

use std::time::Duration;

use segue_tests::mesh::Mesh;
use segue_tests::peers;
use segue_tests::written::{service_of, split};

use crate::alone;
use crate::grpc_client::{GrpcClient, Language};

#[test]
fn python_clients_follow_without_a_failed_call() {
    follows(Language::Python);
}

#[test]
fn node_clients_follow_without_a_failed_call() {
    follows(Language::Node);
}

/// A fair draw of 300 calls at 80 % lies within 65 and 95 % but for one in a billion (6.5 σ).
const CALLS: u64 = 300;

fn near(share: f64, percent: f64) -> bool {
    (share * 100.0 - percent).abs() < 15.0
}

fn follows(language: Language) {
    let _turn = alone();
    let mut mesh = Mesh::start().unwrap();
    let (v1, v2) = (mesh.echo("v1").unwrap(), mesh.echo("v2").unwrap());
    let both = [("v1", vec![v1.address]), ("v2", vec![v2.address])];
    let chat = service_of("grpc", "chat", &both);
    mesh.apply(&(chat + &split("chat", &[("v1", 80), ("v2", 20)]))).unwrap();
    let xds = mesh.control_plane().xds_address;
    let Some(client) = peers::or_skip(GrpcClient::start(language, xds, "chat")) else { return };
    client.settles("80 : 20", CALLS, |share| near(share("v1"), 80.0)).unwrap();

    mesh.apply(&split("chat", &[("v1", 20), ("v2", 80)])).unwrap();
    client.settles("20 : 80", CALLS, |share| near(share("v1"), 20.0)).unwrap();

    // Another instance takes the place of one that then goes.
    let another = mesh.echo("v2-new").unwrap();
    let moved = [("v1", vec![v1.address]), ("v2", vec![another.address])];
    mesh.apply(&service_of("grpc", "chat", &moved)).unwrap();
    client.settles("the new instance", CALLS, |share| share("v2") == 0.0).unwrap();
    drop(v2);
    client.goes_on(CALLS).unwrap();

    // A version is taken away: first its weight, then itself.
    mesh.apply(&split("chat", &[("v1", 0), ("v2", 100)])).unwrap();
    client.settles("all on v2", CALLS, |share| share("v1") == 0.0).unwrap();
    let left = [("v2", vec![another.address])];
    let only = service_of("grpc", "chat", &left) + &split("chat", &[("v2", 100)]);
    mesh.apply(&only).unwrap();
    client.goes_on(CALLS).unwrap();
    drop(v1);

    // The control plane goes and comes back; what changes then is followed again.
    mesh.control_plane().kill9().unwrap();
    client.goes_on(CALLS).unwrap();
    mesh.control_plane().restart().unwrap();
    let third = mesh.echo("v3").unwrap();
    let versions = [("v2", vec![another.address]), ("v3", vec![third.address])];
    let grown = service_of("grpc", "chat", &versions);
    mesh.apply(&(grown + &split("chat", &[("v2", 50), ("v3", 50)]))).unwrap();
    client.settles("50 : 50", CALLS, |share| near(share("v3"), 50.0)).unwrap();

    let totals = client.totals();
    println!("{language:?}: {totals:?}");
    assert_eq!(totals.failed, 0, "{}", totals.error);
}

#[test]
fn a_service_that_does_not_exist_is_told_at_once() {
    let _turn = alone();
    let mut mesh = Mesh::start().unwrap();
    let xds = mesh.control_plane().xds_address;
    let started = GrpcClient::start(Language::Node, xds, "nobody");
    let Some(client) = peers::or_skip(started) else { return };
    // It waits for what may come yet, and serves as soon as it does.
    std::thread::sleep(Duration::from_millis(500));
    let app = mesh.echo("v1").unwrap();
    mesh.apply(&service_of("grpc", "nobody", &[("v1", vec![app.address])])).unwrap();
    client.goes_on(CALLS).unwrap();
}
