//! Routes: from host and request to an action.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use regex::bytes::Regex;
use segue_shared::bucket::Salt;
use thiserror::Error;

use super::route_index::{IndexedPath, RouteIndex};
use super::{ClusterIndex, InjectedFault};

/// Virtual hosts by authority. Lookup: exact, then longest `*.suffix`, then longest `prefix.*`, then
/// `*` (Envoy's order).
#[derive(Debug, Default)]
pub struct RouteTable {
    /// Lower-case host (with `:port` unless `ignore_port`) to virtual host.
    pub exact: HashMap<Arc<str>, Arc<VirtualHost>>,
    /// `.example.com` of `*.example.com`, the longest first.
    pub suffixes: Vec<(Arc<str>, Arc<VirtualHost>)>,
    /// `example.` of `example.*`, the longest first.
    pub prefixes: Vec<(Arc<str>, Arc<VirtualHost>)>,
    /// `*`.
    pub any: Option<Arc<VirtualHost>>,
    /// Whether a port in the authority is left out of the lookup.
    pub ignore_port: bool,
}

/// What a virtual host answers for, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Domain {
    Exact(Arc<str>),
    /// `.example.com` of `*.example.com`.
    Suffix(Arc<str>),
    /// `example.` of `example.*`.
    Prefix(Arc<str>),
    /// `*`.
    Any,
}

/// A domain that is no host, `*.suffix`, `prefix.*` or `*`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no domain: use a host, `*.suffix`, `prefix.*` or `*`")]
pub struct InvalidDomain(String);

impl FromStr for Domain {
    type Err = InvalidDomain;

    fn from_str(text: &str) -> Result<Self, InvalidDomain> {
        let lower = text.to_ascii_lowercase();
        let malformed = || InvalidDomain(text.to_owned());
        if lower.is_empty() || lower.matches('*').count() > 1 {
            return Err(malformed());
        }
        if lower == "*" {
            Ok(Self::Any)
        } else if let Some(suffix) = lower.strip_prefix('*') {
            Ok(Self::Suffix(suffix.into()))
        } else if let Some(prefix) = lower.strip_suffix('*') {
            Ok(Self::Prefix(prefix.into()))
        } else if lower.contains('*') {
            Err(malformed())
        } else {
            Ok(Self::Exact(lower.into()))
        }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.write_str(host),
            Self::Suffix(suffix) => write!(f, "*{suffix}"),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
            Self::Any => f.write_str("*"),
        }
    }
}

impl RouteTable {
    /// Adds a domain of a virtual host, unless another one has it already; whether it was added.
    pub fn insert(&mut self, domain: &Domain, host: Arc<VirtualHost>) -> bool {
        let (list, part) = match domain {
            Domain::Exact(name) => match self.exact.entry(Arc::clone(name)) {
                Entry::Occupied(_) => return false,
                Entry::Vacant(free) => {
                    free.insert(host);
                    return true;
                }
            },
            Domain::Any if self.any.is_some() => return false,
            Domain::Any => {
                self.any = Some(host);
                return true;
            }
            Domain::Suffix(suffix) => (&mut self.suffixes, suffix),
            Domain::Prefix(prefix) => (&mut self.prefixes, prefix),
        };
        // The longest first, then by text, so that one of each can be found by halving.
        match list.binary_search_by(|(other, _)| {
            part.len().cmp(&other.len()).then_with(|| other.cmp(part))
        }) {
            Ok(_) => false,
            Err(at) => {
                list.insert(at, (Arc::clone(part), host));
                true
            }
        }
    }
}

/// Most routes of a host that are looked at one by one: among so few that is the fastest.
const MOST_SCANNED: usize = 8;

/// Routes of one host.
#[derive(Debug)]
pub struct VirtualHost {
    pub name: Box<str>,
    /// In the order of the configuration; the first that matches decides.
    routes: Vec<Arc<Route>>,
    /// Where there are many.
    index: Option<RouteIndex>,
}

impl VirtualHost {
    /// `routes`: in the order of the configuration.
    pub fn new(name: impl Into<Box<str>>, routes: Vec<Arc<Route>>) -> Self {
        let index = (routes.len() > MOST_SCANNED)
            .then(|| RouteIndex::new(routes.iter().map(|route| route.matcher.path.indexed())));
        Self { name: name.into(), routes, index }
    }

    pub fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// The first route that `holds`, of those that a path may match.
    pub fn first(&self, path: &str, holds: impl Fn(&Route) -> bool) -> Option<&Arc<Route>> {
        let Some(index) = &self.index else {
            return self.routes.iter().find(|route| holds(route));
        };
        let at = |place: u32| usize::try_from(place).ok().and_then(|place| self.routes.get(place));
        index.first(path, |place| at(place).is_some_and(|route| holds(route))).and_then(at)
    }
}

/// One route.
#[derive(Debug)]
pub struct Route {
    /// Name for logs and metrics; may be empty.
    pub name: Box<str>,
    pub matcher: RouteMatcher,
    pub action: RouteAction,
    /// Made before a request goes on.
    pub fault: Option<Arc<InjectedFault>>,
    /// Applied on the way to the upstream.
    pub request_headers: HeaderEdits,
    /// Applied on the way to the caller.
    pub response_headers: HeaderEdits,
}

/// All conditions must hold.
#[derive(Debug)]
pub struct RouteMatcher {
    pub path: PathMatcher,
    pub method: Option<Method>,
    pub headers: Vec<HeaderMatcher>,
    pub query: Vec<QueryMatcher>,
}

/// Condition on the path, without the query.
#[derive(Debug)]
pub enum PathMatcher {
    /// Begins with the bytes.
    Prefix(Box<str>),
    /// Is the path or lies below it, by whole segments; without a trailing slash.
    SegmentPrefix(Box<str>),
    Exact(Box<str>),
    /// The whole path.
    Regex(Regex),
}

impl PathMatcher {
    /// What an index knows of it.
    fn indexed(&self) -> IndexedPath<'_> {
        match self {
            Self::Exact(text) => IndexedPath::Exact(text),
            Self::Prefix(text) | Self::SegmentPrefix(text) => IndexedPath::Prefix(text),
            Self::Regex(_) => IndexedPath::Other,
        }
    }
}

/// Condition on a header. Several lines of one name are joined by `,` as RFC 9110 section 5.3 says.
#[derive(Debug)]
pub struct HeaderMatcher {
    pub name: HeaderName,
    pub value: ValueMatcher,
    pub invert: bool,
    /// Whether a header that is not there counts as an empty one.
    pub missing_is_empty: bool,
}

/// Condition on a query parameter.
#[derive(Debug)]
pub struct QueryMatcher {
    pub name: Box<str>,
    pub value: ValueMatcher,
}

/// Condition on a value.
#[derive(Debug)]
pub enum ValueMatcher {
    Present,
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Suffix(Box<[u8]>),
    Contains(Box<[u8]>),
    /// The whole value.
    Regex(Regex),
}

/// What happens to a request.
#[derive(Debug)]
// Nearly all routes forward, so that a box would only be one more step for each request.
#[allow(clippy::large_enum_variant)]
pub enum RouteAction {
    Forward(Forward),
    Direct(DirectResponse),
    Redirect(Redirect),
}

/// On to a cluster.
#[derive(Debug)]
pub struct Forward {
    pub split: Split,
    /// What decides the endpoint where the cluster hashes and does not say what.
    pub hash_key: SplitKey,
    /// From the request's arrival to the end of the response; `None`: without limit.
    pub timeout: Option<Duration>,
    /// For one attempt; `None`: as `timeout`.
    pub try_timeout: Option<Duration>,
    /// Without a byte of an answer that has begun; `None`: without limit.
    pub idle_timeout: Option<Duration>,
    /// Authority that the upstream sees.
    pub host_rewrite: Option<HeaderValue>,
    pub path_rewrite: Option<PathRewrite>,
    pub retry: Option<Retry>,
    /// Where copies go.
    pub mirrors: Vec<Mirror>,
}

/// Copies of requests, whose answers are dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    pub cluster: ClusterIndex,
    /// Copies in a million requests.
    pub share_millionths: u32,
    /// Else `-shadow` is added to the host.
    pub keeps_host: bool,
}

/// A change of the path; the query stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathRewrite {
    /// The whole path.
    Full(Box<str>),
    /// What the matcher matched as a prefix.
    Prefix(Box<str>),
}

/// When a failed attempt is repeated on the same cluster. What has reached no upstream is repeated
/// without it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    pub attempts: u32,
    /// Answers with these statuses count.
    pub statuses: Vec<StatusCode>,
    /// Answers with these gRPC statuses count, one bit each.
    pub grpc_statuses: u32,
    /// Whether attempts without an answer count though the request might be carried out twice;
    /// those of idempotent methods always do.
    pub reset: bool,
    /// Whether an attempt whose time is over goes on beside the next one, and the first answer counts.
    /// Only of requests without a body whose method may be repeated.
    pub hedges: bool,
    /// Longest pause before the first repetition; each further one may be twice as long.
    pub backoff: Duration,
    /// Longest pause of all.
    pub max_backoff: Duration,
}

/// Ranges of the 10,000 buckets, each owned by a cluster.
#[derive(Debug)]
pub struct Split {
    pub key: SplitKey,
    pub salt: Salt,
    /// `(end, cluster)`: buckets below `end` and not below the end before. The last end is 10,000.
    /// One entry where there is nothing to split.
    pub ranges: Vec<(u16, ClusterIndex)>,
}

/// What is hashed into a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SplitKey {
    /// A new draw for each request.
    Random,
    /// Value of a header; a request without it gets a draw.
    Header(HeaderName),
    /// Value of a cookie; a request without it gets a draw.
    Cookie(Box<str>),
}

/// An answer without an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectResponse {
    pub status: StatusCode,
    pub body: Box<[u8]>,
}

/// The caller is sent elsewhere; what is `None` stays as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    pub status: StatusCode,
    pub scheme: Option<Box<str>>,
    pub host: Option<Box<str>>,
    pub port: Option<u16>,
    pub path: Option<PathRewrite>,
}

/// Changes to headers, in the order remove, set, add.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    pub remove: Vec<HeaderName>,
    pub edits: Vec<HeaderEdit>,
}

/// One header set or added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderEdit {
    pub name: HeaderName,
    pub value: HeaderValue,
    /// Beside what is there, instead of in its place.
    pub append: bool,
}
