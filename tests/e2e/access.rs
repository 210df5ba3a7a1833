//! The mesh as it is without `--insecure-dev`: nobody gets in without a token.

use std::time::Duration;

use segue_tests::fetch::{self, Fetch};
use segue_tests::mesh::Mesh;
use segue_tests::wait;
use segue_tests::written::service;

use crate::alone;

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn tokens_of_the_first_start_let_sidecars_and_people_in_and_nobody_else() {
    let _turn = alone();
    let mut mesh = Mesh::start_with_tokens().unwrap();
    let app = mesh.echo("v1").unwrap();
    let sidecar = mesh.sidecar_with("caller-1", &[]).unwrap();
    let wrong = mesh.file("wrong.token", "segue-join-0123456789abcdef").unwrap();
    let flags = [("--join-token-file", wrong.to_str().unwrap())];
    let stranger = mesh.sidecar_with("stranger", &flags).unwrap();

    let printed = mesh.apply(&service("chat", &[("v1", vec![app.address])])).unwrap();
    assert!(printed.contains("active on 1 of 1 sidecars"), "{printed}");
    sidecar.wait_ready().unwrap();
    assert_eq!(Fetch::get(sidecar.outbound, "/").host("chat").send().unwrap().status, 200);

    let refused = "refused_calls_total{port=\"xds\",reason=\"wrong_token\"}";
    let control_plane = mesh.control_plane();
    wait::until("the stranger is refused", LIMIT, || {
        control_plane.metrics().ok().filter(|metrics| metrics.contains(refused))
    })
    .unwrap();
    assert!(fetch::text(stranger.admin, "/readyz").is_err(), "it has nothing to serve");

    let history = mesh.segue_ok(&["history"]).unwrap();
    assert!(history.contains("operator"), "{history}");
}
