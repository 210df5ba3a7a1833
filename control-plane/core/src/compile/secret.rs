//! `Secret`: whom a node believes, and who it is. They belong to one node, and are no part of what
//! nodes of a class share.

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::DataSource;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, TlsCertificate,
};
use prost::Message as _;
use segue_shared::xds_names::{BUNDLE_SECRET, IDENTITY_SECRET, type_urls};
use zeroize::Zeroize as _;

use crate::snapshot::EncodedResource;

/// The roots that a node believes, in PEM; the one first that signs now.
pub fn authorities(pem: &str) -> Arc<EncodedResource> {
    let context = CertificateValidationContext {
        trusted_ca: Some(inline(pem)),
        ..CertificateValidationContext::default()
    };
    encode(BUNDLE_SECRET, Type::ValidationContext(context))
}

/// Who a node is, for nodes that do not keep a key of their own: its chain, the leaf first, and the
/// key, in PEM.
pub fn identity(chain: &str, key: &str) -> Arc<EncodedResource> {
    let certificate = TlsCertificate {
        certificate_chain: Some(inline(chain)),
        private_key: Some(inline(key)),
        ..TlsCertificate::default()
    };
    encode(IDENTITY_SECRET, Type::TlsCertificate(certificate))
}

fn encode(name: &str, what: Type) -> Arc<EncodedResource> {
    let secret = Secret { name: name.to_owned(), r#type: Some(what) };
    let mut bytes = secret.encode_to_vec();
    let encoded = EncodedResource::secret(type_urls::SECRET, name, &bytes);
    bytes.zeroize();
    if let Some(Type::TlsCertificate(certificate)) = secret.r#type {
        wipe(certificate);
    }
    Arc::new(encoded)
}

/// The copy that the message held.
fn wipe(certificate: TlsCertificate) {
    let key = certificate.private_key.and_then(|it| it.specifier);
    if let Some(Specifier::InlineBytes(mut key)) = key {
        key.zeroize();
    }
}

fn inline(pem: &str) -> DataSource {
    DataSource {
        specifier: Some(Specifier::InlineBytes(pem.as_bytes().to_vec())),
        ..DataSource::default()
    }
}
