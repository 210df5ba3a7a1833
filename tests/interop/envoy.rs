//! Real Envoy serves the same routes with the same split as our sidecar, from the same control
//! plane, over both variants of ADS.

use segue_tests::fetch::Fetch;
use segue_tests::load::{Protocol, survey};
use segue_tests::mesh::Mesh;
use segue_tests::peers;
use segue_tests::wait;
use segue_tests::written::{Rule, USER_HEADER, route, service, service_of};

use crate::alone;
use crate::envoy_process::{Envoy, FOLLOW_LIMIT, Variant};

const KEYS: usize = 4000;

#[test]
fn envoy_over_delta_serves_what_our_sidecar_serves() {
    serves_the_same(Variant::Delta);
}

#[test]
fn envoy_over_state_of_the_world_serves_what_our_sidecar_serves() {
    serves_the_same(Variant::StateOfTheWorld);
}

fn serves_the_same(variant: Variant) {
    let Some(program) = peers::or_skip(peers::envoy()) else { return };
    let _turn = alone();
    let mut mesh = Mesh::start().unwrap();
    let (v1, v2) = (mesh.echo("v1").unwrap(), mesh.echo("v2").unwrap());
    let versions = [("v1", vec![v1.address]), ("v2", vec![v2.address])];
    let services = service("chat", &versions) + &service_of("http2", "fast", &versions);
    let sidecar = mesh.sidecar("caller-1").unwrap();
    mesh.apply(&(services + &chat_at(20))).unwrap();
    let envoy = Envoy::start(&mut mesh, &program, variant).unwrap();

    // The same requests meet the same status and, where one version is named, the same version.
    let requests = [
        ("chat", "/v2-only/x", Protocol::Http1),
        ("chat:80", "/v2-only/x", Protocol::Http1),
        ("chat", "/v2-only/x", Protocol::Http2),
        ("chat.default", "/v2-only", Protocol::Http1),
        ("fast", "/", Protocol::Http1),
        ("fast", "/", Protocol::Http2),
        ("nobody", "/", Protocol::Http1),
        ("chat", "/status/503", Protocol::Http1),
    ];
    for (host, path, protocol) in requests {
        let [theirs, ours] = [envoy.outbound, sidecar.outbound].map(|target| {
            let answer = Fetch::get(target, path).host(host).protocol(protocol).send().unwrap();
            let split = path.starts_with("/status");
            (answer.status, if split { String::new() } else { answer.version })
        });
        assert_eq!(theirs, ours, "{host}{path} over {protocol:?}");
    }

    // The same shares; the users differ, because Envoy hashes in its own way.
    let keys: Vec<String> = (0..KEYS).map(|i| format!("user-{i}")).collect();
    let ask = |target| survey(target, "chat", USER_HEADER, &keys).unwrap();
    let before = ask(envoy.outbound);
    assert!(fits(20, &before), "Envoy: {} of {KEYS} are on v2", on_v2(&before));
    assert!(fits(20, &ask(sidecar.outbound)));

    // It follows a change, and moves nobody back.
    mesh.apply(&chat_at(50)).unwrap();
    let after = wait::until("Envoy follows", FOLLOW_LIMIT, || {
        let now = ask(envoy.outbound);
        fits(50, &now).then_some(now)
    })
    .unwrap();
    let back = before.iter().zip(&after).filter(|(old, new)| *old == "v2" && *new == "v1").count();
    assert_eq!(back, 0, "users went back from v2 to v1 while its weight grew");
    assert!(fits(50, &ask(sidecar.outbound)));
    assert_eq!(envoy.complaints().unwrap(), "", "Envoy took everything");
}

fn chat_at(percent: u32) -> String {
    route(
        "chat",
        &[
            Rule { path: None, weights: vec![("v1", 100 - percent), ("v2", percent)] },
            Rule { path: Some("/v2-only"), weights: vec![("v2", 100)] },
        ],
    )
}

fn on_v2(versions: &[String]) -> usize {
    versions.iter().filter(|version| *version == "v2").count()
}

/// The share of a fair hash over n keys is binomial; 5 σ fails once in about two million hashes.
/// Between 20 % and 50 % lie more than 30 σ, so one never passes for the other.
fn fits(percent: u32, versions: &[String]) -> bool {
    let n = versions.len() as f64;
    let p = f64::from(percent) / 100.0;
    (on_v2(versions) as f64 - n * p).abs() <= 5.0 * (n * p * (1.0 - p)).sqrt()
}
