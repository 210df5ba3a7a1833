//! Users move with the weight and never against it, and every sidecar gives the same answer.

use segue_tests::load::survey;
use segue_tests::mesh::{Mesh, Sidecar};
use segue_tests::written::{USER_HEADER, service, split};

use crate::alone;

const KEYS: usize = 10_000;

#[test]
fn no_key_moves_against_the_weight_and_all_sidecars_agree() {
    let _turn = alone();
    let mesh = Mesh::start().unwrap();
    let (v1, v2) = (mesh.echo("v1").unwrap(), mesh.echo("v2").unwrap());
    let first = mesh.sidecar("caller-1").unwrap();
    let mut second = mesh.sidecar("caller-2").unwrap();
    mesh.apply(&service("chat", &[("v1", vec![v1.address]), ("v2", vec![v2.address])])).unwrap();
    let keys: Vec<String> = (0..KEYS).map(|i| format!("user-{i}")).collect();
    let ask = |sidecar: &Sidecar| survey(sidecar.outbound, "chat", USER_HEADER, &keys).unwrap();

    let mut before: Option<(u32, Vec<String>)> = None;
    for percent in [0, 5, 10, 50, 100, 50, 0] {
        mesh.apply(&split("chat", &[("v1", 100 - percent), ("v2", percent)])).unwrap();
        let now = ask(&first);
        if percent == 50 {
            second.crash_and_restart().unwrap();
            second.wait_ready().unwrap();
        }
        assert!(now == ask(&second), "the sidecars disagree at {percent} %");
        check_share(percent, &now);
        if let Some((earlier, old)) = before {
            let against = if percent > earlier { ("v2", "v1") } else { ("v1", "v2") };
            let moved = old
                .iter()
                .zip(&now)
                .filter(|(old, now)| (old.as_str(), now.as_str()) == against)
                .count();
            assert_eq!(moved, 0, "from {earlier} % to {percent} %: {against:?}");
        }
        before = Some((percent, now));
    }
}

/// Keys are fixed and the hash is fair: the share is binomial around the weight, so 5 σ with
/// σ = sqrt(n p q) ≤ 50 of 10,000 holds for all but one in a million choices of the hash.
fn check_share(percent: u32, versions: &[String]) {
    let n = versions.len() as f64;
    let p = f64::from(percent) / 100.0;
    let bound = 5.0 * (n * p * (1.0 - p)).sqrt();
    let share = versions.iter().filter(|version| *version == "v2").count() as f64;
    assert!((share - n * p).abs() <= bound, "{share} of {n} keys are on v2 at {percent} %");
}
