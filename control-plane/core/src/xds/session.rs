//! One stream of a client, without the stream: requests and snapshots go in, the next response in
//! make-before-break order comes out.
//!
//! A session goes from one snapshot to the next in a pass and begins the next pass only when the
//! client has all of the last one. However fast snapshots come, every pass ends, the client never
//! mixes two of them, and what came between is skipped. A pass costs what changed.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::mem;
use std::sync::Arc;

use segue_shared::ids::Revision;
use segue_shared::xds_names::{short_type, type_urls};
use thiserror::Error;

use super::answers::{InFlight, News, Refusal};
use super::holding::{HeldType, Holding};
use super::order::{NAMED, NAMING, Part, STAGES, Stage, has_stage};
use super::response::{Client, ResourceError, Response};
use super::subscription::Subscription;
use super::unasked::Unasked;
use super::variant::{Heartbeat, Variant};
use crate::snapshot::{Batch, EncodedResource, Resources, XdsSnapshot};

/// Most types of one stream.
const MAX_TYPES: usize = 32;
/// Most names of one subscription, and most resources that are kept for a client that refuses its
/// routes: the clusters of a large mesh.
const MAX_NAMES: usize = 65_536;
/// Longest name, version or type URL.
const MAX_NAME_BYTES: usize = 1024;
/// gRPC's status code of what does not exist.
const NOT_FOUND: i32 = 5;

/// A request that no client should send. The stream ends.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    #[error("`type_url` is empty: name the type of the resources")]
    NoType,
    #[error("more than {MAX_TYPES} types on one stream")]
    TooManyTypes,
    #[error("more than {MAX_NAMES} names of one type: subscribe to `*`")]
    TooManyNames,
    #[error("a name, version or type URL of more than {MAX_NAME_BYTES} bytes")]
    LongName,
}

/// The state of one stream.
#[derive(Debug)]
pub struct Session<V> {
    client: Client,
    subscriptions: BTreeMap<Arc<str>, Subscription>,
    /// What the client is brought to.
    target: Arc<XdsSnapshot>,
    /// What it is brought to next.
    next: Option<Arc<XdsSnapshot>>,
    /// What is this client's alone.
    own_secrets: Resources,
    /// Those, and what of secrets is in `target`.
    secrets: Resources,
    nonces: u64,
    accepted: Revision,
    /// What was accepted before.
    accepted_before: Revision,
    unasked: Unasked,
    /// Whether the client has resources from an earlier stream.
    brought_along: bool,
    /// Whether the client has taken too long to ask, in this pass.
    given_up: bool,
    variant: PhantomData<V>,
}

impl<V: Variant> Session<V> {
    pub fn new(snapshot: Arc<XdsSnapshot>, client: Client) -> Self {
        Self {
            client,
            subscriptions: BTreeMap::new(),
            secrets: snapshot.of_type(type_urls::SECRET).cloned().unwrap_or_default(),
            target: snapshot,
            next: None,
            own_secrets: Resources::new(),
            nonces: 0,
            accepted: Revision::NONE,
            accepted_before: Revision::NONE,
            unasked: Unasked::default(),
            brought_along: false,
            given_up: false,
            variant: PhantomData,
        }
    }

    /// Takes a request of the client.
    pub fn receive(&mut self, request: V::Request) -> Result<(), Malformed> {
        let type_url = V::type_url(&request);
        let extent = V::extent(&request);
        if type_url.is_empty() {
            return Err(Malformed::NoType);
        }
        if extent.longest_bytes.max(type_url.len()) > MAX_NAME_BYTES {
            return Err(Malformed::LongName);
        }
        if extent.names > 2 * MAX_NAMES {
            return Err(Malformed::TooManyNames);
        }
        let known = self.subscriptions.remove_entry(type_url);
        let first = known.is_none();
        if first && self.subscriptions.len() >= MAX_TYPES {
            return Err(Malformed::TooManyTypes);
        }
        let (type_url, mut subscription) =
            known.unwrap_or_else(|| (type_url.into(), Subscription::default()));
        self.brought_along |= first && V::brings_along(&request);
        let (nonce, error) = V::answer_of(&request);
        subscription.answered(&type_url, nonce, error);
        let refuses = error.is_some() && !subscription.answers.refused().is_empty();
        if refuses && self.accepted == self.target.revision {
            // It asked for more of the same revision, and does not take it.
            self.accepted = self.accepted_before;
        }
        let target = self.resources(&type_url);
        let dropped = V::subscribe(&mut subscription, request, first, &target);
        let too_many = subscription.names.len() > MAX_NAMES;
        if &*type_url == type_urls::ENDPOINT {
            let clusters = self.subscriptions.get(type_urls::CLUSTER);
            self.unasked.endpoints_asked(clusters, &mut subscription, first, &dropped);
        }
        self.subscriptions.insert(type_url, subscription);
        if too_many { Err(Malformed::TooManyNames) } else { Ok(()) }
    }

    /// Offers a newer snapshot. It is begun when the client has all of the present one. That of a
    /// store that was never written to takes nobody's place.
    pub fn offer(&mut self, snapshot: Arc<XdsSnapshot>) {
        if snapshot.revision != Revision::NONE || self.target.revision == Revision::NONE {
            self.next = Some(snapshot);
        }
    }

    /// From now on these are secrets that this client alone may ask for, beside those of the snapshot.
    /// Whoever has them gets new ones at once, in whichever pass it is.
    pub fn show_secrets(&mut self, secrets: impl IntoIterator<Item = Arc<EncodedResource>>) {
        let named = secrets.into_iter().map(|secret| (Arc::clone(secret.name()), secret));
        self.own_secrets = named.collect();
        self.gather_secrets();
    }

    /// Whether the client asked for a secret of this name.
    pub fn wants_secret(&self, name: &str) -> bool {
        let secrets = self.subscriptions.get(type_urls::SECRET);
        secrets.is_some_and(|secrets| secrets.names.contains(name))
    }

    /// The secret of this name that the client has taken last, where it owes no answer about one.
    pub fn taken_secret(&self, name: &str) -> Option<&Arc<EncodedResource>> {
        let secrets = self.subscriptions.get(type_urls::SECRET)?;
        let taken = || secrets.in_sync().find(|secret| &**secret.name() == name);
        secrets.answers.accepted().then(taken).flatten()
    }

    /// The next response to send now. `None` until a request or a snapshot comes, or until what
    /// is waited for is given up.
    pub fn respond(&mut self) -> Option<Response> {
        loop {
            if !self.is_silent() {
                if let Some(response) = self.next_of_pass() {
                    return Some(response);
                }
                if self.is_waiting() {
                    return None;
                }
                self.note_accepted();
            }
            self.target = self.next.take()?;
            self.gather_secrets();
            self.given_up = false;
        }
    }

    /// Whether something of the client is waited for: an ACK, a NACK, or a request that must
    /// follow.
    pub fn is_waiting(&self) -> bool {
        !self.is_silent()
            && (self.subscriptions.values().any(|subscription| subscription.answers.awaits())
                || self.awaits_asking()
                || self.unasked.is_waiting())
    }

    /// Goes on without what is waited for.
    pub fn stop_waiting(&mut self) {
        for subscription in self.subscriptions.values_mut() {
            subscription.answers.stop_waiting();
        }
        self.unasked.stop_waiting();
        self.given_up = true;
    }

    /// The newest revision of which the client ACKed all that it was sent.
    pub fn accepted(&self) -> Revision {
        self.accepted
    }

    /// The revision that the client is being brought to.
    pub fn target_revision(&self) -> Revision {
        self.target.revision
    }

    /// What the client refuses now.
    pub fn refusals(&self) -> impl Iterator<Item = &Refusal> {
        let all = self.subscriptions.values();
        all.flat_map(|subscription| subscription.answers.refused().values()).map(|one| &**one)
    }

    /// What the client asked for and holds.
    pub fn holding(&self) -> Holding {
        let types = self.subscriptions.iter();
        Holding { types: types.map(|(type_url, of)| HeldType::of(type_url, of)).collect() }
    }

    /// Prolongs the life of what the client holds, where that has an end. To be sent several times
    /// within [`Client::ttl`]; types with a response on its way are left out.
    pub fn heartbeat(&mut self) -> Vec<Response> {
        let Some(ttl) = V::ttl(&self.client) else { return Vec::new() };
        let revision = self.target.revision;
        let mut beats = Vec::new();
        for (type_url, subscription) in &mut self.subscriptions {
            if subscription.answers.awaits() {
                continue;
            }
            let Heartbeat { resources, whole, bodiless } = V::heartbeat(subscription, type_url);
            if resources.is_empty() {
                continue;
            }
            let resources = Batch::single(resources);
            self.nonces += 1;
            subscription.answers.sent(InFlight {
                nonce: self.nonces,
                news: News::default(),
                whole,
                revision,
                overdue: true,
            });
            beats.push(Response {
                type_url: Arc::clone(type_url),
                nonce: self.nonces.to_string(),
                version_info: V::version_info(&resources, revision),
                resources,
                removed: Vec::new(),
                errors: Vec::new(),
                ttl: Some(ttl),
                is_heartbeat: bodiless,
            });
        }
        beats
    }

    fn gather_secrets(&mut self) {
        let shared = self.target.of_type(type_urls::SECRET).cloned().unwrap_or_default();
        self.secrets = if self.own_secrets.is_empty() {
            // The very map that all have.
            shared
        } else {
            self.own_secrets.clone().union(shared)
        };
    }

    /// What the client is brought to, of one type.
    fn resources(&self, type_url: &str) -> Resources {
        if type_url == type_urls::SECRET {
            return self.secrets.clone();
        }
        self.target.of_type(type_url).cloned().unwrap_or_default()
    }

    /// A store that was never written to, lost or wrong, takes and replaces nothing of what a
    /// client runs on: it is told nothing until something is applied.
    fn is_silent(&self) -> bool {
        self.brought_along && self.target.revision == Revision::NONE
    }

    fn next_of_pass(&mut self) -> Option<Response> {
        for stage in STAGES {
            let response = match *stage {
                Stage::Send(_, Part::Break) if self.withholds_breaks() => None,
                Stage::Send(type_url, part) => self.send(type_url, part),
                Stage::Others => self.send_others(),
                Stage::Await(types) if self.awaits(types) => return None,
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

    /// A client that refused its new routes runs on the old ones, which name what would be taken
    /// away. It is kept until the routes are accepted, or until it is too much to be kept.
    fn withholds_breaks(&self) -> bool {
        let of = |url: &&str| self.subscriptions.get(*url);
        NAMING.iter().filter_map(of).any(|routes| !routes.answers.refused().is_empty())
            && NAMED.iter().filter_map(of).all(|named| named.breaks() <= MAX_NAMES)
    }

    fn awaits(&self, types: &[&str]) -> bool {
        let mut of = types.iter().filter_map(|url| self.subscriptions.get(*url));
        of.any(|subscription| subscription.answers.awaits())
    }

    fn awaits_endpoints(&mut self) -> bool {
        self.unasked.is_awaited(
            self.subscriptions.get(type_urls::CLUSTER),
            self.target.of_type(type_urls::CLUSTER),
            self.target.of_type(type_urls::ENDPOINT),
        )
    }

    fn awaits_routes(&self) -> bool {
        self.awaits_asking() || self.has_breaks() && self.awaits(&NAMING)
    }

    /// A client that connects (again) asks for clusters first. Those that are gone may be in the
    /// routes that it still runs on, and are not taken away before it has asked for routes too;
    /// nor is a snapshot marked as complete before that.
    fn awaits_asking(&self) -> bool {
        if self.given_up || self.knows(type_urls::LISTENER) && self.knows_routes() {
            return false;
        }
        self.knows(type_urls::SNAPSHOT_MARK) || self.has_breaks()
    }

    fn has_breaks(&self) -> bool {
        NAMED.iter().filter_map(|url| self.subscriptions.get(*url)).any(|named| named.breaks() > 0)
    }

    fn knows(&self, type_url: &str) -> bool {
        self.subscriptions.contains_key(type_url)
    }

    /// Whether the client asked for routes, and for virtual hosts where they come by themselves.
    fn knows_routes(&self) -> bool {
        let apart = || self.target.of_type(type_urls::VIRTUAL_HOST).is_some();
        self.knows(type_urls::ROUTE) && (self.knows(type_urls::VIRTUAL_HOST) || !apart())
    }

    /// Types of which we have nothing: clients are told so as their variant can.
    fn send_others(&mut self) -> Option<Response> {
        let others: Vec<Arc<str>> =
            self.subscriptions.keys().filter(|url| !has_stage(url)).cloned().collect();
        others.iter().find_map(|type_url| self.send(type_url, Part::Whole))
    }

    fn send(&mut self, type_url: &str, part: Part) -> Option<Response> {
        let target = &self.resources(type_url);
        let subscription = self.subscriptions.get_mut(type_url)?;
        let news = part.makes() && subscription.has_makes(target);
        let gone = part.breaks() && subscription.breaks() > 0;
        if subscription.answers.awaits() || !news && !gone {
            return None;
        }
        let content = V::content(subscription, type_url, target, &self.target.transitions, part)?;
        let revision = self.target.revision;
        self.nonces += 1;
        let (type_url, mut subscription) = self.subscriptions.remove_entry(type_url)?;
        if &*type_url == type_urls::CLUSTER {
            let endpoints = self.subscriptions.get_mut(type_urls::ENDPOINT);
            self.unasked.clusters_sent(&subscription, endpoints, &content.news);
        }
        subscription.answers.sent(InFlight {
            nonce: self.nonces,
            news: content.news,
            whole: content.whole,
            revision,
            overdue: false,
        });
        self.subscriptions.insert(Arc::clone(&type_url), subscription);
        let version_info = V::version_info(&content.resources, revision);
        Some(Response {
            nonce: self.nonces.to_string(),
            version_info,
            resources: content.resources,
            removed: content.removed,
            errors: not_found(&type_url, content.unknown),
            ttl: V::ttl(&self.client),
            is_heartbeat: false,
            type_url,
        })
    }

    /// Until it has asked for clusters and for routes, a client that takes all has not seen a whole
    /// snapshot.
    fn note_accepted(&mut self) {
        let begun = self.client.asks_in_part && !self.subscriptions.is_empty()
            || self.knows(type_urls::CLUSTER) && self.knows_routes();
        let is_new = self.accepted != self.target.revision;
        if begun && is_new && self.subscriptions.values().all(|one| one.answers.accepted()) {
            self.accepted_before = mem::replace(&mut self.accepted, self.target.revision);
        }
    }
}

fn not_found(type_url: &str, names: Vec<Arc<str>>) -> Vec<ResourceError> {
    if names.is_empty() {
        return Vec::new();
    }
    let message: Arc<str> = format!("no such {}", short_type(type_url)).into();
    let error = |name| ResourceError { name, code: NOT_FOUND, message: Arc::clone(&message) };
    names.into_iter().map(error).collect()
}
