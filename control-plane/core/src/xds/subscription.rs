//! What a client asked for of one type, what it holds, and what it is owed.
//!
//! What a client has is nearly always what a snapshot has, so it is written down as that snapshot's
//! map, which costs a pointer, and the few names where the client differs.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;

use imbl::ordmap::DiffItem;
use imbl::{OrdMap, OrdSet};

use super::answers::{Answers, News, keep};
use crate::cost::look_at;
use crate::snapshot::{Batch, EncodedResource, Resources, Transitions};

/// The `*` of a subscription.
pub(super) const WILDCARD: &str = "*";

/// A client's subscription to one type, on one stream.
#[derive(Debug, Default)]
pub struct Subscription {
    pub(super) wildcard: bool,
    pub(super) names: OrdSet<Arc<str>>,
    /// Whether names (or `*`) were ever given: an empty list means "nothing" from then on.
    pub(super) explicit: bool,
    /// An answer is owed, even an empty one.
    pub(super) answer_due: bool,
    pub(super) answers: Answers,
    /// What the client has, as far as it wants it and save for what is owed.
    base: Resources,
    /// Names that get an answer.
    owed: OrdMap<Arc<str>, Owed>,
    /// What the client has and `base` has not.
    gone: OrdMap<Arc<str>, Had>,
}

/// Why a name gets an answer.
#[derive(Clone, Debug)]
pub(super) enum Owed {
    /// The client has nothing of the name. Where `base` has nothing either, it is told so.
    New,
    /// The client has another version than `base`.
    Other(Had),
    /// The client has what `base` has and gets it anew.
    Same,
}

/// A resource that a client has.
#[derive(Clone, Debug)]
pub(super) enum Had {
    Sent(Arc<EncodedResource>),
    /// From an earlier stream, in this version.
    Brought(Arc<str>),
}

impl Had {
    pub(super) fn version(&self) -> &str {
        match self {
            Self::Sent(resource) => resource.version(),
            Self::Brought(version) => version,
        }
    }

    pub(super) fn resource(&self) -> Option<&Arc<EncodedResource>> {
        match self {
            Self::Sent(resource) => Some(resource),
            Self::Brought(_) => None,
        }
    }
}

/// What is new for a client.
#[derive(Debug, Default)]
pub(super) struct Makes {
    pub resources: Arc<Batch>,
    /// Names that were asked for and do not exist.
    pub unknown: Vec<Arc<str>>,
    pub news: News,
}

impl Makes {
    pub(super) fn is_empty(&self) -> bool {
        self.resources.is_empty() && self.unknown.is_empty()
    }
}

/// What a client asks for.
impl Subscription {
    /// The first request of a type on a stream, with the versions that the client brought along.
    pub(super) fn begin(
        &mut self,
        wildcard: bool,
        names: impl Iterator<Item = String>,
        brought: HashMap<String, String>,
        target: &Resources,
    ) {
        self.wildcard = wildcard;
        // Even where there is nothing, the client waits to be told so.
        self.answer_due = wildcard;
        self.names = names.map(|name| intern(target, &name)).collect();
        if !wildcard || !brought.is_empty() {
            self.base = target.clone();
        }
        // What the client brought along is answered by what changed, or by its removal. Ten
        // thousand clients bring thousands of names after a restart: each is sought once.
        let (mut owed, mut found) = (OrdMap::new(), 0);
        let everything = self.base.iter().filter(|_| wildcard);
        let named = self.names.iter().filter(|name| !wildcard || !self.base.contains_key(*name));
        let named = named.map(|name| (name, self.base.get(name)));
        for (name, resource) in everything.map(|(name, it)| (name, Some(it))).chain(named) {
            look_at(1);
            let version = brought.get(&**name);
            found += usize::from(version.is_some());
            let other = match (version, resource) {
                (None, _) => Owed::New,
                (Some(version), Some(has)) if has.version() != version => {
                    Owed::Other(Had::Brought(version.as_str().into()))
                }
                (Some(_), _) => continue,
            };
            owed.insert(Arc::clone(name), other);
        }
        self.owed = owed;
        if found == brought.len() && self.names.is_empty() {
            return;
        }
        for (name, version) in brought {
            if self.covers(&name) && !target.contains_key(&*name) {
                self.gone.insert(name.into(), Had::Brought(version.into()));
            }
        }
    }

    /// The client wants a name, and an answer about it though nothing may have changed.
    pub(super) fn subscribe(&mut self, name: &str) {
        let name = intern(&self.base, name);
        self.answer(&name);
        self.names.insert(name);
    }

    /// The client wants a name no longer. Where `*` still covers it, delta clients want to hear of
    /// it once more, as they dropped it.
    pub(super) fn unsubscribe(&mut self, name: &str, answer: bool) -> Option<Arc<str>> {
        let name = self.names.remove(name)?;
        if !self.wildcard {
            self.owed.remove(&name);
            self.gone.remove(&name);
            self.answers.forget(&name);
        } else if answer {
            self.answer(&name);
        }
        Some(name)
    }

    /// The client wants everything.
    pub(super) fn widen(&mut self) {
        self.answer_due = true;
        if mem::replace(&mut self.wildcard, true) {
            return;
        }
        for name in self.base.keys().filter(|name| !self.names.contains(*name)) {
            look_at(1);
            self.owed.insert(Arc::clone(name), Owed::New);
        }
    }

    /// The client wants nothing but names.
    pub(super) fn narrow(&mut self) {
        self.wildcard = false;
        keep(&mut self.owed, |name| self.names.contains(name));
        keep(&mut self.gone, |name| self.names.contains(name));
        let names = &self.names;
        self.answers.retain(|name| names.contains(name));
    }

    fn answer(&mut self, name: &Arc<str>) {
        if self.owed.contains_key(name) || self.gone.contains_key(name) {
            // What is gone is answered when it is taken away.
            return;
        }
        let has = self.covers(name) && self.base.contains_key(name);
        self.owed.insert(Arc::clone(name), if has { Owed::Same } else { Owed::New });
    }
}

/// What a client has.
impl Subscription {
    /// Whether the client wants a resource.
    pub(super) fn covers(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// Whether the client has a resource, in whatever version.
    pub(super) fn holds(&self, name: &str) -> bool {
        let lacks = || matches!(self.owed.get(name), Some(Owed::New));
        self.gone.contains_key(name)
            || self.base.contains_key(name) && self.covers(name) && !lacks()
    }

    /// What the client has just as the snapshot has it.
    pub(super) fn in_sync(&self) -> impl Iterator<Item = &Arc<EncodedResource>> {
        covered(&self.base, self.wildcard, &self.names)
            .filter(|(name, _)| !matches!(self.owed.get(*name), Some(Owed::New | Owed::Other(_))))
            .map(|(_, resource)| resource)
    }

    /// Whether the client has just what a snapshot has, and all of it.
    pub(super) fn has_just(&self, target: &Resources) -> bool {
        self.wildcard && self.owed.is_empty() && self.gone.is_empty() && self.is_at(target)
    }

    /// What the client has of what the snapshot has, in the version in which it was sent.
    pub(super) fn had(&self) -> impl Iterator<Item = &Arc<EncodedResource>> {
        let older = self.owed.values().filter_map(|owed| match owed {
            Owed::Other(had) => had.resource(),
            Owed::New | Owed::Same => None,
        });
        self.in_sync().chain(older)
    }

    /// What was sent on this stream, is not in the snapshot and not yet taken away.
    pub(super) fn kept(&self) -> impl Iterator<Item = &Arc<EncodedResource>> {
        self.gone.values().filter_map(Had::resource)
    }

    /// Takes the client's answer to the response with this nonce.
    pub(super) fn answered(&mut self, type_url: &Arc<str>, nonce: &str, error: Option<&str>) {
        if nonce.is_empty() {
            return;
        }
        let mut answers = mem::take(&mut self.answers);
        answers.answered(type_url, nonce, error, |name| self.holds(name));
        self.answers = answers;
    }

    /// How many resources are to be taken away.
    pub(super) fn breaks(&self) -> usize {
        self.gone.len()
    }

    /// Whether there is something to make.
    pub(super) fn has_makes(&self, target: &Resources) -> bool {
        self.answer_due || !self.owed.is_empty() || !self.is_at(target)
    }

    pub(super) fn base(&self) -> &Resources {
        &self.base
    }

    pub(super) fn owed(&self) -> &OrdMap<Arc<str>, Owed> {
        &self.owed
    }

    pub(super) fn gone(&self) -> &OrdMap<Arc<str>, Had> {
        &self.gone
    }

    fn is_at(&self, target: &Resources) -> bool {
        self.base.ptr_eq(target)
    }
}

/// What a client gets.
impl Subscription {
    /// A resource that the client has gets sent again.
    pub(super) fn renew(&mut self, name: &Arc<str>) {
        if let Some(had) = self.gone.get_mut(name) {
            // Its removal is still owed. Where it comes back instead, it must not pass for what the
            // client had: no resource has this version.
            *had = Had::Brought("".into());
        }
        if !self.owed.contains_key(name) && self.base.contains_key(name) && self.covers(name) {
            self.owed.insert(Arc::clone(name), Owed::Same);
        }
    }

    /// Takes what is new or changed up to `target`, as sent.
    pub(super) fn take_makes(&mut self, target: &Resources, ways: &Transitions) -> Makes {
        if self.wildcard && !self.is_at(target) && self.owed.is_empty() && self.gone.is_empty() {
            return self.go_on(target, ways);
        }
        self.advance(target);
        let (mut resources, mut unknown) = (Vec::new(), Vec::new());
        let mut news = Vec::with_capacity(self.owed.len());
        for name in mem::take(&mut self.owed).keys() {
            look_at(1);
            if let Some((name, resource)) = self.base.get_key_value(name) {
                news.push(Arc::clone(name));
                resources.push(Arc::clone(resource));
            } else {
                unknown.push(Arc::clone(name));
            }
        }
        Makes { resources: Batch::single(resources), unknown, news: News::Some(news.into()) }
    }

    /// Of a client that wants everything and has all of some snapshot: it goes the way of all of
    /// its kind.
    fn go_on(&mut self, target: &Resources, ways: &Transitions) -> Makes {
        let way = ways.between(&self.base, target);
        let had = |(name, old): (&Arc<str>, &Arc<EncodedResource>)| {
            (Arc::clone(name), Had::Sent(Arc::clone(old)))
        };
        self.gone = way.breaks.iter().map(had).collect();
        let before = mem::replace(&mut self.base, target.clone());
        let news = if before.is_empty() {
            // A first answer: everything, without a list of names.
            News::All(target.clone())
        } else {
            News::Some(Arc::clone(&way.names))
        };
        Makes { resources: Arc::clone(&way.makes), news, ..Makes::default() }
    }

    /// Takes what is to be taken away from the client, as done.
    pub(super) fn take_breaks(&mut self, target: &Resources) -> Vec<Arc<str>> {
        self.advance(target);
        look_at(self.gone.len());
        let gone: Vec<Arc<str>> = mem::take(&mut self.gone).keys().cloned().collect();
        for name in &gone {
            self.answers.forget(name);
        }
        gone
    }

    /// Writes down how the client differs from `target`, at the cost of what changed since the
    /// last one.
    fn advance(&mut self, target: &Resources) {
        if self.is_at(target) {
            return;
        }
        let before = mem::replace(&mut self.base, target.clone());
        for item in before.diff(target) {
            look_at(1);
            match item {
                DiffItem::Add(name, resource) if self.covers(name) => {
                    let had = self.gone.remove(name);
                    if had.as_ref().is_some_and(|had| had.version() == resource.version()) {
                        continue;
                    }
                    self.owed.insert(Arc::clone(name), had.map_or(Owed::New, Owed::Other));
                }
                DiffItem::Update { old: (_, old), new: (name, new) }
                    if old.version() != new.version() && self.covers(name) =>
                {
                    match self.owed.remove(name) {
                        Some(Owed::Other(had)) if had.version() == new.version() => {}
                        Some(Owed::Other(had)) => self.owe(name, Owed::Other(had)),
                        Some(Owed::New) => self.owe(name, Owed::New),
                        Some(Owed::Same) | None => {
                            self.owe(name, Owed::Other(Had::Sent(Arc::clone(old))));
                        }
                    }
                }
                DiffItem::Remove(name, old) if self.covers(name) => {
                    let had = match self.owed.remove(name) {
                        Some(Owed::New) => {
                            if self.names.contains(name) {
                                self.owe(name, Owed::New);
                            }
                            continue;
                        }
                        Some(Owed::Other(had)) => had,
                        Some(Owed::Same) | None => Had::Sent(Arc::clone(old)),
                    };
                    self.gone.insert(Arc::clone(name), had);
                }
                DiffItem::Add(..) | DiffItem::Update { .. } | DiffItem::Remove(..) => {}
            }
        }
    }

    fn owe(&mut self, name: &Arc<str>, owed: Owed) {
        self.owed.insert(Arc::clone(name), owed);
    }
}

/// Those of a snapshot's resources that a client wants.
pub(super) fn covered<'a>(
    base: &'a Resources,
    wildcard: bool,
    names: &'a OrdSet<Arc<str>>,
) -> impl Iterator<Item = (&'a Arc<str>, &'a Arc<EncodedResource>)> {
    let all = wildcard.then(|| base.iter());
    let named = (!wildcard).then(|| names.iter().filter_map(|name| base.get_key_value(name)));
    all.into_iter().flatten().chain(named.into_iter().flatten())
}

/// A name as the snapshot has it, so that ten thousand streams share it.
fn intern(resources: &Resources, name: &str) -> Arc<str> {
    resources.get_key_value(name).map_or_else(|| name.into(), |(name, _)| Arc::clone(name))
}
