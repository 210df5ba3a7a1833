//! What gRPC's own clients get.

use std::time::Duration;

use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use prost::Message;
use segue_shared::xds_names::type_urls::{CLUSTER, ENDPOINT, LISTENER, ROUTE};

use super::compiled;
use super::mesh::{matched, mesh, prefix, routed, service};
use super::readable::of_type;
use crate::compile::NodeKind;
use crate::config::mesh::{
    Backend, MeshConfig, PathMatch, PathRewrite, Protocol, Redirect, Retry, Rule, SplitBy,
    TrafficPolicy, ValueMatch,
};

fn greeter() -> MeshConfig {
    let versions: &[(&str, &[u16])] = &[("v1", &[9001]), ("v2", &[])];
    let mut chat = service("shop/chat", Protocol::Grpc, versions);
    chat.port = 50051;
    mesh([chat])
}

/// A rule for one path that leads to versions of `shop/chat`.
fn rule(path: PathMatch, backends: &[(&str, u32)]) -> Rule {
    let mut rule = super::mesh::rule(path, backends);
    let chat = |one: &mut Backend| one.service = "shop/chat".parse().unwrap();
    rule.backends.iter_mut().for_each(chat);
    rule
}

#[test]
fn a_service_with_a_split() {
    let mut all = rule(prefix("/"), &[("v1", 95), ("v2", 5)]);
    all.retry = Some(Retry {
        statuses: vec![503, 404, 429],
        attempts: 2,
        backoff: Duration::ZERO,
        hedge_after: None,
    });
    let by = SplitBy::Header("x-user-id".to_owned());
    let mut config = routed(greeter(), "shop/chat", by, vec![all]);
    let policy = TrafficPolicy {
        max_requests: Some(7),
        idle_timeout: Some(Duration::from_secs(9)),
        ..TrafficPolicy::default()
    };
    config.traffic.insert("shop/chat".parse().unwrap(), policy.into());
    let snapshot = compiled(NodeKind::Grpc, &config);
    let text = [LISTENER, ROUTE, CLUSTER, ENDPOINT].map(|url| of_type(&snapshot, url));
    insta::assert_snapshot!(text.concat());
}

#[test]
fn a_listener_for_each_name_that_can_be_called() {
    let mut chat = service("chat", Protocol::Grpc, &[("v1", &[9001])]);
    chat.hosts = vec!["Chat.Example.com".to_owned(), "*.chat.dev".to_owned()];
    chat.port = 50051;
    let tcp = service("database", Protocol::Tcp, &[("v1", &[5432])]);
    let snapshot = compiled(NodeKind::Grpc, &mesh([chat, tcp]));
    let names: Vec<&str> = snapshot.of_type(LISTENER).unwrap().keys().map(AsRef::as_ref).collect();
    assert_eq!(
        names,
        [
            "chat",
            "chat.default",
            "chat.default:50051",
            "chat.example.com",
            "chat.example.com:50051",
            "chat:50051",
        ]
    );
}

/// `match -> cluster` of all routes of chat.
fn routes(rules: Vec<Rule>) -> Vec<String> {
    let config = routed(greeter(), "shop/chat", SplitBy::Random, rules);
    let snapshot = compiled(NodeKind::Grpc, &config);
    let resource = &snapshot.of_type(ROUTE).unwrap()["grpc/shop/chat"];
    let routes = RouteConfiguration::decode(resource.value()).unwrap();
    let [host] = <[_; 1]>::try_from(routes.virtual_hosts).unwrap();
    let text = host.routes.into_iter().map(|route| {
        let Some(Action::Route(action)) = route.action else { panic!("refused by grpc-js") };
        let Some(ClusterSpecifier::Cluster(cluster)) = action.cluster_specifier else { panic!() };
        let matched = route.r#match.unwrap();
        let headers: Vec<String> = matched.headers.into_iter().map(|it| it.name).collect();
        format!("{:?} {headers:?} -> {cluster}", matched.path_specifier.unwrap())
    });
    text.collect()
}

#[test]
fn only_what_a_call_can_match() {
    let to_v1 = |path: PathMatch| rule(path, &[("v1", 1)]);
    let edited = |edit: &dyn Fn(&mut Rule)| {
        let mut rule = to_v1(prefix("/edited"));
        edit(&mut rule);
        rule
    };
    let exact = |path: &str| PathMatch::Exact(path.to_owned());
    let all = routes(vec![
        to_v1(prefix("/")),
        to_v1(prefix("/pkg.Service")),
        to_v1(prefix("/pkg.Service/Method")),
        to_v1(prefix("/a/b/c")),
        to_v1(exact("/pkg.Service/Exact")),
        to_v1(exact("/")),
        to_v1(exact("/one")),
        to_v1(exact("/a/b/c")),
        to_v1(PathMatch::Regex("/a/.*".to_owned())),
        to_v1(PathMatch::Regex(String::new())),
        edited(&|it| it.matches[0].method = Some("GET".to_owned())),
        edited(&|it| {
            it.matches[0].query = vec![("q".to_owned(), ValueMatch::Exact("1".to_owned()))];
        }),
        edited(&|it| {
            it.matches[0].method = Some("POST".to_owned());
            it.matches[0].headers = vec![("x".to_owned(), ValueMatch::Regex(String::new()))];
        }),
    ]);
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn what_does_not_forward_leads_nowhere() {
    let mut moved = rule(prefix("/a"), &[]);
    moved.filters.redirect = Some(Redirect {
        status: 301,
        scheme: None,
        host: None,
        port: None,
        path: Some(PathRewrite::Full("/b".to_owned())),
    });
    let off = rule(prefix("/off"), &[("v1", 0)]);
    assert_eq!(
        routes(vec![moved, off]),
        [r#"Prefix("/off/") [] -> grpc/nowhere"#, r#"Prefix("/a/") [] -> grpc/nowhere"#,]
    );
    // Routes without any would be refused.
    let mut never = rule(prefix("/"), &[("v1", 1)]);
    never.matches = vec![matched(PathMatch::Exact("/one".to_owned()))];
    assert_eq!(routes(vec![never]), [r#"Prefix("/") [] -> grpc/nowhere"#]);
}
