//! The control plane is gone: users do not notice, and its return is cheap.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use segue_tests::load::{Load, Plan, survey};
use segue_tests::mesh::{Mesh, Sidecar};
use segue_tests::wait;
use segue_tests::written::{USER_HEADER, service, split};

use crate::delta_client::DeltaClient;
use crate::{alone, full};

const BACK_LIMIT: Duration = Duration::from_secs(40);

#[test]
fn users_do_not_notice_that_the_control_plane_is_gone() {
    let _turn = alone();
    let outage = Duration::from_secs(if full() { 60 } else { 10 });
    let mut mesh = Mesh::start().unwrap();
    let (v1, v2) = (mesh.echo("v1").unwrap(), mesh.echo("v2").unwrap());
    let first = mesh.sidecar("caller-1").unwrap();
    let mut second = mesh.sidecar("caller-2").unwrap();
    let chat = service("chat", &[("v1", vec![v1.address]), ("v2", vec![v2.address])]);
    mesh.apply(&(chat + &split("chat", &[("v1", 70), ("v2", 30)]))).unwrap();

    let load = Load::start(Plan::new(first.outbound, "chat")).unwrap();
    thread::sleep(Duration::from_secs(1));
    mesh.control_plane().kill9().unwrap();
    thread::sleep(outage / 2);

    // A sidecar that starts now knows what it knew.
    second.crash_and_restart().unwrap();
    second.wait_ready().unwrap();
    let keys: Vec<String> = (0..500).map(|i| format!("user-{i}")).collect();
    let ask = |sidecar: &Sidecar| survey(sidecar.outbound, "chat", USER_HEADER, &keys).unwrap();
    let from_disk = ask(&second);
    assert!(from_disk.iter().any(|version| version == "v2"));
    assert!(ask(&first) == from_disk, "the sidecar that started from disk disagrees");
    thread::sleep(outage / 2);

    mesh.control_plane().restart().unwrap();
    wait_connected(&mesh, 2);
    mesh.apply(&split("chat", &[("v1", 0), ("v2", 100)])).unwrap();
    assert!(ask(&second).iter().all(|version| version == "v2"), "changes arrive again");
    let report = load.stop();
    println!("outage of {outage:?}: {report}");
    report.assert_clean();
    assert_eq!(report.moved_backwards, 0, "{report}");
}

#[test]
fn a_reconnect_brings_only_what_changed() {
    let _turn = alone();
    let mut mesh = Mesh::start().unwrap();
    let app = mesh.echo("v1").unwrap();
    let services = |versions: &[&str]| {
        let versions: Vec<_> = versions.iter().map(|v| (*v, vec![app.address])).collect();
        (0..20).map(|i| service(&format!("s{i}"), &versions)).collect::<String>()
    };
    mesh.admin().unwrap().apply(services(&["v1", "v2"])).unwrap();
    let mut client = DeltaClient::new().unwrap();
    let xds = mesh.control_plane().xds_address;
    wait::until("all clusters are there", Duration::from_secs(10), || {
        client.connect(xds).ok()?;
        (client.clusters() == 40).then_some(())
    })
    .unwrap();

    mesh.control_plane().restart().unwrap();
    let versions = |versions: &[&'static str]| -> Vec<_> {
        versions.iter().map(|version| (*version, vec![app.address])).collect()
    };
    let grown = service("s3", &versions(&["v1", "v2", "v3"]));
    let shrunk = service("s4", &versions(&["v2"]));
    mesh.admin().unwrap().apply(grown + &shrunk).unwrap();
    let mut changed = BTreeSet::new();
    let mut removed = BTreeSet::new();
    wait::until("the changes are there", Duration::from_secs(10), || {
        let brought = client.connect(xds).ok()?;
        changed.extend(brought.changed);
        removed.extend(brought.removed);
        (!changed.is_empty() && !removed.is_empty()).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {changed:?} {removed:?}"));
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    // The routes change because `s4` has another default version now.
    let new = ["Cluster default/s3/v3", "ClusterLoadAssignment default/s3/v3"];
    assert_eq!(changed, names(&[new[0], new[1], "RouteConfiguration outbound"]));
    assert!(removed.is_superset(&names(&["Cluster default/s4/v1"])), "{removed:?}");
    assert!(
        removed
            .is_subset(&names(&["Cluster default/s4/v1", "ClusterLoadAssignment default/s4/v1",]))
    );
}

fn wait_connected(mesh: &Mesh, count: usize) {
    wait::until("the sidecars are back", BACK_LIMIT, || {
        let sidecars = mesh.admin().ok()?.sidecars().ok()?;
        (sidecars.iter().filter(|sidecar| sidecar.connected).count() == count).then_some(())
    })
    .unwrap();
}
