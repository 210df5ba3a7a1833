//! Make before break: what is named must be there before the one that names it, and may go only
//! after it.

use segue_shared::xds_names::type_urls::{CLUSTER, ENDPOINT, LISTENER, ROUTE, SNAPSHOT_MARK};

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
    /// Nothing is taken away from a client that has not yet asked for routes.
    AwaitRoutes,
}

/// Clusters and endpoints, listeners and routes, then what routes no longer name, then the mark.
pub(super) const STAGES: &[Stage] = &[
    Stage::Send(CLUSTER, Part::Make),
    Stage::Send(ENDPOINT, Part::Make),
    Stage::Await(&[CLUSTER, ENDPOINT]),
    Stage::AwaitEndpoints,
    Stage::Send(LISTENER, Part::Whole),
    Stage::Send(ROUTE, Part::Whole),
    Stage::Others,
    Stage::Await(&[LISTENER, ROUTE]),
    Stage::AwaitRoutes,
    Stage::Send(CLUSTER, Part::Break),
    Stage::Send(ENDPOINT, Part::Break),
    Stage::Await(&[CLUSTER, ENDPOINT]),
    Stage::Send(SNAPSHOT_MARK, Part::Whole),
];

/// Whether a type has a stage of its own.
pub(super) fn has_stage(type_url: &str) -> bool {
    [CLUSTER, ENDPOINT, LISTENER, ROUTE, SNAPSHOT_MARK].contains(&type_url)
}

/// Types of which a first request without names asks for everything.
pub(super) fn has_legacy_wildcard(type_url: &str) -> bool {
    [CLUSTER, LISTENER].contains(&type_url)
}

/// Types of which a state-of-the-world response holds everything: absence is deletion.
pub(super) fn is_full_state(type_url: &str) -> bool {
    [CLUSTER, LISTENER].contains(&type_url)
}
