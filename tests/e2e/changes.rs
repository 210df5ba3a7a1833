//! A thousand changes under load: nobody is failed, and nobody meets a version or an endpoint that
//! no configuration of that time allowed.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use segue_tests::draws::Draws;
use segue_tests::load::{Answer, Expect, Load, Pace, Plan, Question};
use segue_tests::mesh::Mesh;
use segue_tests::written::{Rule, route, service};

use crate::alone;

const CHANGES: u32 = 1000;
const VERSIONS: [&str; 3] = ["v1", "v2", "v3"];
const EXTRA: &str = "/extra";
/// Every so many changes, wait until all sidecars run on the newest.
const WAIT_EVERY: u32 = 2;
const ACTIVATION_LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_thousand_changes_fail_nobody_and_send_nobody_where_no_weight_is() {
    let _turn = alone();
    let mesh = Mesh::start().unwrap();
    let apps: Vec<_> = [0, 0, 1, 1, 2, 2].map(|v| mesh.echo(VERSIONS[v]).unwrap()).into();
    let addresses: Vec<SocketAddr> = apps.iter().map(|app| app.address).collect();
    let sidecar = mesh.sidecar("caller-1").unwrap();
    let mut admin = mesh.admin().unwrap();

    let mut draws = Draws::new(0x5e90e);
    let mut state = State {
        weights: [100, 0, 0],
        endpoints: [[true, true]; 3],
        extra: None,
        side_service: false,
    };
    let ledger = Arc::new(Ledger::default());
    ledger.add(&state, &addresses);
    let revision = admin.apply(state.service(&addresses) + &state.route()).unwrap();
    admin.wait_activated(revision, ACTIVATION_LIMIT).unwrap();

    let load = Load::start(Plan {
        http1_connections: 100,
        http2_connections: 100,
        http2_streams: 1,
        pace: Pace::Open(600.0),
        expect: Arc::clone(&ledger) as Arc<dyn Expect>,
        ..Plan::new(sidecar.outbound, "chat")
    })
    .unwrap();
    for change in 1..=CHANGES {
        let next = state.changed(&mut draws);
        // Known to the judge before it can be in force.
        let number = ledger.add(&next, &addresses);
        let revision = if next.side_service == state.side_service {
            admin.apply(next.service(&addresses) + &next.route()).unwrap()
        } else if next.side_service {
            admin.apply(service("side", &[("v1", vec![addresses[0]])])).unwrap()
        } else {
            admin.delete(&[("Service", "side")]).unwrap()
        };
        if change % WAIT_EVERY == 0 {
            admin.wait_activated(revision, ACTIVATION_LIMIT).unwrap();
            ledger.in_force(number);
        }
        state = next;
    }
    let report = load.stop();
    let telling = ledger.telling.load(Ordering::Relaxed);
    println!(
        "{CHANGES} changes: {} requests, {} failed; for {telling} of them an endpoint was forbidden",
        report.requests, report.failed
    );
    report.assert_clean();
    assert!(telling * 2 > report.requests, "too much was allowed to mean anything");
    assert!(report.requests > 1000, "too little load to mean anything: {report}");
}

/// What is configured.
#[derive(Clone)]
struct State {
    /// Percent of each version.
    weights: [u32; 3],
    /// Which of a version's two endpoints are named.
    endpoints: [[bool; 2]; 3],
    /// The one version that a rule of its own names for [`EXTRA`].
    extra: Option<usize>,
    /// Another service that comes and goes.
    side_service: bool,
}

impl State {
    fn changed(&self, draws: &mut Draws) -> Self {
        let mut next = self.clone();
        match draws.below(5) {
            0 | 1 => {
                // Often a version has nothing: only then can anyone go where nobody should.
                let first = if draws.below(2) == 0 { 100 } else { draws.below(101) };
                let mut weights = [first, 100 - first, 0];
                weights.rotate_left(draws.below(3) as usize);
                next.weights = weights;
            }
            2 => {
                let version = draws.below(3) as usize;
                next.endpoints[version] =
                    [[true, false], [false, true], [true, true]][draws.below(3) as usize];
            }
            3 => {
                next.extra = match self.extra {
                    Some(_) => None,
                    None => Some(draws.below(3) as usize),
                };
            }
            _ => next.side_service = !self.side_service,
        }
        next
    }

    fn service(&self, addresses: &[SocketAddr]) -> String {
        let versions: Vec<(&str, Vec<SocketAddr>)> = VERSIONS
            .iter()
            .enumerate()
            .map(|(v, name)| (*name, self.named(v).map(|i| addresses[2 * v + i]).collect()))
            .collect();
        service("chat", &versions)
    }

    fn route(&self) -> String {
        let weights = VERSIONS.into_iter().zip(self.weights).collect();
        let mut rules = vec![Rule { path: None, weights }];
        if let Some(version) = self.extra {
            rules.push(Rule { path: Some(EXTRA), weights: vec![(VERSIONS[version], 100)] });
        }
        route("chat", &rules)
    }

    fn named(&self, version: usize) -> impl Iterator<Item = usize> {
        let named = self.endpoints[version];
        (0..2).filter(move |i| named[*i])
    }
}

/// The endpoints that a configuration allows, on each path.
struct Allowed {
    any: BTreeSet<(String, String)>,
    extra: BTreeSet<(String, String)>,
}

/// Which configurations a request could have seen: those from the newest that was in force
/// everywhere when it was sent, to the newest that was submitted when it was answered.
#[derive(Default)]
struct Ledger {
    states: RwLock<Vec<Allowed>>,
    in_force: AtomicU64,
    /// Requests for which not every endpoint was right.
    telling: AtomicU64,
}

impl Ledger {
    fn add(&self, state: &State, addresses: &[SocketAddr]) -> u64 {
        let pairs = |version: usize| {
            state.named(version).map(move |i| {
                (VERSIONS[version].to_owned(), addresses[2 * version + i].to_string())
            })
        };
        let any: BTreeSet<_> = (0..3).filter(|v| state.weights[*v] > 0).flat_map(pairs).collect();
        let extra = state.extra.map_or_else(|| any.clone(), |version| pairs(version).collect());
        let mut states = self.states.write().unwrap();
        states.push(Allowed { any, extra });
        states.len() as u64 - 1
    }

    fn in_force(&self, number: u64) {
        self.in_force.store(number, Ordering::Release);
    }
}

impl Expect for Ledger {
    fn ask(&self, sequence: u64) -> Question {
        let path =
            if sequence.is_multiple_of(3) { format!("{EXTRA}/{sequence}") } else { "/".into() };
        let body = sequence.is_multiple_of(10).then(|| bytes::Bytes::from_static(b"hello"));
        Question { path, body, since: self.in_force.load(Ordering::Acquire) }
    }

    fn judge(&self, question: &Question, answer: &Answer) -> Result<(), String> {
        if answer.status != 200 {
            let body = String::from_utf8_lossy(&answer.body);
            return Err(format!("status {}: {}", answer.status, body.trim()));
        }
        let met = (answer.version.clone(), answer.instance.clone());
        let states = self.states.read().unwrap();
        let allowed: BTreeSet<_> = states[question.since as usize..]
            .iter()
            .flat_map(|state| if question.path == "/" { &state.any } else { &state.extra })
            .collect();
        if allowed.len() < 2 * VERSIONS.len() {
            self.telling.fetch_add(1, Ordering::Relaxed);
        }
        if allowed.contains(&met) {
            Ok(())
        } else {
            Err(format!("answered by {met:?}, which nothing allowed"))
        }
    }
}
