//! State of the world, one stream: which requests follow from which responses. Pure.

use std::collections::{BTreeMap, BTreeSet};

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::config::route::v3::VirtualHost;
use envoy_types::pb::envoy::service::discovery::v3::{
    DiscoveryRequest, DiscoveryResponse, Resource,
};
use envoy_types::pb::google::protobuf::Any;
use prost::Message as _;
use segue_shared::xds_names::{OUTBOUND_ROUTES, type_urls};
use segue_sidecar_core::compile::compile;
use segue_sidecar_core::reject::Reject;

use super::delta::{log_errors, meet, nack};
use super::inbox::{Inbox, Incoming, NAMED_TYPES, OWN_TYPES, Peer, TYPES};

const WRAPPER: &str = "type.googleapis.com/envoy.service.discovery.v3.Resource";

/// Where this stream stands in each type.
#[derive(Debug, Default)]
pub(crate) struct SotwStream {
    /// Whether it is known, or taken for known, who answers.
    met: bool,
    types: BTreeMap<String, TypeState>,
}

#[derive(Debug, Default)]
struct TypeState {
    /// Last version of which nothing was refused.
    version: String,
    nonce: String,
    /// Empty: all.
    names: BTreeSet<String>,
}

impl SotwStream {
    /// The first requests of a stream.
    pub fn open(node: Node, inbox: &Inbox, ask_own: bool) -> (Self, Vec<DiscoveryRequest>) {
        let mut stream = Self::default();
        let mut requests = Vec::new();
        for type_url in TYPES {
            let at_once = match type_url {
                type_urls::ROUTE => true,
                own if OWN_TYPES.contains(&own) => ask_own,
                _ => inbox.peer() != Peer::Unknown,
            };
            if let Some(names) = inbox.wanted(type_url) {
                if at_once {
                    requests.extend(stream.subscribe(type_url, names));
                }
            } else {
                stream.types.insert(type_url.to_owned(), TypeState::default());
                requests.extend(stream.request(type_url, None));
            }
        }
        if let Some(first) = requests.first_mut() {
            first.node = Some(node);
        }
        (stream, requests)
    }

    /// Takes a response: its acknowledgement, then changed subscriptions.
    pub fn receive(
        &mut self,
        response: DiscoveryResponse,
        inbox: &mut Inbox,
    ) -> (Vec<DiscoveryRequest>, Vec<Reject>) {
        self.met = meet(self.met, response.control_plane.as_ref(), inbox);
        log_errors(&response.type_url, &response.resource_errors);
        let DiscoveryResponse { version_info, resources, type_url, nonce, .. } = response;
        let mut resources: Vec<Incoming> = resources.into_iter().map(unwrap).collect();
        if type_url == type_urls::VIRTUAL_HOST {
            resources.iter_mut().for_each(name_host);
        }
        let removed = absent(&type_url, &resources, inbox);
        let rejects = inbox.receive(&type_url, resources, &removed);
        let state = self.types.entry(type_url.clone()).or_default();
        state.nonce = nonce;
        let error = if rejects.is_empty() {
            state.version = version_info;
            None
        } else {
            Some(&rejects)
        };
        let mut requests: Vec<DiscoveryRequest> =
            self.request(&type_url, error.map(Vec::as_slice)).into_iter().collect();
        requests.extend(self.follow(inbox));
        (requests, rejects)
    }

    /// Nobody has answered for a while: asks for all as of a control plane of other make.
    pub fn unanswered(&mut self, inbox: &mut Inbox) -> Vec<DiscoveryRequest> {
        if self.met || inbox.peer() != Peer::Unknown {
            return Vec::new();
        }
        self.follow(inbox)
    }

    /// The requests that make what is wanted now the subscription.
    fn follow(&mut self, inbox: &Inbox) -> Vec<DiscoveryRequest> {
        let changed = NAMED_TYPES.into_iter().filter_map(|type_url| {
            let names = inbox.wanted(type_url).unwrap_or_default();
            self.subscribe(type_url, names)
        });
        changed.collect()
    }

    /// The request that makes `names` the subscription of a type, where it differs.
    fn subscribe(&mut self, type_url: &str, names: BTreeSet<String>) -> Option<DiscoveryRequest> {
        match self.types.get_mut(type_url) {
            Some(state) if state.names == names => return None,
            Some(state) => state.names = names,
            // A first request without names would mean all.
            None if names.is_empty() => return None,
            None => {
                let state = TypeState { names, ..TypeState::default() };
                self.types.insert(type_url.to_owned(), state);
            }
        }
        self.request(type_url, None)
    }

    fn request(&self, type_url: &str, rejects: Option<&[Reject]>) -> Option<DiscoveryRequest> {
        let state = self.types.get(type_url)?;
        Some(DiscoveryRequest {
            version_info: state.version.clone(),
            resource_names: state.names.iter().cloned().collect(),
            type_url: type_url.to_owned(),
            response_nonce: state.nonce.clone(),
            error_detail: rejects.map(nack),
            ..Default::default()
        })
    }
}

/// A resource may come in an envelope that tells its name.
fn unwrap(any: Any) -> Incoming {
    if any.type_url == WRAPPER
        && let Ok(wrapper) = Resource::decode(any.value.as_slice())
        && let Some(resource) = wrapper.resource
    {
        let name = Some(wrapper.name).filter(|name| !name.is_empty());
        return Incoming { name, version: String::new(), resource };
    }
    Incoming { name: None, version: String::new(), resource: any }
}

/// A virtual host that comes without an envelope, and so without the name of the resource, belongs to
/// the outbound routes, as with our control plane, unless its own name says where it belongs.
fn name_host(incoming: &mut Incoming) {
    if incoming.name.is_some() {
        return;
    }
    let Ok(host) = VirtualHost::decode(incoming.resource.value.as_slice()) else { return };
    let own = host.name.strip_prefix(OUTBOUND_ROUTES).is_some_and(|rest| rest.starts_with('/'));
    let name = if own { host.name } else { format!("{OUTBOUND_ROUTES}/{}", host.name) };
    incoming.name = Some(name);
}

/// Listeners and clusters that a response leaves out are gone, and so are virtual hosts where all are
/// asked for; of other types it tells only changes.
/// A resource without a readable name might be any of them, so then none is gone.
fn absent(type_url: &str, resources: &[Incoming], inbox: &Inbox) -> Vec<String> {
    let whole = match type_url {
        type_urls::LISTENER | type_urls::CLUSTER => true,
        type_urls::VIRTUAL_HOST => inbox.peer() == Peer::Segue,
        _ => false,
    };
    if !whole {
        return Vec::new();
    }
    let mut gone = inbox.names(type_url);
    for incoming in resources {
        let name = match &incoming.name {
            Some(name) => name.clone(),
            None => match compile(type_url, None, &incoming.resource.value) {
                Ok(compiled) => compiled.name().to_owned(),
                Err(reject) if reject.resource.is_empty() => return Vec::new(),
                Err(reject) => reject.resource,
            },
        };
        gone.remove(&name);
    }
    gone.into_iter().collect()
}
