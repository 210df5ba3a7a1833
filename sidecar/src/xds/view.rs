//! What the client holds, refuses and waits for, for whoever looks at it from outside.

use std::time::SystemTime;

use envoy_types::pb::envoy::config::core::v3::Node;
use tokio::sync::{mpsc, oneshot};

use super::inbox::{Inbox, RefusedResources, StoredResources};

/// Questions that wait for the client. The next ones wait to be asked.
const QUESTIONS_WAITING: usize = 4;

/// The resources of one moment. Cheap to make: it shares what the client holds.
#[derive(Clone, Debug)]
pub struct XdsView {
    pub node: Node,
    stored: StoredResources,
    refused: RefusedResources,
    awaited: Vec<(&'static str, String)>,
    overdue: bool,
}

/// One resource as the client sees it.
#[derive(Clone, Debug)]
pub struct ResourceView {
    pub type_url: &'static str,
    pub name: String,
    /// The good one that is in use: version, bytes, and when it came, if in this process's time.
    pub good: Option<(String, Vec<u8>, Option<SystemTime>)>,
    pub state: ResourceState,
}

/// Where a resource stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResourceState {
    /// Asked for, and not here yet.
    Requested,
    /// Asked for, and not come in time.
    Absent,
    Accepted,
    /// Its newest version is refused; the good one before, where there is one, stays.
    Refused {
        reason: String,
        at: SystemTime,
    },
}

impl XdsView {
    pub(crate) fn new(node: Node, inbox: &Inbox) -> Self {
        Self {
            node,
            stored: inbox.stored(),
            refused: inbox.refused(),
            awaited: inbox.awaited(),
            overdue: inbox.is_overdue(),
        }
    }

    /// Every resource, by type and name; with its bytes only where asked.
    pub fn resources(&self, with_bytes: bool) -> impl Iterator<Item = ResourceView> {
        let good = self.stored.iter().flat_map(move |(type_url, of_type)| {
            of_type.iter().map(move |(name, stored)| {
                let bytes = if with_bytes { stored.bytes.to_vec() } else { Vec::new() };
                let refused = self.refused.get(&(*type_url, name.to_string()));
                ResourceView {
                    type_url,
                    name: name.to_string(),
                    good: Some((stored.version.to_string(), bytes, stored.came)),
                    state: refused.map_or(ResourceState::Accepted, ResourceState::refused),
                }
            })
        });
        let only_refused = self.refused.iter().filter(|((type_url, name), _)| {
            self.stored.get(type_url).is_none_or(|of_type| !of_type.contains_key(name.as_str()))
        });
        let only_refused = only_refused.map(|((type_url, name), refused)| ResourceView {
            type_url,
            name: name.clone(),
            good: None,
            state: ResourceState::refused(refused),
        });
        let awaited = self.awaited.iter().map(|(type_url, name)| ResourceView {
            type_url,
            name: name.clone(),
            good: None,
            state: if self.overdue { ResourceState::Absent } else { ResourceState::Requested },
        });
        good.chain(only_refused).chain(awaited)
    }
}

impl ResourceState {
    fn refused(refused: &super::inbox::Refused) -> Self {
        Self::Refused { reason: refused.rejection.reject.to_string(), at: refused.at }
    }
}

/// Asks a running client what it sees.
#[derive(Clone)]
pub struct XdsViews(mpsc::Sender<oneshot::Sender<XdsView>>);

/// The client's end.
pub(crate) type Questions = mpsc::Receiver<oneshot::Sender<XdsView>>;

impl XdsViews {
    pub(crate) fn new() -> (Self, Questions) {
        let (questions, asked) = mpsc::channel(QUESTIONS_WAITING);
        (Self(questions), asked)
    }

    /// What the client sees now. `None` where it has ended.
    pub async fn ask(&self) -> Option<XdsView> {
        let (reply, answer) = oneshot::channel();
        self.0.send(reply).await.ok()?;
        answer.await.ok()
    }

    /// Of a client that never was.
    #[cfg(test)]
    pub(crate) fn of_nobody() -> Self {
        Self::new().0
    }
}
