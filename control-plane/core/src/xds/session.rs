//! One stream of a client, without the stream: requests and snapshots go in, the next response in
//! make-before-break order comes out.
//!
//! A session goes from one snapshot to the next in a pass and begins the next pass only when the
//! client has all of the last one. However fast snapshots come, every pass ends, the client never
//! mixes two of them, and what came between is skipped.

use std::collections::BTreeMap;
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::Node;
use segue_shared::ids::Revision;
use segue_shared::xds_names::type_urls;
use thiserror::Error;

use super::order::{Part, STAGES, Stage, has_stage};
use super::subscription::{InFlight, Refusal, Subscription};
use crate::snapshot::{Resources, XdsSnapshot};

/// Most types of one stream.
const MAX_TYPES: usize = 32;
/// Most names of one subscription: the clusters of a large mesh.
const MAX_NAMES: usize = 65_536;

/// What distinguishes the two variants of the protocol.
pub trait Variant {
    type Request;
    type Response;

    /// Who asks; on a stream only the first request needs to say it.
    fn node(request: &Self::Request) -> Option<&Node>;

    /// The type that a request is about.
    fn type_url(request: &Self::Request) -> &str;

    /// The nonce that a request answers (or an empty one), and why that response was refused.
    fn answer_of(request: &Self::Request) -> (&str, Option<&str>);

    /// Whether the client holds resources from an earlier stream.
    fn holds_resources(request: &Self::Request) -> bool;

    /// Changes what the client wants; `first` says that the type is new on this stream.
    fn subscribe(to: &mut Subscription, request: Self::Request, first: bool);

    /// Whether a response of a type holds all that the client then has.
    fn is_whole(type_url: &str) -> bool;

    /// What brings the client from what it holds to `resources`, and the names that its ACK or
    /// NACK will speak about. `None` where there is nothing to say.
    fn respond(
        to: &mut Subscription,
        resources: &Resources,
        part: Part,
        outgoing: &Outgoing<'_>,
    ) -> Option<(Self::Response, Vec<String>)>;
}

/// Words on a response.
#[derive(Debug)]
pub struct Outgoing<'a> {
    pub type_url: &'a str,
    pub nonce: &'a str,
    pub revision: Revision,
    pub digest: u64,
}

/// A request that no client should send. The stream ends.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    #[error("`type_url` is empty: name the type of the resources")]
    NoType,
    #[error("more than {MAX_TYPES} types on one stream")]
    TooManyTypes,
    #[error("more than {MAX_NAMES} names of one type: subscribe to `*`")]
    TooManyNames,
}

/// The state of one stream.
#[derive(Debug)]
pub struct Session<V> {
    subscriptions: BTreeMap<String, Subscription>,
    /// What the client is brought to.
    target: Arc<XdsSnapshot>,
    /// What it is brought to next.
    next: Option<Arc<XdsSnapshot>>,
    nonces: u64,
    accepted: Revision,
    /// Whether the client has taken too long to ask, in this pass.
    given_up: bool,
    /// Whether the client has clusters whose endpoints it has not asked for.
    endpoints_missing: bool,
    /// Whether that may have changed; spares looking at every cluster.
    look_at_endpoints: bool,
    variant: std::marker::PhantomData<V>,
}

impl<V: Variant> Session<V> {
    pub fn new(snapshot: Arc<XdsSnapshot>) -> Self {
        Self {
            subscriptions: BTreeMap::new(),
            target: snapshot,
            next: None,
            nonces: 0,
            accepted: Revision::NONE,
            given_up: false,
            endpoints_missing: false,
            look_at_endpoints: true,
            variant: std::marker::PhantomData,
        }
    }

    /// Takes a request of the client.
    pub fn receive(&mut self, request: V::Request) -> Result<(), Malformed> {
        let type_url = V::type_url(&request);
        if type_url.is_empty() {
            return Err(Malformed::NoType);
        }
        let first = !self.subscriptions.contains_key(type_url);
        if first && self.subscriptions.len() >= MAX_TYPES {
            return Err(Malformed::TooManyTypes);
        }
        let subscription = self.subscriptions.entry(type_url.to_owned()).or_default();
        let of_endpoints = type_url == type_urls::ENDPOINT;
        let of_clusters = type_url == type_urls::CLUSTER;
        let (nonce, error) = V::answer_of(&request);
        subscription.answered(nonce, error);
        V::subscribe(subscription, request, first);
        if subscription.names.len() > MAX_NAMES {
            return Err(Malformed::TooManyNames);
        }
        self.look_at_endpoints |= of_endpoints || of_clusters;
        if first && of_endpoints {
            // Clusters may have been sent anew before their endpoints were asked for.
            let clusters = self.subscriptions.get(type_urls::CLUSTER);
            let sent = clusters.map(Subscription::sent_here).unwrap_or_default();
            self.renew_endpoints(sent);
        }
        Ok(())
    }

    /// Offers a newer snapshot. It is begun when the client has all of the present one.
    pub fn offer(&mut self, snapshot: Arc<XdsSnapshot>) {
        self.next = Some(snapshot);
    }

    /// The next response to send now. `None` until a request or a snapshot comes, or until what
    /// is waited for is given up.
    pub fn respond(&mut self) -> Option<V::Response> {
        loop {
            if let Some(response) = self.next_of_pass() {
                return Some(response);
            }
            if self.is_waiting() {
                return None;
            }
            self.note_accepted();
            self.target = self.next.take()?;
            self.given_up = false;
            self.look_at_endpoints = true;
            for subscription in self.subscriptions.values_mut() {
                subscription.look_again();
            }
        }
    }

    /// Whether something of the client is waited for: an ACK, a NACK, or a request that must
    /// follow.
    pub fn is_waiting(&self) -> bool {
        self.subscriptions.values().any(Subscription::awaits)
            || self.awaits_routes()
            || self.endpoints_missing && !self.given_up
    }

    /// Goes on without what is waited for.
    pub fn stop_waiting(&mut self) {
        self.subscriptions.values_mut().for_each(Subscription::stop_waiting);
        self.given_up = true;
    }

    /// The newest revision of which the client ACKed all that it was sent.
    pub fn accepted(&self) -> Revision {
        self.accepted
    }

    /// What the client refuses now.
    pub fn refusals(&self) -> impl Iterator<Item = &Refusal> {
        self.subscriptions.values().flat_map(Subscription::refusals)
    }

    fn next_of_pass(&mut self) -> Option<V::Response> {
        for stage in STAGES {
            let response = match *stage {
                // A client that refused its new routes runs on the old ones, which name what would
                // be taken away.
                Stage::Send(type_urls::CLUSTER | type_urls::ENDPOINT, Part::Break)
                    if self.refuses_routes() =>
                {
                    None
                }
                Stage::Send(type_url, part) => self.send(type_url, part),
                Stage::Others => self.send_others(),
                Stage::Await(types) if types.iter().any(|url| self.awaits(url)) => return None,
                Stage::AwaitEndpoints if self.awaits_endpoints() => return None,
                Stage::AwaitRoutes if self.awaits_routes() => return None,
                Stage::Await(_) | Stage::AwaitEndpoints | Stage::AwaitRoutes => None,
            };
            if response.is_some() {
                return response;
            }
        }
        None
    }

    fn refuses_routes(&self) -> bool {
        [type_urls::LISTENER, type_urls::ROUTE].iter().any(|url| {
            self.subscriptions.get(*url).is_some_and(|routes| routes.refusals().next().is_some())
        })
    }

    fn awaits(&self, type_url: &str) -> bool {
        self.subscriptions.get(type_url).is_some_and(Subscription::awaits)
    }

    /// Clients ask for endpoints when they have learnt of a cluster, some of them only after its
    /// ACK. Until then a route to the cluster would lead nowhere.
    fn awaits_endpoints(&mut self) -> bool {
        if self.look_at_endpoints {
            self.endpoints_missing = self.lacks_endpoints();
            self.look_at_endpoints = self.endpoints_missing;
        }
        self.endpoints_missing && !self.given_up
    }

    fn lacks_endpoints(&self) -> bool {
        let Some(clusters) = self.subscriptions.get(type_urls::CLUSTER) else { return false };
        let asked = self.subscriptions.get(type_urls::ENDPOINT);
        let of_target = |type_url, name: &str| {
            self.target.of_type(type_url).is_some_and(|all| all.contains_key(name))
        };
        clusters.held.keys().any(|name| {
            !asked.is_some_and(|endpoints| endpoints.covers(name))
                && of_target(type_urls::CLUSTER, name)
                && of_target(type_urls::ENDPOINT, name)
                && !clusters.refuses(name)
        })
    }

    /// A client that connects (again) asks for clusters first. Those that are gone may be in the
    /// routes that it still runs on, and are not taken away before it has asked for routes too;
    /// nor is a snapshot marked as complete before that.
    fn awaits_routes(&self) -> bool {
        let known = |url| self.subscriptions.contains_key(url);
        if self.given_up || known(type_urls::LISTENER) && known(type_urls::ROUTE) {
            return false;
        }
        let gone = |type_url| {
            let resources = self.target.of_type(type_url);
            let gone =
                |name: &String| !resources.is_some_and(|all| all.contains_key(name.as_str()));
            self.subscriptions.get(type_url).is_some_and(|has| has.held.keys().any(gone))
        };
        known(type_urls::SNAPSHOT_MARK) || gone(type_urls::CLUSTER) || gone(type_urls::ENDPOINT)
    }

    /// Types of which we have nothing: clients are told so as their variant can.
    fn send_others(&mut self) -> Option<V::Response> {
        let others: Vec<String> =
            self.subscriptions.keys().filter(|url| !has_stage(url)).cloned().collect();
        others.iter().find_map(|type_url| self.send(type_url, Part::Whole))
    }

    fn send(&mut self, type_url: &str, part: Part) -> Option<V::Response> {
        let subscription = self.subscriptions.get_mut(type_url)?;
        if subscription.awaits() || !subscription.take_look(part) {
            return None;
        }
        let nonce = (self.nonces + 1).to_string();
        let outgoing = Outgoing {
            type_url,
            nonce: &nonce,
            revision: self.target.revision,
            digest: self.target.digest,
        };
        let nothing = Resources::new();
        let resources = self.target.of_type(type_url).unwrap_or(&nothing);
        let (response, names) = V::respond(subscription, resources, part, &outgoing)?;
        self.nonces += 1;
        let renewed = (type_url == type_urls::CLUSTER).then(|| names.clone());
        subscription.sent(InFlight {
            whole: V::is_whole(type_url),
            type_url: type_url.to_owned(),
            nonce,
            names,
            revision: self.target.revision,
            overdue: false,
        });
        if let Some(clusters) = renewed {
            self.look_at_endpoints = true;
            self.renew_endpoints(clusters);
        }
        Some(response)
    }

    /// A cluster that is sent anew warms anew, and waits for its endpoints even where those are
    /// the same.
    fn renew_endpoints(&mut self, clusters: Vec<String>) {
        let Some(endpoints) = self.subscriptions.get_mut(type_urls::ENDPOINT) else { return };
        for cluster in clusters {
            if endpoints.covers(&cluster) {
                endpoints.due.insert(cluster);
                endpoints.look_again();
            }
        }
    }

    /// Until it has asked for clusters and for routes, a client has not seen a whole snapshot.
    fn note_accepted(&mut self) {
        let asked = |url| self.subscriptions.contains_key(url);
        let begun = asked(type_urls::CLUSTER) && asked(type_urls::ROUTE);
        if begun && self.subscriptions.values().all(Subscription::accepted) {
            self.accepted = self.target.revision;
        }
    }
}
