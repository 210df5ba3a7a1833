//! The records of all nodes, with a bound, and the counts that follow every change of one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use segue_control_plane_core::config::MeshConfig;
use tokio::time::Instant;

use super::StreamKind;
use super::held_back::HeldBack;
use super::index::Index;
use super::node::Node;
use super::published::Published;
use super::record::{Holder, Introduction, Place, SidecarStatus};

/// Most nodes that are kept at one time.
pub(super) const MAX_NODES: usize = 20_000;
/// Time after which a node that is gone is forgotten.
const FORGET_AFTER: Duration = Duration::from_hours(1);

#[derive(Debug, Default)]
pub(super) struct Registry {
    pub nodes: BTreeMap<Arc<str>, Node>,
    pub index: Index,
    pub published: Published,
    /// What was published last.
    pub config: Arc<MeshConfig>,
    pub held_back: HeldBack,
    /// Clusters of load reports that were not counted.
    pub loads_ignored: usize,
    /// How many streams there have been.
    streams: u64,
}

impl Registry {
    /// The number of the stream. `None` where there is no place.
    pub fn enter(
        &mut self,
        node_id: &Arc<str>,
        who: Introduction,
        kind: StreamKind,
        now: Instant,
    ) -> Option<u64> {
        if !self.nodes.contains_key(node_id) && !self.make_room(now) {
            return None;
        }
        self.streams += 1;
        let stream = self.streams;
        self.nodes.entry(Arc::clone(node_id)).or_insert_with(|| Node::unknown(now));
        self.note(node_id, |node| {
            node.appear(who, kind, stream, now);
            true
        });
        Some(stream)
    }

    /// Changes a node and the counts with it. Answers what `change` does, `false` where there is
    /// no such node.
    pub fn note(&mut self, node_id: &Arc<str>, change: impl FnOnce(&mut Node) -> bool) -> bool {
        let Some(node) = self.nodes.get_mut(node_id) else { return false };
        let before = node.standing();
        let news = change(node);
        self.index.moved(node_id, before.as_ref(), node.standing().as_ref());
        news
    }

    /// The first `most` nodes behind a place, and whether more follow.
    pub fn page(
        &self,
        service: Option<&str>,
        after: Option<&Place>,
        most: usize,
        tell: impl Fn(&Node) -> SidecarStatus,
    ) -> (Vec<SidecarStatus>, bool) {
        let after = after
            .map(|place| (place.service.as_str(), place.version.as_str(), place.node_id.as_str()));
        let mut nodes: Vec<&Node> = self
            .nodes
            .values()
            .filter(|node| {
                let order = node.order();
                service.is_none_or(|service| service == order.0)
                    && after.is_none_or(|after| order > after)
            })
            .collect();
        let more = nodes.len() > most;
        if more {
            // What comes later need not be in order.
            nodes.select_nth_unstable_by(most, |a, b| a.order().cmp(&b.order()));
            nodes.truncate(most);
        }
        nodes.sort_unstable_by(|a, b| a.order().cmp(&b.order()));
        (nodes.into_iter().map(tell).collect(), more)
    }

    pub fn holders(&self, is_asked: impl Fn(&str) -> bool) -> Vec<Holder> {
        let asked = self.nodes.iter().filter(|(id, _)| is_asked(id));
        let holders = asked.flat_map(|(id, node)| {
            node.holdings().map(|holding| Holder {
                node_id: Arc::clone(id),
                service: Arc::clone(node.service()),
                holding: holding.clone(),
            })
        });
        holders.collect()
    }

    /// Forgets nodes that are long gone.
    pub fn forget(&mut self, now: Instant) {
        self.nodes.retain(|_, node| {
            node.gone().is_none_or(|gone| now.saturating_duration_since(gone) < FORGET_AFTER)
        });
    }

    /// Where forgetting is not enough, the one gone longest makes room.
    fn make_room(&mut self, now: Instant) -> bool {
        if self.nodes.len() < MAX_NODES {
            return true;
        }
        self.forget(now);
        if self.nodes.len() < MAX_NODES {
            return true;
        }
        let gone = self.nodes.iter().filter_map(|(id, node)| Some((node.gone()?, id)));
        match gone.min().map(|(_, id)| Arc::clone(id)) {
            Some(id) => self.nodes.remove(&id).is_some(),
            None => false,
        }
    }
}
