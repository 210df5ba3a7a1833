//! Several control planes on one etcd: one of them dies, and nobody notices.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use segue_tests::admin::Admin;
use segue_tests::load::{Load, Plan, survey};
use segue_tests::mesh::{ControlPlane, Mesh, Sidecar};
use segue_tests::peers;
use segue_tests::wait;
use segue_tests::written::{USER_HEADER, service, split};

use crate::{alone, full};

/// Promised time until another control plane leads.
const LEADER_LIMIT: Duration = Duration::from_secs(10);
/// Time until a sidecar follows another control plane.
const FOLLOW_LIMIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);

#[test]
fn nobody_notices_that_the_leader_of_three_control_planes_dies() {
    let _turn = alone();
    let Some(etcd) = peers::or_skip(peers::etcd()) else { return };
    let around = Duration::from_secs(if full() { 30 } else { 5 });
    let mut mesh = Mesh::start_on_etcd(&etcd, 3).unwrap();
    let (v1, v2) = (mesh.echo("v1").unwrap(), mesh.echo("v2").unwrap());
    let sidecars = [mesh.sidecar("caller-1").unwrap(), mesh.sidecar("caller-2").unwrap()];
    let chat = service("chat", &[("v1", vec![v1.address]), ("v2", vec![v2.address])]);
    mesh.apply(&(chat + &split("chat", &[("v1", 100), ("v2", 0)]))).unwrap();
    let admins: Vec<SocketAddr> =
        mesh.control_planes().iter().map(|one| one.admin_address).collect();
    for sidecar in &sidecars {
        wait_all_on(sidecar, "v1");
    }

    let load = sidecars.each_ref().map(|one| Load::start(Plan::new(one.outbound, "chat")).unwrap());
    let changes = Changes::start(admins, v1.address);
    thread::sleep(around);

    let leader = wait_leader(&mut mesh, None);
    mesh.control_planes()[leader].kill9().unwrap();
    let killed = Instant::now();
    let next = wait_leader(&mut mesh, Some(leader));
    let leaderless = killed.elapsed();
    assert!(leaderless < LEADER_LIMIT, "nobody led for {leaderless:?}");
    thread::sleep(around);

    let acknowledged = changes.stop();
    let living = mesh.control_planes()[next].admin_address;
    let stored = Admin::connect(living).unwrap().names("Service").unwrap();
    let lost: Vec<_> = acknowledged.iter().filter(|name| !stored.contains(*name)).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    let before = acknowledged.len();
    assert!(before > 20, "only {before} changes were acknowledged");

    // Both sidecars follow changes again, wherever they are connected now.
    let moved = split("chat", &[("v1", 0), ("v2", 100)]);
    Admin::connect(living).unwrap().apply(moved).unwrap();
    for sidecar in &sidecars {
        wait_all_on(sidecar, "v2");
    }
    for load in load {
        let report = load.stop();
        println!("{before} changes, {leaderless:?} without a leader: {report}");
        report.assert_clean();
        assert_eq!(report.moved_backwards, 0, "{report}");
    }

    // The one that died comes back and knows all of it.
    mesh.control_planes()[leader].restart().unwrap();
    let back = mesh.control_planes()[leader].admin_address;
    let known = Admin::connect(back).unwrap().names("Service").unwrap();
    assert_eq!(known, stored);
}

/// A stream of changes over all control planes in turn; each creates a service of its own.
struct Changes {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<Vec<String>>,
}

impl Changes {
    fn start(admins: Vec<SocketAddr>, endpoint: SocketAddr) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&ends);
        let thread = thread::spawn(move || {
            let mut connections: Vec<Option<Admin>> = admins.iter().map(|_| None).collect();
            let mut acknowledged = Vec::new();
            for number in 0_usize.. {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                let turn = number % admins.len();
                if connections[turn].is_none() {
                    connections[turn] = Admin::connect(admins[turn]).ok();
                }
                let name = format!("s{number}");
                let yaml = service(&name, &[("v1", vec![endpoint])]);
                match connections[turn].as_mut().map(|admin| admin.apply(yaml)) {
                    Some(Ok(_)) => acknowledged.push(name),
                    Some(Err(_)) => connections[turn] = None,
                    None => {}
                }
                thread::sleep(PAUSE);
            }
            acknowledged
        });
        Self { ends, thread }
    }

    /// The services whose change was acknowledged.
    fn stop(self) -> Vec<String> {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// The one that leads and is not `but`.
fn wait_leader(mesh: &mut Mesh, but: Option<usize>) -> usize {
    wait::until("one leads", 3 * LEADER_LIMIT, || {
        let leads = |one: &ControlPlane| {
            one.metrics()
                .is_ok_and(|text| text.lines().any(|line| line == "segue_control_plane_leader 1"))
        };
        let all = mesh.control_planes();
        let leading: Vec<usize> =
            (0..all.len()).filter(|place| Some(*place) != but && leads(all[*place])).collect();
        assert!(leading.len() < 2, "{leading:?} lead at one time");
        leading.first().copied()
    })
    .unwrap()
}

fn wait_all_on(sidecar: &Sidecar, version: &str) {
    let keys: Vec<String> = (0..50).map(|i| format!("user-{i}")).collect();
    wait::until("all users are there", FOLLOW_LIMIT, || {
        let answers = survey(sidecar.outbound, "chat", USER_HEADER, &keys).ok()?;
        answers.iter().all(|one| one == version).then_some(())
    })
    .unwrap_or_else(|error| panic!("{version}: {error}"));
}
