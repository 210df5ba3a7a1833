//! Random schedules: whatever the order in which snapshots, requests, responses and reconnects
//! come, the client ends with exactly the snapshot, and never runs routes into the void.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use proptest::prelude::*;
use segue_shared::xds_names::type_urls::{CLUSTER, ENDPOINT, LISTENER, ROUTE, SNAPSHOT_MARK};

use super::world::{ack, again, ask, decoded, fault, nack, snapshot, text};
use crate::snapshot::XdsSnapshot;
use crate::xds::{self as server, Delta, Response, Session, StateOfTheWorld, Variant};

const TYPES: [&str; 5] = [CLUSTER, ENDPOINT, LISTENER, ROUTE, SNAPSHOT_MARK];
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// What a client holds, by type and name.
type Holding = BTreeMap<&'static str, BTreeMap<String, String>>;

/// A client in the manner of Envoy: all clusters and listeners, endpoints of its clusters, routes
/// by name. It refuses versions that begin with `bad`.
#[derive(Default)]
struct Client {
    holding: Holding,
    last_nonce: BTreeMap<&'static str, String>,
}

/// How a client speaks one variant.
trait Speech: Variant + Sized {
    fn hello(client: &Client, type_url: &'static str) -> Self::Request;
    fn take(client: &mut Client, response: &Response) -> Vec<Self::Request>;
}

impl Client {
    fn of(&self, type_url: &str) -> BTreeMap<String, String> {
        self.holding.get(type_url).cloned().unwrap_or_default()
    }

    /// Names that the client asks for; none where it asks for all.
    fn names(&self, type_url: &str) -> Vec<String> {
        match type_url {
            ENDPOINT => self.of(CLUSTER).into_keys().collect(),
            ROUTE => vec!["r".to_owned()],
            SNAPSHOT_MARK => vec!["snapshot".to_owned()],
            _ => Vec::new(),
        }
    }

    /// Takes resources over and gives the names of those that it refuses.
    fn apply(&mut self, type_url: &'static str, new: Vec<String>, gone: &[String]) -> Vec<String> {
        let mut refused = Vec::new();
        let holding = self.holding.entry(type_url).or_default();
        for resource in new {
            let (name, version) = resource.split_once('=').unwrap();
            if version.starts_with("bad") {
                refused.push(name.to_owned());
            } else {
                holding.insert(name.to_owned(), version.to_owned());
            }
        }
        for name in gone {
            holding.remove(name);
        }
        if type_url == CLUSTER {
            let clusters = self.of(CLUSTER);
            let endpoints = self.holding.entry(ENDPOINT).or_default();
            endpoints.retain(|name, _| clusters.contains_key(name));
        }
        refused
    }

    /// Clusters that routes name and that cannot serve.
    fn void(&self) -> Vec<String> {
        let (clusters, endpoints) = (self.of(CLUSTER), self.of(ENDPOINT));
        let routes = self.of(ROUTE);
        let named = routes.values().flat_map(|version| version.split('+'));
        named
            .filter(|name| !name.is_empty())
            .filter(|name| !clusters.contains_key(*name) || !endpoints.contains_key(*name))
            .map(str::to_owned)
            .collect()
    }
}

fn known(type_url: &str) -> &'static str {
    TYPES.into_iter().find(|known| *known == type_url).unwrap()
}

impl Speech for Delta {
    fn hello(client: &Client, type_url: &'static str) -> DeltaDiscoveryRequest {
        let (names, has) = (client.names(type_url), client.of(type_url));
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let has: Vec<_> = has.iter().map(|(name, at)| (name.as_str(), at.as_str())).collect();
        again(type_url, &names, &has)
    }

    fn take(client: &mut Client, sent: &Response) -> Vec<DeltaDiscoveryRequest> {
        let response: DeltaDiscoveryResponse = decoded::<Self, _>(sent);
        let type_url = known(&response.type_url);
        let before: BTreeSet<String> = client.names(ENDPOINT).into_iter().collect();
        let new = response.resources.iter().map(|one| text(one.resource.as_ref().unwrap()));
        let refused = client.apply(type_url, new.collect(), &response.removed_resources);
        let mut requests = vec![match refused.first() {
            Some(_) => nack(sent, &format!("refused: {}", refused.join(", "))),
            None => ack(sent),
        }];
        let after: BTreeSet<String> = client.names(ENDPOINT).into_iter().collect();
        if before != after {
            // After the ACK, as our sidecars do; Envoy does it before.
            requests.push(DeltaDiscoveryRequest {
                type_url: ENDPOINT.to_owned(),
                resource_names_subscribe: after.difference(&before).cloned().collect(),
                resource_names_unsubscribe: before.difference(&after).cloned().collect(),
                ..DeltaDiscoveryRequest::default()
            });
        }
        requests
    }
}

impl Speech for StateOfTheWorld {
    fn hello(client: &Client, type_url: &'static str) -> DiscoveryRequest {
        let names = client.names(type_url);
        let nonce = client.last_nonce.get(type_url).cloned().unwrap_or_default();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        DiscoveryRequest { response_nonce: nonce, ..ask(type_url, &names) }
    }

    fn take(client: &mut Client, sent: &Response) -> Vec<DiscoveryRequest> {
        let response: DiscoveryResponse = decoded::<Self, _>(sent);
        let type_url = known(&response.type_url);
        let before = client.names(ENDPOINT);
        let new: Vec<String> = response.resources.iter().map(text).collect();
        let mut gone = Vec::new();
        if [CLUSTER, LISTENER].contains(&type_url) {
            let named: BTreeSet<&str> =
                new.iter().filter_map(|one| Some(one.split_once('=')?.0)).collect();
            let holding = client.of(type_url).into_keys();
            gone = holding.filter(|name| !named.contains(name.as_str())).collect();
        }
        let refused = client.apply(type_url, new, &gone);
        client.last_nonce.insert(type_url, response.nonce);
        let mut requests = Vec::new();
        if before != client.names(ENDPOINT) {
            requests.push(Self::hello(client, ENDPOINT));
        }
        let mut answer = Self::hello(client, type_url);
        if !refused.is_empty() {
            answer.error_detail = Some(fault(&format!("refused: {}", refused.join(", "))));
        }
        requests.push(answer);
        requests
    }
}

/// One step of a schedule.
#[derive(Clone, Debug)]
enum Step {
    Change(World),
    ToServer,
    ToClient,
    Reconnect,
    Impatience,
}

/// Versions of clusters and of endpoints (0: no such cluster), and what routes name of them.
#[derive(Clone, Debug)]
struct World {
    clusters: Vec<(u8, u8, bool)>,
    listener: u8,
    bad: bool,
}

impl World {
    fn snapshot(&self, revision: u64) -> std::sync::Arc<XdsSnapshot> {
        let mut versions = Vec::new();
        let mut named = Vec::new();
        for (name, &(cluster, endpoints, routed)) in NAMES.iter().zip(&self.clusters) {
            if cluster == 0 {
                continue;
            }
            let bad = self.bad && cluster == 3;
            let version = if bad { "bad".to_owned() } else { cluster.to_string() };
            versions.push((CLUSTER, *name, version));
            versions.push((ENDPOINT, *name, endpoints.to_string()));
            if routed {
                named.push(*name);
            }
        }
        versions.push((LISTENER, "l", self.listener.to_string()));
        versions.push((ROUTE, "r", named.join("+")));
        versions.push((SNAPSHOT_MARK, "snapshot", revision.to_string()));
        let all: Vec<_> =
            versions.iter().map(|(url, name, version)| (*url, *name, version.as_str())).collect();
        snapshot(revision, &all)
    }
}

fn world(bad: bool) -> impl Strategy<Value = World> {
    let cluster = (0u8..4, 0u8..3, any::<bool>());
    (prop::collection::vec(cluster, NAMES.len()), 0u8..2)
        .prop_map(move |(clusters, listener)| World { clusters, listener, bad })
}

fn schedule(bad: bool, reconnects: bool) -> impl Strategy<Value = Vec<Step>> {
    let rough = u32::from(reconnects);
    let step = prop_oneof![
        3 => world(bad).prop_map(Step::Change),
        8 => Just(Step::ToServer),
        8 => Just(Step::ToClient),
        rough => Just(Step::Reconnect),
        rough => Just(Step::Impatience),
    ];
    prop::collection::vec(step, 0..120)
}

/// Runs a schedule, then lets everything settle on the last world.
fn run<V: Speech>(steps: Vec<Step>, last: &World, never_void: bool) -> Result<(), TestCaseError> {
    let mut revision = 1;
    let mut current = last.snapshot(revision);
    let mut client = Client::default();
    let mut session = Session::<V>::new(std::sync::Arc::clone(&current), server::Client::default());
    let mut up: VecDeque<V::Request> = TYPES.map(|url| V::hello(&client, url)).into();
    let mut down: VecDeque<Response> = VecDeque::new();
    let end = [Step::Change(last.clone())];
    let settle = std::iter::repeat_n([Step::ToServer, Step::ToClient], 150).flatten();
    for step in steps.into_iter().chain(end).chain(settle) {
        match step {
            Step::Change(world) => {
                revision += 1;
                current = world.snapshot(revision);
                session.offer(std::sync::Arc::clone(&current));
            }
            Step::ToServer => {
                if let Some(request) = up.pop_front() {
                    session.receive(request).unwrap();
                }
            }
            Step::ToClient => {
                if let Some(response) = down.pop_front() {
                    up.extend(V::take(&mut client, &response));
                    if never_void {
                        prop_assert_eq!(client.void(), Vec::<String>::new());
                    }
                }
            }
            Step::Reconnect => {
                client.last_nonce.clear();
                session = Session::new(std::sync::Arc::clone(&current), server::Client::default());
                up = TYPES.map(|url| V::hello(&client, url)).into();
                down.clear();
            }
            Step::Impatience => session.stop_waiting(),
        }
        while let Some(response) = session.respond() {
            down.push_back(response);
        }
    }
    prop_assert!(up.is_empty() && down.is_empty(), "it ends");
    for type_url in TYPES {
        let wanted = current.of_type(type_url).into_iter().flatten();
        let wanted: BTreeMap<String, String> =
            wanted.map(|(name, one)| (name.to_string(), one.version().to_owned())).collect();
        prop_assert_eq!(client.of(type_url), wanted, "{}", type_url);
    }
    prop_assert_eq!(session.accepted(), current.revision);
    prop_assert_eq!(session.refusals().count(), 0);
    Ok(())
}

proptest! {
    #[test]
    fn a_delta_client_ends_with_the_snapshot(
        steps in schedule(true, true), last in world(false),
    ) {
        run::<Delta>(steps, &last, false)?;
    }

    #[test]
    fn a_state_of_the_world_client_ends_with_the_snapshot(
        steps in schedule(true, true), last in world(false),
    ) {
        run::<StateOfTheWorld>(steps, &last, false)?;
    }

    #[test]
    fn a_delta_client_never_routes_into_the_void(
        steps in schedule(false, false), last in world(false),
    ) {
        run::<Delta>(steps, &last, true)?;
    }

    #[test]
    fn a_state_of_the_world_client_never_routes_into_the_void(
        steps in schedule(false, false), last in world(false),
    ) {
        run::<StateOfTheWorld>(steps, &last, true)?;
    }
}
