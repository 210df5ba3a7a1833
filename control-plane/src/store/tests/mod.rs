//! One suite that every store passes, and what each kind of store promises beyond it.

mod backup;
pub mod cable;
mod contract;
pub mod etcd_process;
mod on_a_failing_disk;
mod on_disk;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use segue_control_plane_core::config::{Kind, ResourceKey};
use segue_proto::config::v1::resource::Resource as Body;
use segue_proto::config::v1::{ObjectMeta, Resource, Service, ServiceSpec};
use segue_shared::ids::Revision;

use self::etcd_process::EtcdProcess;
use super::*;

/// A store and what it is called in messages.
type Named = (&'static str, Arc<dyn Store>);

/// What stores stand on, as long as the test runs.
struct Ground {
    _directory: tempfile::TempDir,
    _etcd: Option<EtcdProcess>,
}

/// Every kind of store, empty; etcd where this machine has it.
async fn stores(retention: usize) -> (Vec<Named>, Ground) {
    let directory = tempfile::tempdir().unwrap();
    let redb = RedbStore::open(&directory.path().join("data"), retention).unwrap();
    let memory = MemoryStore::new(retention);
    let mut stores: Vec<Named> = vec![("memory", Arc::new(memory)), ("redb", Arc::new(redb))];
    let etcd = EtcdProcess::start_or_skip().await;
    if let Some(etcd) = &etcd {
        stores.push(("etcd", Arc::new(etcd.connect(retention).await)));
    }
    (stores, Ground { _directory: directory, _etcd: etcd })
}

pub fn service(name: &str, default_version: &str) -> Resource {
    let metadata = Some(ObjectMeta { name: name.to_owned(), ..ObjectMeta::default() });
    let spec =
        Some(ServiceSpec { default_version: default_version.to_owned(), ..ServiceSpec::default() });
    Resource { resource: Some(Body::Service(Service { metadata, spec, ..Service::default() })) }
}

pub fn key(name: &str) -> ResourceKey {
    ResourceKey::new(Kind::Service, "default", name)
}

fn second(n: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(n)
}

pub fn put(n: u64, resources: &[(&str, &str)]) -> Commit {
    Commit {
        expected: None,
        upserts: resources.iter().map(|(name, version)| service(name, version)).collect(),
        deletes: Vec::new(),
        author: "alice".to_owned(),
        message: format!("commit {n}"),
        restores: None,
        at: second(n),
    }
}

pub fn remove(n: u64, names: &[&str]) -> Commit {
    Commit { deletes: names.iter().map(|name| key(name)).collect(), ..put(n, &[]) }
}

/// Names and versions.
fn summary(resources: &[StoredResource]) -> Vec<(String, String)> {
    resources
        .iter()
        .map(|stored| match &stored.resource.resource {
            Some(Body::Service(service)) => {
                (stored.key.name.clone(), service.spec.clone().unwrap().default_version)
            }
            other => panic!("{other:?}"),
        })
        .collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}
