//! The same mesh, the same requests: real Envoy and our sidecar do the same, or the difference
//! stands in `differences` with its reason.
//!
//! `SEGUE_TEST_SEED` sets the seed, `SEGUE_TEST_FULL` asks for the full number of requests.

mod differences;
mod draws;
mod outcome;
mod request;
mod tally;
mod upstream;
mod wire;
mod world;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::thread;

use segue_tests::mesh::Mesh;
use segue_tests::peers;

use self::outcome::Caller;
use self::request::Request;
use self::tally::Tally;
use self::world::{Action, World};
use crate::alone;
use crate::envoy_process::{Envoy, Variant};

const SEED: &str = "SEGUE_TEST_SEED";
const FULL: &str = "SEGUE_TEST_FULL";
const FEW: u64 = 5_000;
const MANY: u64 = 100_000;
/// Connections to each proxy.
const CONNECTIONS: u64 = 4;

#[test]
fn requests_meet_the_same_fate() {
    let Some(program) = peers::or_skip(peers::envoy()) else { return };
    let _turn = alone();
    let full = std::env::var_os(FULL).is_some_and(|value| value != "0");
    let seed = std::env::var(SEED).map_or(1, |seed| seed.parse().unwrap());
    println!("{SEED}={seed}");
    let world = World::of(seed);
    let mut mesh = Mesh::start().unwrap();
    let sidecar = mesh.sidecar("caller-1").unwrap();
    mesh.apply(&world.yaml(|version| upstream::serve(version).unwrap())).unwrap();
    let envoy = Envoy::start(&mut mesh, &program, Variant::Delta).unwrap();

    let count = if full { MANY } else { FEW };
    let tally = compare(&world, seed, count, envoy.outbound, sidecar.outbound);
    println!("{tally}");
    let mut unknown = String::new();
    for (parts, (count, shown)) in &tally.unknown {
        let shown = shown.join("---\n");
        let _ = writeln!(unknown, "=== {count} requests differ in {parts}\n{shown}");
    }
    assert!(tally.unknown.is_empty(), "{unknown}{SEED}={seed}");
    assert_eq!(tally.moved, [""; 0], "users of a split moved; {SEED}={seed}");
    assert_eq!(tally.unfair(&world), [""; 0], "splits do not follow weights; {SEED}={seed}");
    assert_eq!(tally.lost, [0, 0], "a caller is told before a connection ends; {SEED}={seed}");
    means_something(&tally);
    let known = differences::KNOWN.iter().map(|known| known.name);
    let stale: Vec<&str> = known.filter(|name| !tally.known.contains_key(name)).collect();
    println!("known differences that did not occur: {stale:?}");
    assert!(!full || stale.is_empty(), "take these out of the list: {stale:?}; {SEED}={seed}");
    assert_eq!(envoy.complaints().unwrap(), "", "Envoy took everything");
}

/// Requests that nobody serves, or that the list of known differences swallows, compare nothing.
fn means_something(tally: &Tally) {
    let share = |count: usize| tally.percent(count);
    let status = |status: u16| share(tally.statuses.get(&status).copied().unwrap_or(0));
    assert!(share(tally.reached_upstream) >= 50.0, "few reach an upstream");
    assert!(share(tally.equal) >= 70.0, "few are wholly equal");
    assert!(status(404) <= 20.0 && status(400) <= 15.0, "many are served by nobody");
    for action in Action::ALL {
        let name = format!("{action:?}");
        let count = tally.actions.get(&name).copied().unwrap_or(0);
        assert!(share(count) >= 2.0, "few requests meet {name}");
    }
}

fn compare(world: &World, seed: u64, count: u64, envoy: SocketAddr, sidecar: SocketAddr) -> Tally {
    let run = |connection: u64| {
        let (mut their_caller, mut our_caller) = (Caller::new(envoy), Caller::new(sidecar));
        let mut tally = Tally::default();
        for number in (connection..count).step_by(CONNECTIONS as usize) {
            let request = Request::drawn(world, seed, number);
            their_caller.send(request.bare().as_ref().unwrap_or(&request)).unwrap();
            our_caller.send(&request).unwrap();
            let told = |who: &str, caller: &mut Caller| {
                caller.outcome(&request).unwrap_or_else(|error| {
                    let text = String::from_utf8_lossy(&request.bytes()).into_owned();
                    panic!("{who}: {error}\n{SEED}={seed}, request {number}:\n{text}")
                })
            };
            let mut theirs = told("Envoy", &mut their_caller);
            let ours = told("the sidecar", &mut our_caller);
            tally.count(world, &request, &theirs, &ours);
            let known = differences::explain(world, &request, &mut theirs, &ours);
            if theirs != ours {
                tally.fail(&request, &theirs, &ours);
            } else if known.is_empty() {
                tally.equal += 1;
            }
            for name in known {
                *tally.known.entry(name).or_default() += 1;
            }
        }
        tally.lost = [their_caller.lost, our_caller.lost];
        tally
    };
    thread::scope(|scope| {
        let run = &run;
        let running: Vec<_> = (0..CONNECTIONS).map(|i| scope.spawn(move || run(i))).collect();
        let mut all = Tally::default();
        for one in running {
            all.join(one.join().unwrap());
        }
        all
    })
}
