//! The part of etcd's v3 API that this store uses, by the numbers of `etcdserverpb/rpc.proto`.
//!
//! Written here because the client crates need `protoc` to build, and because a client that hides
//! which member it asks, or retries on its own, could not say what became of a commit.

use prost::{Message, Oneof};

#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// etcd's revision that last wrote it.
    #[prost(int64, tag = "3")]
    pub mod_revision: i64,
    #[prost(bytes = "vec", tag = "5")]
    pub value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Event {
    /// 0: put, 1: delete.
    #[prost(int32, tag = "1")]
    pub kind: i32,
    #[prost(message, optional, tag = "2")]
    pub kv: Option<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ResponseHeader {
    /// Who answered.
    #[prost(uint64, tag = "2")]
    pub member_id: u64,
    /// etcd's own revision when it answered.
    #[prost(int64, tag = "3")]
    pub revision: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// Keys before it; empty: the key alone.
    #[prost(bytes = "vec", tag = "2")]
    pub range_end: Vec<u8>,
    /// 0: all.
    #[prost(int64, tag = "3")]
    pub limit: i64,
    /// 0: as the keys lie, 1: ascending, 2: descending, by key.
    #[prost(int32, tag = "5")]
    pub sort_order: i32,
    #[prost(bool, tag = "8")]
    pub keys_only: bool,
}

#[derive(Clone, PartialEq, Message)]
pub struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    pub kvs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
    /// 0: none, which also takes it from the lease that it had.
    #[prost(int64, tag = "3")]
    pub lease: i64,
    /// The value stays; fails where there is none.
    #[prost(bool, tag = "5")]
    pub ignore_value: bool,
}

#[derive(Clone, PartialEq, Message)]
pub struct DeleteRangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub range_end: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Operation {
    #[prost(oneof = "Request", tags = "1, 2, 3")]
    pub request: Option<Request>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum Request {
    #[prost(message, tag = "1")]
    Range(RangeRequest),
    #[prost(message, tag = "2")]
    Put(PutRequest),
    #[prost(message, tag = "3")]
    Delete(DeleteRangeRequest),
}

#[derive(Clone, PartialEq, Message)]
pub struct Compare {
    /// 0: equal.
    #[prost(int32, tag = "1")]
    pub result: i32,
    /// 2: the revision that last wrote it.
    #[prost(int32, tag = "2")]
    pub target: i32,
    #[prost(bytes = "vec", tag = "3")]
    pub key: Vec<u8>,
    /// `Some(0)`: the key does not exist.
    #[prost(int64, optional, tag = "6")]
    pub mod_revision: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Txn {
    #[prost(message, repeated, tag = "1")]
    pub compare: Vec<Compare>,
    #[prost(message, repeated, tag = "2")]
    pub success: Vec<Operation>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TxnResponse {
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    #[prost(bool, tag = "2")]
    pub succeeded: bool,
    #[prost(message, repeated, tag = "3")]
    pub responses: Vec<OperationResponse>,
}

/// Answers to other operations than ranges are left unread.
#[derive(Clone, PartialEq, Message)]
pub struct OperationResponse {
    #[prost(message, optional, tag = "1")]
    pub range: Option<RangeResponse>,
}

#[derive(Clone, PartialEq, Message)]
pub struct CompactionRequest {
    #[prost(int64, tag = "1")]
    pub revision: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct WatchRequest {
    #[prost(message, optional, tag = "1")]
    pub create: Option<WatchCreateRequest>,
}

#[derive(Clone, PartialEq, Message)]
pub struct WatchCreateRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub range_end: Vec<u8>,
    /// The first of etcd's revisions to tell of.
    #[prost(int64, tag = "3")]
    pub start_revision: i64,
    /// What not to tell: 0 puts, 1 deletes.
    #[prost(int32, repeated, tag = "5")]
    pub filters: Vec<i32>,
    /// Large answers come in pieces.
    #[prost(bool, tag = "8")]
    pub fragment: bool,
}

#[derive(Clone, PartialEq, Message)]
pub struct WatchResponse {
    #[prost(bool, tag = "4")]
    pub canceled: bool,
    #[prost(message, repeated, tag = "11")]
    pub events: Vec<Event>,
}

#[derive(Clone, PartialEq, Message)]
pub struct LeaseGrantRequest {
    #[prost(int64, tag = "1")]
    pub ttl: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct LeaseGrantResponse {
    #[prost(int64, tag = "2")]
    pub id: i64,
}

/// Also the request to revoke one.
#[derive(Clone, PartialEq, Message)]
pub struct LeaseRequest {
    #[prost(int64, tag = "1")]
    pub id: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct LeaseKeepAliveResponse {
    /// Seconds from now on; 0: it is over.
    #[prost(int64, tag = "3")]
    pub ttl: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct AuthenticateRequest {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub password: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct AuthenticateResponse {
    #[prost(string, tag = "2")]
    pub token: String,
}

/// An answer whose fields nobody reads.
#[derive(Clone, PartialEq, Message)]
pub struct Empty {}

/// Keys from the first to before the second.
pub type Range = (String, String);

/// One key.
pub fn get(key: String) -> RangeRequest {
    RangeRequest { key: key.into(), ..RangeRequest::default() }
}

/// The first `limit` keys of a range.
pub fn first_of((key, end): Range, limit: i64) -> RangeRequest {
    RangeRequest { range_end: end.into(), limit, sort_order: 1, ..get(key) }
}

/// The last key of a range.
pub fn last_of((key, end): Range) -> RangeRequest {
    RangeRequest { range_end: end.into(), limit: 1, sort_order: 2, ..get(key) }
}

/// Writes a key, outside of any lease.
pub fn put(key: String, value: impl Into<Vec<u8>>) -> Operation {
    leased(key, value, 0)
}

/// Writes a key that goes with its lease.
pub fn leased(key: String, value: impl Into<Vec<u8>>, lease: i64) -> Operation {
    let put = PutRequest { key: key.into(), value: value.into(), lease, ignore_value: false };
    Operation { request: Some(Request::Put(put)) }
}

/// Takes a key from its lease, so that it stays as it is. Fails where it is gone.
pub fn keep(key: String) -> Operation {
    let put = PutRequest { key: key.into(), ignore_value: true, ..PutRequest::default() };
    Operation { request: Some(Request::Put(put)) }
}

pub fn delete((key, end): Range) -> Operation {
    let delete = DeleteRangeRequest { key: key.into(), range_end: end.into() };
    Operation { request: Some(Request::Delete(delete)) }
}

/// Holds where etcd's revision `at` was the last to write the key; 0: there is no key.
pub fn unchanged(key: String, at: i64) -> Compare {
    Compare { result: 0, target: 2, key: key.into(), mod_revision: Some(at) }
}

impl Event {
    /// The key is gone.
    pub fn is_delete(&self) -> bool {
        self.kind == 1
    }
}

impl TxnResponse {
    pub fn revision(&self) -> i64 {
        self.header.as_ref().map_or(0, |header| header.revision)
    }

    /// Who answered.
    pub fn member(&self) -> u64 {
        self.header.as_ref().map_or(0, |header| header.member_id)
    }
}
