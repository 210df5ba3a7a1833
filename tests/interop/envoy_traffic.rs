//! Real Envoy takes every kind of traffic policy that our control plane writes, and does with it what
//! our sidecar does.

use std::collections::BTreeSet;

use segue_tests::fetch::Fetch;
use segue_tests::mesh::Mesh;
use segue_tests::peers;
use segue_tests::wait;
use segue_tests::written::{service, service_of};

use crate::alone;
use crate::envoy_process::{Envoy, FOLLOW_LIMIT, Variant};

const REQUESTS: usize = 12;

const ALGORITHMS: [(&str, &str); 5] = [
    ("random", "algorithm: Random, panicThreshold: 20%"),
    ("least", "algorithm: LeastRequest, slowStart: 1s"),
    ("ewma", "algorithm: PeakEwma"),
    ("ring", "algorithm: RingHash, hashBy: {header: x-user}, maxLoadPercent: 150"),
    ("maglev", "algorithm: Maglev, hashBy: {header: x-user}"),
];

#[test]
fn envoy_and_our_sidecar_spread_requests_by_the_same_policies() {
    let Some(program) = peers::or_skip(peers::envoy()) else { return };
    let _turn = alone();
    let mut mesh = Mesh::start().unwrap();
    let (a, b) = (mesh.echo("v1").unwrap(), mesh.echo("v1").unwrap());
    let versions = [("v1", vec![a.address, b.address])];
    let mut written = service("chat", &versions) + &service_of("grpc", "calls", &versions);
    for (name, balancer) in ALGORITHMS {
        written += &service(name, &versions);
        written += &policy(name, &format!("loadBalancer: {{{balancer}}}"));
    }
    written += &policy(
        "chat",
        "outlierDetection: {consecutiveErrors: 3, consecutiveGatewayErrors: 2, successRate: {}}\n  \
         healthCheck: {http: {path: /healthz}, interval: 1s}\n  \
         retryBudget: {percent: 25%, minPerSecond: 5}\n  \
         connectionPool: {maxRequests: 100, maxPendingRequests: 10, idleTimeout: 30s}",
    );
    written += &policy("calls", "healthCheck: {grpc: {service: calls}, interval: 1s}");
    written += "kind: Route\nmetadata: {name: chat}\nspec:\n  targetRef: {name: chat}\n  rules:\n\
                \x20   - backendRefs: [{name: chat}]\n      timeouts: {streamIdle: 30s}\n\
                \x20     retry: {codes: [503], attempts: 2}\n      filters: [{type: RequestMirror, \
                requestMirror: {backendRef: {name: random}, percent: 10%}}]\n";
    let sidecar = mesh.sidecar("caller-1").unwrap();
    // Waits until our sidecar runs on it.
    mesh.apply(&written).unwrap();
    let envoy = Envoy::start(&mut mesh, &program, Variant::Delta).unwrap();
    for target in [envoy.outbound, sidecar.outbound] {
        let seen = |host: &str, user: &str| -> BTreeSet<String> {
            let ask = || Fetch::get(target, "/").host(host).header("x-user", user).send().unwrap();
            (0..REQUESTS).map(|_| ask().instance).collect()
        };
        wait::until("the probes pass", FOLLOW_LIMIT, || {
            (seen("chat", "u").len() == 2).then_some(())
        })
        .unwrap();
        for (name, _) in ALGORITHMS {
            let sticks = ["ring", "maglev"].contains(&name);
            // Of a few users at least one is on each instance.
            let users = (0..8).map(|i| seen(name, &format!("user-{i}")));
            let users: Vec<BTreeSet<String>> = users.collect();
            assert!(
                !sticks || users.iter().all(|instances| instances.len() == 1),
                "{name} {users:?}"
            );
            let all: BTreeSet<&String> = users.iter().flatten().collect();
            assert_eq!(all.len(), 2, "{name} uses both instances");
        }
    }
    assert_eq!(envoy.complaints().unwrap(), "", "Envoy took everything");
}

fn policy(service: &str, spec: &str) -> String {
    format!(
        "kind: TrafficPolicy\nmetadata: {{name: {service}}}\nspec:\n  \
         targetRef: {{name: {service}}}\n  {spec}\n---\n"
    )
}
