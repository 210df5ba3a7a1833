//! Callers and instances in several zones.

use std::net::SocketAddr;
use std::time::Duration;

use segue_tests::fetch::Fetch;
use segue_tests::mesh::{Mesh, Sidecar};
use segue_tests::wait;

use crate::alone;

/// A service whose one version has instances in zones, of which health checks tell which live.
fn zoned(zones: &[(&str, SocketAddr, u32)], localities: &str) -> String {
    let places = zones.iter().map(|(zone, address, weight)| {
        format!("        - {{zone: {zone}, weight: {weight}, endpoints: [\"{address}\"]}}\n")
    });
    format!(
        "kind: Service\nmetadata: {{name: chat}}\nspec:\n  versions:\n    - name: v1\n      localities:\n{}---\n\
         kind: TrafficPolicy\nmetadata: {{name: chat}}\nspec:\n  targetRef: {{name: chat}}\n  \
         loadBalancer: {{localities: {localities}}}\n  healthCheck: {{tcp: {{}}, interval: 200ms, unhealthyThreshold: 1}}\n",
        places.collect::<String>()
    )
}

/// Which instance answers each of so many requests.
fn answers(from: &Sidecar, count: usize) -> Vec<String> {
    let ask = |_| Fetch::get(from.outbound, "/").host("chat").send().unwrap().version;
    (0..count).map(ask).collect()
}

#[test]
fn requests_stay_in_the_zone_of_the_caller_and_leave_it_when_nobody_is_there() {
    let _turn = alone();
    let mesh = Mesh::start().unwrap();
    let (mut a, b) = (mesh.echo("a").unwrap(), mesh.echo("b").unwrap());
    let in_zone = |zone| mesh.sidecar_with(&format!("caller-{zone}"), &[("--zone", zone)]).unwrap();
    let (from_a, from_b) = (in_zone("eu-a"), in_zone("eu-b"));
    let nowhere = mesh.sidecar("caller-x").unwrap();
    let zones = [("eu-a", a.address, 1), ("eu-b", b.address, 1)];
    mesh.apply(&zoned(&zones, "{mode: ZoneAware, minEndpoints: 1}")).unwrap();

    assert!(answers(&from_a, 20).iter().all(|it| it == "a"));
    assert!(answers(&from_b, 20).iter().all(|it| it == "b"));
    let spread = answers(&nowhere, 20);
    assert!(spread.iter().any(|it| it == "a") && spread.iter().any(|it| it == "b"), "{spread:?}");
    let crossed = |sidecar: &Sidecar| {
        let metrics = sidecar.metrics().unwrap();
        let line =
            metrics.lines().find(|it| it.starts_with("segue_upstream_cross_locality_total{"));
        line.and_then(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).unwrap()
    };
    assert_eq!(crossed(&from_a), 0);

    a.process.kill9().unwrap();
    let moved = || answers(&from_a, 5).iter().all(|it| it == "b").then_some(());
    wait::until("the caller of eu-a goes to eu-b", Duration::from_secs(20), moved).unwrap();
    assert!(crossed(&from_a) > 0);
}

#[test]
fn weighted_zones_have_their_shares_of_all_callers() {
    let _turn = alone();
    let mesh = Mesh::start().unwrap();
    let (a, b) = (mesh.echo("a").unwrap(), mesh.echo("b").unwrap());
    let caller = mesh.sidecar_with("caller-1", &[("--zone", "eu-b")]).unwrap();
    let zones = [("eu-a", a.address, 9), ("eu-b", b.address, 1)];
    mesh.apply(&zoned(&zones, "{mode: Weighted}")).unwrap();
    let to_a = answers(&caller, 400).iter().filter(|it| *it == "a").count();
    // 360 are expected; six standard deviations are 36.
    assert!((324..=396).contains(&to_a), "{to_a} of 400 went to the zone with nine tenths");
}
