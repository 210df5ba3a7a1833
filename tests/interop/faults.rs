//! Faults made on purpose: a real Envoy and our sidecar make the same.

use std::net::SocketAddr;

use segue_tests::fetch::Fetch;
use segue_tests::mesh::Mesh;
use segue_tests::written::service;
use segue_tests::{peers, wait};

use crate::alone;
use crate::envoy_process::{Envoy, FOLLOW_LIMIT, Variant};

fn policy(percent: &str) -> String {
    format!(
        "apiVersion: segue.dev/v1alpha1
kind: AccessPolicy
metadata: {{name: chat}}
spec:
  targetRef: {{name: chat}}
  fault: {{abort: {{status: 418, percent: {percent}}}}}
"
    )
}

fn status(target: SocketAddr) -> Option<u16> {
    Some(Fetch::get(target, "/").host("chat").send().ok()?.status)
}

#[test]
fn envoy_and_the_sidecar_make_the_same_faults() {
    let Some(program) = peers::or_skip(peers::envoy()) else { return };
    let _turn = alone();
    let mut mesh = Mesh::start().unwrap();
    let v1 = mesh.echo("v1").unwrap();
    mesh.apply(&service("chat", &[("v1", vec![v1.address])])).unwrap();
    let sidecar = mesh.sidecar("caller-1").unwrap();
    let envoy = Envoy::start(&mut mesh, &program, Variant::Delta).unwrap();
    mesh.apply(&policy("100%")).unwrap();
    wait::until("Envoy refuses", FOLLOW_LIMIT, || {
        status(envoy.outbound).filter(|status| *status == 418)
    })
    .unwrap();
    assert_eq!(status(sidecar.outbound), Some(418));

    mesh.apply(&policy("50%")).unwrap();
    wait::until("Envoy lets some pass", FOLLOW_LIMIT, || {
        status(envoy.outbound).filter(|status| *status == 200)
    })
    .unwrap();
    for target in [envoy.outbound, sidecar.outbound] {
        let refused = (0..400).filter(|_| status(target) == Some(418)).count();
        // Binomial with p = 1/2: the standard deviation is 10, and 70 off happens once in 10^11 runs.
        assert!((130..=270).contains(&refused), "{refused}");
    }
    mesh.segue_ok(&["delete", "accesspolicy", "chat"]).unwrap();
    wait::until("Envoy makes no faults", FOLLOW_LIMIT, || {
        (0..20).all(|_| status(envoy.outbound) == Some(200)).then_some(())
    })
    .unwrap();
    assert!((0..20).all(|_| status(sidecar.outbound) == Some(200)));
    assert_eq!(envoy.complaints().unwrap(), "", "Envoy took everything");
}
