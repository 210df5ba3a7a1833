//! A summary as it is written: protobuf, so that later releases can add fields.

use std::sync::Arc;

use prost::{DecodeError, Message};
use segue_shared::ids::Revision;

use super::Summary;
use crate::fleet::{Group, Refused, Rejection};

/// Most bytes that are told of a reason and of a node's id.
const MOST_TEXT_BYTES: usize = 1024;
/// Most bytes that are told of another word.
const MOST_WORD_BYTES: usize = 256;

#[derive(Clone, PartialEq, Message)]
struct SummaryValue {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint64, tag = "2")]
    published: u64,
    #[prost(message, repeated, tag = "3")]
    groups: Vec<GroupValue>,
    #[prost(message, repeated, tag = "4")]
    accepted: Vec<GroupValue>,
    #[prost(message, repeated, tag = "5")]
    last: Vec<NodeValue>,
    #[prost(message, repeated, tag = "6")]
    refused: Vec<RefusedValue>,
    #[prost(uint64, tag = "7")]
    rejections: u64,
}

/// Nodes that have a revision in common.
#[derive(Clone, PartialEq, Message)]
struct GroupValue {
    #[prost(string, tag = "1")]
    service: String,
    #[prost(uint64, tag = "2")]
    revision: u64,
    #[prost(uint64, tag = "3")]
    sidecars: u64,
    #[prost(uint64, tag = "4")]
    clients: u64,
}

#[derive(Clone, PartialEq, Message)]
struct NodeValue {
    #[prost(string, tag = "1")]
    node_id: String,
    #[prost(uint64, tag = "2")]
    activated: u64,
}

#[derive(Clone, PartialEq, Message)]
struct RefusedValue {
    #[prost(string, tag = "1")]
    node_id: String,
    #[prost(string, tag = "2")]
    service: String,
    #[prost(uint64, tag = "3")]
    activated: u64,
    #[prost(string, tag = "4")]
    type_url: String,
    #[prost(string, tag = "5")]
    resource: String,
    #[prost(string, tag = "6")]
    field_path: String,
    #[prost(string, tag = "7")]
    reason: String,
    #[prost(uint64, tag = "8")]
    revision: u64,
}

impl Summary {
    /// As bytes, at most about a megabyte.
    pub fn encode(&self) -> Vec<u8> {
        let group = |service: &str, revision: Revision, sidecars, clients| GroupValue {
            service: service.to_owned(),
            revision: revision.0,
            sidecars: count(sidecars),
            clients: count(clients),
        };
        let node = |(node_id, activated): &(Arc<str>, Revision)| NodeValue {
            node_id: cut(node_id, MOST_TEXT_BYTES),
            activated: activated.0,
        };
        SummaryValue {
            name: cut(&self.name, MOST_WORD_BYTES),
            published: self.published.0,
            groups: self
                .groups
                .iter()
                .map(|it| group(&it.service, it.activated, it.sidecars, it.clients))
                .collect(),
            accepted: self
                .accepted
                .iter()
                .map(|(at, sidecars)| group("", *at, *sidecars, 0))
                .collect(),
            last: self.last.iter().map(node).collect(),
            refused: self.refused.iter().map(refused_value).collect(),
            rejections: count(self.rejections),
        }
        .encode_to_vec()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let value = SummaryValue::decode(bytes)?;
        let groups = value.groups.into_iter().map(|group| Group {
            service: group.service.into(),
            activated: Revision(group.revision),
            sidecars: number(group.sidecars),
            clients: number(group.clients),
        });
        let accepted = value.accepted.iter().map(|it| (Revision(it.revision), number(it.sidecars)));
        let last =
            value.last.into_iter().map(|node| (node.node_id.into(), Revision(node.activated)));
        Ok(Self {
            name: value.name,
            published: Revision(value.published),
            groups: groups.collect(),
            accepted: accepted.collect(),
            last: last.collect(),
            refused: value.refused.into_iter().map(refused).collect(),
            rejections: number(value.rejections),
        })
    }
}

fn refused_value(refused: &Refused) -> RefusedValue {
    let Rejection { type_url, resource, field_path, reason, revision } = &refused.rejection;
    RefusedValue {
        node_id: cut(&refused.node_id, MOST_TEXT_BYTES),
        service: cut(&refused.service, MOST_WORD_BYTES),
        activated: refused.activated.0,
        type_url: cut(type_url, MOST_WORD_BYTES),
        resource: cut(resource, MOST_WORD_BYTES),
        field_path: cut(field_path, MOST_WORD_BYTES),
        reason: cut(reason, MOST_TEXT_BYTES),
        revision: revision.0,
    }
}

fn refused(value: RefusedValue) -> Refused {
    Refused {
        node_id: value.node_id.into(),
        service: value.service.into(),
        activated: Revision(value.activated),
        rejection: Rejection {
            type_url: value.type_url,
            resource: value.resource,
            field_path: value.field_path,
            reason: value.reason.into(),
            revision: Revision(value.revision),
        },
    }
}

fn cut(text: &str, most: usize) -> String {
    text[..text.floor_char_boundary(most)].to_owned()
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn number(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_what_was_written_with_long_texts_cut() {
        let one = |node_id: &str, reason: &str| Refused {
            node_id: node_id.into(),
            service: "default/chat".into(),
            activated: Revision(4),
            rejection: Rejection {
                type_url: "type".to_owned(),
                resource: "default/chat/v2".to_owned(),
                field_path: "lb_policy".to_owned(),
                reason: reason.into(),
                revision: Revision(5),
            },
        };
        let group = |service: &str, activated, sidecars| Group {
            service: service.into(),
            activated: Revision(activated),
            sidecars,
            clients: 2,
        };
        let summary = Summary {
            name: "10.0.0.1:18001".to_owned(),
            published: Revision(5),
            groups: vec![group("default/chat", 4, 1), group("", 5, 7)],
            accepted: vec![(Revision(4), 1), (Revision(5), 7)],
            last: vec![("a".into(), Revision(4))],
            refused: vec![one("envoy", &"ä".repeat(1000))],
            rejections: 2,
        };
        let read = Summary::decode(&summary.encode()).unwrap();
        let cut = Summary { refused: vec![one("envoy", &"ä".repeat(512))], ..summary };
        assert_eq!(read, cut);
        assert!(Summary::decode(b"\xff\xff").is_err());
    }
}
