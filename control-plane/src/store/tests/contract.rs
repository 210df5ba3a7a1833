//! What every store promises.

use super::*;

#[tokio::test]
async fn an_empty_store_is_at_revision_zero() {
    let (stores, _ground) = stores(10).await;
    for (name, store) in stores {
        assert_eq!(store.load().await.unwrap(), StoredConfiguration::default(), "{name}");
        assert_eq!(store.history(None, 10).await.unwrap(), History::default(), "{name}");
        assert_eq!(*store.watch().borrow(), Revision::NONE);
        assert_eq!(store.at(Revision::NONE).await.unwrap().listed(), vec![]);
    }
}

#[tokio::test]
async fn a_batch_is_one_revision_and_watchers_hear_of_it() {
    let (stores, _ground) = stores(10).await;
    for (name, store) in stores {
        let mut watch = store.watch();
        let revision = store.commit(put(1, &[("b", "v1"), ("a", "v1")])).await.unwrap();
        assert_eq!(revision, Revision(1), "{name}");
        watch.changed().await.unwrap();
        assert_eq!(*watch.borrow(), Revision(1));
        let found = store.load().await.unwrap();
        let (revision, resources) = (found.revision, found.listed());
        assert_eq!(revision, Revision(1));
        assert_eq!(summary(&resources), pairs(&[("a", "v1"), ("b", "v1")]), "{name}");
    }
}

#[tokio::test]
async fn a_resource_remembers_when_it_was_made_and_last_changed() {
    let (stores, _ground) = stores(10).await;
    for (name, store) in stores {
        store.commit(put(1, &[("a", "v1"), ("b", "v1")])).await.unwrap();
        store.commit(put(2, &[("a", "v2"), ("b", "v1")])).await.unwrap();
        let resources = store.load().await.unwrap().listed();
        let at =
            |i: usize| (resources[i].revision, resources[i].created_at, resources[i].changed_at);
        assert_eq!(at(0), (Revision(2), second(1), second(2)), "{name}");
        assert_eq!(at(1), (Revision(1), second(1), second(1)), "{name}");
    }
}

#[tokio::test]
async fn a_batch_that_changes_nothing_is_no_revision() {
    let (stores, _ground) = stores(10).await;
    for (name, store) in stores {
        store.commit(put(1, &[("a", "v1")])).await.unwrap();
        let again = store.commit(put(2, &[("a", "v1")])).await.unwrap();
        let absent = store.commit(remove(3, &["z"])).await.unwrap();
        assert_eq!((again, absent), (Revision(1), Revision(1)), "{name}");
        assert_eq!(store.history(None, 10).await.unwrap().revisions.len(), 1);
    }
}

#[tokio::test]
async fn a_stale_base_is_a_conflict_and_changes_nothing() {
    let (stores, _ground) = stores(10).await;
    for (name, store) in stores {
        store.commit(put(1, &[("a", "v1")])).await.unwrap();
        let stale = Commit { expected: Some(Revision::NONE), ..put(2, &[("a", "v2")]) };
        let error = store.commit(stale).await.unwrap_err();
        assert!(
            matches!(error, StoreError::Conflict { expected: Revision(0), found: Revision(1) }),
            "{name}: {error}"
        );
        assert_eq!(summary(&store.load().await.unwrap().listed()), pairs(&[("a", "v1")]));
        let good = Commit { expected: Some(Revision(1)), ..put(3, &[("a", "v3")]) };
        assert_eq!(store.commit(good).await.unwrap(), Revision(2), "{name}");
    }
}

#[tokio::test]
async fn of_commits_on_one_base_exactly_one_wins() {
    let (stores, _ground) = stores(10).await;
    for (name, store) in stores {
        let races = (0..8).map(|n| {
            let version = format!("v{n}");
            let batch = put(n, &[("a", &version)]);
            store.commit(Commit { expected: Some(Revision::NONE), ..batch })
        });
        let results = futures_util::future::join_all(races).await;
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{name}");
    }
}

#[tokio::test]
async fn a_batch_with_a_nameless_resource_leaves_no_trace() {
    let (stores, _ground) = stores(10).await;
    for (name, store) in stores {
        let error = store.commit(put(1, &[("a", "v1"), ("", "v1")])).await.unwrap_err();
        assert!(matches!(error, StoreError::Nameless), "{name}: {error}");
        assert_eq!(store.load().await.unwrap(), StoredConfiguration::default());
        assert_eq!(store.commit(put(2, &[("a", "v1")])).await.unwrap(), Revision(1));
    }
}

#[tokio::test]
async fn every_kept_revision_can_be_read() {
    let (stores, _ground) = stores(10).await;
    for (name, store) in stores {
        store.commit(put(1, &[("a", "v1"), ("b", "v1")])).await.unwrap();
        store.commit(put(2, &[("a", "v2")])).await.unwrap();
        store.commit(remove(3, &["b"])).await.unwrap();
        store.commit(put(4, &[("b", "v9")])).await.unwrap();
        let expected: [&[(&str, &str)]; 5] = [
            &[],
            &[("a", "v1"), ("b", "v1")],
            &[("a", "v2"), ("b", "v1")],
            &[("a", "v2")],
            &[("a", "v2"), ("b", "v9")],
        ];
        for (revision, expected) in (0..).zip(expected) {
            let then = store.at(Revision(revision)).await.unwrap().listed();
            assert_eq!(summary(&then), pairs(expected), "{name} at {revision}");
        }
        let error = store.at(Revision(5)).await.unwrap_err();
        assert!(matches!(error, StoreError::NotKept { .. }), "{name}: {error}");
    }
}

#[tokio::test]
async fn the_history_says_who_why_and_what() {
    let (stores, _ground) = stores(10).await;
    for (name, store) in stores {
        store.commit(put(1, &[("a", "v1"), ("b", "v1")])).await.unwrap();
        let mixed = Commit {
            deletes: vec![key("b")],
            restores: Some(Revision::NONE),
            ..put(2, &[("a", "v2"), ("c", "v1")])
        };
        store.commit(mixed).await.unwrap();
        let history = store.history(None, 10).await.unwrap();
        let newest = &history.revisions[0];
        assert_eq!((newest.revision, newest.at), (Revision(2), second(2)), "{name}");
        assert_eq!((newest.author.as_str(), newest.message.as_str()), ("alice", "commit 2"));
        let changes: Vec<_> =
            newest.changes.iter().map(|change| (change.key.name.as_str(), change.kind)).collect();
        let expected =
            [("a", ChangeKind::Configured), ("b", ChangeKind::Deleted), ("c", ChangeKind::Created)];
        assert_eq!(changes, expected, "{name}");
        let below = store.history(Some(Revision(2)), 10).await.unwrap();
        assert_eq!(below.revisions.len(), 1, "{name}");
        assert_eq!(below.revisions[0].revision, Revision(1));
        let restores = (newest.restores, below.revisions[0].restores);
        assert_eq!(restores, (Some(Revision::NONE), None), "{name}");
        assert_eq!(store.history(None, 1).await.unwrap().revisions.len(), 1);
    }
}

#[tokio::test]
async fn the_history_is_bounded_and_says_where_it_begins() {
    let (stores, _ground) = stores(3).await;
    for (name, store) in stores {
        for n in 1..=9 {
            store.commit(put(n, &[("a", &format!("v{n}"))])).await.unwrap();
        }
        let history = store.history(None, 100).await.unwrap();
        let revisions: Vec<u64> = history.revisions.iter().map(|past| past.revision.0).collect();
        assert_eq!((revisions, history.oldest), (vec![9, 8, 7], Revision(6)), "{name}");
        let oldest = store.at(Revision(6)).await.unwrap().listed();
        assert_eq!(summary(&oldest), pairs(&[("a", "v6")]), "{name}");
        assert!(matches!(
            store.at(Revision(5)).await,
            Err(StoreError::NotKept { oldest: Revision(6), newest: Revision(9), .. })
        ));
    }
}
