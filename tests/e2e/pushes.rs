//! Any push under load: whatever changes, in whatever order, nothing in flight is dropped, nobody is
//! answered by a sidecar that was not ready, and sessions stay where they are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use segue_tests::draws::Draws;
use segue_tests::load::{Answer, Expect, Load, Pace, Plan, Question};
use segue_tests::mesh::Mesh;
use segue_tests::mixed::{Kind, Mixed, Targets, tcp_echo};
use segue_tests::written::{service, service_of, split};

use crate::apps::Apps;
use crate::config::{State, push};
use crate::{alone, full};

const KINDS: [(Kind, usize); 10] = [
    (Kind::Events1, 4),
    (Kind::Events2, 4),
    (Kind::Upload1, 3),
    (Kind::Upload2, 3),
    (Kind::GrpcUnary, 3),
    (Kind::GrpcStream, 3),
    (Kind::WebSocket, 3),
    (Kind::Tcp, 2),
    (Kind::Download1, 1),
    (Kind::SlowReader2, 1),
];
const ACTIVATION_LIMIT: Duration = Duration::from_secs(30);
/// Every so many pushes, wait until requests run on the newest: the others come while it warms.
const WAIT_EVERY: u32 = 3;

#[test]
fn no_push_drops_what_is_in_flight_or_moves_a_session() {
    let _turn = alone();
    let length = Duration::from_secs(if full() { 300 } else { 15 });
    let mesh = Mesh::start().unwrap();
    // `steady` names the others for ever.
    let mut apps = Apps::start(&mesh, 2..3);
    let sidecar = mesh.sidecar("caller-1").unwrap();
    let mut admin = mesh.admin().unwrap();
    let mut draws = Draws::printed();

    let mut state = State::default();
    let tcp = service_of("tcp", "bytes", &[("v1", vec![tcp_echo().unwrap()])])
        .replace("spec:\n", "spec:\n  port: 7\n");
    let steady = service("steady", &[("v1", apps.of(0)), ("v2", apps.of(1))])
        + &split("steady", &[("v1", 50), ("v2", 50)]);
    let all = tcp + &steady + &state.yaml(&apps.addresses());
    let revision = admin.apply(all).unwrap();
    admin.wait_activated(revision, ACTIVATION_LIMIT).unwrap();

    let chat = Load::start(Plan { pace: Pace::Open(300.0), ..Plan::new(sidecar.outbound, "chat") });
    let sessions = Arc::new(Sessions::default());
    let steady = Load::start(Plan {
        pace: Pace::Open(100.0),
        users: USERS as u32,
        expect: Arc::clone(&sessions) as Arc<dyn Expect>,
        ..Plan::new(sidecar.outbound, "steady")
    });
    let (http, grpc, tcp) = ("chat".into(), "calls".into(), "bytes:7".into());
    let targets = Targets { sidecar: sidecar.outbound, http, grpc, tcp };
    let mixed = Mixed::start(&targets, &KINDS, draws.apart()).unwrap();
    let (chat, steady) = (chat.unwrap(), steady.unwrap());

    let end = Instant::now() + length;
    let mut pushes = 0;
    while Instant::now() < end {
        let next = state.changed(&mut draws);
        let revision = push(&mut admin, &state, &next, &apps.addresses());
        state = next;
        pushes += 1;
        if pushes % WAIT_EVERY == 0 {
            admin.wait_activated(revision, ACTIVATION_LIMIT).unwrap();
            apps.replace(&mesh, &state, &mut draws);
        }
    }
    let mixed = mixed.stop();
    let reports = [chat.stop(), steady.stop()];
    println!("{pushes} pushes: {mixed}");
    for report in &reports {
        println!("{report}");
    }
    mixed.assert_explained(&KINDS);
    for report in reports {
        report.assert_clean();
    }
    assert!(pushes > 20, "too few pushes to mean anything: {pushes}");
    let metrics = sidecar.metrics().unwrap();
    let refused = metrics
        .lines()
        .find(|line| line.starts_with("segue_refusals_total{") && !line.ends_with(" 0"));
    assert_eq!(refused, None, "the sidecar itself answered with an error");
}

const USERS: usize = 200;

/// Where each user was answered at first.
#[derive(Default)]
struct Sessions(Mutex<HashMap<String, String>>);

impl Expect for Sessions {
    fn ask(&self, sequence: u64) -> Question {
        let path = format!("/{}", sequence % USERS as u64);
        Question { path, body: None, since: 0 }
    }

    fn judge(&self, question: &Question, answer: &Answer) -> Result<(), String> {
        if answer.status != 200 {
            return Err(format!("status {}", answer.status));
        }
        let mut seen = self.0.lock().unwrap();
        let first = seen.entry(question.path.clone()).or_insert_with(|| answer.version.clone());
        if *first == answer.version {
            Ok(())
        } else {
            Err(format!("a session of {first} was answered by {}", answer.version))
        }
    }
}
