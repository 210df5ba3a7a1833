//! Several control planes on one etcd.

use prost::Message as _;
use tokio::time::{Duration, Instant, timeout};

use super::api::{self, KeyValue, Txn};
use super::keys::Part;
use super::*;
use crate::store::batch::{self, Replayed};
use crate::store::tests::cable::{Cable, Cut};
use crate::store::tests::etcd_process::EtcdProcess;
use crate::store::tests::{key, put};

const SOON: Duration = Duration::from_secs(20);

fn everything() -> api::Range {
    ("/segue/".to_owned(), "/segue0".to_owned())
}

/// A store that is followed as long as the test runs.
async fn connect(settings: &EtcdSettings) -> Result<EtcdStore, StoreError> {
    let (store, follower) = EtcdStore::open(settings, 10).await?;
    tokio::spawn(follower.run());
    Ok(store)
}

async fn count_keys(store: &EtcdStore) -> usize {
    let all = api::RangeRequest { keys_only: true, ..api::first_of(everything(), 0) };
    store.inner.connection.read([all]).await.unwrap().range().len()
}

/// Waits until the store has the revision in memory.
async fn reaches(store: &EtcdStore, revision: Revision) {
    let mut watch = store.watch();
    let reached = watch.wait_for(|newest| *newest >= revision);
    timeout(SOON, reached).await.expect("the store does not follow").unwrap();
}

/// Commits, and waits until the watch has told of it: what comes later than a cut would end the
/// connection before anything else is sent.
async fn commit_and_hear(store: &EtcdStore, commit: Commit) {
    let begun = Instant::now();
    let mut following = store.inner.following.subscribe();
    store.commit(commit).await.unwrap();
    let heard = following.wait_for(|following| following.heard > begun);
    timeout(SOON, heard).await.expect("the watch does not tell").unwrap();
}

#[tokio::test]
async fn of_two_control_planes_one_wins_and_both_see_every_revision_in_order() {
    let Some(etcd) = EtcdProcess::start_or_skip().await else { return };
    let (one, two) = (etcd.connect(1000).await, etcd.connect(1000).await);
    let mut wins = 0;
    for round in 0..20 {
        let base = one.latest().await.unwrap().revision;
        let attempt = |store: EtcdStore, who: &'static str| async move {
            let batch = put(round, &[("a", &format!("{who}-{round}"))]);
            store.commit(Commit { expected: Some(base), ..batch }).await
        };
        let (a, b) = tokio::join!(attempt(one.clone(), "one"), attempt(two.clone(), "two"));
        assert_ne!(a.is_ok(), b.is_ok(), "round {round}: {a:?} {b:?}");
        for result in [a, b] {
            match result {
                Ok(revision) => assert_eq!(revision, base.next()),
                Err(StoreError::Conflict { expected, found }) => {
                    assert_eq!((expected, found), (base, base.next()));
                }
                Err(error) => panic!("{error}"),
            }
        }
        wins += 1;
    }
    reaches(&one, Revision(wins)).await;
    reaches(&two, Revision(wins)).await;
    assert_eq!(one.load().await.unwrap(), two.load().await.unwrap());
    assert_eq!(one.history(None, 100).await.unwrap(), two.history(None, 100).await.unwrap());
    for revision in (0..=wins).map(Revision) {
        assert_eq!(one.at(revision).await.unwrap(), two.at(revision).await.unwrap());
    }
}

#[tokio::test]
async fn commits_without_a_base_all_succeed_whoever_takes_them() {
    let Some(etcd) = EtcdProcess::start_or_skip().await else { return };
    let (one, two) = (etcd.connect(1000).await, etcd.connect(1000).await);
    let commit = |n: u64| {
        let store = if n.is_multiple_of(2) { one.clone() } else { two.clone() };
        async move { store.commit(put(n, &[(&format!("s{n}"), "v1")])).await }
    };
    let mut revisions: Vec<u64> = futures_util::future::join_all((0..40).map(commit))
        .await
        .into_iter()
        .map(|result| result.unwrap().0)
        .collect();
    revisions.sort_unstable();
    assert_eq!(revisions, (1..=40).collect::<Vec<u64>>());
    assert_eq!(two.latest().await.unwrap().resources.len(), 40);
}

#[tokio::test]
async fn what_another_committed_is_in_the_latest_and_comes_by_itself() {
    let Some(etcd) = EtcdProcess::start_or_skip().await else { return };
    let (one, two) = (etcd.connect(10).await, etcd.connect(10).await);
    one.commit(put(1, &[("a", "v1")])).await.unwrap();
    assert_eq!(two.latest().await.unwrap().revision, Revision(1));
    one.commit(put(2, &[("a", "v2")])).await.unwrap();
    reaches(&two, Revision(2)).await;
    // A base that this one has not heard of yet is no conflict.
    let newest = one.commit(put(3, &[("a", "v3")])).await.unwrap();
    let on_top = Commit { expected: Some(newest), ..put(4, &[("a", "v4")]) };
    assert_eq!(two.commit(on_top).await.unwrap(), Revision(4));
}

#[tokio::test]
async fn an_etcd_that_is_gone_stops_commits_but_no_reads() {
    let Some(mut etcd) = EtcdProcess::start_or_skip().await else { return };
    let (one, two) = (etcd.connect(10).await, etcd.connect(10).await);
    one.commit(put(1, &[("a", "v1")])).await.unwrap();
    reaches(&two, Revision(1)).await;
    etcd.kill();
    assert_eq!(two.load().await.unwrap().resources.len(), 1);
    let error = two.latest().await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable(_)), "{error}");
    let running =
        tokio::spawn(async move { two.commit(put(2, &[("a", "v2")])).await.map(|r| (r, two)) });
    assert!(etcd.start().await);
    // The commit was under way while it was gone: it happened, once, or says that it did not.
    match timeout(SOON, running).await.unwrap().unwrap() {
        Ok((revision, two)) => {
            assert_eq!(revision, Revision(2));
            assert_eq!(two.latest().await.unwrap().revision, Revision(2));
        }
        Err(error) => assert!(matches!(error, StoreError::Unreachable(_)), "{error}"),
    }
    let newest = one.commit(put(3, &[("b", "v1")])).await.unwrap();
    let three = etcd.connect(10).await;
    let found = three.load().await.unwrap();
    assert_eq!(found.revision, newest);
    assert_eq!(found, one.load().await.unwrap());
}

#[tokio::test]
async fn a_follower_finds_its_way_over_a_compaction() {
    let Some(mut etcd) = EtcdProcess::start_or_skip().await else { return };
    let (one, two) = (etcd.connect(10).await, etcd.connect(10).await);
    one.commit(put(1, &[("a", "v1")])).await.unwrap();
    reaches(&two, Revision(1)).await;
    for round in 0..3 {
        etcd.kill();
        assert!(etcd.start().await);
        // A third one commits and compacts, perhaps before the others are back.
        let three = etcd.connect(10).await;
        for n in 0..20 {
            let version = format!("v{round}-{n}");
            three.commit(put(n, &[("a", &version)])).await.unwrap();
        }
        let at = three.inner.connection.read([]).await.unwrap().at;
        three.inner.connection.compact(at).await.unwrap();
        let newest = *three.watch().borrow();
        reaches(&one, newest).await;
        reaches(&two, newest).await;
    }
    assert_eq!(one.load().await.unwrap(), two.load().await.unwrap());
}

#[tokio::test]
async fn a_batch_of_twenty_thousand_resources_is_there_whole() {
    let Some(etcd) = EtcdProcess::start_or_skip().await else { return };
    let (one, two) = (etcd.connect(10).await, etcd.connect(10).await);
    let names: Vec<String> = (0..20_000).map(|n| format!("service-{n:05}")).collect();
    let all: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "v1")).collect();
    let mut watch = two.watch();
    let (committed, seen) = tokio::join!(one.commit(put(1, &all)), async {
        watch.changed().await.unwrap();
        two.load().await.unwrap().resources.len()
    });
    assert_eq!((committed.unwrap(), seen), (Revision(1), 20_000));
    // It needs parts, which stay although their lease is over.
    assert_eq!(etcd.connect(10).await.load().await.unwrap().resources.len(), 20_000);
    one.commit(put(2, &[("service-00000", "v2")])).await.unwrap();
    assert_eq!(one.at(Revision(1)).await.unwrap().resources.len(), 20_000);
}

#[tokio::test]
async fn a_batch_that_loses_the_race_leaves_nothing_behind() {
    let Some(etcd) = EtcdProcess::start_or_skip().await else { return };
    let one = etcd.connect(10).await;
    one.commit(put(1, &[("a", "v1")])).await.unwrap();
    let keys = count_keys(&one).await;
    let commit = Commit { message: "m".repeat(600 * 1024), ..put(2, &[("a", "v2")]) };
    let mut known = one.inner.known.lock().await;
    known.head -= 1;
    let steps = batch::plan(&known.configuration, &commit).unwrap();
    let after = batch::apply(&known.configuration, &steps);
    let record = batch::record(&commit, after.revision, &steps);
    let appended = one.inner.append(&mut known, &[Replayed { record, steps, after }]).await;
    assert_eq!(appended.unwrap(), None);
    assert_eq!(known.configuration.revision, Revision(1));
    drop(known);
    assert_eq!(count_keys(&one).await, keys);
}

#[tokio::test]
async fn checkpoints_shorten_the_start_and_old_revisions_go() {
    let Some(etcd) = EtcdProcess::start_or_skip().await else { return };
    let store = EtcdStore::open_with(&etcd.settings(), 5, 4).await.unwrap().0;
    let mut tidying = Tidying::default();
    for n in 1..=30 {
        store.commit(put(n, &[("a", &format!("v{n}")), (&format!("s{n}"), "v1")])).await.unwrap();
        store.tidy(&mut tidying).await.unwrap();
    }
    // The head, the floor, at most 5 + 4 records and 3 checkpoints.
    assert!(count_keys(&store).await <= 14, "{}", count_keys(&store).await);
    let late = etcd.connect(5).await;
    assert_eq!(late.load().await.unwrap(), store.load().await.unwrap());
    let history = late.history(None, 100).await.unwrap();
    assert_eq!((history.revisions.len(), history.oldest), (5, Revision(25)));
    for revision in (25..=30).map(Revision) {
        let then = late.at(revision).await.unwrap();
        assert_eq!(then.resources.len() as u64, revision.0 + 1);
        assert_eq!(then.resources[&key("a")].revision, revision);
    }
    // One that was away for longer than the history lasts.
    let error = late.at(Revision(24)).await.unwrap_err();
    assert!(matches!(error, StoreError::NotKept { .. }), "{error}");
}

#[tokio::test]
async fn what_is_removed_while_it_is_read_ends_the_read() {
    let Some(etcd) = EtcdProcess::start_or_skip().await else { return };
    let store = etcd.connect(10).await;
    for n in 1..=5 {
        store.commit(put(n, &[("a", &format!("v{n}"))])).await.unwrap();
    }
    let Inner { connection, keys, .. } = &*store.inner;
    let remove = vec![api::delete(keys.records_to(Revision(3)))];
    connection.again(Txn { compare: Vec::new(), success: remove }).await.unwrap();
    let read = || timeout(SOON, store.inner.between(Revision(2), Revision(3)));
    let error = read().await.expect("it ends").err().unwrap();
    assert!(matches!(error, StoreError::Unreadable(_)), "nobody removed it: {error}");
    let floor = vec![api::put(keys.floor(), "3")];
    connection.again(Txn { compare: Vec::new(), success: floor }).await.unwrap();
    let error = read().await.expect("it ends").err().unwrap();
    let (oldest, newest) = (Revision(3), Revision(5));
    assert!(
        matches!(error, StoreError::NotKept { revision: Revision(2), oldest: o, newest: n }
            if (o, n) == (oldest, newest)),
        "{error}"
    );
}

/// The commit of a client whose cable breaks: what it is told, and what another one sees.
async fn commit_over_a_broken_cable(lost: Cut) -> (Result<Revision, StoreError>, History) {
    let etcd = EtcdProcess::start_or_skip().await.expect("checked before");
    let cable = Cable::to(&etcd.url()).await;
    let settings = EtcdSettings { endpoints: vec![cable.url()], ..etcd.settings() };
    let store = connect(&settings).await.unwrap();
    let witness = etcd.connect(10).await;
    commit_and_hear(&store, put(1, &[("a", "v1")])).await;
    cable.cut(lost);
    let commit = store.commit(put(2, &[("a", "v2")]));
    let mend = async {
        if lost == Cut::Answers {
            reaches(&witness, Revision(2)).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        cable.cut(Cut::Nothing);
    };
    let (told, ()) = tokio::join!(commit, mend);
    witness.latest().await.unwrap();
    // It goes on as if nothing had been.
    assert!(store.commit(put(3, &[("b", "v1")])).await.is_ok());
    let history = witness.history(Some(Revision(3)), 10).await.unwrap();
    reaches(&witness, *store.watch().borrow()).await;
    assert_eq!(witness.load().await.unwrap(), store.load().await.unwrap());
    (told, history)
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_known_to_have_happened_once() {
    if EtcdProcess::start_or_skip().await.is_none() {
        return;
    }
    let (told, history) = commit_over_a_broken_cable(Cut::Answers).await;
    assert_eq!(told.unwrap(), Revision(2));
    assert_eq!(history.revisions[0].message, "commit 2");
    assert_eq!(history.revisions.len(), 2);
}

#[tokio::test]
async fn a_commit_that_never_arrived_is_made_again_and_happens_once() {
    if EtcdProcess::start_or_skip().await.is_none() {
        return;
    }
    let (told, history) = commit_over_a_broken_cable(Cut::Requests).await;
    assert_eq!(told.unwrap(), Revision(2));
    let messages: Vec<&str> = history.revisions.iter().map(|past| past.message.as_str()).collect();
    assert_eq!(messages, ["commit 2", "commit 1"]);
}

#[tokio::test]
async fn a_commit_that_nobody_answers_says_so() {
    let Some(etcd) = EtcdProcess::start_or_skip().await else { return };
    let cable = Cable::to(&etcd.url()).await;
    let settings = EtcdSettings { endpoints: vec![cable.url()], ..etcd.settings() };
    let store = connect(&settings).await.unwrap();
    commit_and_hear(&store, put(1, &[("a", "v1")])).await;
    cable.cut(Cut::Answers);
    let error = store.commit(put(2, &[("a", "v2")])).await.unwrap_err();
    assert!(matches!(error, StoreError::Unsettled { revision: Revision(2), .. }), "{error}");
    cable.cut(Cut::Nothing);
    // It had happened, and is found.
    reaches(&store, Revision(2)).await;
}

#[tokio::test]
async fn a_member_that_is_gone_is_not_asked_again() {
    let Some(etcd) = EtcdProcess::start_or_skip().await else { return };
    let gone = "http://127.0.0.1:1".to_owned();
    let endpoints = vec![gone, etcd.url()];
    let store = connect(&EtcdSettings { endpoints, ..etcd.settings() }).await;
    let store = store.unwrap();
    for n in 1..=10 {
        let version = format!("v{n}");
        assert_eq!(store.commit(put(n, &[("a", &version)])).await.unwrap(), Revision(n));
    }
}

#[tokio::test]
async fn a_password_opens_etcd_and_a_token_that_it_forgot_is_asked_for_again() {
    let Some(mut etcd) = EtcdProcess::start_or_skip().await else { return };
    etcd.ask_for_passwords().await;
    let directory = tempfile::tempdir().unwrap();
    let with = |line: &str| {
        let file = directory.path().join(line.trim().replace(':', "-"));
        std::fs::write(&file, line).unwrap();
        EtcdSettings { user_file: Some(file), ..etcd.settings() }
    };
    for (settings, said) in [
        (etcd.settings(), "user name is empty"),
        (with("segue:wrong"), "invalid user ID or password"),
        (with("segue"), "one line, name:password"),
    ] {
        let error = connect(&settings).await.err().unwrap().to_string();
        assert!(error.contains(said), "{error}");
    }
    let store = connect(&with("segue:p:w\n")).await.unwrap();
    store.commit(put(1, &[("a", "v1")])).await.unwrap();
    // It holds tokens in memory only.
    etcd.kill();
    assert!(etcd.start().await);
    let committed = timeout(SOON, async {
        loop {
            match store.commit(put(2, &[("a", "v2")])).await {
                Ok(revision) => break revision,
                Err(error) => assert!(matches!(error, StoreError::Unreachable(_)), "{error}"),
            }
        }
    });
    assert_eq!(committed.await.unwrap(), Revision(2));
    assert!(store.stand("one").await.unwrap().is_some());
}

#[tokio::test]
async fn a_store_that_was_put_back_is_not_followed_once_a_second_look_says_so() {
    let Some(etcd) = EtcdProcess::start_or_skip().await else { return };
    let store = etcd.connect(10).await;
    store.commit(put(1, &[("a", "v1")])).await.unwrap();
    etcd.lose_everything().await;
    let error = store.latest().await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable(_)), "once is not enough: {error}");
    assert!(store.following().borrow().is_up());
    // Nobody asks any more: the follower finds it.
    let mut following = store.following();
    let stopped = following.wait_for(|following| following.stopped.is_some());
    timeout(2 * SOON, stopped).await.expect("it stops").unwrap();
    let error = store.latest().await.unwrap_err();
    assert!(matches!(error, StoreError::Stopped(_)), "{error}");
    let error = store.commit(put(2, &[("a", "v2")])).await.unwrap_err();
    assert!(matches!(error, StoreError::Stopped(_)), "{error}");
    assert_eq!(store.load().await.unwrap().revision, Revision(1));
}

#[tokio::test]
async fn one_stale_answer_stops_nobody() {
    let Some(etcd) = EtcdProcess::start_or_skip().await else { return };
    let store = etcd.connect(10).await;
    store.commit(put(1, &[("a", "v1")])).await.unwrap();
    let newest = store.commit(put(2, &[("a", "v2")])).await.unwrap();
    // What a member answers that has not heard of the second commit.
    let mut known = store.inner.known.lock().await;
    let head = value::HeadValue {
        format: value::FORMAT,
        store: known.store.clone(),
        revision: 1,
        commit: Vec::new(),
    };
    let stale = KeyValue { value: head.encode_to_vec(), ..KeyValue::default() };
    let error = store.inner.check_head(&mut known, Some(&stale), 7).err().unwrap();
    assert!(matches!(error, StoreError::Unreachable(_)), "{error}");
    drop(known);
    assert_eq!(store.latest().await.unwrap().revision, newest);
    assert!(store.inner.known.lock().await.doubt.is_none());
    assert_eq!(store.commit(put(3, &[("a", "v3")])).await.unwrap(), newest.next());
}

#[tokio::test]
async fn a_follower_says_whether_it_hears() {
    let Some(mut etcd) = EtcdProcess::start_or_skip().await else { return };
    let store = etcd.connect(10).await;
    let mut following = store.following();
    let heard = following.borrow().heard;
    assert!(following.borrow().is_up());
    // An idle log is confirmed again and again.
    timeout(SOON, following.wait_for(|it| it.heard > heard)).await.unwrap().unwrap();
    etcd.kill();
    timeout(SOON, following.wait_for(|it| it.lost)).await.unwrap().unwrap();
    assert!(etcd.start().await);
    timeout(SOON, following.wait_for(Following::is_up)).await.unwrap().unwrap();
}

#[tokio::test]
async fn notes_are_heard_and_go_with_those_who_wrote_them() {
    let Some(etcd) = EtcdProcess::start_or_skip().await else { return };
    let (one, two) = (etcd.connect(10).await, etcd.connect(10).await);
    let mut early = one.note().unwrap();
    early.write(b"early".to_vec()).await.unwrap();
    let (all, mut news) = two.notes().await.unwrap();
    assert_eq!(all, [(early.id(), b"early".to_vec())]);
    let mut late = one.note().unwrap();
    late.write(b"late".to_vec()).await.unwrap();
    assert_eq!(news.next().await.unwrap(), News::Written(late.id(), b"late".to_vec()));
    late.remove().await;
    assert_eq!(news.next().await.unwrap(), News::Gone(late.id()));
    // Nobody renews it, as after a crash.
    let gone = timeout(SOON, news.next()).await.expect("it goes with its lease");
    assert_eq!(gone.unwrap(), News::Gone(early.id()));
    // Its owner finds out, and writes it anew.
    early.renew().await;
    assert!(early.is_gone());
    early.write(b"again".to_vec()).await.unwrap();
    assert_eq!(news.next().await.unwrap(), News::Written(early.id(), b"again".to_vec()));
}

#[tokio::test]
async fn one_leads_and_another_follows_when_it_ends() {
    let Some(etcd) = EtcdProcess::start_or_skip().await else { return };
    let (one, two) = (etcd.connect(10).await, etcd.connect(10).await);
    let lead = one.stand("one").await.unwrap().expect("nobody else stands");
    assert!(two.stand("two").await.unwrap().is_none());
    let first = lead.term;
    one.resign(lead).await;
    let mut lead = two.stand("two").await.unwrap().expect("the lead is free");
    assert!(lead.term > first);
    // Nobody renews, as after a crash: it is over in time, and for its owner before.
    let over = timeout(Duration::from_secs(10), async {
        while one.stand("one").await.unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    over.await.expect("a lead that nobody renews ends");
    timeout(Duration::from_secs(1), two.hold(&mut lead)).await.expect("it was over before");
}

#[tokio::test]
async fn a_content_of_more_parts_than_a_transaction_takes_stays_whole() {
    let Some(etcd) = EtcdProcess::start_or_skip().await else { return };
    let store = etcd.connect(10).await;
    let Inner { connection, keys, .. } = &*store.inner;
    let bytes: Vec<u8> = (0..55_000_000_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
    let place = (Part::Record, Revision(1), 7);
    let sent = content::send(connection, keys, place, bytes.clone()).await.unwrap();
    let (value, keep) = (sent.value.clone(), sent.keep.clone());
    connection.again(Txn { compare: Vec::new(), success: keep }).await.unwrap();
    sent.end(connection).await;
    let place = (Part::Record, Revision(1));
    let received = content::receive(connection, keys, place, value).await.unwrap();
    assert!(received == bytes);
}
