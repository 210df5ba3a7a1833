//! What the checks of all kinds share: the resource in hand, the services that exist, and claims
//! that only one may have.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::OrdMap;
use segue_proto::config::v1::resource::Resource as Body;
use segue_proto::config::v1::{ServiceSpec, TargetReference, Version, lifecycle::Stage};
use segue_shared::ids::{ServiceName, VersionLabel};

use super::fault::{Fault, Faults};
use super::key::{Kind, ResourceKey};
use super::source::{Parsed, SourceMap};
use super::suggest::suggest;

/// The resource in hand and where its faults go.
pub(super) struct Scope<'a> {
    pub key: &'a ResourceKey,
    source: &'a SourceMap,
    faults: &'a mut Vec<Fault>,
}

impl<'a> Scope<'a> {
    pub fn new(key: &'a ResourceKey, source: &'a SourceMap, faults: &'a mut Vec<Fault>) -> Self {
        Self { key, source, faults }
    }

    pub fn fault(&mut self, path: &str, message: impl Into<String>, hint: impl Into<String>) {
        Faults::collect(self.faults, || Fault {
            place: self.source.place(path).cloned(),
            resource: self.key.to_string(),
            field_path: path.to_owned(),
            message: message.into(),
            hint: hint.into(),
        });
    }

    /// A host that is sent somewhere is one host.
    pub fn no_wildcard(&mut self, host: &str, path: &str) {
        if host.starts_with('*') {
            let message = format!("`{host}` is not one host");
            self.fault(path, message, "only hosts of a Service may begin with `*.`");
        }
    }

    /// The service that a resource is about, where it exists.
    pub fn target(
        &mut self,
        services: &Services<'_>,
        target: Option<&TargetReference>,
        path: &str,
    ) -> Option<ServiceName> {
        let target = target?;
        if !matches!(target.kind.as_str(), "" | "Service") {
            self.fault(
                &format!("{path}.kind"),
                format!("a {} cannot be the target of a {}", target.kind, self.key.kind),
                "write kind: Service",
            );
            return None;
        }
        self.service(services, &target.namespace, &target.name, path)
    }

    /// A service by name, where it exists. An empty namespace is that of the resource in hand.
    pub fn service(
        &mut self,
        services: &Services<'_>,
        namespace: &str,
        name: &str,
        path: &str,
    ) -> Option<ServiceName> {
        let namespace = if namespace.is_empty() { &self.key.namespace } else { namespace };
        let service = ServiceName::new(namespace, name);
        if services.exists(&service) {
            return Some(service);
        }
        // Looking for what was meant takes a look at every name: only as long as anyone reads it.
        let hint = if Faults::are_read(self.faults) {
            let known = services.names().iter().map(String::as_str);
            suggest(&service.to_string(), known, "services")
        } else {
            String::new()
        };
        self.fault(&format!("{path}.name"), format!("there is no Service {service}"), hint);
        None
    }

    /// A version of a service, where it exists; the default one where `label` is empty.
    pub fn version(
        &mut self,
        services: &Services<'_>,
        service: &ServiceName,
        label: &str,
        path: &str,
    ) -> Option<VersionLabel> {
        let spec = services.spec(service)?;
        let label = if label.is_empty() { default_version(spec) } else { label };
        // A service without versions has been told so.
        if label.is_empty() {
            return None;
        }
        if spec.versions.iter().any(|version| version.name == label) {
            return label.parse().ok();
        }
        let known = spec.versions.iter().map(|version| version.name.as_str());
        let hint = suggest(label, known, "versions");
        self.fault(path, format!("Service {service} has no version `{label}`"), hint);
        None
    }
}

/// Name of the version that serves where nothing says otherwise; empty where there is none.
pub(super) fn default_version(spec: &ServiceSpec) -> &str {
    if spec.default_version.is_empty() {
        spec.versions.first().map_or("", |version| version.name.as_str())
    } else {
        &spec.default_version
    }
}

/// Whether a version serves nothing any more.
pub(super) fn is_retired(version: &Version) -> bool {
    version.lifecycle.as_ref().is_some_and(|life| life.stage() == Stage::Retired)
}

/// The services that exist. Remembers who was looked for: whatever a check asks for, its answer
/// depends on.
pub(super) struct Services<'a> {
    resources: &'a OrdMap<ResourceKey, Arc<Parsed>>,
    asked: RefCell<BTreeSet<ServiceName>>,
    /// Listed at the first need: only faults tell them.
    names: OnceCell<Vec<String>>,
}

impl<'a> Services<'a> {
    pub fn new(resources: &'a OrdMap<ResourceKey, Arc<Parsed>>) -> Self {
        Self { resources, asked: RefCell::default(), names: OnceCell::new() }
    }

    pub fn exists(&self, service: &ServiceName) -> bool {
        self.spec(service).is_some()
    }

    pub fn spec(&self, service: &ServiceName) -> Option<&'a ServiceSpec> {
        let mut asked = self.asked.borrow_mut();
        if !asked.contains(service) {
            asked.insert(service.clone());
        }
        let ServiceName { namespace, name } = service;
        let key = ResourceKey::new(Kind::Service, namespace.clone(), name.clone());
        spec_of(self.resources.get(&key)?)
    }

    /// Who was looked for since the last call, in order.
    pub fn take_asked(&self) -> Vec<ServiceName> {
        self.asked.take().into_iter().collect()
    }

    /// All of them, in order.
    fn names(&self) -> &[String] {
        self.names.get_or_init(|| {
            self.resources
                .iter()
                .take_while(|(key, _)| key.kind == Kind::Service)
                .filter(|(_, parsed)| spec_of(parsed).is_some())
                .map(|(key, _)| format!("{}/{}", key.namespace, key.name))
                .collect()
        })
    }
}

fn spec_of(parsed: &Parsed) -> Option<&ServiceSpec> {
    match &parsed.resource.resource {
        Some(Body::Service(it)) => it.spec.as_ref(),
        _ => None,
    }
}

/// Things that only one may have, and who has them.
#[derive(Default)]
pub(super) struct Claims<'a> {
    owners: BTreeMap<String, Claim<'a>>,
}

#[derive(Clone)]
struct Claim<'a> {
    key: ResourceKey,
    source: &'a SourceMap,
    path: String,
}

/// A thing that two claim. The loser is the one that was written now, where the other one was in
/// the store already.
pub(super) struct Conflict<'a> {
    pub winner: ResourceKey,
    /// ` at chat.yaml:12`, or nothing for a resource of the store.
    pub winner_place: String,
    pub loser: ResourceKey,
    source: &'a SourceMap,
    path: String,
}

impl<'a> Claims<'a> {
    pub fn claim(
        &mut self,
        subject: String,
        key: &ResourceKey,
        source: &'a SourceMap,
        path: &str,
    ) -> Option<Conflict<'a>> {
        let claim = Claim { key: key.clone(), source, path: path.to_owned() };
        let Some(owner) = self.owners.get(&subject) else {
            self.owners.insert(subject, claim);
            return None;
        };
        // The same resource may say the same thing twice, but not be written twice.
        if owner.key == *key && std::ptr::eq(owner.source, source) {
            return None;
        }
        let (winner, loser) = if source.is_empty() && !owner.source.is_empty() {
            (claim, owner.clone())
        } else {
            (owner.clone(), claim)
        };
        let place = winner.source.place(&winner.path);
        Some(Conflict {
            winner_place: place
                .map(|place| format!(" at {}:{}", place.file, place.line))
                .unwrap_or_default(),
            winner: winner.key,
            loser: loser.key,
            source: loser.source,
            path: loser.path,
        })
    }
}

impl Conflict<'_> {
    pub fn fault(self, faults: &mut Vec<Fault>, message: String, hint: impl Into<String>) {
        Scope::new(&self.loser, self.source, faults).fault(&self.path, message, hint);
    }
}
