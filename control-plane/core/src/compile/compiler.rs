//! The compiler: it holds what it compiled last, and works on the difference to that.

use std::sync::Arc;

use imbl::OrdMap;
use segue_shared::ids::{Revision, ServiceName};
use segue_shared::spiffe::TrustDomain;
use segue_shared::xds_names::{OUTBOUND_ROUTES, type_urls};

use super::changes::{Input, LedFrom, touched};
use super::piece::{Part, Piece};
use super::scope::{Pieces, Replaced, Scope};
use super::view::{Change, View};
use super::{NodeKind, Problem, Problems, ResolvedEndpoints};
use crate::config::mesh::MeshConfig;
use crate::snapshot::{EncodedResource, XdsSnapshot};

/// Most bytes of one resource. Clients refuse messages above 64 MiB, and a response also holds what
/// stands around the resource.
pub const MAX_RESOURCE_BYTES: usize = 60 << 20;

/// Compiles what nodes of one kind get. An update costs what changed, and a snapshot shares with the
/// one before it all that stayed: the maps of types without a change are the same (`ptr_eq`), and so
/// are resources whose bytes are. The same input gives the same bytes on every machine, so a client
/// that reconnects to another control plane is sent only what really changed.
#[derive(Clone, Debug)]
pub struct Compiler {
    kind: NodeKind,
    domain: TrustDomain,
    max_resource_bytes: usize,
    state: State,
}

/// What was compiled last. Copies cost nothing.
#[derive(Clone, Debug)]
struct State {
    input: Input,
    pieces: Pieces,
    led_from: LedFrom,
    whole: View,
    /// What nodes without a scope are sent: `whole`, or the last one that they could take.
    sent: Arc<XdsSnapshot>,
    /// Why that is not `whole`.
    problem: Option<Problem>,
    /// The snapshots of services that declare what they depend on, as far as asked for.
    scopes: OrdMap<ServiceName, Scope>,
}

impl Compiler {
    /// A compiler of the empty configuration at revision 0.
    pub fn new(kind: NodeKind) -> Self {
        let whole = View::new(kind, Revision::NONE);
        let state = State {
            input: Input::default(),
            pieces: Pieces::new(),
            led_from: LedFrom::new(),
            sent: Arc::clone(&whole.snapshot),
            problem: None,
            whole,
            scopes: OrdMap::new(),
        };
        let domain = TrustDomain::default();
        Self { kind, domain, max_resource_bytes: MAX_RESOURCE_BYTES, state }
    }

    /// For a mesh of this trust domain in place of the default one.
    #[must_use]
    pub fn of_trust_domain(mut self, domain: TrustDomain) -> Self {
        self.domain = domain;
        self
    }

    /// With another limit than [`MAX_RESOURCE_BYTES`].
    #[must_use]
    pub fn with_max_resource_bytes(mut self, bytes: usize) -> Self {
        self.max_resource_bytes = bytes;
        self
    }

    /// Compiles what changed. Where a resource would be too large for clients, the configuration of
    /// before stays, with the endpoints of now, until an update that holds no such resource. Where it
    /// is the routes of all services in one, it stays for those alone that get them: see
    /// [`Compiler::withheld`].
    pub fn update(
        &mut self,
        config: &Arc<MeshConfig>,
        endpoints: &Arc<ResolvedEndpoints>,
    ) -> Result<(), Problems> {
        let next = |config: &Arc<MeshConfig>| {
            let input = Input { config: Arc::clone(config), endpoints: Arc::clone(endpoints) };
            self.state.next(self.kind, &self.domain, self.max_resource_bytes, input)
        };
        let (state, told) = match next(config) {
            Ok(state) => (Some(state), Ok(())),
            Err(problems) => (next(&self.state.input.config).ok(), Err(problems)),
        };
        if let Some(state) = state {
            self.state = state;
        }
        told
    }

    /// The snapshot with all services.
    pub fn whole(&self) -> Arc<XdsSnapshot> {
        Arc::clone(&self.state.sent)
    }

    /// Why instances of a service, or of none, are not sent what was compiled last.
    pub fn withheld(&self, service: Option<&ServiceName>) -> Option<&Problem> {
        let has_scope = service.is_some_and(|service| self.state.scopes.contains_key(service));
        self.state.problem.as_ref().filter(|_| !has_scope)
    }

    /// The snapshot for instances of a service: itself, what it declares to depend on, and the
    /// versions that routes of those lead to. The very same as [`Compiler::whole`] where the service
    /// is unknown or declares nothing. It is kept up to date from the first call on.
    pub fn scoped(&mut self, service: &ServiceName) -> Arc<XdsSnapshot> {
        let State { input, pieces, scopes, .. } = &mut self.state;
        if let Some(scope) = scopes.get(service) {
            return Arc::clone(&scope.view.snapshot);
        }
        let Some(scope) = Scope::new(self.kind, input, pieces, service) else {
            return self.whole();
        };
        let snapshot = Arc::clone(&scope.view.snapshot);
        scopes.insert(service.clone(), scope);
        snapshot
    }

    /// Keeps only the scopes of these services up to date.
    pub fn retain_scopes(&mut self, mut watched: impl FnMut(&ServiceName) -> bool) {
        let scopes = &mut self.state.scopes;
        let idle: Vec<ServiceName> =
            scopes.keys().filter(|service| !watched(service)).cloned().collect();
        for service in idle {
            scopes.remove(&service);
        }
    }
}

impl State {
    fn next(
        &self,
        kind: NodeKind,
        domain: &TrustDomain,
        max_bytes: usize,
        input: Input,
    ) -> Result<Self, Problems> {
        let touched = touched(&self.input, &input, &self.led_from);
        let mut next = self.clone();
        let mut replaced = Vec::new();
        for (service, touched) in &touched {
            let before = self.pieces.get(service);
            let before = before.map(AsRef::as_ref);
            let after = Piece::compile(kind, domain, &input, service, *touched, before);
            let before = self.pieces.get(service);
            if before.map(AsRef::as_ref) != after.as_ref() {
                let after = after.map(Arc::new);
                next.replace(service, before, after.as_ref());
                let (service, before) = (service.clone(), before.cloned());
                replaced.push(Replaced { service, before, after });
            }
        }
        let mut problems = oversize(&replaced, max_bytes);

        let changes: Vec<Change<'_>> = replaced
            .iter()
            .map(|Replaced { before, after, .. }| Change {
                before: before.as_deref().map(|piece| (piece, Part::Whole)),
                after: after.as_deref().map(|piece| (piece, Part::Whole)),
            })
            .collect();
        // `Values` is not `Clone`.
        let pieces = next.pieces.iter().map(|(_, piece)| &piece.host);
        let hosts = pieces.filter(|host| !host.is_empty());
        next.whole = self.whole.next(kind, input.config.revision, &changes, hosts);
        next.problem = oversize_routes(&next.whole.snapshot, max_bytes);
        next.sent = match next.problem {
            None => Arc::clone(&next.whole.snapshot),
            Some(_) => with_endpoints(&self.sent, &next.whole.snapshot),
        };
        for (service, scope) in &self.scopes {
            let moved = self.input.depends_on(service) != input.depends_on(service);
            match scope.next(kind, &input, &next.pieces, service, &replaced, moved) {
                Some(scope) => {
                    problems.extend(oversize_routes(&scope.view.snapshot, max_bytes));
                    next.scopes.insert(service.clone(), scope);
                }
                None => drop(next.scopes.remove(service)),
            }
        }
        if !problems.is_empty() {
            return Err(Problems(problems));
        }
        next.input = input;
        Ok(next)
    }

    /// Puts a piece in its place, and notes where its routes lead.
    fn replace(
        &mut self,
        service: &ServiceName,
        before: Option<&Arc<Piece>>,
        after: Option<&Arc<Piece>>,
    ) {
        for led_to in before.into_iter().flat_map(|piece| &piece.leads_to) {
            let from = self.led_from.entry(led_to.clone()).or_default();
            from.remove(service);
            if from.is_empty() {
                self.led_from.remove(led_to);
            }
        }
        for led_to in after.into_iter().flat_map(|piece| &piece.leads_to) {
            self.led_from.entry(led_to.clone()).or_default().insert(service.clone());
        }
        match after {
            Some(piece) => drop(self.pieces.insert(service.clone(), Arc::clone(piece))),
            None => drop(self.pieces.remove(service)),
        }
    }
}

/// A snapshot with the endpoints of a later one, as far as it has their clusters.
fn with_endpoints(snapshot: &Arc<XdsSnapshot>, later: &XdsSnapshot) -> Arc<XdsSnapshot> {
    let (Some(held), Some(now)) =
        (snapshot.of_type(type_urls::ENDPOINT), later.of_type(type_urls::ENDPOINT))
    else {
        return Arc::clone(snapshot);
    };
    let moved = |(name, held): (&Arc<str>, &Arc<EncodedResource>)| {
        now.get(name).filter(|now| now.version() != held.version()).cloned()
    };
    let moved: Vec<Arc<EncodedResource>> = held.iter().filter_map(moved).collect();
    if moved.is_empty() {
        return Arc::clone(snapshot);
    }
    let mut next = XdsSnapshot::clone(snapshot);
    for resource in moved {
        next.digest = next.digest.wrapping_add(resource.digest(type_urls::ENDPOINT));
        let endpoints = next.resources.entry(type_urls::ENDPOINT).or_default();
        endpoints.insert(Arc::clone(resource.name()), resource);
    }
    Arc::new(next)
}

/// Resources of services that are too large.
fn oversize(replaced: &[Replaced], max_bytes: usize) -> Vec<Problem> {
    let pieces = replaced.iter().filter_map(|one| one.after.as_ref());
    let resources = pieces.flat_map(|piece| piece.resources(Part::Whole));
    resources
        .map(|(type_url, resource)| (*type_url, &**resource.name(), resource.value().len()))
        .filter(|(_, _, bytes)| *bytes > max_bytes)
        .map(|(type_url, name, bytes)| Problem {
            type_url,
            name: name.to_owned(),
            bytes,
            max_bytes,
        })
        .collect()
}

/// The routes of all services in one, where they are too large.
fn oversize_routes(snapshot: &XdsSnapshot, max_bytes: usize) -> Option<Problem> {
    let routes = snapshot.of_type(type_urls::ROUTE)?.get(OUTBOUND_ROUTES)?;
    let bytes = routes.value().len();
    (bytes > max_bytes).then(|| Problem {
        type_url: type_urls::ROUTE,
        name: OUTBOUND_ROUTES.to_owned(),
        bytes,
        max_bytes,
    })
}
