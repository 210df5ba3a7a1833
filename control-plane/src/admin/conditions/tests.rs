use std::sync::Arc;
use std::time::UNIX_EPOCH;

use segue_control_plane_core::config::{MeshConfig, SourceText, check, parse};
use segue_shared::xds_names::type_urls;

use super::*;
use crate::fleet::{Group as Standing, Rejection};

const MESH: &str = "
apiVersion: segue.dev/v1alpha1
kind: Service
metadata: {name: chat}
spec: {versions: [{name: v1, endpoints: ['127.0.0.1:9001']}]}
---
apiVersion: segue.dev/v1alpha1
kind: Service
metadata: {name: billing}
spec: {versions: [{name: v1, endpoints: ['127.0.0.1:9002']}]}
---
apiVersion: segue.dev/v1alpha1
kind: Service
metadata: {name: shop}
spec: {versions: [{name: v1, endpoints: ['127.0.0.1:9003']}], dependsOn: [{name: chat}]}
---
apiVersion: segue.dev/v1alpha1
kind: Route
metadata: {name: chat}
spec:
  targetRef: {name: chat}
  rules: [{backendRefs: [{name: chat}]}]
---
apiVersion: segue.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: chat}
spec: {targetRef: {name: chat}, connectionPool: {maxRequests: 10}}
---
apiVersion: segue.dev/v1alpha1
kind: Route
metadata: {name: billing}
spec:
  targetRef: {name: billing}
  rules: [{backendRefs: [{name: billing}]}]
";

/// The mesh at a revision, and its resource `kind name`, last changed at another.
fn world(published: u64, resource: &str, changed: u64) -> (Arc<MeshConfig>, StoredResource) {
    let file = SourceText { name: "f.yaml".to_owned(), content: MESH.to_owned() };
    let parsed = parse(&[file]).unwrap();
    let config = check(Revision(published), &parsed).unwrap();
    let resource = parsed
        .into_iter()
        .map(|parsed| parsed.resource)
        .find(|one| {
            let key = config::key(one);
            format!("{} {}", key.kind, key.name) == resource
        })
        .unwrap();
    let stored = StoredResource {
        key: config::key(&resource),
        resource,
        revision: Revision(changed),
        created_at: UNIX_EPOCH,
        changed_at: UNIX_EPOCH,
    };
    (Arc::new(config), stored)
}

fn group(service: &str, activated: u64, sidecars: usize) -> Standing {
    Standing { service: service.into(), activated: Revision(activated), sidecars, clients: 0 }
}

/// Envoys and gRPC clients.
fn clients(service: &str, accepted: u64, clients: usize) -> Standing {
    Standing { clients, ..group(service, accepted, 0) }
}

fn refused(type_url: &str, resource: &str, revision: u64, activated: u64) -> Refused {
    Refused {
        node_id: "chat-1".into(),
        service: "default/chat".into(),
        activated: Revision(activated),
        rejection: Rejection {
            type_url: type_url.to_owned(),
            resource: resource.to_owned(),
            field_path: "lb_policy".to_owned(),
            reason: "unknown".into(),
            revision: Revision(revision),
        },
    }
}

/// `Status Reason: message` of `Programmed`, with revision 12 published.
fn programmed(
    resource: &str,
    changed: u64,
    groups: Vec<Standing>,
    refused: Vec<Refused>,
) -> String {
    let (published, stored) = world(12, resource, changed);
    let outlook = Outlook::new(Standings { published, groups, refused, unsettled: None }, true);
    let conditions = outlook.conditions(&stored);
    assert!(conditions.iter().all(|one| one.observed_generation == changed));
    let types: Vec<&str> = conditions.iter().map(|one| one.r#type.as_str()).collect();
    assert_eq!(types, ["Accepted", "ResolvedRefs", "Programmed"]);
    assert!(conditions[..2].iter().all(|one| one.status() == Status::True));
    let last = &conditions[2];
    format!("{:?} {}: {}", last.status(), last.reason, last.message)
}

#[test]
fn a_resource_is_programmed_when_all_that_get_it_run_on_it() {
    let table = [
        (vec![], "Unknown NoSidecars: no sidecar that gets it is connected"),
        (
            vec![group("default/chat", 12, 3), group("", 13, 1)],
            "True Activated: 4 of 4 sidecars run on revision 12",
        ),
        (
            vec![group("default/chat", 12, 3), group("default/chat", 11, 2)],
            "False Pending: 3 of 5 sidecars run on revision 12",
        ),
        (
            vec![clients("", 12, 2)],
            "True Activated: 2 of 2 Envoys and gRPC clients ACKed revision 12",
        ),
        (
            vec![group("", 12, 1), clients("default/chat", 11, 2), clients("", 12, 1)],
            "False Pending: 1 of 1 sidecars run on revision 12, 1 of 3 Envoys and gRPC clients \
             ACKed revision 12",
        ),
    ];
    for (groups, expected) in table {
        assert_eq!(programmed("Route chat", 12, groups, vec![]), expected);
    }
}

#[test]
fn only_those_count_that_get_it() {
    let groups = || vec![group("default/shop", 11, 1), group("default/billing", 12, 1)];
    let expected = "True Activated: 1 of 1 sidecars run on revision 12";
    assert_eq!(programmed("Route billing", 12, groups(), vec![]), expected);
    let expected = "False Pending: 1 of 2 sidecars run on revision 12";
    assert_eq!(programmed("Route chat", 12, groups(), vec![]), expected);
}

#[test]
fn what_is_not_published_runs_nowhere() {
    let told = programmed("Route chat", 13, vec![group("", 12, 1)], vec![]);
    assert_eq!(told, "False NotPublished: revision 13 is not published yet");
}

#[test]
fn a_refusal_of_what_the_resource_becomes_is_told_with_its_reason() {
    let rejected = |resource: &str, changed: u64, refused: Refused| {
        let told = programmed(resource, changed, vec![group("", 12, 1)], vec![refused]);
        told.starts_with("False Rejected: chat-1 refuses ")
    };
    let cluster = || refused(type_urls::CLUSTER, "default/chat/v1", 12, 12);
    let expected = "False Rejected: chat-1 refuses Cluster default/chat/v1: lb_policy: unknown (and 1 more \
         refusals)";
    let both = vec![cluster(), cluster()];
    assert_eq!(programmed("TrafficPolicy chat", 12, vec![], both), expected);
    let (published, stored) = world(12, "Service chat", 12);
    let standings =
        Standings { published, groups: vec![], refused: vec![cluster()], unsettled: None };
    let told = &Outlook::new(standings, false).conditions(&stored)[2];
    assert!(told.reason == "Rejected" && !told.message.contains("chat-1"), "{told:?}");
    for (resource, changed, refused, expected) in [
        ("Service chat", 12, cluster(), true),
        // It stands since before.
        ("Service chat", 11, cluster(), false),
        ("Route chat", 12, cluster(), false),
        ("Service billing", 12, cluster(), false),
        ("Route chat", 12, refused(type_urls::ROUTE, "outbound", 12, 12), true),
        ("Route chat", 12, refused(type_urls::VIRTUAL_HOST, "outbound/default/chat", 9, 12), true),
        (
            "Route billing",
            12,
            refused(type_urls::VIRTUAL_HOST, "outbound/default/chat", 12, 12),
            false,
        ),
        // The node refuses what overtook this revision, and has not come so far.
        ("Route chat", 11, refused(type_urls::LISTENER, "outbound", 12, 10), true),
        ("TrafficPolicy chat", 12, refused(type_urls::LISTENER, "outbound", 12, 12), false),
        // Of gRPC clients.
        ("Route chat", 12, refused(type_urls::ROUTE, "grpc/default/chat", 12, 11), true),
        ("Route billing", 12, refused(type_urls::ROUTE, "grpc/default/chat", 12, 11), false),
        ("Route chat", 12, refused(type_urls::LISTENER, "chat", 12, 11), true),
        ("Service chat", 12, refused(type_urls::LISTENER, "chat.default:80", 12, 11), true),
        ("Route billing", 12, refused(type_urls::LISTENER, "chat.default:80", 12, 11), false),
        ("Service billing", 12, refused(type_urls::LISTENER, "was-here", 12, 11), false),
        ("Service billing", 12, refused(type_urls::CLUSTER, "grpc/nowhere", 12, 11), true),
    ] {
        let told = format!("{resource} {changed} {refused:?}");
        assert_eq!(rejected(resource, changed, refused), expected, "{told}");
    }
}

#[test]
fn nobody_speaks_for_sidecars_that_may_be_on_their_way() {
    let (published, chat) = world(12, "Route chat", 11);
    let group = group("default/chat", 12, 3);
    let unsettled = Some(Unsettled { why: crate::fleet::Why::Gone, until: None });
    let standings = Standings { published, groups: vec![group], refused: vec![], unsettled };
    let (status, reason, message) =
        Outlook::new(standings, true).programmed(&chat, &subject(&chat));
    assert_eq!((status, reason), (Status::Unknown, "Unsettled"));
    assert!(message.contains("3 of 3 sidecars") && message.contains("just gone"), "{message}");
}

/// `Accepted` and `Programmed` with revision 12 published and this held back of 13.
fn held_back(resource: &str, changed: u64, type_url: &str, name: &str) -> [String; 2] {
    let (published, stored) = world(12, resource, changed);
    let held = Rejection {
        field_path: String::new(),
        reason: "too large".into(),
        ..refused(type_url, name, 13, 12).rejection
    };
    let refused = vec![Refused::held_back(held, Revision(12))];
    let groups = vec![group("", 12, 1)];
    let standings = Standings { published, groups, refused, unsettled: None };
    let told = Outlook::new(standings, false).conditions(&stored);
    [0, 2].map(|at| {
        let one = &told[at];
        format!("{:?} {}: {}", one.status(), one.reason, one.message)
    })
}

#[test]
fn what_cannot_be_sent_is_not_accepted_and_says_why() {
    let why = "revision 13 is held back: VirtualHost outbound/default/chat: too large";
    let host = (type_urls::VIRTUAL_HOST, "outbound/default/chat");
    assert_eq!(
        held_back("Route chat", 13, host.0, host.1),
        [
            format!("False HeldBack: {why}"),
            format!("False NotPublished: revision 13 is not published: {why}")
        ]
    );
    // What came with it is good, and goes nowhere all the same.
    assert_eq!(
        held_back("Route billing", 13, host.0, host.1),
        [
            "True Accepted: it was checked when it was committed",
            "False NotPublished: revision 13 is not published: another resource of it is held back"
        ]
    );
    // What was sent before is not touched.
    assert_eq!(
        held_back("Route chat", 12, host.0, host.1),
        [
            "True Accepted: it passes the checks",
            "True Activated: 1 of 1 sidecars run on revision 12"
        ]
    );
}

#[test]
fn what_the_checks_of_this_release_refuse_is_not_accepted() {
    let why = "False HeldBack: revision 13 is held back: Route default/chat: too large";
    assert_eq!(held_back("Route chat", 13, "Route", "default/chat")[0], why);
    // It may be older than the revision in which it is wrong.
    assert_eq!(held_back("Route chat", 11, "Route", "default/chat")[0], why);
    for other in ["Service chat", "Route billing"] {
        assert!(held_back(other, 13, "Route", "default/chat")[0].starts_with("True"), "{other}");
    }
    // Where it is not known what is wrong, it is all that is new.
    let all = held_back("Service billing", 13, "", "");
    assert_eq!(all[0], "False HeldBack: revision 13 is held back: too large");
}
