//! Resources as a control plane sends them, compiled or refused by field path.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail so")]

mod sample;

use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::{
    HeaderValue, HeaderValueOption, RuntimeFractionalPercent, TransportSocket, TypedExtensionConfig,
};
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::{
    ClusterSpecifier, HostRewriteSpecifier, RequestMirrorPolicy,
};
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::{
    FilterConfig, HeaderMatcher, HedgePolicy, RetryPolicy, Route, RouteAction, RouteConfiguration,
    VirtualHost,
};
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatchAndSubstitute, RegexMatcher};
use envoy_types::pb::envoy::r#type::v3::FractionalPercent;
use envoy_types::pb::google::protobuf::{Any, Duration as PbDuration};
use http::{HeaderMap, HeaderName, StatusCode};
use proptest::prelude::*;
use prost::Message;
use segue_shared::extension::pack_as;
use segue_shared::xds_names::type_urls;
use segue_sidecar_core::compile::{Compiled, EndpointSource, RouteConfig, compile};
use segue_sidecar_core::reject::Reject;
use segue_sidecar_core::snapshot::{
    Forward, HttpVersion, PathRewrite, RouteAction as CompiledAction, SplitKey,
};

use sample::{assignment, cluster, listener, routes, split, virtual_host, weighted};

fn compile_as<M: Message>(type_url: &str, message: &M) -> Result<Compiled, Reject> {
    compile(type_url, None, &message.encode_to_vec())
}

fn routes_of(message: &RouteConfiguration) -> RouteConfig {
    match compile_as(type_urls::ROUTE, message).unwrap() {
        Compiled::Routes(routes) => *routes,
        other => panic!("{other:?}"),
    }
}

fn one_route(message: &RouteConfiguration) -> Forward {
    match routes_of(message).hosts.remove(0).routes.remove(0).action {
        CompiledAction::Forward(forward) => forward,
        other => panic!("{other:?}"),
    }
}

fn first(message: &mut RouteConfiguration) -> &mut Route {
    &mut message.virtual_hosts[0].routes[0]
}

fn action(message: &mut RouteConfiguration) -> &mut RouteAction {
    match first(message).action.as_mut() {
        Some(Action::Route(action)) => action,
        other => panic!("{other:?}"),
    }
}

fn refused<M: Message>(type_url: &str, message: &M) -> (String, String) {
    let reject = compile_as(type_url, message).unwrap_err();
    (reject.field_path, reject.reason)
}

#[test]
fn a_route_leads_from_host_and_path_to_a_cluster() {
    let compiled = routes_of(&routes(&[("chat", "default/chat/v1")]));
    let host = &compiled.hosts[0];
    assert_eq!(host.domains, ["Chat".parse().unwrap()]);
    let headers = HeaderMap::new();
    let route = &host.routes[0];
    let CompiledAction::Forward(forward) = &route.action else { panic!("{route:?}") };
    assert_eq!(&*host.clusters[forward.split.choose(&headers, 0).0 as usize], "default/chat/v1");
    assert_eq!(forward.timeout, Some(Duration::from_secs(15)));
}

#[test]
fn weights_become_ranges_and_the_split_extension_goes_first() {
    let mut message = weighted("chat", &[("a", 9500), ("gone", 0), ("b", 500)]);
    let plain = one_route(&message).split;
    assert_eq!(plain.ranges.iter().map(|(end, _)| *end).collect::<Vec<_>>(), [9500, 10_000]);
    assert_eq!(plain.key, SplitKey::Random);

    let entry = split("salt", "x-user-id", &[("a", 9000), ("b", 1000)]);
    first(&mut message).typed_per_filter_config.insert("segue.split".to_owned(), entry);
    let ours = one_route(&message).split;
    assert_eq!(ours.ranges[0].0, 9000);
    assert_eq!(ours.key, SplitKey::Header(HeaderName::from_static("x-user-id")));
}

#[test]
fn timeouts_retries_and_rewrites_come_through() {
    let mut message = routes(&[("chat", "a")]);
    let seconds = |seconds| Some(PbDuration { seconds, nanos: 0 });
    let route = action(&mut message);
    route.timeout = seconds(0);
    route.host_rewrite_specifier = Some(HostRewriteSpecifier::HostRewriteLiteral("up".to_owned()));
    route.prefix_rewrite = "/v2/".to_owned();
    route.retry_policy = Some(RetryPolicy {
        retry_on: "connect-failure,gateway-error".to_owned(),
        per_try_timeout: seconds(2),
        ..Default::default()
    });
    route.hedge_policy = Some(HedgePolicy { hedge_on_per_try_timeout: true, ..Default::default() });
    let forward = one_route(&message);
    assert_eq!((forward.timeout, forward.try_timeout), (None, Some(Duration::from_secs(2))));
    assert_eq!(forward.idle_timeout, Some(Duration::from_mins(5)));
    assert_eq!(forward.host_rewrite.unwrap(), "up");
    let retry = forward.retry.unwrap();
    assert!(retry.hedges);
    assert!(retry.reset);
    assert_eq!(retry.max_backoff, Duration::from_millis(250));
    assert_eq!(retry.statuses.iter().map(StatusCode::as_u16).collect::<Vec<_>>(), [502, 503, 504]);
}

#[test]
fn copies_go_to_another_cluster() {
    let mut message = routes(&[("chat", "a")]);
    let fraction = |numerator, denominator| RuntimeFractionalPercent {
        default_value: Some(FractionalPercent { numerator, denominator }),
        ..Default::default()
    };
    let to = |cluster: &str, fraction| RequestMirrorPolicy {
        cluster: cluster.to_owned(),
        runtime_fraction: fraction,
        ..Default::default()
    };
    action(&mut message).request_mirror_policies =
        vec![to("b", Some(fraction(250, 1))), to("a", None)];
    let compiled = routes_of(&message);
    assert_eq!(compiled.hosts[0].clusters, ["a".into(), "b".into()]);
    let mirrors = one_route(&message).mirrors;
    let shares: Vec<(u32, u32)> =
        mirrors.iter().map(|it| (it.cluster.0, it.share_millionths)).collect();
    assert_eq!(shares, [(1, 25_000), (0, 1_000_000)]);
    action(&mut message).request_mirror_policies[1].cluster.clear();
    let expected = "virtual_hosts[0].routes[0].route.request_mirror_policies[1].cluster";
    assert_eq!(refused(type_urls::ROUTE, &message).0, expected);
}

#[test]
fn expressions_that_are_constants_rewrite_the_path() {
    let rewrite = |path: PathSpecifier, pattern: &str, to: &str| {
        let mut message = routes(&[("chat", "a")]);
        first(&mut message).r#match.as_mut().unwrap().path_specifier = Some(path);
        action(&mut message).regex_rewrite = Some(RegexMatchAndSubstitute {
            pattern: Some(RegexMatcher { regex: pattern.to_owned(), ..Default::default() }),
            substitution: to.to_owned(),
        });
        compile_as(type_urls::ROUTE, &message).map(|_| one_route(&message).path_rewrite.unwrap())
    };
    let below = || PathSpecifier::PathSeparatedPrefix("/a.b".to_owned());
    assert_eq!(rewrite(below(), "^.*$", "/x").unwrap(), PathRewrite::Full("/x".into()));
    assert_eq!(rewrite(below(), r"^/a\.b/*", "/").unwrap(), PathRewrite::Prefix("/".into()));
    assert_eq!(
        rewrite(below(), "^/a(.*)$", r"\1").unwrap_err().field_path,
        "virtual_hosts[0].routes[0].route.regex_rewrite.pattern"
    );
}

#[test]
fn the_last_header_edit_is_that_of_the_widest_level() {
    let set = |value: &str| HeaderValueOption {
        header: Some(HeaderValue { key: "x-a".into(), value: value.into(), ..Default::default() }),
        append_action: 2,
        ..Default::default()
    };
    let mut message = routes(&[("chat", "a")]);
    message.request_headers_to_add = vec![set("config")];
    message.virtual_hosts[0].request_headers_to_add = vec![set("host")];
    first(&mut message).request_headers_to_add = vec![set("route")];
    for (specific_wins, last) in [(false, "config"), (true, "route")] {
        message.most_specific_header_mutations_wins = specific_wins;
        let compiled = routes_of(&message);
        let route = &compiled.hosts[0].routes[0];
        assert_eq!(route.request_headers.edits.last().unwrap().value, last);
    }
}

#[test]
fn a_fault_in_a_route_is_named_by_its_field_path() {
    let at = |change: &dyn Fn(&mut RouteConfiguration)| {
        let mut message = routes(&[("other", "a"), ("chat", "a")]);
        change(&mut message);
        refused(type_urls::ROUTE, &message).0
    };
    assert_eq!(
        at(&|message| match message.virtual_hosts[1].routes[0].action.as_mut() {
            Some(Action::Route(route)) => {
                route.cluster_specifier = Some(ClusterSpecifier::ClusterHeader("x".into()));
            }
            other => panic!("{other:?}"),
        }),
        "virtual_hosts[1].routes[0].route.cluster_specifier"
    );
    assert_eq!(
        at(&|message| message.virtual_hosts[1].domains.push("OTHER".into())),
        "virtual_hosts[1].domains[1]"
    );
    assert_eq!(
        at(&|message| {
            let bad = HeaderMatcher { name: ":path".into(), ..Default::default() };
            first(message).r#match.as_mut().unwrap().headers = vec![bad];
        }),
        "virtual_hosts[0].routes[0].match.headers[0].name"
    );
    assert_eq!(
        at(&|message| {
            let any = Any { type_url: "type.googleapis.com/x.Unknown".into(), value: Vec::new() };
            first(message).typed_per_filter_config.insert("x".into(), any);
        }),
        "virtual_hosts[0].routes[0].typed_per_filter_config[\"x\"]"
    );
    let uneven = refused(type_urls::ROUTE, &weighted("chat", &[("a", 0)]));
    assert_eq!(uneven.0, "virtual_hosts[0].routes[0].route.weighted_clusters.clusters");
}

#[test]
fn what_is_unknown_and_optional_is_skipped() {
    let unknown = Any { type_url: "type.googleapis.com/x.Unknown".into(), value: vec![0xff] };
    let optional = FilterConfig { config: Some(unknown), is_optional: true, disabled: false };
    let optional = pack_as("type.googleapis.com/envoy.config.route.v3.FilterConfig", &optional);
    let mut message = routes(&[("chat", "a")]);
    first(&mut message).typed_per_filter_config.insert("x".into(), optional);
    routes_of(&message);
}

#[test]
fn a_split_must_have_all_buckets() {
    let mut message = routes(&[("chat", "a")]);
    let entry = split("", "x", &[("a", 9999)]);
    first(&mut message).typed_per_filter_config.insert("segue.split".to_owned(), entry);
    let (path, reason) = refused(type_urls::ROUTE, &message);
    assert!(path.ends_with("typed_per_filter_config[\"segue.split\"].config.ranges"), "{path}");
    assert_eq!(reason, "sum to 9999 buckets, must be 10000");
}

#[test]
fn a_cluster_says_its_version_and_protocol() {
    let Compiled::Cluster(spec) =
        compile_as(type_urls::CLUSTER, &cluster("default/chat/v1", true)).unwrap()
    else {
        panic!()
    };
    assert_eq!(spec.http, HttpVersion::Http2);
    assert_eq!(spec.version.as_ref().unwrap().1.as_str(), "v1");
    assert_eq!(spec.source, EndpointSource::Eds("default/chat/v1".into()));
}

#[test]
fn a_cluster_that_means_something_else_is_refused() {
    let at = |change: &dyn Fn(&mut Cluster)| {
        let mut message = cluster("a", false);
        change(&mut message);
        refused(type_urls::CLUSTER, &message).0
    };
    let tls = TransportSocket { name: "envoy.transport_sockets.tls".into(), ..Default::default() };
    let socket = at(&|it| it.transport_socket = Some(tls.clone()));
    assert_eq!(socket, "transport_socket.typed_config");
    assert_eq!(at(&|it| it.lb_policy = 6), "lb_policy");
    assert_eq!(at(&|it| it.cluster_discovery_type = None), "load_assignment");
    assert_eq!(at(&|it| it.connect_timeout = Some(PbDuration::default())), "connect_timeout");
    assert_eq!(at(&|it| it.name.clear()), "name");
}

#[test]
fn only_endpoints_that_may_be_picked_are_kept() {
    let mut message = assignment("a", &["127.0.0.1:9001", "127.0.0.1:9002", "[::1]:9003"]);
    message.endpoints[0].lb_endpoints[1].health_status = 3;
    let Compiled::Assignment(compiled) = compile_as(type_urls::ENDPOINT, &message).unwrap() else {
        panic!()
    };
    let addresses: Vec<String> =
        compiled.endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect();
    assert_eq!(addresses, ["127.0.0.1:9001", "[::1]:9003"]);

    let named = assignment("a", &["127.0.0.1:1", "chat.test:80"]);
    let (path, reason) = refused(type_urls::ENDPOINT, &named);
    assert_eq!(path, "endpoints[0].lb_endpoints[1].endpoint.address.socket_address.address");
    assert_eq!(reason, "\"chat.test\" is no IP address");
}

#[test]
fn a_listener_ends_with_the_router() {
    assert!(compile_as(type_urls::LISTENER, &listener("outbound", "outbound", &[])).is_ok());
    assert!(
        compile_as(type_urls::LISTENER, &listener("outbound", "outbound", &[("x", true)])).is_ok()
    );
    let (path, reason) =
        refused(type_urls::LISTENER, &listener("outbound", "outbound", &[("x", false)]));
    assert_eq!(path, "filter_chains[0].filters[0].typed_config.http_filters[0]");
    assert!(reason.contains("not marked optional"), "{reason}");
    let empty = Listener { name: "outbound".into(), ..Default::default() };
    assert_eq!(refused(type_urls::LISTENER, &empty).0, "filter_chains");
}

#[test]
fn a_listener_says_what_is_done_with_escaped_slashes() {
    use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType;
    use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
    use segue_sidecar_core::canonical::EscapedSlashes;
    let with = |action| {
        let mut message = listener("outbound", "outbound", &[]);
        let filter = &mut message.filter_chains[0].filters[0];
        let Some(ConfigType::TypedConfig(any)) = &mut filter.config_type else { unreachable!() };
        let mut manager = HttpConnectionManager::decode(any.value.as_slice()).unwrap();
        manager.path_with_escaped_slashes_action = action;
        any.value = manager.encode_to_vec();
        message
    };
    for (action, expected) in [
        (0, None),
        (1, Some(EscapedSlashes::Keep)),
        (2, Some(EscapedSlashes::Reject)),
        (4, Some(EscapedSlashes::Unescape)),
    ] {
        let compiled = compile_as(type_urls::LISTENER, &with(action)).unwrap();
        let Compiled::Listener(listener) = compiled else { unreachable!() };
        assert_eq!(listener.escaped_slashes, expected);
    }
    let (path, _) = refused(type_urls::LISTENER, &with(3));
    assert!(path.ends_with("typed_config.path_with_escaped_slashes_action"), "{path}");
}

#[test]
fn an_envelope_with_another_name_is_refused() {
    let bytes = cluster("a", false).encode_to_vec();
    let reject = compile(type_urls::CLUSTER, Some("b"), &bytes).unwrap_err();
    assert_eq!((reject.resource.as_str(), reject.field_path.as_str()), ("b", "name"));
}

#[test]
fn what_only_tunes_does_not_matter() {
    let mut message = cluster("a", false);
    message.alt_stat_name = "stat".into();
    message.upstream_config = Some(TypedExtensionConfig::default());
    assert!(compile_as(type_urls::CLUSTER, &message).is_ok());
    let host = VirtualHost { name: "x".into(), domains: vec!["x".into()], ..Default::default() };
    let mut message = routes(&[("chat", "a")]);
    message.virtual_hosts.push(host);
    assert!(compile_as(type_urls::ROUTE, &message).is_ok());
}

#[test]
fn a_virtual_host_of_its_own_says_which_configuration_it_belongs_to() {
    let compile_host = |resource: &str, name: &str| {
        let bytes = virtual_host(name, &["chat"], "a").encode_to_vec();
        match compile(type_urls::VIRTUAL_HOST, Some(resource), &bytes) {
            Ok(Compiled::Host(host)) => Ok(host.configuration.to_string()),
            Ok(other) => panic!("{other:?}"),
            Err(reject) => Err((reject.resource, reject.field_path)),
        }
    };
    for (resource, name, configuration) in [
        ("outbound/default/chat", "default/chat", "outbound"),
        ("my_route/vhost_0", "my_route/vhost_0", "my_route"),
        ("https/a.test/vhost_0", "vhost_0", "https/a.test"),
    ] {
        assert_eq!(compile_host(resource, name).as_deref(), Ok(configuration), "{resource}");
    }
    for (resource, name) in [("outbound/default/chat", "other"), ("chat", "chat"), ("a/", "")] {
        let named = (resource.to_owned(), "name".to_owned());
        assert_eq!(compile_host(resource, name), Err(named), "{resource}");
    }
    let mut bad = virtual_host("default/chat", &["chat", "a*b"], "a");
    let name = Some("outbound/default/chat");
    let reject = compile(type_urls::VIRTUAL_HOST, name, &bad.encode_to_vec()).unwrap_err();
    assert_eq!(reject.field_path, "domains[1]");
    bad.domains = vec!["chat".to_owned()];
    bad.routes[0].action = None;
    let reject = compile(type_urls::VIRTUAL_HOST, name, &bad.encode_to_vec()).unwrap_err();
    assert_eq!(
        reject.to_string(),
        "VirtualHost outbound/default/chat: routes[0].route: an action must be set"
    );
}

const TYPES: [&str; 6] = [
    type_urls::LISTENER,
    type_urls::ROUTE,
    type_urls::CLUSTER,
    type_urls::ENDPOINT,
    type_urls::VIRTUAL_HOST,
    type_urls::SNAPSHOT_MARK,
];

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        which in 0usize..6,
    ) {
        let _ = compile(TYPES[which], Some("x"), &bytes);
    }

    /// Real messages with a few bytes changed come deeper than random ones.
    #[test]
    fn damaged_resources_never_panic(
        which in 0usize..5,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = match which {
            0 => listener("outbound", "outbound", &[("x", true)]).encode_to_vec(),
            1 => weighted("chat", &[("a", 9500), ("b", 500)]).encode_to_vec(),
            2 => cluster("default/chat/v1", true).encode_to_vec(),
            3 => assignment("a", &["127.0.0.1:9001"]).encode_to_vec(),
            _ => virtual_host("r/chat", &["chat", "*.chat"], "a").encode_to_vec(),
        };
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = compile(TYPES[which], None, &bytes);
    }
}
