//! gRPC's interoperability cases, with grpcio on both sides.

use segue_tests::peers;

use crate::alone;
use crate::script::{Way, pass, serve};

#[test]
fn grpc_cases_pass_through_two_sidecars() {
    let Some(python) = peers::or_skip(peers::grpc_python()) else { return };
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    let (_server, address) = serve(&python, "grpc_server", dir.path());
    let direct = pass(&python, "grpc_cases.py", &[&address.to_string(), "app"]);
    let way = Way::to(address, "grpc");
    let through = pass(&python, "grpc_cases.py", &[&way.outbound.to_string(), "app"]);
    assert_eq!(direct, through);
    assert!(through >= 16, "{through} cases");
}
