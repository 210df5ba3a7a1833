//! Make before break: what is named must be there before the one that names it, and may go only
//! after it.

use segue_shared::xds_names::type_urls::{
    CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, SNAPSHOT_MARK, VIRTUAL_HOST,
};

/// Which changes of a type are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// New and changed resources; nothing is taken away.
    Make,
    /// Resources that are gone.
    Break,
    /// Both, for types that nothing depends on.
    Whole,
}

impl Part {
    pub(super) fn makes(self) -> bool {
        self != Self::Break
    }

    pub(super) fn breaks(self) -> bool {
        self != Self::Make
    }
}

/// One stage on the way from one snapshot to the next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stage {
    Send(&'static str, Part),
    /// Types that have no place of their own.
    Others,
    /// Nothing further while the client owes an answer to one of these types.
    Await(&'static [&'static str]),
    /// Nothing further while the client has not asked for the endpoints of its clusters.
    AwaitEndpoints,
    /// Nothing is taken away from a client that has not yet asked for routes, and while it owes an
    /// answer about them. Where nothing is to be taken away, nothing waits for that answer.
    AwaitRoutes,
}

/// What is named by others, what names it, then what is no longer named, then the mark.
pub(super) const STAGES: &[Stage] = &[
    Stage::Send(SECRET, Part::Make),
    Stage::Send(CLUSTER, Part::Make),
    Stage::Send(ENDPOINT, Part::Make),
    Stage::Await(&[CLUSTER, ENDPOINT]),
    Stage::AwaitEndpoints,
    Stage::Send(LISTENER, Part::Whole),
    Stage::Send(ROUTE, Part::Whole),
    Stage::Send(VIRTUAL_HOST, Part::Whole),
    Stage::Others,
    Stage::AwaitRoutes,
    Stage::Send(CLUSTER, Part::Break),
    Stage::Send(ENDPOINT, Part::Break),
    Stage::Send(SECRET, Part::Break),
    Stage::Await(&[CLUSTER, ENDPOINT]),
    Stage::Send(SNAPSHOT_MARK, Part::Whole),
];

/// Types that say where requests go; they name clusters.
pub(super) const NAMING: [&str; 3] = [LISTENER, ROUTE, VIRTUAL_HOST];

/// Types that are named, and go only after what named them.
pub(super) const NAMED: [&str; 3] = [CLUSTER, ENDPOINT, SECRET];

/// Whether a type has a stage of its own.
pub(super) fn has_stage(type_url: &str) -> bool {
    NAMING.contains(&type_url) || NAMED.contains(&type_url) || type_url == SNAPSHOT_MARK
}

/// Types of which a first request without names asks for everything.
pub(super) fn has_legacy_wildcard(type_url: &str) -> bool {
    [CLUSTER, LISTENER].contains(&type_url)
}

/// Types of which a state-of-the-world response holds everything: absence is deletion. Virtual
/// hosts are among them for clients that ask for all, because nothing else could take one away.
pub(super) fn is_full_state(type_url: &str, wildcard: bool) -> bool {
    [CLUSTER, LISTENER].contains(&type_url) || wildcard && type_url == VIRTUAL_HOST
}
