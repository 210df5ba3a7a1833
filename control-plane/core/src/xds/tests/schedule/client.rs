//! Clients of the three kinds, and how they speak each variant.

use std::collections::{BTreeMap, BTreeSet};

use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::google::rpc::Status;
use proptest::prelude::*;
use segue_shared::xds_names::type_urls::{
    CLUSTER, ENDPOINT, LISTENER, ROUTE, SNAPSHOT_MARK, VIRTUAL_HOST,
};

use super::super::world::{again, ask, decoded, fault, text};
use super::Holding;
use crate::xds::{Delta, Response, StateOfTheWorld, Variant};

pub const TYPES: [&str; 6] = [CLUSTER, ENDPOINT, LISTENER, ROUTE, VIRTUAL_HOST, SNAPSHOT_MARK];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// All of every type.
    Sidecar,
    /// All clusters and listeners, endpoints of its clusters, routes by name. (It asks for marks,
    /// so that they can be checked.)
    Envoy,
    /// A listener by name, its routes, the clusters that they name, their endpoints.
    Grpc,
}

pub fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Sidecar), Just(Kind::Envoy), Just(Kind::Grpc)]
}

/// Kinds that rely on the order in which they are told.
pub fn meshed() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Sidecar), Just(Kind::Envoy)]
}

/// A client. It refuses versions that begin with `bad`.
#[derive(Debug)]
pub struct Client {
    kind: Kind,
    pub holding: Holding,
    /// What it asked for on this stream.
    asked: BTreeMap<&'static str, BTreeSet<String>>,
    last_nonce: BTreeMap<&'static str, String>,
    channel_open: bool,
    /// Whether clusters came on this stream. Before that it asks for nothing else.
    has_clusters: bool,
}

/// Other names than before, which is `None` the first time on a stream.
struct Change {
    type_url: &'static str,
    names: BTreeSet<String>,
    before: Option<BTreeSet<String>>,
}

/// How a client speaks one variant.
pub trait Speech: Variant + Sized {
    /// What a client asks for that it has not asked for yet.
    fn requests(client: &mut Client) -> Vec<Self::Request>;

    /// Takes a response over and gives the answer to it, and what it leads to.
    fn take(client: &mut Client, response: &Response) -> Vec<Self::Request>;
}

impl Client {
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            holding: TYPES.map(|type_url| (type_url, BTreeMap::new())).into(),
            asked: BTreeMap::new(),
            last_nonce: BTreeMap::new(),
            channel_open: true,
            has_clusters: kind == Kind::Grpc,
        }
    }

    pub fn lose_stream(&mut self) {
        self.asked.clear();
        self.last_nonce.clear();
        self.has_clusters = self.kind == Kind::Grpc;
    }

    /// Opens a gRPC client's channel, or changes whether it is open. Gives whether that changed
    /// what it asks for.
    pub fn open_channel(&mut self, open: bool) -> bool {
        let before = self.channel_open;
        self.channel_open = self.kind != Kind::Grpc || open || !before;
        self.forget_unasked();
        before != self.channel_open
    }

    /// Whether it asked for what makes a whole configuration.
    pub fn asked_for_all(&self) -> bool {
        self.asked.contains_key(CLUSTER)
    }

    pub fn asks_for(&self, type_url: &'static str, name: &str) -> bool {
        let names = self.names(type_url);
        names.is_some_and(|names| names.contains(name) || is_wildcard(type_url, &names, self.kind))
    }

    fn of(&self, type_url: &str) -> &BTreeMap<String, String> {
        &self.holding[type_url]
    }

    /// Names that the client asks for; `None` where it does not ask for the type.
    fn names(&self, type_url: &str) -> Option<BTreeSet<String>> {
        let one = |name: &str| Some(BTreeSet::from([name.to_owned()]));
        match (self.kind, type_url) {
            (Kind::Sidecar, _) => one("*"),
            (Kind::Envoy, ROUTE) => one("r"),
            (Kind::Envoy, SNAPSHOT_MARK) => one("snapshot"),
            (Kind::Envoy | Kind::Grpc, ENDPOINT) => {
                Some(self.of(CLUSTER).keys().cloned().collect())
            }
            (Kind::Grpc, LISTENER) if self.channel_open => one("l"),
            (Kind::Grpc, ROUTE) if !self.of(LISTENER).is_empty() => one("r"),
            (Kind::Envoy, CLUSTER | LISTENER) | (Kind::Grpc, LISTENER | ROUTE) => {
                Some(BTreeSet::new())
            }
            (Kind::Grpc, CLUSTER) => Some(named(self.of(ROUTE)).map(str::to_owned).collect()),
            (Kind::Envoy | Kind::Grpc, _) => None,
        }
    }

    /// What is to be asked for now.
    fn changes(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for type_url in TYPES {
            let Some(names) = self.names(type_url) else { continue };
            if type_url != CLUSTER && !self.has_clusters {
                continue;
            }
            let before = self.asked.get(type_url);
            if before == Some(&names) {
                continue;
            }
            // A gRPC client begins with a name, not with an empty list; endpoints too are asked for
            // when there are any.
            let by_name = self.kind == Kind::Grpc || type_url == ENDPOINT;
            if before.is_none() && names.is_empty() && by_name {
                continue;
            }
            let before = self.asked.insert(type_url, names.clone());
            changes.push(Change { type_url, names, before });
        }
        changes
    }

    /// Takes resources over and gives why some of them are refused.
    fn apply(
        &mut self,
        type_url: &'static str,
        new: Vec<String>,
        gone: &[String],
    ) -> Option<Status> {
        let mut refused = Vec::new();
        for resource in new {
            let (name, version) = resource.split_once('=').unwrap();
            if version.starts_with("bad") {
                refused.push(name.to_owned());
            } else if self.asks_for(type_url, name) {
                let holding = self.holding.get_mut(type_url).unwrap();
                holding.insert(name.to_owned(), version.to_owned());
            }
        }
        let holding = self.holding.get_mut(type_url).unwrap();
        for name in gone {
            holding.remove(name);
        }
        if type_url == CLUSTER {
            self.has_clusters = true;
            let clusters = self.of(CLUSTER).clone();
            let endpoints = self.holding.get_mut(ENDPOINT).unwrap();
            endpoints.retain(|name, _| clusters.contains_key(name));
        }
        self.forget_unasked();
        let reason = || fault(&format!("refused: {}", refused.join(", ")));
        (!refused.is_empty()).then(reason)
    }

    /// A gRPC client keeps nothing of what it no longer asks for.
    fn forget_unasked(&mut self) {
        if self.kind != Kind::Grpc {
            return;
        }
        for type_url in [LISTENER, ROUTE, CLUSTER, ENDPOINT] {
            let names = self.names(type_url).unwrap();
            self.holding.get_mut(type_url).unwrap().retain(|name, _| names.contains(name));
        }
    }

    /// Clusters that routes name and that cannot serve.
    pub fn void(&self) -> Vec<String> {
        let routes = if self.kind == Kind::Sidecar { VIRTUAL_HOST } else { ROUTE };
        let (clusters, endpoints) = (self.of(CLUSTER), self.of(ENDPOINT));
        named(self.of(routes))
            .filter(|name| !clusters.contains_key(*name) || !endpoints.contains_key(*name))
            .map(str::to_owned)
            .collect()
    }
}

/// Clusters that routes name.
fn named(routes: &BTreeMap<String, String>) -> impl Iterator<Item = &str> {
    routes.values().flat_map(|version| version.split('+')).filter(|name| !name.is_empty())
}

fn is_wildcard(type_url: &str, names: &BTreeSet<String>, kind: Kind) -> bool {
    let unwritten = kind == Kind::Envoy && [CLUSTER, LISTENER].contains(&type_url);
    names.contains("*") || unwritten
}

fn known(type_url: &str) -> &'static str {
    TYPES.into_iter().find(|known| *known == type_url).unwrap()
}

impl Speech for Delta {
    fn requests(client: &mut Client) -> Vec<DeltaDiscoveryRequest> {
        let mut requests = Vec::new();
        for Change { type_url, names, before } in client.changes() {
            let first = before.is_none();
            let before = before.unwrap_or_default();
            let new: Vec<&str> = names.difference(&before).map(String::as_str).collect();
            let has = client.of(type_url).iter().filter(|_| first);
            let has: Vec<(&str, &str)> = has.map(|(name, at)| (&**name, &**at)).collect();
            requests.push(DeltaDiscoveryRequest {
                resource_names_unsubscribe: before.difference(&names).cloned().collect(),
                ..again(type_url, &new, &has)
            });
        }
        requests
    }

    fn take(client: &mut Client, sent: &Response) -> Vec<DeltaDiscoveryRequest> {
        let response: DeltaDiscoveryResponse = decoded::<Self, _>(sent);
        let new = response.resources.iter().map(|one| text(one.resource.as_ref().unwrap()));
        let type_url = known(&response.type_url);
        let error_detail = client.apply(type_url, new.collect(), &response.removed_resources);
        let mut requests = vec![DeltaDiscoveryRequest {
            type_url: response.type_url,
            response_nonce: response.nonce,
            error_detail,
            ..DeltaDiscoveryRequest::default()
        }];
        // After the ACK, as our sidecars do; Envoy does it before.
        requests.extend(Self::requests(client));
        requests
    }
}

impl Speech for StateOfTheWorld {
    fn requests(client: &mut Client) -> Vec<DiscoveryRequest> {
        let changes = client.changes();
        changes.iter().map(|change| asking(client, change.type_url)).collect()
    }

    fn take(client: &mut Client, sent: &Response) -> Vec<DiscoveryRequest> {
        let response: DiscoveryResponse = decoded::<Self, _>(sent);
        let type_url = known(&response.type_url);
        let new: Vec<String> = response.resources.iter().map(text).collect();
        let mut gone = Vec::new();
        let all_hosts = client.kind == Kind::Sidecar && type_url == VIRTUAL_HOST;
        if [CLUSTER, LISTENER].contains(&type_url) || all_hosts {
            let named: BTreeSet<&str> =
                new.iter().filter_map(|one| Some(one.split_once('=')?.0)).collect();
            let holding = client.of(type_url).keys();
            gone = holding.filter(|name| !named.contains(name.as_str())).cloned().collect();
        }
        let error_detail = client.apply(type_url, new, &gone);
        client.last_nonce.insert(type_url, response.nonce);
        let requests = Self::requests(client);
        // One request asks for names and answers.
        let mut all: Vec<DiscoveryRequest> =
            requests.into_iter().filter(|request| request.type_url != type_url).collect();
        all.push(DiscoveryRequest { error_detail, ..asking(client, type_url) });
        all
    }
}

/// All that the client wants of a type, and the nonce that it knows.
fn asking(client: &Client, type_url: &'static str) -> DiscoveryRequest {
    let names = client.names(type_url).unwrap_or_default();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let has = !client.of(type_url).is_empty();
    DiscoveryRequest {
        version_info: if has { "some".to_owned() } else { String::new() },
        response_nonce: client.last_nonce.get(type_url).cloned().unwrap_or_default(),
        ..ask(type_url, &names)
    }
}
