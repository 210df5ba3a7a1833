//! Real Envoy keeps pinned sessions with what our control plane writes for it.

use segue_tests::fetch::Fetch;
use segue_tests::mesh::Mesh;
use segue_tests::peers;
use segue_tests::wait;
use segue_tests::written::service;

use crate::alone;
use crate::envoy_process::{Envoy, FOLLOW_LIMIT, Variant};

/// Round robin over two instances keeps 12 requests on one of them only where they are held there.
const REQUESTS: usize = 12;

#[test]
fn a_pinned_session_stays_with_its_instance() {
    let Some(program) = peers::or_skip(peers::envoy()) else { return };
    let _turn = alone();
    let mut mesh = Mesh::start().unwrap();
    let (a, b) = (mesh.echo("v1").unwrap(), mesh.echo("v1").unwrap());
    let chat = service("chat", &[("v1", vec![a.address, b.address])]);
    mesh.apply(&chat).unwrap();
    let envoy = Envoy::start(&mut mesh, &program, Variant::Delta).unwrap();
    let ask = |cookie: &str| {
        let fetch = Fetch::get(envoy.outbound, "/").host("chat");
        let fetch = if cookie.is_empty() { fetch } else { fetch.header("cookie", cookie) };
        fetch.send().unwrap()
    };
    let instances = |cookie: &str| {
        let mut seen: Vec<String> = (0..REQUESTS).map(|_| ask(cookie).instance).collect();
        seen.sort();
        seen.dedup();
        seen
    };
    assert_eq!(instances("").len(), 2, "nothing is pinned yet");

    let policy = "kind: ContextPolicy\nmetadata: {name: chat}\nspec:\n  targetRef: {name: chat}\n  \
                  sessionKey: [{cookie: sid}]\n  pin: {to: Endpoint, maxAge: 1h}\n";
    mesh.apply(policy).unwrap();
    let given = wait::until("Envoy pins sessions", FOLLOW_LIMIT, || {
        ask("").headers.get("set-cookie").map(|value| value.to_str().unwrap().to_owned())
    })
    .unwrap();
    assert!(given.starts_with("segue-chat.default="), "{given}");
    assert!(given.contains("Max-Age=3600") && given.contains("HttpOnly"), "{given}");
    let cookie = given.split(';').next().unwrap();
    assert_eq!(instances(cookie).len(), 1, "the session stays where it began");
    assert_eq!(instances("").len(), 2, "others go everywhere");
    assert_eq!(envoy.complaints().unwrap(), "", "Envoy took everything");
}
