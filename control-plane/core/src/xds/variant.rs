//! What distinguishes the two variants of the protocol.

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::Node;
use segue_shared::ids::Revision;

use super::answers::News;
use super::order::Part;
use super::response::Client;
use super::subscription::{Makes, Subscription};
use super::wire::Fields;
use crate::snapshot::{Batch, EncodedResource, Resources, Transitions};

/// [`super::Delta`] or [`super::StateOfTheWorld`].
pub trait Variant {
    type Request;

    /// Who asks; on a stream only the first request needs to say it.
    fn node(request: &Self::Request) -> Option<&Node>;

    /// The type that a request is about.
    fn type_url(request: &Self::Request) -> &str;

    /// The nonce that a request answers (or an empty one), and why that response was refused.
    fn answer_of(request: &Self::Request) -> (&str, Option<&str>);

    /// Whether a first request of a type says that the client holds resources from an earlier
    /// stream.
    fn brings_along(request: &Self::Request) -> bool;

    /// How many names a request speaks of, and how long the longest is, or its longest version.
    fn extent(request: &Self::Request) -> Extent;

    /// Changes what the client wants; `first` says that the type is new on this stream. Gives the
    /// names that it no longer wants.
    fn subscribe(
        to: &mut Subscription,
        request: Self::Request,
        first: bool,
        target: &Resources,
    ) -> Vec<Arc<str>>;

    /// What brings the client from what it holds to `target`; `None` where there is nothing to
    /// say.
    fn content(
        of: &mut Subscription,
        type_url: &str,
        target: &Resources,
        ways: &Transitions,
        part: Part,
    ) -> Option<Content>;

    /// The version of a response with these resources.
    fn version_info(resources: &Batch, revision: Revision) -> String;

    /// How long resources live on a client.
    fn ttl(client: &Client) -> Option<std::time::Duration>;

    /// What a heartbeat holds, so that all that the client has lives on. Empty: there is nothing.
    fn heartbeat(of: &Subscription, type_url: &str) -> Heartbeat;

    /// Field numbers of its response message.
    const FIELDS: &'static Fields;
}

/// How much a request asks to be remembered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extent {
    pub names: usize,
    pub longest_bytes: usize,
}

impl Extent {
    pub(super) fn of<'a>(names: impl Iterator<Item = &'a String>) -> Self {
        names.fold(Self::default(), |extent, name| Self {
            names: extent.names + 1,
            longest_bytes: extent.longest_bytes.max(name.len()),
        })
    }
}

/// The content of a response.
#[derive(Debug)]
pub struct Content {
    pub resources: Arc<Batch>,
    pub removed: Vec<Arc<str>>,
    /// Names that were asked for and do not exist.
    pub unknown: Vec<Arc<str>>,
    /// What the client's ACK or NACK will speak about.
    pub news: News,
    /// Whether it holds all that the client then has.
    pub whole: bool,
}

/// The content of a heartbeat.
#[derive(Debug)]
pub struct Heartbeat {
    pub resources: Vec<Arc<EncodedResource>>,
    /// Whether it holds all that the client then has.
    pub whole: bool,
    /// Whether names and versions are enough.
    pub bodiless: bool,
}

impl Content {
    pub(super) fn new(makes: Makes, removed: Vec<Arc<str>>, whole: bool) -> Self {
        let Makes { resources, unknown, news } = makes;
        Self { resources, removed, unknown, news, whole }
    }
}
