use std::time::Duration;

use super::*;

fn who(node_id: &str) -> Introduction {
    Introduction { node_id: node_id.to_owned(), ..Introduction::default() }
}

fn enter(fleet: &Fleet, node_id: &str, kind: StreamKind) -> Presence {
    fleet.enter(who(node_id), kind).unwrap()
}

fn accepted(revision: u64) -> Acked {
    Acked { accepted: Revision(revision), rejections: Vec::new() }
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
        (1..MAX_NODES).map(|i| enter(&fleet, &i.to_string(), StreamKind::Xds)).collect();
    open.push(enter(&fleet, "one more", StreamKind::Xds));
    assert_eq!(fleet.sidecars().len(), MAX_NODES);
    assert!(fleet.enter(who("too many"), StreamKind::Xds).is_none());
    assert!(fleet.sidecars().iter().all(|sidecar| sidecar.connected));
}
