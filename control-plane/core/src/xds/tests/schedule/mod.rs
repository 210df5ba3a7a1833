//! Random schedules: whatever the order in which snapshots, requests, responses and lost streams
//! come, the client ends with exactly the snapshot, and never runs routes into the void.

mod client;
mod worlds;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use proptest::prelude::*;
use segue_shared::xds_names::type_urls::SNAPSHOT_MARK;

use self::client::{Client, Kind, Speech, TYPES};
use self::worlds::{Bad, World, world};
use crate::snapshot::XdsSnapshot;
use crate::xds::{self as server, Delta, Response, Session, StateOfTheWorld};

/// One step of a schedule.
#[derive(Clone, Debug)]
enum Step {
    Change(World),
    ToServer,
    ToClient,
    /// The client loses its stream and opens another.
    Reconnect,
    /// The client takes too long.
    Impatience,
    /// A gRPC client closes its channel, or opens it again.
    Channel,
}

/// What else than changes and messages happens.
#[derive(Clone, Copy, Debug, Default)]
struct Rough {
    bad: Bad,
    reconnects: bool,
    impatience: bool,
}

const GOOD: Bad = Bad { clusters: false, routes: false };
const CALM: Rough = Rough { bad: GOOD, reconnects: false, impatience: false };
const LOST_STREAMS: Rough = Rough { reconnects: true, ..CALM };
const REFUSED_ROUTES: Rough = Rough { bad: Bad { clusters: false, routes: true }, ..CALM };
const ROUGHEST: Rough =
    Rough { bad: Bad { clusters: true, routes: true }, reconnects: true, impatience: true };

fn schedule(rough: Rough) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => world(rough.bad).prop_map(Step::Change),
        8 => Just(Step::ToServer),
        8 => Just(Step::ToClient),
        1 => Just(Step::Channel),
        u32::from(rough.reconnects) => Just(Step::Reconnect),
        u32::from(rough.impatience) => Just(Step::Impatience),
    ];
    prop::collection::vec(step, 0..120)
}

/// What holds at every moment, not only in the end.
#[derive(Clone, Copy, Debug, Default)]
struct Always {
    /// No route leads to a cluster that the client has not.
    no_void: bool,
    /// With a mark the client has the snapshot that it names, and nothing of another.
    whole_at_mark: bool,
}

const VOIDLESS: Always = Always { no_void: true, whole_at_mark: true };
const WHOLE: Always = Always { no_void: false, whole_at_mark: true };
const NO_VOID: Always = Always { no_void: true, whole_at_mark: false };
const IN_THE_END: Always = Always { no_void: false, whole_at_mark: false };

type Holding = BTreeMap<&'static str, BTreeMap<String, String>>;

/// What a client that has all of a snapshot holds, as far as it asks for it.
fn wanted(client: &Client, snapshot: &XdsSnapshot) -> Holding {
    let of = |type_url: &'static str| {
        let all = snapshot.of_type(type_url).into_iter().flatten();
        let asked = all.filter(|(name, _)| client.asks_for(type_url, name));
        let versions = asked.map(|(name, one)| (name.to_string(), one.version().to_owned()));
        (type_url, versions.collect())
    };
    TYPES.into_iter().map(of).collect()
}

/// Runs a schedule, then lets everything settle on the last world. Gives what the client has.
fn run<V: Speech>(
    kind: Kind,
    steps: Vec<Step>,
    last: &World,
    always: Always,
) -> Result<Holding, TestCaseError> {
    let mut snapshots = vec![last.snapshot(kind, 1)];
    let mut client = Client::new(kind);
    let new = |snapshot: &Arc<XdsSnapshot>| {
        Session::<V>::new(Arc::clone(snapshot), server::Client::default())
    };
    let mut session = new(&snapshots[0]);
    let mut up: VecDeque<V::Request> = V::requests(&mut client).into();
    let mut down: VecDeque<Response> = VecDeque::new();
    let end = [Step::Change(last.clone())];
    let settle = std::iter::repeat_n([Step::ToServer, Step::ToClient], 200).flatten();
    let rough = steps.len();
    for (at, step) in steps.into_iter().chain(end).chain(settle).enumerate() {
        if at == rough && client.open_channel(true) {
            up.extend(V::requests(&mut client));
        }
        match step {
            Step::Change(world) => {
                let revision = snapshots.len() as u64 + 1;
                snapshots.push(world.snapshot(kind, revision));
                session.offer(Arc::clone(&snapshots[snapshots.len() - 1]));
            }
            Step::ToServer => {
                if let Some(request) = up.pop_front() {
                    session.receive(request).unwrap();
                }
            }
            Step::ToClient => {
                if let Some(response) = down.pop_front() {
                    up.extend(V::take(&mut client, &response));
                    if always.no_void {
                        prop_assert_eq!(client.void(), Vec::<String>::new());
                    }
                    if always.whole_at_mark && &*response.type_url == SNAPSHOT_MARK {
                        let revision: usize = client.holding[SNAPSHOT_MARK]["snapshot"].parse()?;
                        let marked = wanted(&client, &snapshots[revision - 1]);
                        prop_assert_eq!(&client.holding, &marked, "revision {}", revision);
                    }
                }
            }
            Step::Reconnect => {
                client.lose_stream();
                session = new(&snapshots[snapshots.len() - 1]);
                up = V::requests(&mut client).into();
                down.clear();
            }
            Step::Impatience => session.stop_waiting(),
            Step::Channel => {
                if client.open_channel(false) {
                    up.extend(V::requests(&mut client));
                }
            }
        }
        while let Some(response) = session.respond() {
            let names: std::collections::BTreeSet<_> =
                response.resources.iter().map(|one| one.name()).collect();
            prop_assert_eq!(names.len(), response.resources.len(), "no name comes twice");
            down.push_back(response);
        }
    }
    prop_assert!(up.is_empty() && down.is_empty(), "it ends");
    let current = &snapshots[snapshots.len() - 1];
    prop_assert_eq!(&client.holding, &wanted(&client, current));
    if client.asked_for_all() {
        prop_assert_eq!(session.accepted(), current.revision);
    }
    prop_assert_eq!(session.refusals().count(), 0);
    for held in session.holding().types {
        let of: BTreeMap<String, String> =
            held.resources().map(|one| (one.name.to_string(), one.version.to_owned())).collect();
        prop_assert_eq!(Some(&of), client.holding.get(&*held.type_url), "as we think it is");
    }
    Ok(client.holding)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_client_ends_with_the_snapshot_in_either_variant(
        kind in client::kind(), steps in schedule(ROUGHEST), last in world(GOOD),
    ) {
        let delta = run::<Delta>(kind, steps.clone(), &last, IN_THE_END)?;
        let state_of_the_world = run::<StateOfTheWorld>(kind, steps, &last, IN_THE_END)?;
        prop_assert_eq!(delta, state_of_the_world);
    }

    #[test]
    fn a_delta_client_never_routes_into_the_void_even_where_it_loses_streams(
        kind in client::meshed(), steps in schedule(LOST_STREAMS), last in world(GOOD),
    ) {
        run::<Delta>(kind, steps, &last, VOIDLESS)?;
    }

    #[test]
    fn a_state_of_the_world_client_never_routes_into_the_void(
        kind in client::meshed(), steps in schedule(CALM), last in world(GOOD),
    ) {
        run::<StateOfTheWorld>(kind, steps, &last, VOIDLESS)?;
    }

    #[test]
    fn a_state_of_the_world_client_that_loses_streams_is_whole_at_each_mark(
        kind in client::meshed(), steps in schedule(LOST_STREAMS), last in world(GOOD),
    ) {
        run::<StateOfTheWorld>(kind, steps, &last, WHOLE)?;
    }

    #[test]
    fn a_client_that_refuses_routes_keeps_what_the_old_ones_lead_to(
        kind in client::meshed(), steps in schedule(REFUSED_ROUTES), last in world(GOOD),
    ) {
        run::<Delta>(kind, steps.clone(), &last, NO_VOID)?;
        run::<StateOfTheWorld>(kind, steps, &last, NO_VOID)?;
    }

    #[test]
    fn a_client_that_refuses_routes_and_loses_streams_does_too(
        kind in client::meshed(),
        steps in schedule(Rough { reconnects: true, ..REFUSED_ROUTES }),
        last in world(GOOD),
    ) {
        run::<Delta>(kind, steps, &last, NO_VOID)?;
    }
}
