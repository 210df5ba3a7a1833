//! How stores write their values: protobuf, so that later releases can add fields.

use std::sync::Arc;
use std::time::SystemTime;

use prost::Message;
use prost_types::Timestamp;
use segue_control_plane_core::config::{self, Kind, ResourceKey};
use segue_proto::config::v1::Resource;
use segue_shared::ids::Revision;

use super::batch::{Before, Step};
use super::contract::{ChangeKind, RecordedChange, RevisionRecord, StoreError, StoredResource};

#[derive(Clone, PartialEq, Message)]
pub struct ResourceValue {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(uint64, tag = "2")]
    revision: u64,
    #[prost(message, optional, tag = "3")]
    created_at: Option<Timestamp>,
    #[prost(message, optional, tag = "4")]
    changed_at: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Message)]
struct RevisionValue {
    #[prost(message, optional, tag = "1")]
    at: Option<Timestamp>,
    #[prost(string, tag = "2")]
    author: String,
    #[prost(string, tag = "3")]
    message: String,
    #[prost(message, repeated, tag = "4")]
    changes: Vec<ChangeValue>,
    /// Of an undo: the revision whose configuration it brought back, which may be 0.
    #[prost(uint64, optional, tag = "5")]
    restores: Option<u64>,
}

/// A change and what it takes to undo it.
#[derive(Clone, PartialEq, Message)]
struct ChangeValue {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(string, tag = "2")]
    namespace: String,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(message, optional, tag = "4")]
    before: Option<ResourceValue>,
    /// The resource is gone since.
    #[prost(bool, tag = "5")]
    deleted: bool,
}

/// The key of a resource in its table. Its order is not that of [`ResourceKey`].
pub fn table_key(key: &ResourceKey) -> String {
    format!("{}/{}/{}", key.kind, key.namespace, key.name)
}

pub fn encode_resource(stored: &StoredResource) -> Vec<u8> {
    value_of(stored).encode_to_vec()
}

pub fn decode_resource(bytes: &[u8]) -> Result<StoredResource, StoreError> {
    stored(ResourceValue::decode(bytes).map_err(|error| unreadable(&error))?)
}

pub fn encode_revision(record: &RevisionRecord, steps: &[Step]) -> Vec<u8> {
    let changes = steps
        .iter()
        .map(|step| ChangeValue {
            kind: step.key.kind.to_string(),
            namespace: step.key.namespace.clone(),
            name: step.key.name.clone(),
            before: step.before.as_deref().map(value_of),
            deleted: step.after.is_none(),
        })
        .collect();
    let value = RevisionValue {
        at: Some(record.at.into()),
        author: record.author.clone(),
        message: record.message.clone(),
        changes,
        restores: record.restores.map(|revision| revision.0),
    };
    value.encode_to_vec()
}

/// A revision, and what its resources were before it.
pub fn decode_revision(
    revision: Revision,
    bytes: &[u8],
) -> Result<(RevisionRecord, Vec<Before>), StoreError> {
    let value = RevisionValue::decode(bytes).map_err(|error| unreadable(&error))?;
    let mut changes = Vec::with_capacity(value.changes.len());
    let mut befores = Vec::with_capacity(value.changes.len());
    for change in value.changes {
        let kind = match (&change.before, change.deleted) {
            (None, _) => ChangeKind::Created,
            (Some(_), false) => ChangeKind::Configured,
            (Some(_), true) => ChangeKind::Deleted,
        };
        let key = key_of(&change)?;
        changes.push(RecordedChange { key: key.clone(), kind });
        befores.push((key, change.before.map(stored).transpose()?.map(Arc::new)));
    }
    let (author, message) = (value.author, value.message);
    let restores = value.restores.map(Revision);
    let at = time(value.at)?;
    let record = RevisionRecord { revision, at, author, message, restores, changes };
    Ok((record, befores))
}

pub fn value_of(stored: &StoredResource) -> ResourceValue {
    ResourceValue {
        resource: Some(stored.resource.clone()),
        revision: stored.revision.0,
        created_at: Some(stored.created_at.into()),
        changed_at: Some(stored.changed_at.into()),
    }
}

pub fn stored(value: ResourceValue) -> Result<StoredResource, StoreError> {
    let resource =
        value.resource.filter(|resource| resource.resource.is_some()).ok_or_else(|| {
            StoreError::Unreadable("a resource of a kind that it does not know".to_owned())
        })?;
    Ok(StoredResource {
        key: config::key(&resource),
        resource,
        revision: Revision(value.revision),
        created_at: time(value.created_at)?,
        changed_at: time(value.changed_at)?,
    })
}

fn key_of(change: &ChangeValue) -> Result<ResourceKey, StoreError> {
    let kind = Kind::parse(&change.kind)
        .ok_or_else(|| StoreError::Unreadable(format!("the kind {:?}", change.kind)))?;
    Ok(ResourceKey { kind, namespace: change.namespace.clone(), name: change.name.clone() })
}

pub fn time(at: Option<Timestamp>) -> Result<SystemTime, StoreError> {
    at.and_then(|at| SystemTime::try_from(at).ok())
        .ok_or_else(|| StoreError::Unreadable("a time".to_owned()))
}

fn unreadable(error: &prost::DecodeError) -> StoreError {
    StoreError::Unreadable(error.to_string())
}
