//! What a store gives for a backup, and takes back.

use super::*;

/// Four commits of every kind.
async fn fill(store: &Arc<dyn Store>) {
    store.commit(put(1, &[("a", "v1"), ("b", "v1")])).await.unwrap();
    store.commit(put(2, &[("a", "v2")])).await.unwrap();
    store.commit(remove(3, &["b"])).await.unwrap();
    let mixed = Commit {
        deletes: vec![key("a")],
        restores: Some(Revision(1)),
        ..put(4, &[("b", "v9"), ("c", "v1")])
    };
    store.commit(mixed).await.unwrap();
}

#[tokio::test]
async fn commits_made_again_give_the_same_configuration_and_history() {
    let (stores_one, _ground_one) = stores(10).await;
    let (stores_two, _ground_two) = stores(10).await;
    for ((name, one), (_, two)) in stores_one.into_iter().zip(stores_two) {
        fill(&one).await;
        let commits = one.commits(Revision::NONE, 100).await.unwrap();
        let revisions: Vec<u64> = commits.iter().map(|commit| commit.revision.0).collect();
        assert_eq!(revisions, [1, 2, 3, 4], "{name}");
        assert_eq!(two.restore(Backup::Continued(commits)).await.unwrap(), Revision(4), "{name}");
        assert_eq!(two.load().await.unwrap(), one.load().await.unwrap(), "{name}");
        assert_eq!(
            two.history(None, 10).await.unwrap(),
            one.history(None, 10).await.unwrap(),
            "{name}"
        );
        for revision in (0..=4).map(Revision) {
            let (then, again) = (one.at(revision).await.unwrap(), two.at(revision).await.unwrap());
            assert_eq!(then, again, "{name} at {revision}");
        }
        let newest = two.commit(put(5, &[("d", "v1")])).await.unwrap();
        assert_eq!(newest, Revision(5), "{name}");
    }
}

#[tokio::test]
async fn a_page_of_commits_begins_and_ends_where_it_is_told() {
    let (stores, _ground) = stores(10).await;
    for (name, store) in stores {
        fill(&store).await;
        let all = store.commits(Revision::NONE, 100).await.unwrap();
        assert_eq!(store.commits(Revision(1), 2).await.unwrap(), all[1..3], "{name}");
        assert_eq!(store.commits(Revision(4), 2).await.unwrap(), [], "{name}");
        let error = store.commits(Revision(5), 2).await.unwrap_err();
        assert!(matches!(error, StoreError::NotKept { .. }), "{name}: {error}");
    }
}

#[tokio::test]
async fn commits_that_are_not_kept_any_more_are_refused() {
    let (stores, _ground) = stores(2).await;
    for (name, store) in stores {
        fill(&store).await;
        assert_eq!(store.commits(Revision(2), 9).await.unwrap().len(), 2, "{name}");
        let error = store.commits(Revision(1), 9).await.unwrap_err();
        assert!(
            matches!(error, StoreError::NotKept { oldest: Revision(2), .. }),
            "{name}: {error}"
        );
    }
}

#[tokio::test]
async fn a_whole_configuration_keeps_its_revisions_and_times() {
    let (stores_one, _ground_one) = stores(10).await;
    let (stores_two, _ground_two) = stores(10).await;
    for ((name, one), (_, two)) in stores_one.into_iter().zip(stores_two) {
        fill(&one).await;
        let whole = one.load().await.unwrap();
        let restored = two.restore(Backup::Full(whole.clone())).await.unwrap();
        assert_eq!(restored, Revision(4), "{name}");
        assert_eq!(*two.watch().borrow(), Revision(4), "{name}");
        assert_eq!(two.load().await.unwrap(), whole, "{name}");
        assert_eq!(two.at(Revision(4)).await.unwrap(), whole, "{name}");
        let history = two.history(None, 10).await.unwrap();
        assert_eq!((history.revisions.len(), history.oldest), (0, Revision(4)), "{name}");
        let error = two.at(Revision(3)).await.unwrap_err();
        assert!(matches!(error, StoreError::NotKept { .. }), "{name}: {error}");
        // And on with increments.
        one.commit(put(5, &[("d", "v1")])).await.unwrap();
        let commits = one.commits(Revision(4), 10).await.unwrap();
        two.restore(Backup::Continued(commits)).await.unwrap();
        assert_eq!(two.load().await.unwrap(), one.load().await.unwrap(), "{name}");
    }
}

#[tokio::test]
async fn what_does_not_fit_changes_nothing() {
    let (stores, _ground) = stores(10).await;
    for (name, store) in stores {
        fill(&store).await;
        let before = store.load().await.unwrap();
        let error = store.restore(Backup::Full(before.clone())).await.unwrap_err();
        assert!(matches!(error, StoreError::NotEmpty { found: Revision(4) }), "{name}: {error}");

        let commits = store.commits(Revision(2), 10).await.unwrap();
        let error = store.restore(Backup::Continued(commits)).await.unwrap_err();
        assert!(matches!(error, StoreError::Conflict { .. }), "{name}: {error}");

        let stored = |n: u64, resources: &[(&str, &str)]| {
            let commit = put(n, resources);
            StoredCommit {
                revision: Revision(n),
                at: commit.at,
                author: commit.author,
                message: commit.message,
                restores: commit.restores,
                upserts: commit.upserts,
                deletes: commit.deletes,
            }
        };
        let gap = vec![stored(5, &[("x", "v1")]), stored(7, &[("y", "v1")])];
        let idle = vec![stored(5, &[("x", "v1")]), stored(6, &[("x", "v1")])];
        for bad in [gap, idle, Vec::new()] {
            let error = store.restore(Backup::Continued(bad)).await.unwrap_err();
            assert!(matches!(error, StoreError::BadBackup(_)), "{name}: {error}");
        }
        assert_eq!(store.load().await.unwrap(), before, "{name}");
        assert_eq!(store.history(None, 10).await.unwrap().revisions.len(), 4, "{name}");
    }
}
