//! `UpstreamTlsContext`: mTLS between workloads of the mesh.

use envoy_types::pb::envoy::config::core::v3::{TransportSocket, transport_socket};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::{
    CombinedCertificateValidationContext, ValidationContextType,
};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::tls_parameters::TlsProtocol;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateProviderPluginInstance, CertificateValidationContext, CommonTlsContext,
    SdsSecretConfig, SubjectAltNameMatcher, TlsParameters, UpstreamTlsContext,
};
use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use segue_shared::extension::{pack_as, type_url};
use segue_shared::spiffe::{SpiffeId, TrustDomain};
use segue_shared::xds_names::{BUNDLE_SECRET, IDENTITY_SECRET};

use super::NodeKind;
use super::extension::ads;
use crate::config::mesh::{Protocol, Service, UpstreamTls};

const UPSTREAM_TLS: &str = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
/// What gRPC's own clients call the provider of certificates in their bootstrap (gRFC A29).
const PROVIDER: &str = "default";

/// How a client shows its identity to a service, and knows the service by its own.
pub(super) fn compile(
    tls: &UpstreamTls,
    service: &Service,
    kind: NodeKind,
    domain: &TrustDomain,
) -> TransportSocket {
    let UpstreamTls::Mesh { server_name } = tls;
    let name = &service.name;
    let own_name = || format!("{}.{}", name.name, name.namespace);
    let peer = SpiffeId::of_service(domain, name).to_string();
    let peers = CertificateValidationContext {
        match_typed_subject_alt_names: vec![SubjectAltNameMatcher {
            san_type: SanType::Uri as i32,
            matcher: Some(exactly(peer.clone())),
            ..SubjectAltNameMatcher::default()
        }],
        ..CertificateValidationContext::default()
    };
    let context = if kind == NodeKind::Grpc {
        by_providers(peers, peer)
    } else {
        by_secrets(peers, service.protocol)
    };
    let context = UpstreamTlsContext {
        common_tls_context: Some(context),
        sni: server_name.clone().unwrap_or_else(own_name),
        ..UpstreamTlsContext::default()
    };
    TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(pack_as(
            &type_url(UPSTREAM_TLS),
            &context,
        ))),
    }
}

/// Certificates come on the same stream.
fn by_secrets(peers: CertificateValidationContext, protocol: Protocol) -> CommonTlsContext {
    let secret = |name: &str| SdsSecretConfig { name: name.to_owned(), sds_config: Some(ads()) };
    let combined = CombinedCertificateValidationContext {
        default_validation_context: Some(peers),
        validation_context_sds_secret_config: Some(secret(BUNDLE_SECRET)),
        ..CombinedCertificateValidationContext::default()
    };
    CommonTlsContext {
        tls_params: Some(TlsParameters {
            tls_minimum_protocol_version: TlsProtocol::TlSv13 as i32,
            tls_maximum_protocol_version: TlsProtocol::TlSv13 as i32,
            ..TlsParameters::default()
        }),
        alpn_protocols: vec![alpn(protocol).to_owned()],
        tls_certificate_sds_secret_configs: vec![secret(IDENTITY_SECRET)],
        validation_context_type: Some(ValidationContextType::CombinedValidationContext(combined)),
        ..CommonTlsContext::default()
    }
}

/// gRPC's own clients have certificates from elsewhere, and refuse all they do not know. Older ones
/// look for names where they were before names had types.
#[allow(deprecated, reason = "what older clients read")]
fn by_providers(mut peers: CertificateValidationContext, peer: String) -> CommonTlsContext {
    let provider = || CertificateProviderPluginInstance {
        instance_name: PROVIDER.to_owned(),
        ..CertificateProviderPluginInstance::default()
    };
    peers.match_typed_subject_alt_names.clear();
    peers.match_subject_alt_names = vec![exactly(peer)];
    peers.ca_certificate_provider_instance = Some(provider());
    CommonTlsContext {
        tls_certificate_provider_instance: Some(provider()),
        validation_context_type: Some(ValidationContextType::ValidationContext(peers)),
        ..CommonTlsContext::default()
    }
}

fn exactly(text: String) -> StringMatcher {
    StringMatcher { match_pattern: Some(MatchPattern::Exact(text)), ..StringMatcher::default() }
}

fn alpn(protocol: Protocol) -> &'static str {
    if protocol == Protocol::Tcp { "segue-tcp" } else { "h2" }
}
