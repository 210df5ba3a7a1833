use segue_shared::ids::Revision;
use segue_shared::xds_names::type_urls::{CLUSTER, ENDPOINT, LISTENER, ROUTE, SNAPSHOT_MARK};

use super::world::{ack, again, nack, said, snapshot, want};
use crate::xds::{Client, Delta, Session};

fn session(resources: &[(&'static str, &str, &str)]) -> Session<Delta> {
    Session::new(snapshot(1, resources), Client::default())
}

/// Sends a request and gives what is said in answer, each response ACKed.
fn tell(
    session: &mut Session<Delta>,
    request: envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest,
) -> Vec<String> {
    session.receive(request).unwrap();
    settle(session)
}

/// All that is said until the session has nothing to say, each response ACKed.
fn settle(session: &mut Session<Delta>) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(response) = session.respond() {
        all.push(said(&response));
        session.receive(ack(&response)).unwrap();
    }
    all
}

#[test]
fn a_first_wildcard_is_answered_even_with_nothing() {
    for names in [&[] as &[&str], &["*"]] {
        assert_eq!(tell(&mut session(&[]), want(CLUSTER, names, &[])), [""]);
    }
    assert_eq!(tell(&mut session(&[]), again(CLUSTER, &[], &[])), [""]);
}

#[test]
fn only_clusters_and_listeners_have_an_unwritten_wildcard() {
    let all = [(CLUSTER, "a", "1"), (ENDPOINT, "e", "1"), (LISTENER, "l", "1"), (ROUTE, "r", "1")];
    let mut session = session(&all);
    assert_eq!(tell(&mut session, want(CLUSTER, &[], &[])), ["+a=1"]);
    assert_eq!(tell(&mut session, want(LISTENER, &[], &[])), ["+l=1"]);
    assert!(tell(&mut session, want(ENDPOINT, &[], &[])).is_empty());
    assert!(tell(&mut session, want(ROUTE, &[], &[])).is_empty());
    assert_eq!(tell(&mut session, want(ROUTE, &["*"], &[])), ["+r=1"], "written, it counts");
}

#[test]
fn a_name_that_does_not_exist_yet_is_answered_and_watched() {
    let mut session = session(&[]);
    assert_eq!(tell(&mut session, want(ENDPOINT, &["a"], &[])), ["-a"]);
    session.offer(snapshot(2, &[(ENDPOINT, "a", "1")]));
    assert_eq!(settle(&mut session), ["+a=1"]);
}

#[test]
fn a_repeated_subscription_is_answered_though_unchanged() {
    let mut session = session(&[(ENDPOINT, "a", "1")]);
    assert_eq!(tell(&mut session, want(ENDPOINT, &["a"], &[])), ["+a=1"]);
    assert_eq!(tell(&mut session, want(ENDPOINT, &["a"], &[])), ["+a=1"]);
}

#[test]
fn an_unsubscribed_name_is_silent_and_a_phantom_one_is_ignored() {
    let mut session = session(&[(ENDPOINT, "a", "1"), (ENDPOINT, "b", "1")]);
    assert_eq!(tell(&mut session, want(ENDPOINT, &["a", "b"], &[])), ["+a=1 +b=1"]);
    assert!(tell(&mut session, want(ENDPOINT, &[], &["a", "never"])).is_empty());
    session.offer(snapshot(2, &[(ENDPOINT, "a", "2"), (ENDPOINT, "b", "2")]));
    assert_eq!(settle(&mut session), ["+b=2"]);
}

#[test]
fn unsubscribing_what_the_wildcard_covers_is_answered() {
    let mut session = session(&[(CLUSTER, "a", "1")]);
    assert_eq!(tell(&mut session, want(CLUSTER, &["*", "a", "none"], &[])), ["+a=1 -none"]);
    assert_eq!(tell(&mut session, want(CLUSTER, &[], &["a"])), ["+a=1"]);
    assert_eq!(tell(&mut session, want(CLUSTER, &[], &["none"])), ["-none"]);
}

#[test]
fn unsubscribing_the_wildcard_leaves_the_names() {
    let mut session = session(&[(CLUSTER, "a", "1"), (CLUSTER, "b", "1")]);
    assert_eq!(tell(&mut session, want(CLUSTER, &["*", "a"], &[])), ["+a=1 +b=1"]);
    assert!(tell(&mut session, want(CLUSTER, &[], &["*"])).is_empty());
    session.offer(snapshot(2, &[(CLUSTER, "a", "2"), (CLUSTER, "b", "2")]));
    assert_eq!(settle(&mut session), ["+a=2"]);
}

#[test]
fn a_client_that_connects_again_gets_what_changed_and_what_vanished() {
    let mut session = session(&[
        (CLUSTER, "a", "1"),
        (CLUSTER, "b", "2"),
        (LISTENER, "l", "1"),
        (ROUTE, "r", "1"),
    ]);
    let has = [("a", "1"), ("b", "1"), ("gone", "1")];
    let mut all = tell(&mut session, again(CLUSTER, &[], &has));
    all.extend(tell(&mut session, again(LISTENER, &[], &[("l", "1")])));
    all.extend(tell(&mut session, again(ROUTE, &["r"], &[("r", "1")])));
    assert_eq!(all, ["+b=2", "", "-gone"]);
}

#[test]
fn by_name_too_only_what_changed_comes_after_connecting_again() {
    let mut session = session(&[(ENDPOINT, "a", "1"), (ENDPOINT, "b", "2")]);
    let request = again(ENDPOINT, &["a", "b", "gone"], &[("a", "1"), ("b", "1"), ("gone", "1")]);
    assert_eq!(tell(&mut session, request), ["+b=2"]);
    session.stop_waiting();
    assert_eq!(settle(&mut session), ["-gone"], "a client without routes is not waited for");
}

#[test]
fn subscriptions_count_even_with_a_stale_nonce() {
    let mut session = session(&[(ENDPOINT, "a", "1"), (ENDPOINT, "b", "1")]);
    session.receive(want(ENDPOINT, &["a"], &[])).unwrap();
    let first = session.respond().unwrap();
    let mut stale = want(ENDPOINT, &["b"], &[]);
    stale.response_nonce = "stale".to_owned();
    session.receive(stale).unwrap();
    assert!(session.is_waiting(), "a stale nonce is no ACK");
    assert_eq!(session.respond(), None, "one response of a type at a time");
    session.receive(ack(&first)).unwrap();
    assert_eq!(said(&session.respond().unwrap()), "+b=1");
}

#[test]
fn a_refused_resource_is_remembered_and_not_sent_again() {
    let mut session = session(&[(CLUSTER, "a", "bad"), (CLUSTER, "ab", "1")]);
    tell(&mut session, want(ROUTE, &["r"], &[]));
    session.receive(want(CLUSTER, &[], &[])).unwrap();
    let response = session.respond().unwrap();
    session.receive(nack(&response, "cluster a: connect_timeout: must be positive")).unwrap();
    assert_eq!(session.respond(), None);
    let refused: Vec<_> = session.refusals().cloned().collect();
    assert_eq!(refused.len(), 1);
    assert_eq!((refused[0].resource.as_ref(), refused[0].revision), ("a", Revision(1)));
    assert!(refused[0].reason.contains("must be positive"));
    assert_eq!(session.accepted(), Revision::NONE);

    session.offer(snapshot(2, &[(CLUSTER, "a", "bad"), (CLUSTER, "ab", "2")]));
    assert_eq!(settle(&mut session), ["+ab=2"]);
    assert_eq!(session.accepted(), Revision::NONE, "still refuses a part of revision 2");
    session.offer(snapshot(3, &[(CLUSTER, "a", "good"), (CLUSTER, "ab", "2")]));
    assert_eq!(settle(&mut session), ["+a=good"]);
    assert_eq!((session.refusals().count(), session.accepted()), (0, Revision(3)));
}

#[test]
fn a_refusal_that_names_nothing_is_about_everything_in_the_response() {
    let mut session = session(&[(CLUSTER, "a", "1"), (CLUSTER, "b", "1")]);
    session.receive(want(CLUSTER, &[], &[])).unwrap();
    let response = session.respond().unwrap();
    session.receive(nack(&response, "no")).unwrap();
    assert_eq!(session.refusals().count(), 2);
}

#[test]
fn a_long_reason_is_cut_and_still_read_to_its_end() {
    let mut session = session(&[(CLUSTER, "a", "1"), (CLUSTER, "b", "1")]);
    session.receive(want(CLUSTER, &[], &[])).unwrap();
    let response = session.respond().unwrap();
    // An odd byte first: 4 KiB end inside of a letter.
    let reason = format!("!{} a", "é".repeat(10_000));
    session.receive(nack(&response, &reason)).unwrap();
    let refused: Vec<_> = session.refusals().collect();
    assert_eq!(refused.len(), 1);
    assert_eq!((refused[0].resource.as_ref(), refused[0].reason.len()), ("a", 4095));
    assert!(reason.starts_with(&*refused[0].reason));
}

#[test]
fn a_changed_cluster_brings_its_endpoints_along() {
    let mut session = session(&[(CLUSTER, "a", "1"), (ENDPOINT, "a", "1")]);
    tell(&mut session, want(CLUSTER, &[], &[]));
    tell(&mut session, want(ENDPOINT, &["a"], &[]));
    session.offer(snapshot(2, &[(CLUSTER, "a", "2"), (ENDPOINT, "a", "1")]));
    assert_eq!(settle(&mut session), ["+a=2", "+a=1"]);
}

#[test]
fn a_cluster_that_changed_while_away_brings_its_endpoints_along() {
    let mut session = session(&[(CLUSTER, "a", "2"), (ENDPOINT, "a", "1")]);
    assert_eq!(tell(&mut session, again(CLUSTER, &[], &[("a", "1")])), ["+a=2"]);
    assert_eq!(tell(&mut session, again(ENDPOINT, &["a"], &[("a", "1")])), ["+a=1"]);
}

#[test]
fn make_comes_before_break_and_the_mark_last() {
    let before = [
        (CLUSTER, "v1", "1"),
        (ENDPOINT, "v1", "1"),
        (LISTENER, "l", "1"),
        (ROUTE, "r", "v1"),
        (SNAPSHOT_MARK, "snapshot", "1"),
    ];
    let mut session = session(&before);
    for type_url in [CLUSTER, ENDPOINT, LISTENER, ROUTE, SNAPSHOT_MARK] {
        tell(&mut session, want(type_url, &["*"], &[]));
    }
    assert_eq!(session.accepted(), Revision(1));
    let after = [
        (CLUSTER, "v2", "1"),
        (ENDPOINT, "v2", "1"),
        (LISTENER, "l", "2"),
        (ROUTE, "r", "v2"),
        (SNAPSHOT_MARK, "snapshot", "2"),
    ];
    session.offer(snapshot(2, &after));
    let order = ["+v2=1", "+v2=1", "+l=2", "+r=v2", "-v1", "-v1", "+snapshot=2"];
    assert_eq!(settle(&mut session), order);
    assert_eq!(session.accepted(), Revision(2));
}

#[test]
fn nothing_is_taken_from_a_client_that_refuses_its_new_routes() {
    let world = |revision, version, route| {
        let mark = format!("{revision}");
        let all = [
            (CLUSTER, version, "1"),
            (ENDPOINT, version, "1"),
            (LISTENER, "l", "1"),
            (ROUTE, "r", route),
            (SNAPSHOT_MARK, "snapshot", mark.as_str()),
        ];
        snapshot(revision, &all)
    };
    let mut session: Session<Delta> = Session::new(world(1, "v1", "to v1"), Client::default());
    for type_url in [CLUSTER, ENDPOINT, LISTENER, ROUTE, SNAPSHOT_MARK] {
        tell(&mut session, want(type_url, &["*"], &[]));
    }
    session.offer(world(2, "v2", "bad"));
    for made in ["+v2=1", "+v2=1"] {
        let response = session.respond().unwrap();
        assert_eq!(said(&response), made);
        session.receive(ack(&response)).unwrap();
    }
    let routes = session.respond().unwrap();
    assert_eq!(said(&routes), "+r=bad");
    session.receive(nack(&routes, "r: no such filter")).unwrap();
    assert_eq!(settle(&mut session), ["+snapshot=2"], "the old routes still lead to v1");
    assert_eq!(session.accepted(), Revision(1));

    session.offer(world(3, "v2", "bad"));
    assert_eq!(settle(&mut session), ["+snapshot=3"], "refused as before");
    session.offer(world(4, "v2", "to v2"));
    assert_eq!(settle(&mut session), ["+r=to v2", "-v1", "-v1", "+snapshot=4"]);
    assert_eq!(session.accepted(), Revision(4));
}

#[test]
fn routes_wait_for_the_ack_of_clusters_but_not_for_ever() {
    let mut session = session(&[(CLUSTER, "a", "1"), (ROUTE, "r", "1")]);
    session.receive(want(CLUSTER, &[], &[])).unwrap();
    session.receive(want(ROUTE, &["r"], &[])).unwrap();
    let clusters = session.respond().unwrap();
    assert_eq!(session.respond(), None);
    assert!(session.is_waiting());
    session.stop_waiting();
    assert_eq!(said(&session.respond().unwrap()), "+r=1");
    assert_eq!(session.accepted(), Revision::NONE);
    session.receive(ack(&clusters)).unwrap();
    assert_eq!(session.respond(), None);
}

#[test]
fn routes_wait_until_the_endpoints_of_a_new_cluster_are_asked_for() {
    let mut session = session(&[(CLUSTER, "a", "1"), (ENDPOINT, "a", "1"), (ROUTE, "r", "a")]);
    session.receive(want(ROUTE, &["r"], &[])).unwrap();
    assert_eq!(tell(&mut session, want(LISTENER, &[], &[])), ["", "+r=a"], "no clusters, no wait");
    session.offer(snapshot(2, &[(CLUSTER, "a", "2"), (ENDPOINT, "a", "1"), (ROUTE, "r", "a+")]));
    assert_eq!(tell(&mut session, want(CLUSTER, &[], &[])), ["+a=1"]);
    assert!(session.is_waiting());
    let order = ["+a=1", "+a=2", "+a=1", "+r=a+"];
    assert_eq!(tell(&mut session, want(ENDPOINT, &["a"], &[])), order);
}

#[test]
fn snapshots_that_come_in_between_are_skipped() {
    let mut session = session(&[(CLUSTER, "a", "1")]);
    session.receive(want(CLUSTER, &[], &[])).unwrap();
    let first = session.respond().unwrap();
    for revision in 2..=9 {
        let version = revision.to_string();
        session.offer(snapshot(revision, &[(CLUSTER, "a", &version)]));
        assert_eq!(session.respond(), None);
    }
    session.receive(ack(&first)).unwrap();
    assert_eq!(settle(&mut session), ["+a=9"]);
}

#[test]
fn a_type_that_we_do_not_serve_is_answered_with_removals() {
    let mut session = session(&[]);
    let secrets = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
    assert_eq!(tell(&mut session, want(secrets, &["server"], &[])), ["-server"]);
}

#[test]
fn a_late_refusal_of_what_was_taken_away_since_does_not_stand() {
    let mut session = session(&[(CLUSTER, "a", "bad")]);
    session.receive(want(CLUSTER, &[], &[])).unwrap();
    let bad = session.respond().unwrap();
    session.offer(snapshot(2, &[]));
    session.stop_waiting();
    assert_eq!(session.respond(), None, "what is gone may be in routes not asked for yet");
    session.stop_waiting();
    let gone = session.respond().unwrap();
    assert_eq!(said(&gone), "-a");
    session.receive(nack(&bad, "refused: a")).unwrap();
    session.receive(ack(&gone)).unwrap();
    assert_eq!(session.refusals().count(), 0);
}

#[test]
fn a_cluster_that_goes_and_comes_back_brings_its_endpoints_even_where_their_removal_was_owed() {
    let both = [(CLUSTER, "d", "1"), (ENDPOINT, "d", "0")];
    let mut session = session(&both);
    tell(&mut session, again(CLUSTER, &["*"], &[("d", "1")]));
    // The client is slow to ask for the rest, so the cluster is taken away without it …
    session.offer(snapshot(2, &[]));
    session.stop_waiting();
    let mut heard = settle(&mut session);
    // … and its endpoints, which went with it, are asked for as if they were there.
    heard.extend(tell(&mut session, again(ENDPOINT, &["*"], &[("d", "0")])));
    session.offer(snapshot(3, &both));
    session.stop_waiting();
    heard.extend(settle(&mut session));
    session.stop_waiting();
    heard.extend(settle(&mut session));
    assert!(heard.contains(&"+d=0".to_owned()), "{heard:?}");
}
