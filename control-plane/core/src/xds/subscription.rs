//! What a client asked for of one type, what it holds, and what it is owed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use segue_shared::ids::Revision;

use super::order::Part;
use crate::snapshot::EncodedResource;

/// Most responses without an answer that are remembered.
const MAX_IN_FLIGHT: usize = 8;
/// Most bytes that are kept of a refusal's reason.
const MAX_REASON_BYTES: usize = 4096;

/// The `*` of a subscription.
pub(super) const WILDCARD: &str = "*";

/// A client's subscription to one type, on one stream.
#[derive(Debug, Default)]
pub struct Subscription {
    pub(super) wildcard: bool,
    pub(super) names: BTreeSet<String>,
    /// Whether names (or `*`) were ever given: an empty list means "nothing" from then on.
    pub(super) explicit: bool,
    /// What the client has or is being sent.
    pub(super) held: BTreeMap<String, Held>,
    /// Names that get an answer though nothing about them changed.
    pub(super) due: BTreeSet<String>,
    /// An answer is owed, even an empty one.
    pub(super) answer_due: bool,
    /// Nonce of the last response.
    pub(super) last_nonce: Option<String>,
    /// The oldest first. More than one only where an earlier one is overdue.
    in_flight: Vec<InFlight>,
    refused: BTreeMap<String, Refusal>,
    /// Whether there may be something to make and to break; spares looking at every resource.
    look: Look,
}

/// A resource on the client.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub version: String,
    /// `None` where the client brought it along from an earlier stream.
    pub resource: Option<Arc<EncodedResource>>,
}

/// A resource that the client refused. It runs on with what it had before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub type_url: String,
    pub resource: String,
    /// What the client says, cut at 4 KiB; shared by all that it refuses with one answer.
    pub reason: Arc<str>,
    /// The revision with which it came.
    pub revision: Revision,
}

/// A response that the client has not answered.
#[derive(Debug)]
pub(super) struct InFlight {
    pub nonce: String,
    pub type_url: String,
    /// What changed with it.
    pub names: Vec<String>,
    /// Whether it holds all that the client then has.
    pub whole: bool,
    pub revision: Revision,
    /// The client took too long: what comes next no longer waits for it.
    pub overdue: bool,
}

#[derive(Debug, Default)]
struct Look {
    make: bool,
    take: bool,
}

impl Subscription {
    /// Whether the client wants a resource.
    pub(super) fn covers(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// Something changed here or in the snapshot.
    pub(super) fn look_again(&mut self) {
        self.look = Look { make: true, take: true };
    }

    /// Whether a part may have something to send; looking at it settles that.
    pub(super) fn take_look(&mut self, part: Part) -> bool {
        let look = &mut self.look;
        match part {
            Part::Make => std::mem::take(&mut look.make),
            Part::Break => std::mem::take(&mut look.take),
            Part::Whole => std::mem::take(&mut look.make) | std::mem::take(&mut look.take),
        }
    }

    /// The client no longer holds what it no longer wants.
    pub(super) fn forget_uncovered(&mut self) {
        let (wildcard, names) = (self.wildcard, &self.names);
        self.held.retain(|name, _| wildcard || names.contains(name));
        self.refused.retain(|name, _| wildcard || names.contains(name));
        self.due.retain(|name| wildcard || names.contains(name));
    }

    /// A resource went out.
    pub(super) fn hold(&mut self, resource: &Arc<EncodedResource>) {
        let held =
            Held { version: resource.version().to_owned(), resource: Some(Arc::clone(resource)) };
        self.held.insert(resource.name().to_string(), held);
    }

    /// A removal went out.
    pub(super) fn drop_held(&mut self, name: &str) {
        self.held.remove(name);
        self.refused.remove(name);
    }

    /// A response went out.
    pub(super) fn sent(&mut self, response: InFlight) {
        self.last_nonce = Some(response.nonce.clone());
        if self.in_flight.len() >= MAX_IN_FLIGHT {
            self.in_flight.remove(0);
        }
        self.in_flight.push(response);
    }

    /// Names of what went out on this stream.
    pub(super) fn sent_here(&self) -> Vec<String> {
        let sent = self.held.iter().filter(|(_, held)| held.resource.is_some());
        sent.map(|(name, _)| name.clone()).collect()
    }

    /// Takes the client's answer to the response with this nonce, and with it to those before,
    /// because clients answer in order.
    pub(super) fn answered(&mut self, nonce: &str, error: Option<&str>) {
        let at = self.in_flight.iter().position(|response| response.nonce == nonce);
        let Some(response) = at.and_then(|at| self.in_flight.drain(..=at).next_back()) else {
            return;
        };
        match error {
            None if response.whole => self.refused.clear(),
            None => self.refused.retain(|name, _| !response.names.contains(name)),
            Some(reason) => self.refuse(&response, reason),
        }
    }

    /// What was taken away since is not refused any more, however late the word of it comes.
    fn refuse(&mut self, response: &InFlight, reason: &str) {
        let told: Arc<str> = reason[..reason.floor_char_boundary(MAX_REASON_BYTES)].into();
        // What was refused before is refused again with a response that holds everything.
        let before = response.whole && self.refused.keys().any(|name| mentions(reason, name));
        // A client that does not say which one it refuses may have refused any.
        let named = before || response.names.iter().any(|name| mentions(reason, name));
        for name in &response.names {
            if named && !mentions(reason, name) {
                self.refused.remove(name);
            } else if self.covers(name) && self.held.contains_key(name) {
                let refusal = Refusal {
                    type_url: response.type_url.clone(),
                    resource: name.clone(),
                    reason: Arc::clone(&told),
                    revision: response.revision,
                };
                self.refused.insert(name.clone(), refusal);
            }
        }
    }

    /// Whether the client owes an answer that is still worth waiting for.
    pub(super) fn awaits(&self) -> bool {
        self.in_flight.iter().any(|response| !response.overdue)
    }

    /// What is in flight is no longer waited for.
    pub(super) fn stop_waiting(&mut self) {
        for response in &mut self.in_flight {
            response.overdue = true;
        }
    }

    /// Whether the client ACKed everything that it was sent.
    pub(super) fn accepted(&self) -> bool {
        self.in_flight.is_empty() && self.refused.is_empty()
    }

    /// Whether the client refuses this one now.
    pub(super) fn refuses(&self, name: &str) -> bool {
        self.refused.contains_key(name)
    }

    /// What the client refuses now.
    pub(super) fn refusals(&self) -> impl Iterator<Item = &Refusal> {
        self.refused.values()
    }
}

/// Whether a text names a resource, and not one whose name only begins alike.
fn mentions(text: &str, name: &str) -> bool {
    let part_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '/' | '_');
    !name.is_empty()
        && text.match_indices(name).any(|(at, _)| {
            !text[at + name.len()..].starts_with(part_of_name)
                && !text[..at].ends_with(part_of_name)
        })
}
