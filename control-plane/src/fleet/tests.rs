use std::time::Duration;

use super::*;

fn who(node_id: &str) -> Introduction {
    Introduction { node_id: node_id.to_owned(), ..Introduction::default() }
}

fn enter(fleet: &Fleet, node_id: &str, kind: StreamKind) -> Presence {
    fleet.enter(who(node_id), kind).unwrap()
}

fn publish(fleet: &Fleet, revision: u64) {
    let revision = Revision(revision);
    fleet.published(Arc::new(MeshConfig { revision, ..MeshConfig::default() }));
}

fn accepted(revision: u64) -> Acked {
    Acked { accepted: Revision(revision), ..Acked::default() }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_gone_is_forgotten_after_an_hour() {
    let fleet = Fleet::new();
    drop(enter(&fleet, "a", StreamKind::Xds));
    tokio::time::advance(Duration::from_secs(3599)).await;
    assert!(!fleet.sidecars()[0].connected);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(fleet.sidecars().is_empty());
}

#[tokio::test]
async fn the_newest_stream_of_a_node_speaks_for_it() {
    let fleet = Fleet::new();
    let old = enter(&fleet, "a", StreamKind::Xds);
    let new = enter(&fleet, "a", StreamKind::Xds);
    new.acked(accepted(5));
    old.acked(accepted(4));
    drop(old);
    let status = fleet.sidecars().remove(0);
    assert_eq!((status.accepted_revision, status.connected), (Revision(5), true));
    drop(new);
    assert!(!fleet.sidecars()[0].connected);
}

#[tokio::test]
async fn a_report_says_more_than_an_ack() {
    let fleet = Fleet::new();
    let xds = enter(&fleet, "a", StreamKind::Xds);
    xds.acked(accepted(5));
    let introduction = Introduction { service: "default/chat".to_owned(), ..who("a") };
    let report = fleet.enter(introduction, StreamKind::Report).unwrap();
    assert!(!fleet.sidecars()[0].reports);
    let delivery =
        Delivery { accepted: Revision(5), activated: Revision(4), rejections: Vec::new() };
    report.delivered(delivery);
    let status = fleet.sidecars().remove(0);
    assert!(status.reports && status.connected);
    assert_eq!(status.service, "default/chat");
    assert_eq!((status.accepted_revision, status.activated_revision), (Revision(5), Revision(4)));
}

#[tokio::test]
async fn only_news_wakes_those_who_wait() {
    let fleet = Fleet::new();
    let xds = enter(&fleet, "a", StreamKind::Xds);
    let mut changed = fleet.changed();
    let mut news = || {
        std::mem::take(&mut changed.has_changed().unwrap()) && {
            changed.mark_unchanged();
            true
        }
    };
    xds.acked(accepted(1));
    assert!(news());
    xds.acked(accepted(1));
    xds.counted(Vec::new());
    assert!(!news());
    drop(xds);
    assert!(news());
}

#[tokio::test]
async fn the_registry_is_bounded_and_the_longest_gone_make_room() {
    let fleet = Fleet::new();
    drop(enter(&fleet, "gone", StreamKind::Xds));
    let mut open: Vec<Presence> =
        (1..registry::MAX_NODES).map(|i| enter(&fleet, &i.to_string(), StreamKind::Xds)).collect();
    open.push(enter(&fleet, "one more", StreamKind::Xds));
    assert_eq!(fleet.sidecars().len(), registry::MAX_NODES);
    assert!(fleet.enter(who("too many"), StreamKind::Xds).is_none());
    assert!(fleet.sidecars().iter().all(|sidecar| sidecar.connected));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stays_behind_is_stale_and_its_age_is_told() {
    let fleet = Fleet::new();
    let xds = enter(&fleet, "a", StreamKind::Xds);
    let behind = || {
        let status = fleet.sidecars().remove(0);
        (status.behind_for.map(|behind| behind.as_secs()), status.stale, fleet.counts().stale)
    };
    assert_eq!(behind(), (None, false, 0));
    publish(&fleet, 1);
    xds.acked(accepted(1));
    assert_eq!(behind(), (None, false, 0));
    tokio::time::advance(Duration::from_secs(100)).await;
    publish(&fleet, 2);
    tokio::time::advance(Duration::from_secs(10)).await;
    publish(&fleet, 3);
    assert_eq!(behind(), (Some(10), false, 0));
    tokio::time::advance(Duration::from_secs(6)).await;
    assert_eq!(behind(), (Some(16), true, 1));
    xds.acked(accepted(2));
    assert_eq!(behind(), (Some(6), false, 0));
    xds.acked(accepted(3));
    assert_eq!(behind(), (None, false, 0));
    publish(&fleet, 4);
    tokio::time::advance(Duration::from_mins(1)).await;
    drop(xds);
    assert_eq!(behind(), (None, false, 0));
}

#[tokio::test(start_paused = true)]
async fn a_sidecar_that_comes_late_is_behind_since_it_came_and_until_it_runs_on_the_revision() {
    let fleet = Fleet::new();
    publish(&fleet, 1);
    tokio::time::advance(Duration::from_secs(100)).await;
    let who = Introduction { is_sidecar: true, ..who("a") };
    let xds = fleet.enter(who, StreamKind::Xds).unwrap();
    xds.acked(accepted(1));
    tokio::time::advance(Duration::from_secs(20)).await;
    let status = fleet.sidecars().remove(0);
    assert_eq!((status.behind_for, status.stale), (Some(Duration::from_secs(20)), true));
}

#[tokio::test]
async fn loads_are_added_up_within_a_limit() {
    let fleet = Fleet::new();
    let stream = enter(&fleet, "envoy", StreamKind::Load);
    let load = |version: &str, requests, in_flight| Load {
        service: "default/chat".to_owned(),
        version: version.to_owned(),
        requests,
        failures: 1,
        dropped: 2,
        in_flight,
    };
    stream.loaded(vec![load("v2", 10, 3), load("v1", 5, 1)], 0);
    stream.loaded(vec![load("v2", 10, 4)], 0);
    let traffic = fleet.sidecars().remove(0).traffic;
    let told: Vec<_> = traffic
        .iter()
        .map(|one| (one.version.as_str(), one.requests, one.failures, one.dropped, one.in_flight))
        .collect();
    assert_eq!(told, [("v1", 5, 1, 2, 0), ("v2", 20, 2, 4, 4)]);
    let many: Vec<Load> = (0..1_500).map(|at| load(&format!("w{at}"), 1, 0)).collect();
    stream.loaded(many, 3);
    assert_eq!(fleet.counts().loads_ignored, 502 + 3);
    assert_eq!(fleet.sidecars().remove(0).traffic.len(), 1_000);
}

#[tokio::test]
async fn pages_together_are_the_whole_list_in_order() {
    let fleet = Fleet::new();
    let streams: Vec<Presence> = (0..23)
        .map(|at| {
            let service = format!("default/s{}", at % 3);
            let who = Introduction { service, ..who(&format!("node-{:02}", 50 - at)) };
            fleet.enter(who, StreamKind::Report).unwrap()
        })
        .collect();
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let (page, more) = fleet.page(None, after.as_ref(), 5);
        assert!(page.len() == 5 || !more);
        after = page.last().map(SidecarStatus::place);
        all.extend(page);
        if !more {
            break;
        }
    }
    assert_eq!(all, fleet.sidecars());
    assert!(all.is_sorted_by_key(SidecarStatus::place));
    assert_eq!(all.len(), streams.len());
    let (of_one, more) = fleet.page(Some("default/s2"), None, 100);
    assert_eq!((of_one.len(), more), (7, false));
}

mod counts {
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
        let kind =
            prop_oneof![Just(StreamKind::Xds), Just(StreamKind::Report), Just(StreamKind::Load)];
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

    fn happen(event: Event, fleet: &Fleet, streams: &mut Vec<Presence>) {
        let at = |stream: usize| stream.checked_rem(streams.len());
        match event {
            Event::Enter { node, kind, sidecar } => {
                let who = Introduction {
                    service: format!("default/s{}", node % 3),
                    is_sidecar: sidecar,
                    ..who(&node.to_string())
                };
                streams.push(fleet.enter(who, kind).unwrap());
            }
            Event::Ack { stream, accepted, refused } => {
                if let Some(at) = at(stream).filter(|at| streams[*at].kind == StreamKind::Xds) {
                    let rejections = rejections(refused);
                    let accepted = Revision(accepted);
                    streams[at].acked(Acked { accepted, rejections, ..Acked::default() });
                }
            }
            Event::Deliver { stream, accepted, activated, refused } => {
                if let Some(at) = at(stream).filter(|at| streams[*at].kind == StreamKind::Report) {
                    streams[at].delivered(Delivery {
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

    fn naive(fleet: &[SidecarStatus], revision: Revision) -> Progress {
        let connected = || fleet.iter().filter(|node| node.connected);
        let reporting: Vec<_> = connected().filter(|node| node.reports).collect();
        let count = |holds: &dyn Fn(&SidecarStatus) -> bool| {
            reporting.iter().filter(|node| holds(node)).count()
        };
        let mut missing: Vec<_> = reporting
            .iter()
            .filter(|node| node.activated_revision < revision)
            .map(|node| node.node_id.clone())
            .collect();
        missing.sort();
        let mut refused: Vec<Refused> = connected()
            .flat_map(|node| {
                node.rejections
                    .iter()
                    .filter(|one| {
                        one.revision == revision
                            || one.revision > revision && node.activated_revision < revision
                    })
                    .map(|one| Refused {
                        node_id: node.node_id.as_str().into(),
                        service: node.service.as_str().into(),
                        activated: node.activated_revision,
                        rejection: one.clone(),
                    })
            })
            .collect();
        refused.sort_by(|a, b| a.node_id.cmp(&b.node_id));
        Progress {
            total: reporting.len(),
            accepted: count(&|node| node.accepted_revision >= revision),
            activated: count(&|node| node.activated_revision >= revision),
            missing,
            refused,
            unsettled: None,
        }
    }

    fn naive_groups(fleet: &[SidecarStatus]) -> Vec<Group> {
        let mut groups = std::collections::BTreeMap::new();
        for node in fleet.iter().filter(|node| node.connected && node.reports) {
            *groups.entry((node.service.as_str(), node.activated_revision)).or_insert(0) += 1;
        }
        groups
            .into_iter()
            .map(|((service, activated), sidecars)| Group {
                service: service.into(),
                activated,
                sidecars,
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
                let all = fleet.sidecars();
                for revision in (0..9).map(Revision) {
                    let mut told = fleet.progress(revision);
                    told.missing.sort();
                    prop_assert_eq!(told, naive(&all, revision));
                }
                prop_assert_eq!(fleet.standings().groups, naive_groups(&all));
                let connected = || all.iter().filter(|node| node.connected);
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
}
