//! How long a node wants its resources to live without the control plane.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::google::protobuf::value::Kind;
use thiserror::Error;

/// Key in `Node.metadata` under which a client asks for a time to live.
const RESOURCE_TTL: &str = "resource_ttl";
/// Shortest and longest time to live, in seconds.
const SECONDS: std::ops::RangeInclusive<u64> = 5..=86_400;

/// A time to live that cannot be given.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("node.metadata.{RESOURCE_TTL} must be text such as \"300s\", from 5s to 86400s")]
pub(super) struct TimeToLiveError;

/// What the node asks for: `node.metadata.resource_ttl`, in whole seconds. Resources live for ever
/// where it asks for nothing.
pub(super) fn time_to_live(node: &Node) -> Result<Option<Duration>, TimeToLiveError> {
    let asked = node.metadata.as_ref().and_then(|all| all.fields.get(RESOURCE_TTL));
    match asked.and_then(|value| value.kind.as_ref()) {
        None => Ok(None),
        Some(Kind::StringValue(text)) => {
            let seconds = text.strip_suffix('s').and_then(|number| number.parse().ok());
            let seconds = seconds.filter(|seconds| SECONDS.contains(seconds));
            seconds.map(|seconds| Some(Duration::from_secs(seconds))).ok_or(TimeToLiveError)
        }
        Some(_) => Err(TimeToLiveError),
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::google::protobuf::{Struct, Value};

    use super::*;

    fn asked(kind: Option<Kind>) -> Result<Option<Duration>, TimeToLiveError> {
        let fields = [(RESOURCE_TTL.to_owned(), Value { kind })].into();
        time_to_live(&Node { metadata: Some(Struct { fields }), ..Node::default() })
    }

    #[test]
    fn a_node_gets_the_time_that_it_asks_for() {
        let text = |text: &str| asked(Some(Kind::StringValue(text.to_owned())));
        assert_eq!(text("300s"), Ok(Some(Duration::from_mins(5))));
        assert_eq!(time_to_live(&Node::default()), Ok(None));
        for wrong in ["", "300", "4s", "86401s", "-5s", "soon"] {
            assert_eq!(text(wrong), Err(TimeToLiveError), "{wrong}");
        }
        assert_eq!(asked(Some(Kind::NumberValue(300.0))), Err(TimeToLiveError));
    }
}
