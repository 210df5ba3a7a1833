//! Resources that go out together.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::EncodedResource;

/// The resources of a response. Those of many clients may be one and the same batch, which is then
/// written as parts of a response once, and not once for each of them.
#[derive(Debug, Default)]
pub struct Batch {
    resources: Vec<Arc<EncodedResource>>,
    written: Option<Box<Written>>,
}

/// What is the same for all clients of a batch.
#[derive(Debug, Default)]
struct Written {
    wrapped: OnceLock<Arc<[Bytes]>>,
    any: OnceLock<Arc<[Bytes]>>,
    digest: OnceLock<String>,
}

/// What a response holds of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An `envoy.service.discovery.v3.Resource`.
    Wrapped,
    /// A `google.protobuf.Any`: of the resource, or of a `Resource` where there is more to say.
    Any,
}

impl Batch {
    /// For one client.
    pub fn single(resources: Vec<Arc<EncodedResource>>) -> Arc<Self> {
        Arc::new(Self { resources, written: None })
    }

    /// For all clients that get the same.
    pub fn shared(resources: Vec<Arc<EncodedResource>>) -> Arc<Self> {
        Arc::new(Self { resources, written: Some(Box::default()) })
    }

    /// The batch as parts of a response, written at the first call. `None` where it is that of one
    /// client, whose parts are better written one by one.
    pub fn parts(
        &self,
        form: Form,
        write: impl FnOnce(&[Arc<EncodedResource>]) -> Vec<Bytes>,
    ) -> Option<Arc<[Bytes]>> {
        let written = self.written.as_deref()?;
        let place = match form {
            Form::Wrapped => &written.wrapped,
            Form::Any => &written.any,
        };
        Some(Arc::clone(place.get_or_init(|| write(&self.resources).into())))
    }

    /// What `digest` makes of the resources, once where that is the same for many.
    pub fn digest(&self, digest: impl FnOnce(&[Arc<EncodedResource>]) -> String) -> String {
        match &self.written {
            Some(written) => written.digest.get_or_init(|| digest(&self.resources)).clone(),
            None => digest(&self.resources),
        }
    }
}

impl Deref for Batch {
    type Target = [Arc<EncodedResource>];

    fn deref(&self) -> &Self::Target {
        &self.resources
    }
}

impl PartialEq for Batch {
    fn eq(&self, other: &Self) -> bool {
        self.resources == other.resources
    }
}

impl Eq for Batch {}
