//! An application dies: whatever the policy of its service, requests that may be repeated are.

use std::thread;
use std::time::Duration;

use segue_tests::load::{Load, Pace, Plan};
use segue_tests::mesh::Mesh;

use crate::alone;
use crate::apps::Apps;
use crate::config::{POLICIES, State, push};

const ACTIVATION_LIMIT: Duration = Duration::from_secs(30);
/// Before the crash and after it.
const AROUND: Duration = Duration::from_millis(400);
/// Long enough for every probe to notice.
const AWAY: Duration = Duration::from_millis(1200);

#[test]
fn no_policy_lets_a_crash_fail_what_may_be_repeated() {
    let _turn = alone();
    let mesh = Mesh::start().unwrap();
    let mut apps = Apps::start(&mesh, 0..3);
    let sidecar = mesh.sidecar("caller-1").unwrap();
    let mut admin = mesh.admin().unwrap();
    let mut before = State { retries: true, weights: [100, 0, 0], ..State::default() };
    admin.apply(before.yaml(&apps.addresses())).unwrap();
    let mut failures = Vec::new();
    for policy in (0..POLICIES.len()).map(Some).chain([None]) {
        // With one more endpoint that nobody listens at, two of three are away.
        for dead in [None, Some(0)] {
            let next = State { policy, dead, ..before.clone() };
            let revision = push(&mut admin, &before, &next, &apps.addresses());
            admin.wait_activated(revision, ACTIVATION_LIMIT).unwrap();
            before = next;
            let plan = Plan { pace: Pace::Open(200.0), ..Plan::new(sidecar.outbound, "chat") };
            let load = Load::start(plan).unwrap();
            thread::sleep(AROUND);
            apps.crash_one(&mesh, 0, 0, AWAY);
            thread::sleep(AROUND);
            let report = load.stop();
            if report.failed > 0 {
                failures.push(format!("{:?} {dead:?}: {report}", policy.map(|it| POLICIES[it])));
            }
        }
    }
    let metrics = sidecar.metrics().unwrap();
    let refusals = metrics.lines().filter(|line| line.starts_with("segue_refusals_total"));
    let refusals: Vec<_> = refusals.filter(|line| !line.ends_with(" 0")).collect();
    assert!(failures.is_empty(), "{}\n{refusals:#?}", failures.join("\n"));
}
