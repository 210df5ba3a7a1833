//! What is counted as nodes move is what a look at every node would find.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Event {
    Enter { node: u8, kind: StreamKind, sidecar: bool },
    Ack { stream: usize, accepted: u64, refused: Option<u64> },
    Deliver { stream: usize, accepted: u64, activated: u64, refused: Option<u64> },
    Close { stream: usize },
    Publish { revision: u64 },
}

fn event() -> impl Strategy<Value = Event> {
    let kind = prop_oneof![Just(StreamKind::Xds), Just(StreamKind::Report), Just(StreamKind::Load)];
    let refused = prop::option::weighted(0.2, 0_u64..8);
    prop_oneof![
        3 => (0_u8..8, kind, any::<bool>())
            .prop_map(|(node, kind, sidecar)| Event::Enter { node, kind, sidecar }),
        4 => (any::<usize>(), 0_u64..8, refused.clone()).prop_map(
            |(stream, accepted, refused)| Event::Ack { stream, accepted, refused }
        ),
        4 => (any::<usize>(), 0_u64..8, 0_u64..8, refused).prop_map(
            |(stream, accepted, activated, refused)| Event::Deliver {
                stream, accepted, activated, refused
            }
        ),
        2 => any::<usize>().prop_map(|stream| Event::Close { stream }),
        1 => (1_u64..8).prop_map(|revision| Event::Publish { revision }),
    ]
}

fn rejections(revision: Option<u64>) -> Vec<Rejection> {
    let one = |revision| Rejection {
        type_url: "type".to_owned(),
        resource: "default/chat/v1".to_owned(),
        field_path: String::new(),
        reason: "no".into(),
        revision: Revision(revision),
    };
    revision.map(one).into_iter().collect()
}

fn happen(event: Event, fleet: &Fleet, streams: &mut Vec<(StreamKind, Presence)>) {
    let at = |stream: usize| stream.checked_rem(streams.len());
    match event {
        Event::Enter { node, kind, sidecar } => {
            let who = Introduction {
                service: format!("default/s{}", node % 3),
                is_sidecar: sidecar,
                ..who(&node.to_string())
            };
            streams.push((kind, fleet.enter(who, kind).unwrap()));
        }
        Event::Ack { stream, accepted, refused } => {
            if let Some(at) = at(stream).filter(|at| streams[*at].0 == StreamKind::Xds) {
                let rejections = rejections(refused);
                let accepted = Revision(accepted);
                streams[at].1.acked(Acked { accepted, rejections, ..Acked::default() });
            }
        }
        Event::Deliver { stream, accepted, activated, refused } => {
            if let Some(at) = at(stream).filter(|at| streams[*at].0 == StreamKind::Report) {
                streams[at].1.delivered(Delivery {
                    accepted: Revision(accepted),
                    activated: Revision(activated),
                    rejections: rejections(refused),
                });
            }
        }
        Event::Close { stream } => {
            if let Some(at) = at(stream) {
                streams.swap_remove(at);
            }
        }
        Event::Publish { revision } => publish(fleet, revision),
    }
}

fn reached(node: &SidecarStatus) -> Revision {
    if node.reports { node.activated_revision } else { node.accepted_revision }
}

fn naive(fleet: &[SidecarStatus], revision: Revision) -> Progress {
    let connected = || fleet.iter();
    let count =
        |holds: &dyn Fn(&SidecarStatus) -> bool| fleet.iter().filter(|node| holds(node)).count();
    let mut missing: Vec<_> = connected()
        .filter(|node| reached(node) < revision)
        .map(|node| node.node_id.clone())
        .collect();
    missing.sort();
    let mut refused: Vec<Refused> = connected()
        .flat_map(|node| {
            node.rejections
                .iter()
                .filter(|one| {
                    one.revision == revision || one.revision > revision && reached(node) < revision
                })
                .map(|one| Refused {
                    node_id: node.node_id.as_str().into(),
                    service: node.service.as_str().into(),
                    activated: reached(node),
                    rejection: one.clone(),
                })
        })
        .collect();
    refused.sort_by(|a, b| a.node_id.cmp(&b.node_id));
    Progress {
        total: fleet.len(),
        clients: count(&|node| !node.reports),
        accepted: count(&|node| node.accepted_revision >= revision),
        activated: count(&|node| reached(node) >= revision),
        missing,
        refused,
        unsettled: None,
    }
}

fn naive_groups(fleet: &[SidecarStatus]) -> Vec<Group> {
    let mut groups = std::collections::BTreeMap::new();
    for node in fleet {
        let group = (node.service.as_str(), reached(node));
        let (sidecars, clients) = groups.entry(group).or_insert((0, 0));
        *(if node.reports { sidecars } else { clients }) += 1;
    }
    groups
        .into_iter()
        .map(|((service, activated), (sidecars, clients))| Group {
            service: service.into(),
            activated,
            sidecars,
            clients,
        })
        .collect()
}

proptest! {
    #[test]
    fn follow_every_schedule(events in prop::collection::vec(event(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _guard = runtime.enter();
        let fleet = Fleet::new();
        let mut streams = Vec::new();
        let mut newest = 0;
        for event in events {
            if let Event::Publish { revision } = event {
                newest = newest.max(revision);
            }
            happen(event, &fleet, &mut streams);
            let stands = |node: &SidecarStatus| {
                let registry = fleet.registry();
                registry.nodes[node.node_id.as_str()].standing().is_some()
            };
            let all: Vec<_> = fleet.sidecars().into_iter().filter(stands).collect();
            for revision in (0..9).map(Revision) {
                let mut told = fleet.progress(revision);
                told.missing.sort();
                prop_assert_eq!(told, naive(&all, revision));
            }
            prop_assert_eq!(fleet.standings().groups, naive_groups(&all));
            let connected = || all.iter();
            prop_assert!(connected().all(|node| node.connected));
            let counts = fleet.counts();
            prop_assert_eq!(counts.sidecars, connected().filter(|it| it.reports).count());
            prop_assert_eq!(counts.clients, connected().filter(|it| !it.reports).count());
            let behind = |it: &&SidecarStatus| it.reports && it.activated_revision.0 < newest;
            prop_assert_eq!(counts.behind, connected().filter(behind).count());
            let refused: usize = connected().map(|it| it.rejections.len()).sum();
            prop_assert_eq!(counts.rejections, refused);
        }
    }
}
