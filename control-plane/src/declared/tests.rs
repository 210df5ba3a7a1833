//! Whoever commits, what is declared is what the store holds.

use std::time::SystemTime;

use segue_control_plane_core::config::{SourceText, parse};
use segue_proto::config::v1::Resource;
use segue_shared::ids::ServiceName;

use super::*;
use crate::store::{Commit, MemoryStore};

/// A service on a port.
fn service(name: &str, port: u16) -> Resource {
    let content = format!(
        "kind: Service\nmetadata: {{name: {name}}}\nspec: {{port: {port}, versions: [{{name: v1}}]}}"
    );
    let file = SourceText { name: "a.yaml".to_owned(), content };
    parse(&[file]).unwrap().remove(0).resource
}

fn commit(upserts: &[Resource]) -> Commit {
    Commit {
        expected: None,
        upserts: upserts.to_vec(),
        deletes: Vec::new(),
        author: String::new(),
        message: String::new(),
        restores: None,
        at: SystemTime::UNIX_EPOCH,
    }
}

/// Services and ports, as declared.
fn ports(config: &MeshConfig) -> Vec<(&str, u16)> {
    config.services.iter().map(|(name, service)| (name.name.as_str(), service.port)).collect()
}

async fn declared(present: &[Resource]) -> (Declared, Declaration) {
    let declared = Declared::new(Arc::new(MemoryStore::new(10)));
    declared.store().commit(commit(present)).await.unwrap();
    let Base::Checked(base) = declared.catch_up().await.unwrap().base else { panic!() };
    (declared, base)
}

#[tokio::test]
async fn a_commit_that_was_foreseen_is_taken_as_it_was_checked() {
    let (declared, base) = declared(&[service("a", 1), service("b", 1)]).await;
    let batch = [service("a", 2), service("c", 2)];
    let next = base.admit(Revision(2), &[], &batch, &[]).unwrap().next;
    declared.expect(next.clone());
    declared.store().commit(commit(&batch)).await.unwrap();
    declared.catch_up().await.unwrap();
    let config = declared.watch().borrow().config.clone().unwrap();
    assert!(Arc::ptr_eq(&config, next.mesh()));
    assert_eq!(ports(&config), [("a", 2), ("b", 1), ("c", 2)]);
}

#[tokio::test]
async fn a_commit_of_another_is_not_taken_for_the_one_that_was_foreseen() {
    let batch = [service("a", 2), service("b", 2)];
    // Another one, a part of the same, and the same with more.
    let others: [&[Resource]; 3] = [
        &[service("a", 3)],
        &[service("a", 2)],
        &[service("a", 2), service("b", 2), service("c", 2)],
    ];
    for other in others {
        let (declared, base) = declared(&[service("a", 1), service("b", 1)]).await;
        declared.expect(base.admit(Revision(2), &[], &batch, &[]).unwrap().next);
        declared.store().commit(commit(other)).await.unwrap();
        let Current { stored, base } = declared.catch_up().await.unwrap();
        let Base::Checked(base) = base else { panic!() };
        assert_eq!(base.len(), stored.resources.len());
        for stored in stored.resources.values() {
            assert_eq!(base.get(&stored.key), Some(&stored.resource));
            let service = ServiceName::new("default", stored.key.name.clone());
            assert!(base.mesh().services.contains_key(&service));
        }
        assert_eq!(base.mesh().revision, Revision(2));
    }
}

#[tokio::test]
async fn the_last_good_configuration_stays_until_the_store_is_mended() {
    let (declared, _base) = declared(&[service("a", 1)]).await;
    let mut bad = service("b", 1);
    let Some(segue_proto::config::v1::resource::Resource::Service(it)) = &mut bad.resource else {
        panic!()
    };
    it.spec.as_mut().unwrap().default_version = "v9".to_owned();
    declared.store().commit(commit(&[bad, service("c", 1)])).await.unwrap();
    let current = declared.catch_up().await.unwrap();
    assert!(matches!(current.base, Base::Unchecked(all) if all.len() == 3));
    let state = declared.watch().borrow().clone();
    assert_eq!(ports(&state.config.unwrap()), [("a", 1)]);
    assert!(state.fault.unwrap().to_string().contains("Service default/b"));

    declared.store().commit(commit(&[service("b", 2)])).await.unwrap();
    declared.catch_up().await.unwrap();
    let state = declared.watch().borrow().clone();
    assert_eq!(ports(&state.config.unwrap()), [("a", 1), ("b", 2), ("c", 1)]);
    assert!(state.fault.is_none());
}

#[tokio::test]
async fn a_store_that_can_be_read_again_is_no_fault_any_more() {
    let (declared, _base) = declared(&[service("a", 1)]).await;
    // As `run` tells it when the store cannot be read.
    let broken = Arc::new(Unserved::from(FollowError::from(StoreError::Nameless)));
    declared.inner.state.send_modify(|state| state.fault = Some(broken));
    let mut told = declared.watch();
    declared.catch_up().await.unwrap();
    assert!(told.has_changed().unwrap());
    assert!(told.borrow_and_update().fault.is_none());
    declared.catch_up().await.unwrap();
    assert!(!told.has_changed().unwrap(), "no news");
}
