//! Bytes that may be too large for one value, or for one request.
//!
//! etcd takes requests of 1.5 MiB and transactions of 128 operations. Parts of a large content are
//! written first, held by a lease, under keys that nobody reads. The transaction that makes them
//! count writes them again without value and without lease, so that they stay; where it never
//! comes, the lease takes them away. Of more parts than one transaction takes the first are kept
//! before; those that never count go with the revisions around them when these are too old.

use segue_shared::ids::Revision;

use super::Id;
use super::api::{self, Operation, Txn};
use super::connection::Connection;
use super::keys::{Keys, Part};
use super::value::{self, ContentValue};
use crate::store::contract::StoreError;

/// Largest content that a value holds itself.
const MOST_INLINE_BYTES: usize = 256 * 1024;
const PART_BYTES: usize = 512 * 1024;
/// Leaves room in a transaction of 128 operations.
const PARTS_A_TRANSACTION: usize = 100;
/// 1 GiB: etcd itself holds 2 GiB by default.
const MOST_PARTS: usize = 2048;
/// Parts of one answer.
const PAGE_PARTS: i64 = 16;
/// Time from the first part to the transaction.
const LEASE_SECONDS: i64 = 600;

/// A content on its way.
pub struct Sent {
    pub value: ContentValue,
    /// Operations that keep its parts, for the transaction that makes it count.
    pub keep: Vec<Operation>,
    lease: Option<i64>,
}

/// Writes the parts of `bytes`, where it needs parts.
pub async fn send(
    connection: &Connection,
    keys: &Keys,
    (part, revision, id): (Part, Revision, Id),
    bytes: Vec<u8>,
) -> Result<Sent, StoreError> {
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let id_bytes = id.to_be_bytes().to_vec();
    if bytes.len() <= MOST_INLINE_BYTES {
        let value = ContentValue { inline: bytes, id: id_bytes, parts: 0, length };
        return Ok(Sent { value, keep: Vec::new(), lease: None });
    }
    let most = MOST_PARTS * PART_BYTES;
    if bytes.len() > most {
        return Err(StoreError::TooLarge { bytes: bytes.len(), most });
    }
    let lease = connection.grant(LEASE_SECONDS).await?;
    let mut keep = Vec::new();
    let mut parts = 0;
    for piece in bytes.chunks(PART_BYTES) {
        let key = keys.part(part, revision, id, parts);
        let put = vec![api::leased(key.clone(), piece, lease)];
        connection.again(Txn { compare: Vec::new(), success: put }).await?;
        keep.push(api::keep(key));
        parts += 1;
        if keep.len() > PARTS_A_TRANSACTION {
            let success = keep.drain(..PARTS_A_TRANSACTION).collect();
            connection.again(Txn { compare: Vec::new(), success }).await?;
        }
    }
    let value = ContentValue { inline: Vec::new(), id: id_bytes, parts, length };
    Ok(Sent { value, keep, lease: Some(lease) })
}

impl Sent {
    /// Takes the parts away at once, where they do not count for certain. Those that were kept are
    /// not of the lease any more and stay.
    pub async fn end(self, connection: &Connection) {
        if let Some(lease) = self.lease {
            connection.revoke(lease).await;
        }
    }
}

/// The bytes again.
pub async fn receive(
    connection: &Connection,
    keys: &Keys,
    (part, revision): (Part, Revision),
    value: ContentValue,
) -> Result<Vec<u8>, StoreError> {
    if value.parts == 0 {
        return Ok(value.inline);
    }
    let id = value::id_of(&value.id)?;
    let end = keys.parts(part, revision, id).1;
    let mut bytes = Vec::new();
    let mut next = 0;
    while next < value.parts {
        let first = keys.part(part, revision, id, next);
        let page = api::first_of((first, end.clone()), PAGE_PARTS);
        let page = connection.read([page]).await?.range();
        if page.is_empty() {
            break;
        }
        for piece in page {
            bytes.extend_from_slice(&piece.value);
            next += 1;
        }
    }
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) != value.length {
        let (found, expected) = (bytes.len(), value.length);
        return Err(StoreError::Unreadable(format!(
            "revision {revision}, of which {found} of {expected} bytes are left"
        )));
    }
    Ok(bytes)
}
