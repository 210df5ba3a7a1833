//! Clusters whose endpoints a client has still to ask for.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::answers::News;
use super::subscription::Subscription;
use crate::cost::look_at;
use crate::snapshot::Resources;

/// Clients ask for endpoints when they have learnt of a cluster, some of them only after its ACK.
/// Until then a route to the cluster would lead nowhere.
#[derive(Debug, Default)]
pub(super) struct Unasked {
    /// Sent as a whole, before endpoints were asked for at all.
    all: Option<Resources>,
    names: BTreeSet<Arc<str>>,
    /// Whether there may be one that is worth waiting for; spares looking at all of them.
    waiting: bool,
}

impl Unasked {
    /// Clusters went out. A cluster that is sent anew warms anew, and waits for its endpoints even
    /// where those are the same.
    pub(super) fn clusters_sent(
        &mut self,
        clusters: &Subscription,
        endpoints: Option<&mut Subscription>,
        sent: &News,
    ) {
        match (endpoints, sent) {
            (Some(endpoints), sent) => {
                for name in sent.names() {
                    endpoints.renew(name);
                    if !endpoints.covers(name) {
                        self.add(name);
                    }
                }
            }
            (None, News::All(resources)) => {
                self.all = Some(resources.clone());
                self.waiting = true;
            }
            (None, News::Some(names)) => names.iter().for_each(|name| self.add(name)),
        }
        if self.names.len() > 2 * clusters.base().len() {
            // A client that never asks for endpoints does not make this grow.
            self.names.retain(|name| clusters.holds(name));
        }
    }

    /// The client asked for endpoints, for the first time or otherwise, and wants those of
    /// `dropped` no longer.
    pub(super) fn endpoints_asked(
        &mut self,
        clusters: Option<&Subscription>,
        endpoints: &mut Subscription,
        first: bool,
        dropped: &[Arc<str>],
    ) {
        if first {
            // Clusters may have been sent anew before their endpoints were asked for.
            self.each(|name| endpoints.renew(name));
        }
        if let Some(all) = self.all.take().filter(|_| !endpoints.wildcard) {
            look_at(all.len());
            self.names.extend(all.keys().cloned());
        }
        self.names.retain(|name| !endpoints.covers(name));
        // It asks again when it learns again of a cluster that was sent in the meantime.
        for name in dropped {
            if clusters.is_some_and(|clusters| clusters.holds(name)) && !endpoints.covers(name) {
                self.add(name);
            }
        }
    }

    /// Whether the endpoints of a cluster are to be waited for: it is on the client, and it has
    /// endpoints.
    pub(super) fn is_awaited(
        &mut self,
        clusters: Option<&Subscription>,
        clusters_of_target: Option<&Resources>,
        endpoints_of_target: Option<&Resources>,
    ) -> bool {
        let (Some(clusters), Some(made), Some(endpoints)) =
            (clusters, clusters_of_target, endpoints_of_target)
        else {
            self.waiting = false;
            return false;
        };
        self.waiting = self.waiting
            && self.any(|name| {
                look_at(1);
                made.contains_key(name)
                    && endpoints.contains_key(name)
                    && clusters.holds(name)
                    && !clusters.answers.refused().contains_key(name)
            });
        self.waiting
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// The client took too long to ask, or never does.
    pub(super) fn stop_waiting(&mut self) {
        self.waiting = false;
    }

    fn add(&mut self, name: &Arc<str>) {
        look_at(1);
        self.names.insert(Arc::clone(name));
        self.waiting = true;
    }

    fn each(&self, mut what: impl FnMut(&Arc<str>)) {
        self.any(|name| {
            what(name);
            false
        });
    }

    fn any(&self, is: impl FnMut(&Arc<str>) -> bool) -> bool {
        self.all.iter().flat_map(Resources::keys).chain(&self.names).any(is)
    }
}
