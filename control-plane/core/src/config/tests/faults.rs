//! The exact words that people are told.

use segue_proto::config::v1::Resource;
use segue_shared::ids::Revision;

use super::super::{Declaration, parse, parse_typed};
use super::text;

/// Faults of a text, one a line.
fn faults(content: &str) -> String {
    match Declaration::default().admit(Revision(1), &[text("a.yaml", content)], &[], &[]) {
        Ok(admitted) => format!("no faults in {:?}", admitted.batch),
        Err(faults) => faults.to_string(),
    }
}

const TEN: &str = "\
apiVersion: segue.dev/v1alpha1
kind: Service
metadata: {name: chat}
spec:
  protocol: htttp
  port: 99999
  versions:
    - {name: v1, endpoints: [\"127.0.0.1:9001\", localhost:9002]}
    - {name: v2, endpoint: [\"127.0.0.1:9101\"]}
  defaultVersion: v3
---
apiVersion: segue.dev/v1alpha1
kind: Service
metadata: {name: other}
spec:
  hosts: [chat]
  versions: [{name: v1}]
---
apiVersion: segue.dev/v1alpha1
kind: Route
metadata: {name: chat}
spec:
  targetRef: {name: chat}
  splitBy: {header: x-user, cookie: sid}
  rules:
    - matches: [{path: {type: RegularExpression, value: \"(\"}}]
      timeouts: {request: 30}
      backendRefs:
        - {name: chat, version: v1, weight: 90}
        - {name: chat, version: v2, weight: 20}
    - backendRefs: [{name: chatt}]
";

#[test]
fn ten_faults_are_told_at_once() {
    insta::assert_snapshot!(faults(TEN));
}

#[test]
fn a_route_can_look_at_nothing_of_a_service_that_speaks_no_http() {
    let yaml = "\
apiVersion: segue.dev/v1alpha1
kind: Service
metadata: {name: database}
spec:
  protocol: tcp
  port: 5432
  versions: [{name: v1, endpoints: [\"127.0.0.1:5432\"]}]
---
apiVersion: segue.dev/v1alpha1
kind: Route
metadata: {name: database}
spec:
  targetRef: {name: database}
  splitBy: {header: x-user}
  rules:
    - matches: [{path: {value: /a}}]
      timeouts: {request: 30s}
      retry: {attempts: 2}
      backendRefs: [{name: database, version: v1}]
    - backendRefs: [{name: database, version: v1}]
";
    insta::assert_snapshot!(faults(yaml));
}

#[test]
fn parse_alone_tells_what_single_resources_get_wrong() {
    let told = parse(&[text("a.yaml", TEN)]).unwrap_err();
    assert_eq!(told.0.len(), 6, "{told}");
}

/// One service with two versions, on top of which the resources of [`TABLE`] are read.
const BASE: &str = "\
kind: Service
metadata: {name: chat}
spec: {versions: [{name: v1}, {name: v2}, {name: old, lifecycle: {stage: Retired}}]}
---
";

/// Documents, each wrong in its own way. The snapshot has what is told of each.
const TABLE: &[&str] = &[
    // Not even a resource.
    "[a",
    "a: 1\n b: 2",
    "- a",
    "text",
    "metadata: {name: a}",
    "kind: Servce\nmetadata: {name: a}",
    "kind: service",
    "kind: Service\napiVersion: v1\nmetadata: {name: a}\nspec: {versions: [{name: v1}]}",
    "kind: Service\nmetadata: !x {name: a}",
    "kind: Service\n? [a]\n: b",
    // Types.
    "kind: Service\nmetadata: {name: 12}\nspec:",
    "kind: Service\nmetadata: chat\nspec: []",
    "kind: Service\nmetadata: {name: a, labels: {a: 1, b: x, b: y}}\nspec: {versions: v1, port: \"80\"}",
    "kind: Service\nmetadata: {name: a}\nspec: {versions: [{name: v1}, null, 5], port: 80.5}",
    "kind: ContextPolicy\nmetadata: {name: a}\nspec: {targetRef: {name: chat}, sessionKey: [{}], pin: {strict: yes}}",
    // Services.
    "kind: Service\nmetadata: {name: A_b, namespace: x}\nspec: {versions: []}",
    "kind: Service\nmetadata: {name: a}\nspec: {versions: [{name: v1}, {name: v1}], defaultVersion: v2}",
    "kind: Service\nmetadata: {name: a}\nspec: {versions: [{name: v1, dns: 'a:1', endpoints: ['1.1.1.1:1', '1.1.1.1:1']}]}",
    "kind: Service\nmetadata: {name: a}\nspec: {versions: [{name: v1, endpoints: ['1.1.1.1:1'], localities: [{zone: a, endpoints: ['1.1.1.1:1']}, {zone: a}, {endpoints: ['1.1.1.1']}]}]}",
    "kind: Service\nmetadata: {name: a}\nspec: {versions: [{name: v1, selector: {app: a}}]}",
    "kind: Service\nmetadata: {name: a}\nspec: {hosts: [CHAT, 'http://x'], versions: [{name: v1}], dependsOn: [{name: chta}]}",
    "kind: Service\nmetadata: {name: a}\nspec: {versions: [{name: v1, lifecycle: {stage: Retired, deprecatedAt: soon}}]}",
    // Two of one.
    "kind: Service\nmetadata: {name: chat}\nspec: {versions: [{name: v1}]}",
    "kind: TrafficPolicy\nmetadata: {name: a}\nspec: {targetRef: {name: chat}}\n---\nkind: TrafficPolicy\nmetadata: {name: b}\nspec: {targetRef: {name: chat}}",
    // Routes.
    "kind: Route\nmetadata: {name: r}\nspec: {targetRef: {kind: Pod, name: chat}, rules: [{}]}",
    "kind: Route\nmetadata: {name: r}\nspec:\n  targetRef: {name: chat}\n  splitBy: {session: {}}\n  rules:\n    - backendRefs: [{name: chat, version: v1, weight: 95}, {name: chat, version: v2}]\n    - backendRefs: [{name: chat, version: v1, weight: 1000}, {name: chat, version: v2, weight: 500}]\n    - backendRefs: [{name: chat, version: v1, weight: 0}]\n    - backendRefs: [{name: chat, version: v1, weight: 50}, {name: chat, weight: 50}]\n    - backendRefs: [{name: chat, version: old, port: 81}]",
    "kind: Route\nmetadata: {name: r}\nspec:\n  targetRef: {name: chat}\n  rules:\n    - backendRefs: [{name: chat}]\n      matches: [{path: {value: api}}, {path: {value: /a//b}}, {path: {type: Exact, value: '/a?b'}}, {method: get}]\n      timeouts: {request: 1s, backendRequest: 2s}\n      retry: {codes: [200], backoff: 2d}",
    "kind: Route\nmetadata: {name: r}\nspec:\n  targetRef: {name: chat}\n  rules:\n    - backendRefs: [{name: chat}]\n      timeouts: {backendRequest: 1s}\n      retry: {hedgeAfter: 100ms}\n    - backendRefs: [{name: chat}]\n      timeouts: {request: 1s}\n      retry: {hedgeAfter: 1s}",
    "kind: Route\nmetadata: {name: r}\nspec:\n  targetRef: {name: chat}\n  rules:\n    - backendRefs: [{name: chat}]\n      filters:\n        - {type: RequestRedirect, requestRedirect: {statusCode: 304, scheme: ftp}}\n        - {type: URLRewrite, urlRewrite: {hostname: '*.b'}}\n        - {type: RequestHeaderModifier, responseHeaderModifier: {}}\n        - {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: Host, value: a}, {name: x, value: \"a\\r\\nb\"}], remove: [connection]}}",
    // Policies and rollouts.
    "kind: TrafficPolicy\nmetadata: {name: t}\nspec: {targetRef: {name: chat}, loadBalancer: {algorithm: RingHash}, connectionPool: {connectTimeout: 2m}, healthCheck: {http: {path: /}, interval: 1s, timeout: 2s}}",
    "kind: AccessPolicy\nmetadata: {name: x}\nspec: {targetRef: {name: chat}, mtls: Strict, rules: [{name: a, action: Alow, identities: [joe]}], jwt: [{issuer: i, audiences: [a]}], rateLimits: [{name: l, requests: 0}]}",
    "kind: ContextPolicy\nmetadata: {name: x}\nspec: {targetRef: {name: chat}, sessionKey: [{path: ^/x$}, {query: ''}], pin: {idleTimeout: 2h, maxAge: 1h}}",
    "kind: Rollout\nmetadata: {name: x}\nspec: {targetRef: {name: chat}, from: v1, to: v1, steps: [{weight: 50}, {weight: 5}, {weight: 500}, {}], analysis: {confidence: 99, checks: [{errorRate: {}}, {latency: {quantile: 99, max: 1s}}]}, notify: [{slack: x}]}",
];

#[test]
fn each_wrong_resource_is_told_what_would_be_right() {
    let told = TABLE.iter().map(|document| {
        let told = faults(&format!("{BASE}{document}"));
        assert!(!told.starts_with("no faults"), "{document}\n{told}");
        format!("{document}\n=> {}\n\n", told.replace('\n', "\n=> "))
    });
    insta::assert_snapshot!(told.collect::<String>());
}

#[test]
fn a_batch_stands_on_what_the_store_has() {
    let base = super::parsed(super::CHAT).into_iter().map(|it| it.resource);
    let base = Declaration::read(Revision(1), base).unwrap();
    let admit = |content| base.admit(Revision(2), &[text("a.yaml", content)], &[], &[]);

    // It names what the store has, and replaces its namesake.
    let policy = "kind: TrafficPolicy\nmetadata: {name: chat}\nspec: {targetRef: {name: chat}}";
    let admitted = admit(policy).unwrap();
    assert_eq!((admitted.batch.len(), admitted.next.mesh().traffic.len()), (1, 1));
    let fewer = "kind: Service\nmetadata: {name: chat}\nspec: {versions: [{name: v1}]}";
    assert_eq!(
        admit(fewer).unwrap_err().to_string(),
        "Rollout default/chat-v2: spec.to: Service default/chat has no version `v2` (versions \
         here: v1)"
    );
    // Of two that claim the same, the new one is told.
    let second = "kind: ContextPolicy\nmetadata: {name: a}\n\
                  spec: {targetRef: {name: chat}, sessionKey: [{cookie: a}]}";
    assert_eq!(
        admit(second).unwrap_err().to_string(),
        "a.yaml:3:8: ContextPolicy default/a: spec.targetRef: Service default/chat has the \
         ContextPolicy default/chat-sessions already (one ContextPolicy a service: join them)"
    );
}

#[test]
fn messages_of_the_api_keep_the_same_rules() {
    use prost_types::Duration;
    use segue_proto::config::v1::resource::Resource as Body;
    use segue_proto::config::v1::rollout_step::Action;

    let mut resource = super::parsed(super::CHAT).remove(2).resource;
    let Some(Body::Rollout(rollout)) = &mut resource.resource else { panic!("{resource:?}") };
    let spec = rollout.spec.as_mut().unwrap();
    spec.steps[0].action = Some(Action::Weight(f64::NAN));
    spec.steps[0].hold = Some(Duration { seconds: -1, nanos: 0 });
    spec.steps[2].hold = Some(Duration { seconds: 0, nanos: 1 });
    spec.on_failure.as_mut().unwrap().action = 99;
    spec.from = "V1".to_owned();
    rollout.metadata.as_mut().unwrap().name.clear();
    insta::assert_snapshot!(parse_typed(resource).unwrap_err());

    assert!(parse_typed(Resource::default()).is_err());
}
