//! What a client says to responses: ACKs, NACKs, and what it refuses now.

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::OrdMap;
use segue_shared::ids::Revision;

use crate::snapshot::Resources;

/// Most responses without an answer that are remembered.
const MAX_IN_FLIGHT: usize = 8;
/// Most bytes that are kept of a refusal's reason.
const MAX_REASON_BYTES: usize = 4096;
/// Most bytes of it that are read for names.
const MAX_READ_BYTES: usize = 65_536;

/// A resource that the client refused. It runs on with what it had before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub type_url: Arc<str>,
    pub resource: Arc<str>,
    /// What the client says, cut at 4 KiB; shared by all that it refuses with one answer.
    pub reason: Arc<str>,
    /// The revision with which it came.
    pub revision: Revision,
}

/// Names of what is new in a response.
#[derive(Clone, Debug)]
pub enum News {
    /// All of a type, as a first response to a wildcard has it: a map that is shared anyway.
    All(Resources),
    Some(Arc<[Arc<str>]>),
}

impl Default for News {
    fn default() -> Self {
        Self::Some(Arc::default())
    }
}

impl News {
    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        let (all, some) = match self {
            Self::All(resources) => (Some(resources.keys()), None),
            Self::Some(names) => (None, Some(names.iter())),
        };
        all.into_iter().flatten().chain(some.into_iter().flatten())
    }
}

/// A response that the client has not answered.
#[derive(Debug)]
pub(super) struct InFlight {
    pub nonce: u64,
    pub news: News,
    /// Whether it holds all that the client then has.
    pub whole: bool,
    pub revision: Revision,
    /// What comes next does not wait for it: the client took too long, or need not hurry.
    pub overdue: bool,
}

/// The responses of one type, and what became of them.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Nonce of the last response; 0 before the first.
    last_nonce: u64,
    /// The oldest first. More than one only where an earlier one is overdue.
    in_flight: Vec<InFlight>,
    refused: OrdMap<Arc<str>, Arc<Refusal>>,
}

impl Answers {
    /// A response went out.
    pub(super) fn sent(&mut self, response: InFlight) {
        self.last_nonce = response.nonce;
        if self.in_flight.len() >= MAX_IN_FLIGHT {
            self.in_flight.remove(0);
        }
        self.in_flight.push(response);
    }

    /// Whether a request with this nonce knows of the last response.
    pub(super) fn is_current(&self, nonce: &str) -> bool {
        parse(nonce) == Some(self.last_nonce)
    }

    /// Takes the client's answer to the response with this nonce, and with it to those before,
    /// because clients answer in order. `holds` tells what it has been sent and still has.
    pub(super) fn answered(
        &mut self,
        type_url: &Arc<str>,
        nonce: &str,
        error: Option<&str>,
        holds: impl Fn(&str) -> bool,
    ) {
        let nonce = parse(nonce);
        let at = self.in_flight.iter().position(|response| Some(response.nonce) == nonce);
        let Some(response) = at.and_then(|at| self.in_flight.drain(..=at).next_back()) else {
            return;
        };
        if self.in_flight.is_empty() {
            // Ten thousand idle streams keep nothing for what they are not waiting for.
            self.in_flight = Vec::new();
        }
        match error {
            Some(reason) => self.refuse(type_url, &response, reason, holds),
            None if self.refused.is_empty() => {}
            None if response.whole => self.refused.clear(),
            None => {
                for name in response.news.names() {
                    self.refused.remove(name);
                }
            }
        }
    }

    /// What was taken away since is not refused any more, however late the word of it comes.
    fn refuse(
        &mut self,
        type_url: &Arc<str>,
        response: &InFlight,
        reason: &str,
        holds: impl Fn(&str) -> bool,
    ) {
        let told: Arc<str> = reason[..reason.floor_char_boundary(MAX_REASON_BYTES)].into();
        // What was refused before is refused again with a response that holds everything.
        let reason = Reason::read(reason);
        let before = response.whole && self.refused.keys().any(|name| reason.mentions(name));
        // A client that does not say which one it refuses may have refused any.
        let named = before || response.news.names().any(|name| reason.mentions(name));
        for name in response.news.names() {
            if named && !reason.mentions(name) {
                self.refused.remove(name);
            } else if holds(name) {
                let refusal = Refusal {
                    type_url: Arc::clone(type_url),
                    resource: Arc::clone(name),
                    reason: Arc::clone(&told),
                    revision: response.revision,
                };
                self.refused.insert(Arc::clone(name), Arc::new(refusal));
            }
        }
    }

    /// What the client does not have it does not refuse.
    pub(super) fn forget(&mut self, name: &str) {
        self.refused.remove(name);
    }

    /// Forgets refusals of what the client no longer wants.
    pub(super) fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        keep(&mut self.refused, |name| wanted(name));
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

    /// What was new in responses without an answer.
    pub(super) fn unanswered(&self) -> impl Iterator<Item = &News> {
        self.in_flight.iter().map(|response| &response.news)
    }

    /// What the client refuses now.
    pub(super) fn refused(&self) -> &OrdMap<Arc<str>, Arc<Refusal>> {
        &self.refused
    }
}

/// Keeps the entries with such keys.
pub(super) fn keep<V: Clone>(map: &mut OrdMap<Arc<str>, V>, is_kept: impl Fn(&str) -> bool) {
    let dropped: Vec<Arc<str>> = map.keys().filter(|key| !is_kept(key)).cloned().collect();
    for key in dropped {
        map.remove(&key);
    }
}

/// A nonce as we write it.
fn parse(nonce: &str) -> Option<u64> {
    if nonce.is_empty() { Some(0) } else { nonce.parse().ok().filter(|nonce| *nonce != 0) }
}

/// A refusal's reason, read for the names of resources.
struct Reason<'a> {
    text: &'a str,
    /// Its words, so that thousands of names are not each sought in all of it.
    words: BTreeSet<&'a str>,
}

impl<'a> Reason<'a> {
    fn read(text: &'a str) -> Self {
        let text = &text[..text.floor_char_boundary(MAX_READ_BYTES)];
        Self { text, words: text.split(|c| !is_of_word(c)).collect() }
    }

    /// Whether it names a resource, and not one whose name only begins alike.
    fn mentions(&self, name: &str) -> bool {
        let first = name.split(|c| !is_of_word(c)).next().unwrap_or_default();
        if first.len() == name.len() {
            return !name.is_empty() && self.words.contains(name);
        }
        if !first.is_empty() && !self.words.contains(first) {
            return false;
        }
        self.text.match_indices(name).any(|(at, _)| {
            !self.text[at + name.len()..].starts_with(is_of_word)
                && !self.text[..at].ends_with(is_of_word)
        })
    }
}

/// Whether a letter next to a name makes it another name.
fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '/' | '_')
}
