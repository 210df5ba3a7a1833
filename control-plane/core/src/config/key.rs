//! Names of resources: kind, namespace and name.

use std::fmt;

use segue_proto::config::v1::resource::Resource as Body;
use segue_proto::config::v1::{ObjectMeta, Resource};
use segue_shared::ids::DEFAULT_NAMESPACE;

/// Kinds of resource, in the order in which lists show them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Service,
    Route,
    TrafficPolicy,
    AccessPolicy,
    ContextPolicy,
    Rollout,
}

impl Kind {
    /// All kinds, in their order.
    pub const ALL: [Self; 6] = [
        Self::Service,
        Self::Route,
        Self::TrafficPolicy,
        Self::AccessPolicy,
        Self::ContextPolicy,
        Self::Rollout,
    ];

    /// Reads a kind as people type it: `Service`, `service`, `services` or `svc`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        Self::ALL.into_iter().find(|kind| {
            text == kind.as_str().to_ascii_lowercase()
                || text == kind.plural()
                || text == kind.short()
        })
    }

    /// As `kind` in YAML, such as `TrafficPolicy`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::Route => "Route",
            Self::TrafficPolicy => "TrafficPolicy",
            Self::AccessPolicy => "AccessPolicy",
            Self::ContextPolicy => "ContextPolicy",
            Self::Rollout => "Rollout",
        }
    }

    /// As in `segue get trafficpolicies`.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Service => "services",
            Self::Route => "routes",
            Self::TrafficPolicy => "trafficpolicies",
            Self::AccessPolicy => "accesspolicies",
            Self::ContextPolicy => "contextpolicies",
            Self::Rollout => "rollouts",
        }
    }

    /// As in `segue get svc`.
    pub fn short(self) -> &'static str {
        match self {
            Self::Service => "svc",
            Self::Route => "rt",
            Self::TrafficPolicy => "tp",
            Self::AccessPolicy => "ap",
            Self::ContextPolicy => "cp",
            Self::Rollout => "ro",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Name of a resource among all; written `Route default/chat`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceKey {
    pub kind: Kind,
    pub namespace: String,
    pub name: String,
}

impl ResourceKey {
    pub fn new(kind: Kind, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { kind, namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ResourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// The name of a resource. An absent namespace is `default`. A resource that says nothing, which
/// [`crate::config::parse_typed`] refuses, reads as a service without a name.
pub fn key(resource: &Resource) -> ResourceKey {
    let (kind, meta) = match &resource.resource {
        Some(Body::Service(x)) => (Kind::Service, &x.metadata),
        Some(Body::Route(x)) => (Kind::Route, &x.metadata),
        Some(Body::TrafficPolicy(x)) => (Kind::TrafficPolicy, &x.metadata),
        Some(Body::AccessPolicy(x)) => (Kind::AccessPolicy, &x.metadata),
        Some(Body::ContextPolicy(x)) => (Kind::ContextPolicy, &x.metadata),
        Some(Body::Rollout(x)) => (Kind::Rollout, &x.metadata),
        None => (Kind::Service, &None::<ObjectMeta>),
    };
    let (namespace, name) =
        meta.as_ref().map_or(("", ""), |meta| (meta.namespace.as_str(), meta.name.as_str()));
    let namespace = if namespace.is_empty() { DEFAULT_NAMESPACE } else { namespace };
    ResourceKey::new(kind, namespace, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_read_as_people_type_them() {
        for text in ["Service", "service", "services", "svc", "SVC"] {
            assert_eq!(Kind::parse(text), Some(Kind::Service), "{text}");
        }
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.as_str()), Some(kind));
            assert_eq!(Kind::parse(kind.plural()), Some(kind));
            assert_eq!(Kind::parse(kind.short()), Some(kind));
        }
        assert_eq!(Kind::parse("pod"), None);
        assert_eq!(Kind::parse(""), None);
    }

    #[test]
    fn a_key_reads_like_a_name() {
        assert_eq!(
            ResourceKey::new(Kind::Route, "default", "chat").to_string(),
            "Route default/chat"
        );
    }
}
