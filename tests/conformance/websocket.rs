//! WebSocket with a server of Python's `websockets`: good and bad frames, and what is answered.

use segue_tests::peers;

use crate::alone;
use crate::script::{Way, pass, serve};

#[test]
fn frames_are_answered_as_without_sidecars() {
    let Some(python) = peers::or_skip(peers::python_with("websockets")) else { return };
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    let (_server, address) = serve(&python, "websocket_echo", dir.path());
    let way = Way::to(address, "http");
    let (direct, through) = (address.to_string(), way.outbound.to_string());
    let cases = pass(&python, "websocket_cases.py", &[&direct, &through, "app"]);
    assert!(cases >= 100, "{cases} cases");
}
