//! Responses as bytes. The resources' bytes are those of the snapshot.

use std::ops::Range;
use std::time::Duration;

use bytes::BufMut;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use segue_shared::xds_names::CONTROL_PLANE;

use super::response::{ResourceError, Response};
use crate::snapshot::{EncodedResource, Form};

/// Field numbers of one of the two response messages.
#[derive(Debug)]
pub struct Fields {
    version: u32,
    resources: u32,
    type_url: u32,
    nonce: u32,
    control_plane: u32,
    errors: u32,
    /// Only delta responses tell what is gone.
    removed: Option<u32>,
    form: Form,
}

impl Fields {
    pub(super) fn form(&self) -> Form {
        self.form
    }
}

/// `envoy.service.discovery.v3.DeltaDiscoveryResponse`.
pub(super) const DELTA: Fields = Fields {
    version: 1,
    resources: 2,
    type_url: 4,
    nonce: 5,
    removed: Some(6),
    control_plane: 7,
    errors: 9,
    form: Form::Wrapped,
};

/// `envoy.service.discovery.v3.DiscoveryResponse`.
pub(super) const STATE_OF_THE_WORLD: Fields = Fields {
    version: 1,
    resources: 2,
    type_url: 4,
    nonce: 5,
    removed: None,
    control_plane: 6,
    errors: 7,
    form: Form::Any,
};

const WRAPPED_TYPE_URL: &str = "type.googleapis.com/envoy.service.discovery.v3.Resource";

/// Field numbers of `envoy.service.discovery.v3.Resource`.
mod resource {
    pub const VERSION: u32 = 1;
    pub const NAME: u32 = 3;
    pub const TTL: u32 = 6;
}

/// Field numbers of `google.protobuf.Any`.
mod any {
    pub const TYPE_URL: u32 = 1;
    pub const VALUE: u32 = 2;
}

/// Field numbers of `google.protobuf.Duration`.
mod duration {
    pub const SECONDS: u32 = 1;
    pub const NANOS: u32 = 2;
}

/// Field number of `envoy.config.core.v3.ControlPlane.identifier`.
const IDENTIFIER: u32 = 1;

/// Field numbers of `envoy.service.discovery.v3.ResourceError` and of what is in it.
mod error {
    pub const RESOURCE_NAME: u32 = 1;
    pub const DETAIL: u32 = 2;
    /// Of `envoy.service.discovery.v3.ResourceName`.
    pub const NAME: u32 = 1;
    /// Of `google.rpc.Status`.
    pub const CODE: u32 = 1;
    pub const MESSAGE: u32 = 2;
}

/// How many bytes [`put_resources`] writes.
pub(super) fn resources_len(fields: &Fields, response: &Response, range: Range<usize>) -> usize {
    response.resources[range]
        .iter()
        .map(|resource| field_len(fields.resources, resource_len(fields.form, response, resource)))
        .sum()
}

/// Writes some of the resources.
pub(super) fn put_resources(
    fields: &Fields,
    response: &Response,
    range: Range<usize>,
    to: &mut impl BufMut,
) {
    for resource in &response.resources[range] {
        put_head(fields.resources, resource_len(fields.form, response, resource), to);
        put_resource(fields.form, response, resource, to);
    }
}

/// How many bytes [`put_head_fields`] writes.
pub(super) fn head_len(fields: &Fields, response: &Response) -> usize {
    let removed = fields
        .removed
        .into_iter()
        .flat_map(|field| response.removed.iter().map(move |name| field_len(field, name.len())));
    let errors = response.errors.iter().map(|error| field_len(fields.errors, error_len(error)));
    text_len(fields.version, &response.version_info)
        + text_len(fields.type_url, &response.type_url)
        + text_len(fields.nonce, &response.nonce)
        + removed.sum::<usize>()
        + field_len(fields.control_plane, text_len(IDENTIFIER, CONTROL_PLANE))
        + errors.sum::<usize>()
}

/// Writes all but the resources.
pub(super) fn put_head_fields(fields: &Fields, response: &Response, to: &mut impl BufMut) {
    put_text(fields.version, &response.version_info, to);
    put_text(fields.type_url, &response.type_url, to);
    put_text(fields.nonce, &response.nonce, to);
    if let Some(field) = fields.removed {
        for name in &response.removed {
            put_head(field, name.len(), to);
            to.put_slice(name.as_bytes());
        }
    }
    put_head(fields.control_plane, text_len(IDENTIFIER, CONTROL_PLANE), to);
    put_text(IDENTIFIER, CONTROL_PLANE, to);
    for error in &response.errors {
        put_head(fields.errors, error_len(error), to);
        put_error(error, to);
    }
}

fn resource_len(form: Form, response: &Response, resource: &EncodedResource) -> usize {
    let wrapped = || wrapped_len(response, resource);
    match form {
        Form::Wrapped => wrapped(),
        Form::Any if response.ttl.is_none() => resource.any().len(),
        Form::Any => text_len(any::TYPE_URL, WRAPPED_TYPE_URL) + field_len(any::VALUE, wrapped()),
    }
}

fn put_resource(form: Form, response: &Response, resource: &EncodedResource, to: &mut impl BufMut) {
    match form {
        Form::Any if response.ttl.is_none() => to.put(resource.any()),
        Form::Any => {
            put_text(any::TYPE_URL, WRAPPED_TYPE_URL, to);
            put_head(any::VALUE, wrapped_len(response, resource), to);
            put_wrapped(response, resource, to);
        }
        Form::Wrapped => put_wrapped(response, resource, to),
    }
}

fn wrapped_len(response: &Response, encoded: &EncodedResource) -> usize {
    let body = if response.is_heartbeat {
        text_len(resource::VERSION, encoded.version()) + text_len(resource::NAME, encoded.name())
    } else {
        encoded.wrapped().len()
    };
    body + response.ttl.map_or(0, |ttl| field_len(resource::TTL, duration_len(ttl)))
}

fn put_wrapped(response: &Response, encoded: &EncodedResource, to: &mut impl BufMut) {
    if response.is_heartbeat {
        put_text(resource::VERSION, encoded.version(), to);
        put_text(resource::NAME, encoded.name(), to);
    } else {
        to.put(encoded.wrapped());
    }
    if let Some(ttl) = response.ttl {
        put_head(resource::TTL, duration_len(ttl), to);
        put_number(duration::SECONDS, ttl.as_secs(), to);
        put_number(duration::NANOS, u64::from(ttl.subsec_nanos()), to);
    }
}

fn duration_len(of: Duration) -> usize {
    number_len(duration::SECONDS, of.as_secs())
        + number_len(duration::NANOS, u64::from(of.subsec_nanos()))
}

fn status_len(error: &ResourceError) -> usize {
    number_len(error::CODE, code(error)) + text_len(error::MESSAGE, &error.message)
}

fn error_len(error: &ResourceError) -> usize {
    field_len(error::RESOURCE_NAME, text_len(error::NAME, &error.name))
        + field_len(error::DETAIL, status_len(error))
}

fn put_error(error: &ResourceError, to: &mut impl BufMut) {
    put_head(error::RESOURCE_NAME, text_len(error::NAME, &error.name), to);
    put_text(error::NAME, &error.name, to);
    put_head(error::DETAIL, status_len(error), to);
    put_number(error::CODE, code(error), to);
    put_text(error::MESSAGE, &error.message, to);
}

/// As protobuf's `int32` has it: negative numbers as those of 64 bits.
fn code(error: &ResourceError) -> u64 {
    i64::from(error.code) as u64
}

fn field_len(field: u32, bytes: usize) -> usize {
    key_len(field) + encoded_len_varint(bytes as u64) + bytes
}

fn put_head(field: u32, bytes: usize, to: &mut impl BufMut) {
    encode_key(field, WireType::LengthDelimited, to);
    encode_varint(bytes as u64, to);
}

/// Empty texts and zeros are not written, as protobuf wants it.
fn text_len(field: u32, text: &str) -> usize {
    if text.is_empty() { 0 } else { field_len(field, text.len()) }
}

fn put_text(field: u32, text: &str, to: &mut impl BufMut) {
    if !text.is_empty() {
        put_head(field, text.len(), to);
        to.put_slice(text.as_bytes());
    }
}

fn number_len(field: u32, number: u64) -> usize {
    if number == 0 { 0 } else { key_len(field) + encoded_len_varint(number) }
}

fn put_number(field: u32, number: u64, to: &mut impl BufMut) {
    if number != 0 {
        encode_key(field, WireType::Varint, to);
        encode_varint(number, to);
    }
}
