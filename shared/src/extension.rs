//! Typed messages in and out of `Any`.

use envoy_types::pb::google::protobuf::Any;
use prost::{Message, Name};
use thiserror::Error;

/// The name of a message as its type URL.
pub fn type_url(full_name: &str) -> String {
    format!("type.googleapis.com/{full_name}")
}

/// Packs a message that knows its own name.
pub fn pack<M: Message + Name>(message: &M) -> Any {
    Any { type_url: type_url(&M::full_name()), value: message.encode_to_vec() }
}

/// Packs a message under a type URL.
pub fn pack_as<M: Message>(type_url: &str, message: &M) -> Any {
    Any { type_url: type_url.to_owned(), value: message.encode_to_vec() }
}

/// Unpacks a message and says what was wrong where it cannot.
pub fn unpack<M: Message + Default>(any: &Any, full_name: &str) -> Result<M, UnpackError> {
    if any.type_url.rsplit('/').next() != Some(full_name) {
        return Err(UnpackError::OtherType {
            expected: full_name.to_owned(),
            found: any.type_url.clone(),
        });
    }
    M::decode(any.value.as_slice()).map_err(|source| UnpackError::Malformed {
        type_url: any.type_url.clone(),
        reason: source.to_string(),
    })
}

/// Why an `Any` is not the message it should be. A retry cannot help.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UnpackError {
    #[error("expected {expected}, found {found:?}")]
    OtherType { expected: String, found: String },
    #[error("{type_url} does not decode: {reason}")]
    Malformed { type_url: String, reason: String },
}
