//! A response as its variant's message, written part by part.
//!
//! Protobuf allows it: messages that follow each other are one message with the repeated fields of
//! all. So a response of a megabyte that waits for a slow client costs a list of what is in it, and
//! the part that is on its way; and what is the same for many clients is the same bytes.

use std::ops::Range;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::response::Response;
use super::variant::Variant;
use super::wire::{self, Fields};
use crate::snapshot::EncodedResource;

/// Bytes of resources after which a part ends.
pub const PART_BYTES: usize = 32 * 1024;
/// Most bytes of resources that are written with the head.
const SMALL_BYTES: usize = 4 * 1024;

/// What is left to be written of a response.
#[derive(Debug)]
pub struct Message {
    fields: &'static Fields,
    response: Response,
    resource_bytes: usize,
    /// Parts that others write too.
    shared: Option<Arc<[Bytes]>>,
    /// Resources or shared parts that are written.
    written: usize,
}

impl Message {
    pub fn of<V: Variant>(response: Response) -> Self {
        let fields = V::FIELDS;
        let plain = response.ttl.is_none() && !response.is_heartbeat;
        let write = |_: &[Arc<EncodedResource>]| {
            let mut parts = Vec::new();
            let mut at = 0;
            while at < response.resources.len() {
                let range = part(fields, &response, at);
                at = range.end;
                parts.push(written(fields, &response, range));
            }
            parts
        };
        let shared = plain.then(|| response.resources.parts(fields.form(), write)).flatten();
        let resource_bytes = match &shared {
            Some(parts) => parts.iter().map(Bytes::len).sum(),
            None => wire::resources_len(fields, &response, 0..response.resources.len()),
        };
        Self { fields, response, resource_bytes, shared, written: 0 }
    }

    /// Bytes of the whole message.
    pub fn bytes(&self) -> usize {
        wire::head_len(self.fields, &self.response) + self.resource_bytes
    }

    /// Bytes of what comes first.
    pub fn first_bytes(&self) -> usize {
        let resources = if self.is_small() { self.resource_bytes } else { 0 };
        wire::head_len(self.fields, &self.response) + resources
    }

    /// Writes what comes first: all but the resources, and these too where they are few.
    pub fn put_first(&mut self, to: &mut impl BufMut) {
        wire::put_head_fields(self.fields, &self.response, to);
        if self.is_small() {
            while let Some(part) = self.next_part() {
                to.put(part);
            }
        }
    }

    /// The next part of the resources; `None` after the last.
    pub fn next_part(&mut self) -> Option<Bytes> {
        if let Some(parts) = &self.shared {
            let part = parts.get(self.written)?.clone();
            self.written += 1;
            return Some(part);
        }
        if self.written >= self.response.resources.len() {
            return None;
        }
        let range = part(self.fields, &self.response, self.written);
        self.written = range.end;
        Some(written(self.fields, &self.response, range))
    }

    fn is_small(&self) -> bool {
        self.resource_bytes <= SMALL_BYTES
    }
}

/// The resources of the part that begins with the one at `begin`.
fn part(fields: &Fields, response: &Response, begin: usize) -> Range<usize> {
    let (mut end, mut bytes) = (begin, 0);
    while end < response.resources.len() && bytes <= PART_BYTES {
        bytes += wire::resources_len(fields, response, end..end + 1);
        end += 1;
    }
    begin..end
}

fn written(fields: &Fields, response: &Response, range: Range<usize>) -> Bytes {
    let bytes = wire::resources_len(fields, response, range.clone());
    let mut part = BytesMut::with_capacity(bytes);
    wire::put_resources(fields, response, range, &mut part);
    part.freeze()
}
