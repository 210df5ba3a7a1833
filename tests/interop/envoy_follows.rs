//! Real Envoy follows everything that can happen, without a failed request.

use segue_tests::load::{Load, Plan, survey};
use segue_tests::mesh::Mesh;
use segue_tests::written::{USER_HEADER, service, split};
use segue_tests::{peers, wait};

use crate::alone;
use crate::envoy_process::{Envoy, FOLLOW_LIMIT, Variant};

#[test]
fn envoy_over_delta_follows_without_a_failed_request() {
    follows(Variant::Delta);
}

#[test]
fn envoy_over_state_of_the_world_follows_without_a_failed_request() {
    follows(Variant::StateOfTheWorld);
}

fn follows(variant: Variant) {
    let Some(program) = peers::or_skip(peers::envoy()) else { return };
    let _turn = alone();
    let mut mesh = Mesh::start().unwrap();
    let (v1, v2) = (mesh.echo("v1").unwrap(), mesh.echo("v2").unwrap());
    let both = [("v1", vec![v1.address]), ("v2", vec![v2.address])];
    mesh.apply(&(service("chat", &both) + &split("chat", &[("v1", 80), ("v2", 20)]))).unwrap();
    let envoy = Envoy::start(&mut mesh, &program, variant).unwrap();
    let keys: Vec<String> = (0..1000).map(|i| format!("user-{i}")).collect();
    let serves = |what: &str, fits: &dyn Fn(f64) -> bool, version: &str| {
        wait::until(what, FOLLOW_LIMIT, || {
            let answers = survey(envoy.outbound, "chat", USER_HEADER, &keys).ok()?;
            let on = answers.iter().filter(|answer| *answer == version).count();
            fits(on as f64 / keys.len() as f64).then_some(())
        })
        .unwrap();
    };
    let load = Load::start(Plan::new(envoy.outbound, "chat")).unwrap();

    mesh.apply(&split("chat", &[("v1", 20), ("v2", 80)])).unwrap();
    serves("the new weights", &|share| (share - 0.8).abs() < 0.1, "v2");

    // Another instance takes the place of one that then goes.
    let another = mesh.echo("v2-new").unwrap();
    let moved = [("v1", vec![v1.address]), ("v2", vec![another.address])];
    mesh.apply(&service("chat", &moved)).unwrap();
    serves("the new instance", &|share| share == 0.0, "v2");

    // A version is taken away.
    let left = [("v2", vec![another.address])];
    mesh.apply(&(service("chat", &left) + &split("chat", &[("v2", 100)]))).unwrap();
    serves("one version alone", &|share| share == 1.0, "v2-new");

    // The control plane goes and comes back; what changes then is followed again.
    mesh.control_plane().kill9().unwrap();
    serves("an outage", &|share| share == 1.0, "v2-new");
    mesh.control_plane().restart().unwrap();
    let third = mesh.echo("v3").unwrap();
    let grown = [("v2", vec![another.address]), ("v3", vec![third.address])];
    mesh.apply(&(service("chat", &grown) + &split("chat", &[("v2", 50), ("v3", 50)]))).unwrap();
    serves("what changes after it", &|share| (share - 0.5).abs() < 0.1, "v3");

    let report = load.stop();
    println!("{variant:?}: {report}");
    report.assert_clean();
    assert_eq!(envoy.complaints().unwrap(), "", "Envoy took everything");
    drop((v1, v2));
}
