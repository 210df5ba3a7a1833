//! Delta xDS, one stream: which requests follow from which responses. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use envoy_types::pb::envoy::config::core::v3::{ControlPlane, Node};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, ResourceError,
};
use envoy_types::pb::google::rpc::Status;
use segue_shared::xds_names::{CONTROL_PLANE, type_urls};
use segue_sidecar_core::reject::Reject;

use super::inbox::{Inbox, Incoming, NAMED_TYPES, OWN_TYPES, Peer, TYPES, covers, nack_message};

/// What this stream is subscribed to. Wildcards are not in it.
#[derive(Debug, Default)]
pub(crate) struct DeltaStream {
    /// Whether it is known, or taken for known, who answers.
    met: bool,
    subscribed: BTreeMap<&'static str, BTreeSet<String>>,
}

impl DeltaStream {
    /// The first requests of a stream. They tell what is here already, so that only changes come.
    /// Where no control plane has answered yet, endpoints and virtual hosts are asked for after the
    /// first answer, which tells how.
    pub fn open(node: Node, inbox: &Inbox, ask_own: bool) -> (Self, Vec<DeltaDiscoveryRequest>) {
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
                    requests.extend(stream.subscribe(type_url, names, inbox));
                }
            } else {
                requests.push(DeltaDiscoveryRequest {
                    type_url: type_url.to_owned(),
                    initial_resource_versions: inbox.versions(type_url),
                    ..Default::default()
                });
            }
        }
        if let Some(first) = requests.first_mut() {
            first.node = Some(node);
        }
        (stream, requests)
    }

    /// Nobody has answered for a while: asks for all as of a control plane of other make.
    pub fn unanswered(&mut self, inbox: &mut Inbox) -> Vec<DeltaDiscoveryRequest> {
        if self.met || inbox.peer() != Peer::Unknown {
            return Vec::new();
        }
        self.follow(inbox)
    }

    /// Takes a response: its acknowledgement, then changed subscriptions.
    pub fn receive(
        &mut self,
        response: DeltaDiscoveryResponse,
        inbox: &mut Inbox,
    ) -> (Vec<DeltaDiscoveryRequest>, Vec<Reject>) {
        self.met = meet(self.met, response.control_plane.as_ref(), inbox);
        log_errors(&response.type_url, &response.resource_errors);
        let DeltaDiscoveryResponse { resources, type_url, removed_resources, nonce, .. } = response;
        // A resource without a body only prolongs the life of what is here.
        let resources = resources
            .into_iter()
            .filter_map(|resource| {
                Some(Incoming {
                    name: Some(resource.name),
                    version: resource.version,
                    resource: resource.resource?,
                })
            })
            .collect();
        let rejects = inbox.receive(&type_url, resources, &removed_resources);
        let error_detail = (!rejects.is_empty()).then(|| nack(&rejects));
        let mut requests = vec![DeltaDiscoveryRequest {
            type_url,
            response_nonce: nonce,
            error_detail,
            ..Default::default()
        }];
        requests.extend(self.follow(inbox));
        (requests, rejects)
    }

    /// The requests that make what is wanted now the subscription.
    fn follow(&mut self, inbox: &Inbox) -> Vec<DeltaDiscoveryRequest> {
        let changed = NAMED_TYPES.into_iter().filter_map(|type_url| {
            let names = inbox.wanted(type_url).unwrap_or_default();
            self.subscribe(type_url, names, inbox)
        });
        changed.collect()
    }

    /// The request that makes `names` the subscription of a type, where it differs. The first one
    /// tells the versions that are here; one without names would mean all, so it waits for a name.
    fn subscribe(
        &mut self,
        type_url: &'static str,
        names: BTreeSet<String>,
        inbox: &Inbox,
    ) -> Option<DeltaDiscoveryRequest> {
        let first = !self.subscribed.contains_key(type_url);
        if first && names.is_empty() {
            return None;
        }
        let before = self.subscribed.entry(type_url).or_default();
        let added: Vec<String> = names.difference(before).cloned().collect();
        let gone: Vec<String> = before.difference(&names).cloned().collect();
        if added.is_empty() && gone.is_empty() {
            return None;
        }
        *before = names;
        let mut versions = if first { inbox.versions(type_url) } else { HashMap::new() };
        versions.retain(|name, _| covers(type_url, before, name));
        Some(DeltaDiscoveryRequest {
            type_url: type_url.to_owned(),
            resource_names_subscribe: added,
            resource_names_unsubscribe: gone,
            initial_resource_versions: versions,
            ..Default::default()
        })
    }
}

/// Learns from a response who answers: our control plane says so in each of its responses, and the
/// first one counts. What was asked of one of other make than before is asked anew.
pub(crate) fn meet(met: bool, who: Option<&ControlPlane>, inbox: &mut Inbox) -> bool {
    let segue = who.is_some_and(|who| who.identifier == CONTROL_PLANE);
    let peer = if segue { Peer::Segue } else { Peer::Foreign };
    if inbox.peer() != peer && (segue || !met) {
        inbox.meet(peer);
        inbox.prune();
    }
    true
}

/// Why the control plane does not send what was asked for (xRFC TP3); the first few of a response.
pub(crate) fn log_errors(type_url: &str, errors: &[ResourceError]) {
    const MOST: usize = 16;
    const NOT_FOUND: i32 = tonic::Code::NotFound as i32;
    for error in errors.iter().take(MOST) {
        let name = error.resource_name.as_ref().map_or("", |name| name.name.as_str());
        let (code, reason) =
            error.error_detail.as_ref().map_or((0, ""), |it| (it.code, it.message.as_str()));
        // Most services say nothing of who may call them.
        if type_url == type_urls::INBOUND && code == NOT_FOUND {
            tracing::debug!(name, "nothing is said of this service's callers");
            continue;
        }
        tracing::warn!(type_url, name, code, reason, "the control plane cannot send a resource");
    }
}

/// `INVALID_ARGUMENT` with a line for each refused resource.
pub(crate) fn nack(rejects: &[Reject]) -> Status {
    Status { code: 3, message: nack_message(rejects), details: Vec::new() }
}
