//! JSON Schema for editors.

use super::key::Kind;

/// JSON Schema 2020-12 of one kind, or of any resource.
pub fn schema(kind: Option<Kind>) -> serde_json::Value {
    let _ = kind;
    serde_json::Value::Null
}
