//! What checked configuration says.

use std::time::Duration;

use segue_shared::ids::{Revision, ServiceName};

use super::super::mesh::{
    MeshConfig, PathMatch, PathRewrite, Pin, SessionKey, SplitBy, ValueMatch,
};
use super::super::{Parsed, check, parse_typed};
use super::{CHAT, parsed};

fn mesh(content: &str) -> MeshConfig {
    check(Revision(7), &parsed(content)).unwrap_or_else(|faults| panic!("{faults}"))
}

fn chat() -> ServiceName {
    ServiceName::new("default", "chat")
}

/// The design's example with a route of these rules.
fn with_route(spec: &str) -> MeshConfig {
    let header = "kind: Route\nmetadata: {name: chat-route}\nspec:\n  targetRef: {name: chat}\n";
    mesh(&format!("{CHAT}---\n{header}{spec}"))
}

#[test]
fn the_design_example_holds() {
    let mesh = mesh(CHAT);
    assert_eq!(mesh.revision, Revision(7));
    let service = &mesh.services[&chat()];
    assert_eq!(service.port, 80);
    assert_eq!(service.default_version.as_str(), "v1");
    let labels: Vec<&str> = service.versions.iter().map(|it| it.label.as_str()).collect();
    assert_eq!(labels, ["v1", "v2"]);
    assert_eq!(service.versions[0].endpoints[1].to_string(), "127.0.0.1:9002");
    assert_eq!(service.depends_on, None);
    assert_eq!(
        mesh.sessions[&chat()].keys,
        [SessionKey::Header("x-session-id".into()), SessionKey::Cookie("sid".into())]
    );
    let day = Duration::from_hours(24);
    assert_eq!(mesh.sessions[&chat()].pin, Some(Pin { max_age: day }));
}

#[test]
fn what_is_not_written_has_its_default() {
    let mesh = with_route("  rules: [{backendRefs: [{name: chat}]}]\n");
    let route = &mesh.routes[&chat()];
    assert_eq!(route.name, ServiceName::new("default", "chat-route"));
    // The session key of the ContextPolicy.
    assert_eq!(route.split_by, SplitBy::Header("x-session-id".into()));
    let rule = &route.rules[0];
    assert_eq!(rule.name, "rule-0");
    assert_eq!(rule.matches[0].path, PathMatch::Prefix("/".into()));
    assert_eq!((rule.backends[0].version.as_str(), rule.backends[0].weight), ("v1", 1));
    assert_eq!((rule.timeout, rule.try_timeout), (Some(Duration::from_secs(15)), None));
    assert_eq!(rule.retry, None);
}

#[test]
fn what_is_written_holds() {
    let mesh = with_route(
        "\x20 splitBy: {random: {}}
  rules:
    - name: first
      matches:
        - path: {value: /api/}
          method: GET
          headers: [{name: X-Tier, value: ^gold$, type: RegularExpression}]
          queryParams: [{name: q, value: '1'}]
      filters:
        - type: URLRewrite
          urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}
        - type: RequestMirror
          requestMirror: {backendRef: {name: chat, version: v2}, percent: 2.5%}
      timeouts: {request: 0s, backendRequest: 2s, streamIdle: 90s}
      retry: {codes: [503], attempts: 2}
      backendRefs:
        - {name: chat, version: v1, weight: 9999}
        - {name: chat, version: v2, weight: 1}
    - filters: [{type: RequestRedirect, requestRedirect: {scheme: https, port: 8443}}]
    - retry: {hedgeAfter: 200ms}
      backendRefs: [{name: chat}]
",
    );
    let route = &mesh.routes[&chat()];
    assert_eq!(route.split_by, SplitBy::Random);
    let rule = &route.rules[0];
    let condition = &rule.matches[0];
    assert_eq!(condition.path, PathMatch::Prefix("/api".into()));
    assert_eq!(condition.headers, [("x-tier".into(), ValueMatch::Regex("^gold$".into()))]);
    assert_eq!(condition.query, [("q".into(), ValueMatch::Exact("1".into()))]);
    assert_eq!(rule.filters.path_rewrite, Some(PathRewrite::Prefix("/".into())));
    assert_eq!(rule.filters.mirror.as_ref().unwrap().share, 250);
    assert_eq!((rule.timeout, rule.try_timeout), (None, Some(Duration::from_secs(2))));
    assert_eq!(rule.stream_idle, Some(Duration::from_secs(90)));
    assert_eq!(rule.retry.as_ref().unwrap().attempts, 2);
    assert_eq!(rule.backends.iter().map(|it| it.weight).sum::<u32>(), 10_000);
    let redirect = route.rules[1].filters.redirect.as_ref().unwrap();
    assert_eq!((redirect.status, redirect.port), (302, Some(8443)));
    assert!(route.rules[1].backends.is_empty());
    let hedged = route.rules[2].retry.as_ref().unwrap();
    assert_eq!((hedged.attempts, hedged.hedge_after), (1, Some(Duration::from_millis(200))));
}

#[test]
fn hosts_are_lower_case_and_told_once() {
    let mesh = mesh(
        "kind: Service\nmetadata: {name: a}\n\
         spec: {hosts: [API.example.com, api.example.com, a, '*.a.dev'], versions: [{name: v1}]}",
    );
    let service = &mesh.services[&ServiceName::new("default", "a")];
    assert_eq!(service.hosts, ["api.example.com", "*.a.dev"]);
}

#[test]
fn resources_of_the_store_are_checked_without_places() {
    let mut stored: Vec<Parsed> = parsed(CHAT);
    for it in &mut stored {
        *it = parse_typed(it.resource.clone()).unwrap();
    }
    assert!(check(Revision(1), &stored).is_ok());
    // The service goes, what refers to it stays.
    stored.remove(0);
    let told = check(Revision(1), &stored).unwrap_err();
    assert_eq!(
        told.to_string(),
        "ContextPolicy default/chat-sessions: spec.targetRef.name: there is no Service \
         default/chat (there are no services here)\n\
         Rollout default/chat-v2: spec.targetRef.name: there is no Service default/chat (there \
         are no services here)"
    );
}
