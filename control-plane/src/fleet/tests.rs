mod counts;

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

fn sidecar(node_id: &str) -> Introduction {
    Introduction { is_sidecar: true, ..who(node_id) }
}

fn refusing(accepted: u64, resource: &str) -> Acked {
    let rejection = Rejection {
        type_url: "type".to_owned(),
        resource: resource.to_owned(),
        field_path: String::new(),
        reason: "no".into(),
        revision: Revision(accepted + 1),
    };
    let accepted = Revision(accepted);
    Acked { received: accepted.next(), accepted, rejections: vec![rejection] }
}

#[tokio::test]
async fn the_newest_stream_of_a_sidecar_speaks_for_it() {
    let fleet = Fleet::new();
    let old = fleet.enter(sidecar("a"), StreamKind::Xds).unwrap();
    let new = fleet.enter(sidecar("a"), StreamKind::Xds).unwrap();
    new.acked(accepted(5));
    old.acked(accepted(4));
    drop(old);
    let status = fleet.sidecars().remove(0);
    assert_eq!((status.accepted_revision, status.connected), (Revision(5), true));
    drop(new);
    assert!(!fleet.sidecars()[0].connected);
}

#[tokio::test]
async fn nodes_that_share_an_id_are_as_far_as_the_last_of_them() {
    let fleet = Fleet::new();
    let [one, two, three] = [(); 3].map(|()| enter(&fleet, "envoy", StreamKind::Xds));
    one.acked(accepted(4));
    two.acked(accepted(5));
    three.acked(accepted(6));
    let accepted_by_all = || fleet.sidecars().remove(0).accepted_revision;
    assert_eq!(accepted_by_all(), Revision(4));
    one.acked(accepted(6));
    assert_eq!(accepted_by_all(), Revision(5));
    drop(three);
    assert_eq!(accepted_by_all(), Revision(5));
    drop(two);
    assert_eq!(accepted_by_all(), Revision(6));
    assert!(fleet.sidecars()[0].connected, "an older stream is open");
    drop(one);
    let gone = fleet.sidecars().remove(0);
    assert_eq!((gone.connected, gone.accepted_revision), (false, Revision(6)));
}

#[tokio::test]
async fn what_any_node_of_an_id_refuses_is_told_once() {
    let fleet = Fleet::new();
    let [one, two] = [(); 2].map(|()| enter(&fleet, "envoy", StreamKind::Xds));
    one.acked(refusing(4, "default/chat/v1"));
    assert_eq!(fleet.counts().rejections, 1, "the older one is heard");
    two.acked(refusing(4, "default/chat/v1"));
    assert_eq!(fleet.counts().rejections, 1);
    two.acked(refusing(4, "default/chat/v2"));
    assert_eq!(fleet.sidecars()[0].rejections.len(), 2);
    drop(one);
    assert_eq!(fleet.counts().rejections, 1);
    let many = (0..80).map(|at| refusing(4, &format!("{at}")).rejections.remove(0)).collect();
    two.acked(Acked { rejections: many, ..accepted(4) });
    let third = enter(&fleet, "envoy", StreamKind::Xds);
    let others = (80..160).map(|at| refusing(4, &format!("{at}")).rejections.remove(0)).collect();
    third.acked(Acked { rejections: others, ..accepted(4) });
    assert_eq!(fleet.counts().rejections, 100);
}

#[tokio::test]
async fn a_node_that_only_reports_its_load_here_is_not_waited_for() {
    let fleet = Fleet::new();
    let load = enter(&fleet, "envoy", StreamKind::Load);
    publish(&fleet, 1);
    assert_eq!(fleet.progress(Revision(1)).total, 0);
    assert_eq!(fleet.sidecars()[0].behind_for, None);
    let xds = enter(&fleet, "envoy", StreamKind::Xds);
    let progress = fleet.progress(Revision(1));
    assert_eq!((progress.total, progress.clients, progress.activated), (1, 1, 0));
    drop(xds);
    assert_eq!(fleet.progress(Revision(1)).total, 0);
    drop(load);
}

#[tokio::test]
async fn an_id_may_go_from_one_kind_of_node_to_another() {
    let fleet = Fleet::new();
    let who = Introduction { service: "default/chat".to_owned(), ..sidecar("a") };
    drop(fleet.enter(who, StreamKind::Report).unwrap());
    assert_eq!(fleet.sidecars()[0].service, "default/chat", "of one that is gone all is told");
    let envoy = enter(&fleet, "a", StreamKind::Xds);
    envoy.acked(accepted(3));
    let status = fleet.sidecars().remove(0);
    assert_eq!((status.reports, status.service.as_str()), (false, ""));
    let progress = fleet.progress(Revision(3));
    assert_eq!((progress.total, progress.clients, progress.activated), (1, 1, 1));
}

#[tokio::test]
async fn a_refusal_of_a_client_counts_until_it_has_accepted_the_revision() {
    let fleet = Fleet::new();
    let envoy = enter(&fleet, "envoy", StreamKind::Xds);
    envoy.acked(refusing(4, "default/chat/v1"));
    let refused = |revision| fleet.progress(Revision(revision)).refused.len();
    assert_eq!((refused(3), refused(4), refused(5)), (0, 0, 1), "it runs on with 4");
    let refused = fleet.standings().refused.remove(0);
    assert_eq!(refused.activated, Revision(4));
}

#[tokio::test]
async fn what_is_held_back_stands_in_the_way_of_what_nodes_do_not_have() {
    let fleet = Fleet::new();
    let mut changed = fleet.changed();
    let rejection = refusing(4, "outbound").rejections.remove(0);
    let held = || vec![Refused::held_back(rejection.clone(), Revision(3))];
    fleet.hold_back(Gate::Compiler, held());
    assert!(changed.has_changed().unwrap(), "who waits is woken");
    changed.mark_unchanged();
    fleet.hold_back(Gate::Compiler, held());
    assert!(!changed.has_changed().unwrap());
    let refused = |revision| fleet.progress(Revision(revision)).refused.len();
    assert_eq!((refused(3), refused(4), refused(5), refused(6)), (0, 1, 1, 0));
    assert_eq!(fleet.in_the_way(Revision(6)), held());
    fleet.hold_back(Gate::Checks, Vec::new());
    assert_eq!(fleet.held_back(), held(), "each gate speaks for itself");
    fleet.hold_back(Gate::Compiler, Vec::new());
    assert!(fleet.held_back().is_empty() && fleet.progress(Revision(5)).refused.is_empty());
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
    let xds = fleet.enter(sidecar("a"), StreamKind::Xds).unwrap();
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
async fn loads_of_nodes_that_share_an_id_are_added_up() {
    let fleet = Fleet::new();
    let [one, two] = [(); 2].map(|()| enter(&fleet, "envoy", StreamKind::Load));
    let load = |requests, in_flight| {
        let (service, version) = ("default/chat".to_owned(), "v1".to_owned());
        vec![Load { service, version, requests, in_flight, ..Load::default() }]
    };
    one.loaded(load(10, 3), 0);
    two.loaded(load(5, 2), 0);
    let told = || {
        let traffic = fleet.sidecars().remove(0).traffic.remove(0);
        (traffic.requests, traffic.in_flight)
    };
    assert_eq!(told(), (15, 5));
    one.loaded(load(1, 1), 0);
    assert_eq!(told(), (16, 3));
    drop(two);
    assert_eq!(told(), (16, 1), "its requests are nobody's any more");
    assert!(fleet.sidecars()[0].connected);
    one.loaded(Vec::new(), 0);
    assert_eq!(told(), (16, 0));
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
