//! The few fields of delta xDS that a load side needs, read in place: ten thousand streams on one
//! core leave no time to build messages.

use bytes::Bytes;

/// What a `DeltaDiscoveryResponse` says.
#[derive(Debug, Default)]
pub struct Answer<'a> {
    pub type_url: &'a str,
    pub nonce: &'a str,
    /// Encoded `Resource`s.
    pub resources: Vec<&'a [u8]>,
    pub removed: Vec<&'a str>,
}

impl<'a> Answer<'a> {
    pub fn read(message: &'a [u8]) -> Option<Self> {
        let mut answer = Self::default();
        let mut fields = Fields(message);
        while let Some((number, value)) = fields.next()? {
            match (number, value) {
                (2, Value::Bytes(resource)) => answer.resources.push(resource),
                (4, Value::Bytes(text)) => answer.type_url = std::str::from_utf8(text).ok()?,
                (5, Value::Bytes(text)) => answer.nonce = std::str::from_utf8(text).ok()?,
                (6, Value::Bytes(text)) => answer.removed.push(std::str::from_utf8(text).ok()?),
                _ => {}
            }
        }
        Some(answer)
    }
}

/// Name, version and encoded message of a `Resource`.
pub fn resource(bytes: &[u8]) -> Option<(&str, &str, &[u8])> {
    let (mut name, mut version, mut message) = ("", "", &[][..]);
    let mut fields = Fields(bytes);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (1, Value::Bytes(text)) => version = std::str::from_utf8(text).ok()?,
            (3, Value::Bytes(text)) => name = std::str::from_utf8(text).ok()?,
            (2, Value::Bytes(any)) => message = field(any, 2)?,
            _ => {}
        }
    }
    Some((name, version, message))
}

/// Revision of an encoded `SnapshotMark`.
pub fn mark_revision(mark: &[u8]) -> Option<u64> {
    let mut fields = Fields(mark);
    while let Some((number, value)) = fields.next()? {
        if let (1, Value::Number(revision)) = (number, value) {
            return Some(revision);
        }
    }
    Some(0)
}

fn field(message: &[u8], wanted: u64) -> Option<&[u8]> {
    let mut fields = Fields(message);
    while let Some((number, value)) = fields.next()? {
        if let (true, Value::Bytes(bytes)) = (number == wanted, value) {
            return Some(bytes);
        }
    }
    Some(&[])
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Fixed,
}

/// The fields of a message that are left.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// `None` where the bytes are no message; `Some(None)` at its end.
    #[expect(clippy::option_option, reason = "broken and at the end are not the same")]
    fn next(&mut self) -> Option<Option<(u64, Value<'a>)>> {
        if self.0.is_empty() {
            return Some(None);
        }
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let bytes = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(bytes)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return None,
        };
        Some(Some((key >> 3, value)))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }
}

/// Names and versions from an earlier stream, as the fields that say so.
pub fn held<'a>(holds: impl Iterator<Item = (&'a str, &'a str)>) -> Bytes {
    let mut fields = Vec::new();
    for (name, version) in holds {
        let mut entry = Vec::new();
        put(&mut entry, 1, name.as_bytes());
        put(&mut entry, 2, version.as_bytes());
        put(&mut fields, 5, &entry);
    }
    fields.into()
}

/// A `DeltaDiscoveryRequest` in its gRPC frame.
#[derive(Debug, Default)]
pub struct Request<'a> {
    pub node: Option<&'a Node>,
    pub type_url: &'a str,
    pub subscribe: &'a [&'a str],
    /// What [`held`] made of what the client has, shared by all clients.
    pub holds: Bytes,
    pub nonce: &'a str,
}

/// Who asks.
#[derive(Debug)]
pub struct Node {
    pub id: String,
    /// Service of the node.
    pub cluster: String,
    pub user_agent: &'static str,
}

impl Request<'_> {
    /// What this client says, then what it holds.
    pub fn framed(&self) -> [Bytes; 2] {
        let mut message = Vec::new();
        if let Some(node) = self.node {
            let mut inner = Vec::new();
            put(&mut inner, 1, node.id.as_bytes());
            put(&mut inner, 2, node.cluster.as_bytes());
            put(&mut inner, 6, node.user_agent.as_bytes());
            put(&mut message, 1, &inner);
        }
        put(&mut message, 2, self.type_url.as_bytes());
        for name in self.subscribe {
            put(&mut message, 3, name.as_bytes());
        }
        if !self.nonce.is_empty() {
            put(&mut message, 6, self.nonce.as_bytes());
        }
        let mut framed = Vec::with_capacity(message.len() + 5);
        framed.push(0);
        let length = message.len() + self.holds.len();
        framed.extend(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        framed.append(&mut message);
        [framed.into(), self.holds.clone()]
    }
}

fn put(to: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    to.push(field << 3 | 2);
    let mut length = bytes.len();
    while length >= 0x80 {
        to.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    to.push(length as u8);
    to.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::service::discovery::v3::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource,
    };
    use envoy_types::pb::google::protobuf::Any;
    use prost::Message as _;

    use super::*;

    #[test]
    fn requests_are_those_of_the_protocol() {
        let node =
            Node { id: "n".to_owned(), cluster: "default/a".to_owned(), user_agent: "tester" };
        let long = "x".repeat(300);
        let request = Request {
            node: Some(&node),
            type_url: &long,
            subscribe: &["*"],
            holds: held([("a", "1")].into_iter()),
            nonce: "7",
        };
        let framed = request.framed().concat();
        let read = DeltaDiscoveryRequest::decode(&framed[5..]).unwrap();
        let told = read.node.unwrap();
        assert_eq!((told.id, told.cluster), (node.id.clone(), node.cluster.clone()));
        assert_eq!(told.user_agent_name, "tester");
        assert_eq!((read.type_url, read.response_nonce.as_str()), (long.clone(), "7"));
        assert_eq!(read.resource_names_subscribe, ["*"]);
        assert_eq!(read.initial_resource_versions["a"], "1");
    }

    #[test]
    fn answers_are_read_in_place() {
        let body = Any { type_url: "t".to_owned(), value: vec![8, 42] };
        let resource = Resource {
            name: "a".to_owned(),
            version: "v".to_owned(),
            resource: Some(body),
            ..Resource::default()
        };
        let response = DeltaDiscoveryResponse {
            system_version_info: "s".to_owned(),
            resources: vec![resource],
            type_url: "type".to_owned(),
            removed_resources: vec!["gone".to_owned()],
            nonce: "n".to_owned(),
            ..DeltaDiscoveryResponse::default()
        };
        let bytes = response.encode_to_vec();
        let answer = Answer::read(&bytes).unwrap();
        assert_eq!((answer.type_url, answer.nonce), ("type", "n"));
        assert_eq!(answer.removed, ["gone"]);
        let (name, version, message) = super::resource(answer.resources[0]).unwrap();
        assert_eq!((name, version, mark_revision(message)), ("a", "v", Some(42)));
        assert!(Answer::read(&bytes[..bytes.len() - 1]).is_none());
    }
}
