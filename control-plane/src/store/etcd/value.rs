//! What is written in etcd: protobuf, so that later releases can add fields.

use prost::Message;
use prost_types::Timestamp;
use segue_control_plane_core::config::{self, Kind, ResourceKey};
use segue_proto::config::v1::Resource;
use segue_shared::ids::Revision;

use super::Id;
use crate::store::batch::Replayed;
use crate::store::contract::{
    ChangeKind, RecordedChange, RevisionRecord, StoreError, StoredCommit, StoredConfiguration,
};
use crate::store::record::{self, ResourceValue};

/// Format of the values that this release writes.
pub const FORMAT: u32 = 1;

/// The newest revision.
#[derive(Clone, PartialEq, Message)]
pub struct HeadValue {
    #[prost(uint32, tag = "1")]
    pub format: u32,
    /// Drawn once, with the first commit: another one is another store.
    #[prost(bytes = "vec", tag = "2")]
    pub store: Vec<u8>,
    #[prost(uint64, tag = "3")]
    pub revision: u64,
    /// The commit that made it.
    #[prost(bytes = "vec", tag = "4")]
    pub commit: Vec<u8>,
}

/// Commits that were made as one: a single one, or those of an incremental backup.
#[derive(Clone, PartialEq, Message)]
pub struct RecordValue {
    #[prost(uint64, tag = "1")]
    pub first: u64,
    #[prost(uint64, tag = "2")]
    pub last: u64,
    #[prost(bytes = "vec", tag = "3")]
    pub commit: Vec<u8>,
    /// A [`CommitsValue`].
    #[prost(message, optional, tag = "4")]
    pub content: Option<ContentValue>,
}

/// A whole configuration.
#[derive(Clone, PartialEq, Message)]
pub struct CheckpointValue {
    #[prost(uint64, tag = "1")]
    pub revision: u64,
    /// A [`ConfigurationValue`].
    #[prost(message, optional, tag = "2")]
    pub content: Option<ContentValue>,
}

/// Bytes: here, or in parts beside.
#[derive(Clone, PartialEq, Message)]
pub struct ContentValue {
    #[prost(bytes = "vec", tag = "1")]
    pub inline: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub id: Vec<u8>,
    #[prost(uint32, tag = "3")]
    pub parts: u32,
    #[prost(uint64, tag = "4")]
    pub length: u64,
}

#[derive(Clone, PartialEq, Message)]
struct CommitsValue {
    #[prost(message, repeated, tag = "1")]
    commits: Vec<CommitValue>,
}

#[derive(Clone, PartialEq, Message)]
struct CommitValue {
    #[prost(uint64, tag = "1")]
    revision: u64,
    #[prost(message, optional, tag = "2")]
    at: Option<Timestamp>,
    #[prost(string, tag = "3")]
    author: String,
    #[prost(string, tag = "4")]
    message: String,
    #[prost(message, repeated, tag = "5")]
    changes: Vec<ChangeValue>,
    /// Of an undo: the revision whose configuration it brought back, which may be 0.
    #[prost(uint64, optional, tag = "6")]
    restores: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct ChangeValue {
    /// What the resource became; absent: it is gone, and the next three fields name it.
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(string, tag = "2")]
    kind: String,
    #[prost(string, tag = "3")]
    namespace: String,
    #[prost(string, tag = "4")]
    name: String,
    /// There was none before.
    #[prost(bool, tag = "5")]
    created: bool,
}

#[derive(Clone, PartialEq, Message)]
struct ConfigurationValue {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<ResourceValue>,
}

/// A commit as it is read: what the history says, and what it takes to make it again.
pub struct Past {
    pub record: RevisionRecord,
    pub commit: StoredCommit,
}

pub fn encode_commits(replayed: &[Replayed]) -> Vec<u8> {
    let commits = replayed
        .iter()
        .map(|commit| CommitValue {
            revision: commit.record.revision.0,
            at: Some(commit.record.at.into()),
            author: commit.record.author.clone(),
            message: commit.record.message.clone(),
            restores: commit.record.restores.map(|revision| revision.0),
            changes: commit
                .steps
                .iter()
                .map(|step| match &step.after {
                    Some(after) => ChangeValue {
                        resource: Some(after.resource.clone()),
                        created: step.before.is_none(),
                        ..ChangeValue::default()
                    },
                    None => ChangeValue {
                        kind: step.key.kind.to_string(),
                        namespace: step.key.namespace.clone(),
                        name: step.key.name.clone(),
                        ..ChangeValue::default()
                    },
                })
                .collect(),
        })
        .collect();
    CommitsValue { commits }.encode_to_vec()
}

pub fn decode_commits(bytes: &[u8]) -> Result<Vec<Past>, StoreError> {
    let value: CommitsValue = decode(bytes)?;
    value.commits.into_iter().map(past).collect()
}

fn past(value: CommitValue) -> Result<Past, StoreError> {
    let revision = Revision(value.revision);
    let at = record::time(value.at)?;
    let mut changes = Vec::with_capacity(value.changes.len());
    let (mut upserts, mut deletes) = (Vec::new(), Vec::new());
    for change in value.changes {
        let created = change.created;
        if let Some(resource) = change.resource {
            let kind = if created { ChangeKind::Created } else { ChangeKind::Configured };
            changes.push(RecordedChange { key: config::key(&resource), kind });
            upserts.push(resource);
        } else {
            let kind = Kind::parse(&change.kind)
                .ok_or_else(|| StoreError::Unreadable(format!("the kind {:?}", change.kind)))?;
            let key = ResourceKey { kind, namespace: change.namespace, name: change.name };
            changes.push(RecordedChange { key: key.clone(), kind: ChangeKind::Deleted });
            deletes.push(key);
        }
    }
    let (author, message) = (value.author, value.message);
    let restores = value.restores.map(Revision);
    Ok(Past {
        record: RevisionRecord {
            revision,
            at,
            author: author.clone(),
            message: message.clone(),
            restores,
            changes,
        },
        commit: StoredCommit { revision, at, author, message, restores, upserts, deletes },
    })
}

pub fn encode_configuration(configuration: &StoredConfiguration) -> Vec<u8> {
    let resources =
        configuration.resources.values().map(|stored| record::value_of(stored)).collect();
    ConfigurationValue { resources }.encode_to_vec()
}

pub fn decode_configuration(
    revision: Revision,
    bytes: &[u8],
) -> Result<StoredConfiguration, StoreError> {
    let value: ConfigurationValue = decode(bytes)?;
    let mut resources = imbl::OrdMap::new();
    for resource in value.resources {
        let stored = record::stored(resource)?;
        resources.insert(stored.key.clone(), std::sync::Arc::new(stored));
    }
    Ok(StoredConfiguration { revision, resources })
}

pub fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M, StoreError> {
    M::decode(bytes).map_err(|error| StoreError::Unreadable(error.to_string()))
}

/// An id as it stands in a value.
pub fn id_of(bytes: &[u8]) -> Result<Id, StoreError> {
    let bytes: [u8; 16] = bytes
        .try_into()
        .map_err(|_| StoreError::Unreadable("an id that is not 16 bytes long".to_owned()))?;
    Ok(Id::from_be_bytes(bytes))
}
