//! Updates step by step: they give what compiling from scratch gives, and touch only what they must.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use segue_shared::ids::{Revision, ServiceName};
use segue_shared::xds_names::type_urls::{ENDPOINT, ROUTE, SNAPSHOT_MARK, VIRTUAL_HOST};

use super::mesh::{at, edit, mesh, prefix, rule, service};
use super::{ENVOY, compiler};
use crate::compile::{Compiler, NodeKind, ResolvedEndpoints};
use crate::config::mesh::{
    Backend, MeshConfig, Mirror, Pin, Protocol, Route, SessionKey, Sessions, SplitBy, TrafficPolicy,
};
use crate::snapshot::XdsSnapshot;

const KINDS: [NodeKind; 3] = [NodeKind::Sidecar, ENVOY, NodeKind::Grpc];
const NAMES: [&str; 5] = ["chat", "cart", "shop/cart", "shop/pay", "other"];
const LABELS: [&str; 3] = ["v1", "v2", "v3"];

/// One edit of the configuration or of what discovery knows. Numbers choose services and versions.
#[derive(Clone, Debug)]
enum Edit {
    Add { service: usize, versions: usize, protocol: usize },
    Remove { service: usize },
    Reverse { service: usize },
    Host { service: usize, host: Option<u8> },
    Endpoint { service: usize, version: usize, port: u16 },
    Discover { service: usize, version: usize, port: Option<u16> },
    Name { service: usize, version: usize, dns: bool },
    DependOn { service: usize, others: Option<BTreeSet<usize>> },
    Weights { service: usize, to: Vec<(usize, usize, u32)>, mirror: Option<usize>, header: bool },
    NoRoute { service: usize },
    Policy { service: usize, caps: Option<u32> },
    Sessions { service: usize, keys: usize, pin: bool },
    Nothing,
}

fn edits() -> impl Strategy<Value = Edit> {
    let service = || 0..NAMES.len();
    let version = || 0..LABELS.len();
    let target = (service(), version(), 0u32..3);
    prop_oneof![
        4 => (service(), 1..=LABELS.len(), 0usize..3)
            .prop_map(|(service, versions, protocol)| Edit::Add { service, versions, protocol }),
        1 => service().prop_map(|service| Edit::Remove { service }),
        1 => service().prop_map(|service| Edit::Reverse { service }),
        1 => (service(), prop::option::of(0u8..2))
            .prop_map(|(service, host)| Edit::Host { service, host }),
        2 => (service(), version(), 1u16..4)
            .prop_map(|(service, version, port)| Edit::Endpoint { service, version, port }),
        2 => (service(), version(), prop::option::of(1u16..4))
            .prop_map(|(service, version, port)| Edit::Discover { service, version, port }),
        1 => (service(), version(), any::<bool>())
            .prop_map(|(service, version, dns)| Edit::Name { service, version, dns }),
        2 => (service(), prop::option::of(prop::collection::btree_set(service(), 0..3)))
            .prop_map(|(service, others)| Edit::DependOn { service, others }),
        4 => (service(), prop::collection::vec(target, 1..4), prop::option::of(service()),
                any::<bool>())
            .prop_map(|(service, to, mirror, header)| Edit::Weights { service, to, mirror, header }),
        1 => service().prop_map(|service| Edit::NoRoute { service }),
        1 => (service(), prop::option::of(1u32..3))
            .prop_map(|(service, caps)| Edit::Policy { service, caps }),
        1 => (service(), 0usize..3, any::<bool>())
            .prop_map(|(service, keys, pin)| Edit::Sessions { service, keys, pin }),
        1 => Just(Edit::Nothing),
    ]
}

fn name(i: usize) -> ServiceName {
    NAMES[i].parse().unwrap()
}

/// Makes an edit, as far as it has a meaning and leaves what `config::check` would let pass.
fn make(edit: &Edit, config: &mut MeshConfig, endpoints: &mut ResolvedEndpoints) {
    let with = |config: &mut MeshConfig,
                i: usize,
                edit: &mut dyn FnMut(&mut crate::config::mesh::Service)| {
        if let Some(service) = config.services.get_mut(&name(i)) {
            edit(Arc::make_mut(service));
        }
    };
    match edit {
        Edit::Add { service: i, versions, protocol } => {
            let protocol = [Protocol::Http, Protocol::Grpc, Protocol::Tcp][*protocol];
            let versions: Vec<(&str, &[u16])> =
                LABELS[..*versions].iter().map(|label| (*label, [9000].as_slice())).collect();
            let new = service(NAMES[*i], protocol, &versions);
            config.services.insert(new.name.clone(), Arc::new(new));
        }
        Edit::Remove { service } => drop(config.services.remove(&name(*service))),
        Edit::Reverse { service } => with(config, *service, &mut |it| it.versions.reverse()),
        Edit::Host { service, host } => {
            let host = host.map(|host| format!("{host}.example"));
            for i in 0..NAMES.len() {
                with(config, i, &mut |it| it.hosts.retain(|other| Some(other) != host.as_ref()));
            }
            with(config, *service, &mut |it| it.hosts = host.clone().into_iter().collect());
        }
        Edit::Endpoint { service, version, port } => with(config, *service, &mut |it| {
            let count = it.versions.len();
            it.versions[version % count].endpoints = vec![at(*port)];
        }),
        Edit::Discover { service, version, port } => {
            let cluster = format!("{}/{}", name(*service), LABELS[*version]);
            match port {
                Some(port) => drop(endpoints.0.insert(cluster.into(), [at(*port)].into())),
                None => drop(endpoints.0.remove(cluster.as_str())),
            }
        }
        Edit::Name { service, version, dns } => with(config, *service, &mut |it| {
            let count = it.versions.len();
            it.versions[version % count].dns = dns.then(|| ("host".to_owned(), 80));
        }),
        Edit::DependOn { service, others } => with(config, *service, &mut |it| {
            it.depends_on =
                others.as_ref().map(|others| others.iter().map(|other| name(*other)).collect());
        }),
        Edit::Weights { service, to, mirror, header } => {
            let mut all = rule(prefix("/"), &[]);
            all.backends = to
                .iter()
                .map(|(service, version, weight)| Backend {
                    service: name(*service),
                    version: LABELS[*version].parse().unwrap(),
                    weight: *weight,
                })
                .collect();
            all.filters.mirror = mirror.map(|service| Mirror {
                service: name(service),
                version: "v1".parse().unwrap(),
                share: 100,
            });
            let split_by =
                if *header { SplitBy::Header("x-user".to_owned()) } else { SplitBy::Random };
            let route = Route { name: name(*service), split_by, rules: vec![all] };
            config.routes.insert(name(*service), Arc::new(route));
        }
        Edit::NoRoute { service } => drop(config.routes.remove(&name(*service))),
        Edit::Policy { service, caps } => match caps {
            Some(caps) => {
                let policy =
                    TrafficPolicy { max_requests: Some(*caps), ..TrafficPolicy::default() };
                config.traffic.insert(name(*service), Arc::new(policy));
            }
            None => drop(config.traffic.remove(&name(*service))),
        },
        Edit::Sessions { service, keys, pin } => {
            let key = match keys {
                0 => SessionKey::Cookie("sid".to_owned()),
                1 => SessionKey::Header("x-session".to_owned()),
                _ => SessionKey::Mcp,
            };
            let pin = pin.then(|| Pin { max_age: Duration::from_mins(1) });
            config.sessions.insert(name(*service), Arc::new(Sessions { keys: vec![key], pin }));
        }
        Edit::Nothing => {}
    }
    config.revision = config.revision.next();
}

/// What is wrong with a snapshot that was updated, beside one made from scratch.
fn compare(updated: &XdsSnapshot, fresh: &XdsSnapshot) -> Result<(), TestCaseError> {
    prop_assert_eq!(updated.revision, fresh.revision);
    prop_assert_eq!(&updated.resources, &fresh.resources);
    prop_assert_eq!(updated.digest, fresh.digest);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is edited in whatever steps: each snapshot is what its input alone would give, and
    /// shares with the one before what did not change.
    #[test]
    fn steps_lead_where_a_fresh_start_leads(
        batches in prop::collection::vec(prop::collection::vec(edits(), 1..6), 1..12),
        watched in prop::collection::btree_set(0..NAMES.len(), 0..4),
    ) {
        for kind in KINDS {
            let (mut config, mut endpoints) = (MeshConfig::default(), ResolvedEndpoints::default());
            let mut stepping = Compiler::new(kind);
            for batch in &batches {
                for edit in batch {
                    make(edit, &mut config, &mut endpoints);
                }
                let before = stepping.whole();
                stepping.update(&Arc::new(config.clone()), &Arc::new(endpoints.clone())).unwrap();
                let mut fresh = compiler(kind, &config, &endpoints);
                compare(&stepping.whole(), &fresh.whole())?;
                for (type_url, resources) in &stepping.whole().resources {
                    if let Some(known) = before.of_type(type_url) {
                        prop_assert!(known != resources || known.ptr_eq(resources));
                    }
                }
                for service in watched.iter().map(|i| name(*i)) {
                    let (updated, fresh) = (stepping.scoped(&service), fresh.scoped(&service));
                    compare(&updated, &fresh)?;
                    let declares = config.services.get(&service)
                        .is_some_and(|service| service.depends_on.is_some());
                    prop_assert_eq!(declares, !Arc::ptr_eq(&updated, &stepping.whole()));
                }
            }
        }
    }
}

/// `type name` of what differs.
fn changed(before: &XdsSnapshot, after: &XdsSnapshot) -> BTreeSet<(&'static str, String)> {
    let all = |snapshot: &XdsSnapshot| -> BTreeSet<(&'static str, String, String)> {
        let types = snapshot.resources.iter();
        types
            .flat_map(|(url, resources)| {
                resources
                    .values()
                    .map(|one| (*url, one.name().to_string(), one.version().to_owned()))
            })
            .collect()
    };
    let (before, after) = (all(before), all(after));
    before.symmetric_difference(&after).map(|(url, name, _)| (*url, name.clone())).collect()
}

fn thousand() -> MeshConfig {
    let versions: &[(&str, &[u16])] = &[("v1", &[1]), ("v2", &[2]), ("v3", &[3])];
    let mut config =
        mesh((0..1000).map(|i| service(&format!("service-{i}"), Protocol::Http, versions)));
    weigh(&mut config, 0);
    config
}

/// Gives `service-500` a weight for v2.
fn weigh(config: &mut MeshConfig, weight: u32) {
    let name: ServiceName = "service-500".parse().unwrap();
    let backend = |label: &str, weight: u32| Backend {
        service: name.clone(),
        version: label.parse().unwrap(),
        weight,
    };
    let mut all = rule(prefix("/"), &[]);
    all.backends = vec![backend("v1", 100), backend("v2", weight), backend("v3", 1)];
    let split_by = SplitBy::Header("x-user-id".to_owned());
    let route = Route { name: name.clone(), split_by, rules: vec![all] };
    config.routes.insert(name, Arc::new(route));
    config.revision = config.revision.next();
}

fn step(compiler: &mut Compiler, config: &MeshConfig) -> (Arc<XdsSnapshot>, Arc<XdsSnapshot>) {
    let before = compiler.whole();
    compiler.update(&Arc::new(config.clone()), &Arc::default()).unwrap();
    (before, compiler.whole())
}

fn replaced(before: &XdsSnapshot, after: &XdsSnapshot) -> BTreeSet<(&'static str, String)> {
    // By maps, as streams look for it.
    for (type_url, resources) in &after.resources {
        let touched = changed(before, after).iter().any(|(url, _)| url == type_url);
        assert_eq!(!before.resources[type_url].ptr_eq(resources), touched, "{type_url}");
    }
    changed(before, after)
}

fn expected(all: &[(&'static str, &str)]) -> BTreeSet<(&'static str, String)> {
    all.iter().map(|(url, name)| (*url, (*name).to_owned())).collect()
}

#[test]
fn one_weight_among_a_thousand_services_replaces_one_route() {
    for kind in KINDS {
        let mut config = thousand();
        let mut compiler = compiler(kind, &config, &ResolvedEndpoints::default());
        weigh(&mut config, 50);
        let (before, after) = step(&mut compiler, &config);
        let route = match kind {
            NodeKind::Grpc => (ROUTE, "grpc/default/service-500"),
            NodeKind::Envoy { .. } => (ROUTE, "outbound"),
            NodeKind::Sidecar => (VIRTUAL_HOST, "outbound/default/service-500"),
        };
        let mark = (SNAPSHOT_MARK, "snapshot");
        assert_eq!(replaced(&before, &after), expected(&[route, mark]), "{kind:?}");
    }
}

/// What each of thousands of streams is sent for one change of a route.
#[test]
fn the_routes_of_three_versions_are_small() {
    let mut config = thousand();
    weigh(&mut config, 50);
    let snapshot = compiler(NodeKind::Sidecar, &config, &ResolvedEndpoints::default()).whole();
    let hosts = snapshot.of_type(VIRTUAL_HOST).unwrap();
    let bytes = hosts["outbound/default/service-500"].wrapped().len();
    assert!(bytes <= 700, "{bytes}");
}

#[test]
fn one_endpoint_among_a_thousand_services_replaces_one_assignment() {
    for kind in KINDS {
        let mut config = thousand();
        let mut compiler = compiler(kind, &config, &ResolvedEndpoints::default());
        edit(&mut config, "service-7", |it| it.versions[1].endpoints.push(at(99)));
        let (before, after) = step(&mut compiler, &config);
        let touched = [(ENDPOINT, "default/service-7/v2"), (SNAPSHOT_MARK, "snapshot")];
        assert_eq!(replaced(&before, &after), expected(&touched), "{kind:?}");
    }
}

#[test]
fn a_new_revision_of_the_same_replaces_the_mark_alone() {
    let mut config = thousand();
    let mut compiler = compiler(NodeKind::Sidecar, &config, &ResolvedEndpoints::default());
    let (before, after) = step(&mut compiler, &config);
    assert!(Arc::ptr_eq(&before, &after));
    config.revision = Revision(100);
    let (before, after) = step(&mut compiler, &config);
    assert_eq!(replaced(&before, &after), expected(&[(SNAPSHOT_MARK, "snapshot")]));
}

#[test]
fn what_is_too_large_is_told_and_what_was_good_stays() {
    for kind in KINDS {
        let mut config = thousand();
        let mut compiler = Compiler::new(kind).with_max_resource_bytes(250_000);
        step(&mut compiler, &config);
        edit(&mut config, "service-500", |it| it.default_version = "v2".parse().unwrap());
        let mut route =
            Route::clone(&config.routes[&"service-500".parse::<ServiceName>().unwrap()]);
        let one = route.rules[0].clone();
        route.rules = std::iter::repeat_n(one, 4000).collect();
        config.routes.insert(route.name.clone(), Arc::new(route));
        config.revision = Revision(100);

        let mut endpoints = ResolvedEndpoints::default();
        endpoints.0.insert("default/service-7/v1".into(), [at(4)].into());
        let before = compiler.whole();
        let told = compiler.update(&Arc::new(config.clone()), &Arc::new(endpoints));
        // The routes of all services in one are withheld from those alone that get them.
        let withheld = compiler.withheld(None).map(ToString::to_string);
        let text = withheld.unwrap_or_else(|| told.unwrap_err().to_string());
        assert!(text.starts_with("RouteConfiguration ") || text.starts_with("VirtualHost "));
        assert!(text.contains("one resource may have 250000"), "{text}");
        assert!(compiler.whole().revision == before.revision);
        weigh(&mut config, 70);
        let (_, after) = step(&mut compiler, &config);
        assert_eq!(after.revision, Revision(101));
    }
}

#[test]
fn routes_that_are_too_large_together_reach_those_who_need_a_few() {
    let mut config = thousand();
    edit(&mut config, "service-1", |it| {
        it.depends_on = Some(vec!["service-2".parse().unwrap()]);
    });
    let mut compiler = Compiler::new(ENVOY).with_max_resource_bytes(20_000);
    let shop: ServiceName = "service-1".parse().unwrap();
    compiler.update(&Arc::new(config.clone()), &Arc::default()).unwrap();
    assert_eq!(compiler.scoped(&shop).revision, config.revision);
    assert_eq!(compiler.withheld(Some(&shop)), None);
    assert_eq!(compiler.withheld(None).unwrap().name, "outbound");
    assert_eq!(compiler.whole().revision, Revision::NONE, "nothing that clients would refuse");

    // Who is sent too much has the last that was good, with the endpoints of now.
    let mut small = config.clone();
    small.revision = Revision(100);
    small.services = small.services.into_iter().take(5).collect();
    small.routes.clear();
    compiler.update(&Arc::new(small.clone()), &Arc::default()).unwrap();
    assert_eq!((compiler.whole().revision, compiler.withheld(None)), (Revision(100), None));
    config.revision = Revision(101);
    let name = small.services.keys().next().unwrap().name.clone();
    edit(&mut config, &name, |it| it.versions[0].endpoints = vec![at(4)]);
    let before = compiler.whole();
    compiler.update(&Arc::new(config), &Arc::default()).unwrap();
    let after = compiler.whole();
    assert_eq!(after.revision, Revision(100));
    assert_ne!(before.digest, after.digest);
    let cluster = format!("default/{name}/v1");
    let version = |snapshot: &XdsSnapshot| {
        snapshot.of_type(ENDPOINT).unwrap()[cluster.as_str()].version().to_owned()
    };
    assert_ne!(version(&before), version(&after));
    assert_eq!(before.of_type(ROUTE), after.of_type(ROUTE));
}
