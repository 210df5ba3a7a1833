use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::extensions::filters::http::fault::v3::HttpFault;
use segue_shared::xds_names::type_urls::{
    CLUSTER, ENDPOINT, LISTENER, ROUTE, SNAPSHOT_MARK, VIRTUAL_HOST,
};

use super::mesh::{at, chat, edit, matched, mesh, prefix, routed, rule, service};
use super::readable::{decode, of_type, virtual_hosts as hosts};
use super::{ENVOY, compiler};
use crate::compile::{NodeKind, ResolvedEndpoints};
use crate::config::mesh::{
    Abort, Backend, Balancer, Delay, Faults, Filters, HeaderEdits, LocalEndpoints, Localities,
    MeshConfig, Mirror, PathMatch, PathRewrite, Pin, Protocol, Redirect, Retry, Rule, SessionKey,
    Sessions, SplitBy, TrafficPolicy, ValueMatch,
};
use crate::snapshot::XdsSnapshot;

fn compiled(config: &MeshConfig) -> Arc<XdsSnapshot> {
    super::compiled(NodeKind::Sidecar, config)
}

#[test]
fn the_listener_of_an_envoy() {
    let snapshot = super::compiled(ENVOY, &chat());
    insta::assert_snapshot!(of_type(&snapshot, LISTENER));
}

#[test]
fn services_without_routes() {
    let mut shop = service("shop/cart", Protocol::Http2, &[("v1", &[])]);
    shop.hosts = vec!["Cart.Example.com".to_owned()];
    let tcp = service("database", Protocol::Tcp, &[("v1", &[5432])]);
    let mut config = chat();
    config.services.extend(mesh([shop, tcp]).services);
    let snapshot = compiled(&config);
    insta::assert_snapshot!(of_type(&snapshot, ROUTE) + &of_type(&snapshot, VIRTUAL_HOST));
    insta::assert_snapshot!("services_without_routes_clusters", of_type(&snapshot, CLUSTER));
    insta::assert_snapshot!("services_without_routes_mark", of_type(&snapshot, SNAPSHOT_MARK));
}

#[test]
fn endpoints_written_and_discovered() {
    let mut config = chat();
    edit(&mut config, "chat", |chat| {
        chat.versions[1].dns = Some(("chat.internal".to_owned(), 80));
    });
    let discovered = [at(9300), at(9101), at(9200)];
    let mut resolved = ResolvedEndpoints::default();
    resolved.0.insert("default/chat/v1".into(), [at(1)].into());
    resolved.0.insert("default/chat/v2".into(), discovered.into());
    let snapshot = compiler(NodeKind::Sidecar, &config, &resolved).whole();
    insta::assert_snapshot!(of_type(&snapshot, ENDPOINT));
}

#[test]
fn endpoints_by_where_they_are() {
    let mut config = chat();
    let place = |zone: &str, weight, ports: &[u16]| LocalEndpoints {
        region: "eu".to_owned(),
        zone: zone.to_owned(),
        sub_zone: String::new(),
        endpoints: ports.iter().map(|&port| at(port)).collect(),
        weight,
    };
    edit(&mut config, "chat", |chat| {
        chat.versions[0].localities =
            vec![place("eu-b", Some(3), &[9402, 9401]), place("eu-a", None, &[9301, 9302, 9303])];
        chat.versions[1].endpoints.clear();
        chat.versions[1].localities = vec![place("eu-b", None, &[])];
    });
    insta::assert_snapshot!(of_type(&compiled(&config), ENDPOINT));
    let localities = Localities::ZoneAware { min_endpoints: 3, all_local_from: Some(2) };
    let balancer = Balancer { localities, ..Balancer::default() };
    let policy = TrafficPolicy { balancer, ..TrafficPolicy::default() };
    config.traffic.insert("chat".parse().unwrap(), policy.into());
    insta::assert_snapshot!("zone_aware_clusters", of_type(&compiled(&config), CLUSTER));
}

#[test]
fn a_weighted_split_by_header() {
    let rules = vec![rule(prefix("/"), &[("v2", 5), ("v1", 95)])];
    let by = SplitBy::Header("X-User-Id".to_owned());
    let config = routed(chat(), "chat", by, rules);
    insta::assert_snapshot!(of_type(&super::compiled(ENVOY, &config), ROUTE));
    let for_sidecars = of_type(&compiled(&config), VIRTUAL_HOST);
    insta::assert_snapshot!("a_weighted_split_by_header_for_sidecars", for_sidecars);
}

#[test]
fn a_service_that_speaks_no_http() {
    let mut database = service("database", Protocol::Tcp, &[("v1", &[5432]), ("v2", &[5433])]);
    database.hosts = vec!["db.example.com".to_owned(), "10.96.0.7".to_owned()];
    database.port = 5432;
    let mut split = rule(prefix("/"), &[]);
    split.backends = [("v1", 90), ("v2", 10)]
        .map(|(version, weight)| Backend {
            service: "database".parse().unwrap(),
            version: version.parse().unwrap(),
            weight,
        })
        .into();
    let config = routed(mesh([database]), "database", SplitBy::Random, vec![split]);
    insta::assert_snapshot!(of_type(&compiled(&config), LISTENER));
    let envoys = of_type(&super::compiled(ENVOY, &config), LISTENER);
    assert!(!envoys.contains("TcpProxy"), "{envoys}");
}

#[test]
fn everything_that_a_rule_can_say() {
    let mut wide = rule(prefix("/api/"), &[("v1", 1)]);
    wide.name = "wide".to_owned();
    wide.matches[0].headers = vec![
        ("X-Team".to_owned(), ValueMatch::Exact("a".to_owned())),
        ("x-zone".to_owned(), ValueMatch::Regex("eu-.*".to_owned())),
    ];
    wide.matches[0].query = vec![("v".to_owned(), ValueMatch::Exact("2".to_owned()))];
    wide.matches[0].method = Some("POST".to_owned());
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let edits = HeaderEdits {
        set: pairs(&[("X-Set", "100%")]),
        add: pairs(&[("x-add", "")]),
        remove: vec!["X-Gone".to_owned()],
    };
    wide.filters = Filters {
        request_headers: edits.clone(),
        response_headers: edits,
        mirror: Some(Mirror {
            service: "chat".parse().unwrap(),
            version: "v2".parse().unwrap(),
            share: 250,
        }),
        redirect: None,
        host_rewrite: Some("chat.internal".to_owned()),
        path_rewrite: Some(PathRewrite::Prefix("/v2".to_owned())),
    };
    wide.timeout = None;
    wide.try_timeout = Some(Duration::from_millis(1500));
    wide.stream_idle = Some(Duration::from_secs(90));
    wide.retry = Some(Retry {
        statuses: vec![502, 503],
        attempts: 3,
        backoff: Duration::from_millis(25),
        hedge_after: None,
    });
    let mut hedged = rule(prefix("/hedged"), &[("v1", 1)]);
    hedged.retry = Some(Retry {
        statuses: Vec::new(),
        attempts: 1,
        backoff: Duration::from_millis(25),
        hedge_after: Some(Duration::from_millis(200)),
    });
    let mut moved = rule(PathMatch::Exact("/old".to_owned()), &[]);
    moved.filters.redirect = Some(Redirect {
        status: 308,
        scheme: Some("https".to_owned()),
        host: Some("new.example".to_owned()),
        port: Some(8443),
        path: Some(PathRewrite::Full("/new".to_owned())),
    });
    let nowhere = rule(prefix("/off"), &[("v1", 0), ("v2", 0)]);
    let config = routed(chat(), "chat", SplitBy::Random, vec![wide, hedged, moved, nowhere]);
    let for_envoy = of_type(&super::compiled(ENVOY, &config), ROUTE);
    insta::assert_snapshot!(for_envoy);
    let for_sidecars = of_type(&compiled(&config), VIRTUAL_HOST);
    assert!(for_envoy.contains("RequestMirrorPolicy"), "{for_envoy}");
    assert!(for_sidecars.contains("RequestMirrorPolicy"), "{for_sidecars}");
    // Others would hedge what must not be done twice.
    assert!(for_sidecars.contains("HedgePolicy") && !for_envoy.contains("HedgePolicy"));
}

#[test]
fn faults_of_a_service() {
    let mut config = chat();
    let faults = Faults {
        delay: Some(Delay { time: Duration::from_millis(250), share: 1_000 }),
        abort: Some(Abort { status: 503, share: 50 }),
    };
    config.faults.insert("chat".parse().unwrap(), faults.into());
    for kind in [NodeKind::Sidecar, ENVOY] {
        let host = hosts(&super::compiled(kind, &config)).remove(0);
        let fault: HttpFault = decode(&host.typed_per_filter_config["envoy.filters.http.fault"]);
        insta::assert_debug_snapshot!("faults_of_a_service", (fault.delay, fault.abort));
    }
}

#[test]
fn sessions_that_an_envoy_keeps() {
    let mut config = chat();
    let mcp = service("tools", Protocol::Mcp, &[("v1", &[9500])]);
    let loose = service("loose", Protocol::Http, &[("v1", &[9501])]);
    config.services.extend(mesh([mcp, loose]).services);
    let pin = Some(Pin { max_age: Duration::from_hours(1) });
    let cookie = SessionKey::Cookie("sid".to_owned());
    let header = SessionKey::Header("x-session-id".to_owned());
    let sessions = [
        ("chat", Sessions { keys: vec![header.clone(), cookie.clone()], pin: pin.clone() }),
        ("tools", Sessions { keys: vec![header], pin }),
        ("loose", Sessions { keys: vec![cookie], pin: None }),
    ];
    for (name, sessions) in sessions {
        config.sessions.insert(name.parse().unwrap(), Arc::new(sessions));
    }
    insta::assert_snapshot!(of_type(&super::compiled(ENVOY, &config), ROUTE));
    let others = [(NodeKind::Sidecar, VIRTUAL_HOST), (NodeKind::Grpc, ROUTE)];
    for (kind, type_url) in others {
        let text = of_type(&super::compiled(kind, &config), type_url);
        assert!(!text.contains("SessionState"), "{text}");
    }
}

#[test]
fn rewrites_of_paths() {
    let rewritten = |path: PathMatch, to: PathRewrite| -> Rule {
        let mut rule = rule(path, &[("v1", 1)]);
        rule.filters.path_rewrite = Some(to);
        rule
    };
    let to = |path: &str| PathRewrite::Prefix(path.to_owned());
    let rules = vec![
        rewritten(prefix("/a.b"), to("/")),
        rewritten(prefix("/a"), to("/c/")),
        rewritten(prefix("/"), to("/all")),
        rewritten(prefix("/full"), PathRewrite::Full("/one\\1".to_owned())),
        rewritten(PathMatch::Exact("/e".to_owned()), to("/f")),
    ];
    let config = routed(chat(), "chat", SplitBy::Random, rules);
    let text: Vec<String> = super::readable::routes_of(&compiled(&config), "default/chat")
        .into_iter()
        .map(|route| {
            use envoy_types::pb::envoy::config::route::v3::route::Action;
            let Some(Action::Route(action)) = route.action else { unreachable!() };
            let expression = action.regex_rewrite.map(|rewrite| {
                format!("{} -> {}", rewrite.pattern.unwrap().regex, rewrite.substitution)
            });
            let path = route.r#match.unwrap().path_specifier.unwrap();
            format!("{path:?}: {:?} {expression:?}", action.prefix_rewrite)
        })
        .collect();
    insta::assert_snapshot!(text.join("\n"));
}

#[test]
fn caps_and_times_of_a_cluster() {
    let mut config = chat();
    let policy = TrafficPolicy {
        connect_timeout: Some(Duration::from_millis(250)),
        max_connections: Some(10),
        max_pending_requests: Some(20),
        max_requests: None,
        idle_timeout: Some(Duration::from_secs(90)),
        max_age: Some(Duration::from_mins(20)),
        ..TrafficPolicy::default()
    };
    config.traffic.insert("chat".parse().unwrap(), policy.into());
    insta::assert_snapshot!(of_type(&compiled(&config), CLUSTER));
}

#[test]
fn a_match_of_everything_is_the_last() {
    let mut with_header = matched(prefix("/a"));
    with_header.headers = vec![("x".to_owned(), ValueMatch::Exact("1".to_owned()))];
    let mut with_method = matched(prefix("/a"));
    with_method.method = Some("GET".to_owned());
    let mut all = rule(prefix("/"), &[("v1", 1)]);
    all.matches = vec![
        matched(prefix("/")),
        matched(PathMatch::Regex("/a/[0-9]+".to_owned())),
        matched(prefix("/a")),
        with_header,
        with_method,
        matched(prefix("/a/longer")),
        matched(PathMatch::Exact("/".to_owned())),
    ];
    let config = routed(chat(), "chat", SplitBy::Random, vec![all]);
    let order: Vec<String> = super::readable::routes_of(&compiled(&config), "default/chat")
        .into_iter()
        .map(|route| {
            let matched = route.r#match.unwrap();
            let headers: Vec<String> =
                matched.headers.into_iter().map(|header| header.name).collect();
            format!("{:?} {headers:?}", matched.path_specifier.unwrap())
        })
        .collect();
    insta::assert_snapshot!(order.join("\n"));
}
