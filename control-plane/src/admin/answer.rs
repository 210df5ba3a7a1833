//! From the words of the control plane to those of the API.

use std::fmt::Write as _;
use std::time::SystemTime;

use prost::Message as _;
use prost_types::Timestamp;
use segue_control_plane_core::config::{self, Fault, Faults, Kind, ResourceKey};
use segue_control_plane_core::diff::{ChangeKind, ResourceChange};
use segue_control_plane_core::fault_details;
use segue_proto::admin::v1 as api;
use segue_proto::config::v1 as wire;
use segue_shared::ids::DEFAULT_NAMESPACE;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use super::change::ChangeError;
use super::conditions::Outlook;
use crate::store::{self, RevisionRecord, StoreError, StoredResource};

/// Request metadata by which a client says how many bytes of faults it can take.
const DETAIL_BYTES: &str = "segue-detail-bytes";
/// Errors travel in HTTP/2 headers, of which common clients take 8 KiB.
const DETAIL_BYTES_DEFAULT: usize = 2 * 1024;
const DETAIL_BYTES_MOST: usize = 1024 * 1024;
const MESSAGE_BYTES: usize = 1536;

/// The one translator of errors of this API. `metadata` is that of the request.
pub fn status(error: ChangeError, metadata: &MetadataMap) -> Status {
    match error {
        ChangeError::Faults(faults) => fault_status(&faults, metadata),
        ChangeError::NotFound(_) => Status::not_found(error.to_string()),
        ChangeError::Foreign(foreign) => foreign.into(),
        ChangeError::NothingToUndo => Status::failed_precondition(error.to_string()),
        ChangeError::Empty => Status::invalid_argument(error.to_string()),
        ChangeError::Interrupted(_) => Status::internal(error.to_string()),
        ChangeError::Store(error) => store_status(&error),
    }
}

/// What a failing store means to a caller.
pub fn store_status(error: &StoreError) -> Status {
    let code = match error {
        StoreError::Conflict { .. } => Code::Aborted,
        StoreError::NotKept { .. } => Code::NotFound,
        StoreError::Nameless | StoreError::BadBackup(_) => Code::InvalidArgument,
        StoreError::Stopped(_)
        | StoreError::InUse { .. }
        | StoreError::Open { .. }
        | StoreError::Setting { .. }
        | StoreError::Unreachable(_) => Code::Unavailable,
        StoreError::NewerFormat { .. } | StoreError::NotEmpty { .. } => Code::FailedPrecondition,
        StoreError::TooLarge { .. } => Code::ResourceExhausted,
        // Not one that clients try again by themselves.
        StoreError::Unsettled { .. } => Code::Unknown,
        StoreError::Unreadable(_) => Code::DataLoss,
        StoreError::Failed(_) => Code::Internal,
    };
    Status::new(code, error.to_string())
}

/// All lines in the message and all faults in the details, as far as the client can take them.
pub fn fault_status(faults: &Faults, metadata: &MetadataMap) -> Status {
    let room = metadata
        .get(DETAIL_BYTES)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .unwrap_or(DETAIL_BYTES_DEFAULT)
        .min(DETAIL_BYTES_MOST);
    let mut used = 0;
    let told: Vec<api::Fault> = faults
        .0
        .iter()
        .map(fault)
        .take_while(|fault| {
            used += fault.encoded_len();
            used <= room
        })
        .collect();
    let message = message(faults);
    let code = Code::InvalidArgument;
    let details = fault_details::encode(code.into(), message.clone(), told);
    Status::with_details(code, message, details.into())
}

fn message(faults: &Faults) -> String {
    let mut message = String::new();
    for (told, fault) in faults.0.iter().enumerate() {
        let line = fault.to_string();
        if message.len() + line.len() > MESSAGE_BYTES && told > 0 {
            let _ = write!(message, "\n… and {} more", faults.0.len() - told);
            break;
        }
        if told > 0 {
            message.push('\n');
        }
        message.push_str(&line);
    }
    message
}

fn fault(fault: &Fault) -> api::Fault {
    let place = fault.place.clone();
    api::Fault {
        file: place.as_ref().map(|place| place.file.clone()).unwrap_or_default(),
        line: place.as_ref().map_or(0, |place| place.line),
        column: place.map_or(0, |place| place.column),
        resource: fault.resource.clone(),
        field_path: fault.field_path.clone(),
        message: fault.message.clone(),
        hint: fault.hint.clone(),
    }
}

pub fn change(change: ResourceChange) -> api::Change {
    let kind = match change.kind {
        ChangeKind::Unchanged => api::change::Kind::Unchanged,
        ChangeKind::Created => api::change::Kind::Created,
        ChangeKind::Configured => api::change::Kind::Configured,
        ChangeKind::Deleted => api::change::Kind::Deleted,
    };
    api::Change {
        key: Some(key(&change.key)),
        kind: kind.into(),
        before: change.before.unwrap_or_default(),
        after: change.after.unwrap_or_default(),
    }
}

pub fn revision(record: RevisionRecord) -> api::RevisionInfo {
    let changes = record
        .changes
        .into_iter()
        .map(|change| {
            let kind = match change.kind {
                store::ChangeKind::Created => api::change::Kind::Created,
                store::ChangeKind::Configured => api::change::Kind::Configured,
                store::ChangeKind::Deleted => api::change::Kind::Deleted,
            };
            api::Change { key: Some(key(&change.key)), kind: kind.into(), ..api::Change::default() }
        })
        .collect();
    api::RevisionInfo {
        revision: record.revision.0,
        committed_at: Some(time(record.at)),
        author: record.author,
        message: record.message,
        restored_revision: record.restores.map(|revision| revision.0),
        changes,
    }
}

/// `outlook` where the resource is of the newest revision.
pub fn entry(stored: StoredResource, outlook: Option<&Outlook>) -> api::Entry {
    api::Entry {
        conditions: outlook.map_or_else(Vec::new, |outlook| outlook.conditions(&stored)),
        yaml: config::to_yaml(&stored.resource),
        resource: Some(stored.resource),
        revision: stored.revision.0,
        changed_at: Some(time(stored.changed_at)),
        created_at: Some(time(stored.created_at)),
    }
}

pub fn key(key: &ResourceKey) -> wire::ResourceKey {
    wire::ResourceKey {
        kind: key.kind.to_string(),
        namespace: key.namespace.clone(),
        name: key.name.clone(),
    }
}

/// A key as a caller wrote it; an empty namespace is the default one.
pub fn read_key(key: &wire::ResourceKey) -> Result<ResourceKey, Status> {
    let kind = read_kind(&key.kind)?
        .ok_or_else(|| Status::invalid_argument("a key needs a kind, such as Service"))?;
    if key.name.is_empty() {
        return Err(Status::invalid_argument("a key needs a name"));
    }
    let namespace =
        if key.namespace.is_empty() { DEFAULT_NAMESPACE } else { key.namespace.as_str() };
    Ok(ResourceKey::new(kind, namespace, key.name.as_str()))
}

/// A kind as a caller wrote it; empty is any.
pub fn read_kind(text: &str) -> Result<Option<Kind>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    Kind::parse(text).map(Some).ok_or_else(|| {
        let known: Vec<&str> = Kind::ALL.into_iter().map(Kind::as_str).collect();
        Status::invalid_argument(format!("unknown kind {text:?}: use {}", known.join(", ")))
    })
}

pub fn time(at: SystemTime) -> Timestamp {
    at.into()
}
