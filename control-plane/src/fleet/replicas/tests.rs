use std::time::Duration;

use super::super::unsettled::Why;
use super::super::{Acked, Delivery, Introduction, Presence, Rejection, StreamKind};
use super::*;

/// A sidecar that reports, on its own stream.
fn sidecar(fleet: &Fleet, node_id: &str, activated: u64, refused: Option<u64>) -> Presence {
    let who = Introduction {
        node_id: node_id.to_owned(),
        service: "default/chat".to_owned(),
        is_sidecar: true,
        ..Introduction::default()
    };
    let stream = fleet.enter(who, StreamKind::Report).unwrap();
    let rejection = |revision| Rejection {
        type_url: "type".to_owned(),
        resource: "default/chat/v2".to_owned(),
        field_path: String::new(),
        reason: "no".into(),
        revision: Revision(revision),
    };
    stream.delivered(Delivery {
        accepted: Revision(activated),
        activated: Revision(activated),
        rejections: refused.map(rejection).into_iter().collect(),
    });
    stream
}

/// What another one tells after it was written and read.
fn told(fleet: &Fleet) -> Summary {
    Summary::decode(&fleet.summary("other").encode()).unwrap()
}

fn why(fleet: &Fleet) -> Option<Why> {
    fleet.progress(Revision(1)).unsettled.map(|unsettled| unsettled.why)
}

async fn pass(seconds: u64) {
    tokio::time::advance(Duration::from_secs(seconds)).await;
}

#[tokio::test]
async fn all_control_planes_together_are_the_fleet() {
    let (here, there) = (Fleet::new(), Fleet::new());
    let _a = sidecar(&here, "a", 5, None);
    let _b = sidecar(&there, "b", 5, None);
    let _c = sidecar(&there, "c", 4, Some(5));
    let envoy = Introduction { node_id: "envoy".to_owned(), ..Introduction::default() };
    let envoy = there.enter(envoy, StreamKind::Xds).unwrap();
    envoy.acked(Acked { accepted: Revision(5), ..Acked::default() });
    here.heard(1, told(&there));

    let progress = here.progress(Revision(5));
    assert_eq!((progress.total, progress.clients), (4, 1));
    assert_eq!((progress.accepted, progress.activated), (3, 3));
    assert_eq!(progress.missing, ["c"]);
    assert_eq!(progress.refused.len(), 1);
    assert_eq!(&*progress.refused[0].node_id, "c");
    assert_eq!(here.progress(Revision(4)).activated, 4);
    assert_eq!(here.in_the_way(Revision(5)).len(), 1);
    let standings = here.standings();
    let on = |revision| -> usize {
        let groups = standings.groups.iter().filter(|it| it.activated == Revision(revision));
        groups.map(|group| group.sidecars).sum()
    };
    assert_eq!((on(4), on(5), standings.refused.len()), (1, 2, 1));
    // The metrics of each tell of its own nodes alone.
    assert_eq!(here.counts().sidecars, 1);
    let other = &here.others()[0];
    assert_eq!((other.sidecars(), other.running(None, Revision(5)), other.clients()), (2, 1, 1));
    assert_eq!(other.running(Some("default/shop"), Revision::NONE), 0);
}

#[tokio::test(start_paused = true)]
async fn the_nodes_of_one_that_is_gone_are_expected_back_for_a_while() {
    let (here, there) = (Fleet::new(), Fleet::new());
    let _a = sidecar(&here, "a", 1, None);
    let _b = sidecar(&there, "b", 1, None);
    here.hears(vec![(1, told(&there))]);
    assert_eq!(why(&here), None);
    here.lost(1);
    assert_eq!((here.progress(Revision(1)).total, why(&here)), (1, Some(Why::Gone)));
    pass(4).await;
    assert_eq!(why(&here), Some(Why::Gone));
    pass(1).await;
    assert_eq!(why(&here), None);

    // It is over as soon as they are back, whichever way the loss was heard of.
    here.hears(vec![(2, told(&there))]);
    here.hears(vec![]);
    assert_eq!(why(&here), Some(Why::Gone));
    let _back = sidecar(&here, "b", 0, None);
    assert_eq!(why(&here), None);
    // One without nodes is not missed.
    here.heard(3, Summary::default());
    here.lost(3);
    assert_eq!(why(&here), None);
}

#[tokio::test(start_paused = true)]
async fn one_that_has_just_started_waits_for_nodes_to_come_back() {
    let fleet = Fleet::new();
    assert_eq!(why(&fleet), None);
    fleet.may_come_back();
    pass(9).await;
    assert_eq!(why(&fleet), Some(Why::Started));
    pass(1).await;
    assert_eq!(why(&fleet), None);

    fleet.may_come_back();
    let _a = sidecar(&fleet, "a", 1, None);
    pass(2).await;
    assert_eq!(why(&fleet), Some(Why::Started));
    pass(1).await;
    assert_eq!(why(&fleet), None);
}

#[tokio::test]
async fn one_that_hears_nothing_cannot_tell() {
    let fleet = Fleet::new();
    let mut changed = fleet.changed();
    fleet.hears_nothing();
    assert!(changed.has_changed().unwrap());
    changed.mark_unchanged();
    assert_eq!(why(&fleet), Some(Why::Deaf));
    fleet.hears(vec![]);
    assert!(changed.has_changed().unwrap());
    assert_eq!(why(&fleet), None);
}

#[tokio::test]
async fn a_summary_is_small_whatever_the_fleet() {
    let fleet = Fleet::new();
    let streams: Vec<Presence> = (0..5_000)
        .map(|at| {
            let who = Introduction {
                node_id: format!("node-{at}"),
                service: format!("default/{at}-{}", "s".repeat(240)),
                is_sidecar: true,
                ..Introduction::default()
            };
            let stream = fleet.enter(who, StreamKind::Report).unwrap();
            let rejection = Rejection {
                type_url: "t".repeat(1_000),
                resource: "r".repeat(1_000),
                field_path: "f".repeat(1_000),
                reason: "x".repeat(10_000).into(),
                revision: Revision(at),
            };
            let rejections = vec![rejection];
            stream.delivered(Delivery { rejections, ..Delivery::default() });
            stream
        })
        .collect();
    let summary = fleet.summary("here");
    assert!(summary.encode().len() < 1024 * 1024, "{}", summary.encode().len());
    assert_eq!((summary.sidecars(), summary.rejections), (streams.len(), streams.len()));
    assert_eq!((summary.last.len(), summary.refused.len()), (20, 50));
}

#[tokio::test]
async fn there_is_a_limit_to_how_many_are_listened_to() {
    let fleet = Fleet::new();
    for id in 0..100 {
        fleet.heard(id, Summary::default());
    }
    assert_eq!(fleet.others().len(), MOST_REPLICAS);
}
