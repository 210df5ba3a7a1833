//! mTLS of clusters, and what is asked of callers: what is taken, and what is refused by its place.

#![allow(clippy::unwrap_used)]

mod sample;

use envoy_types::pb::envoy::config::cluster::v3::cluster::TransportSocketMatch;
use envoy_types::pb::envoy::config::core::v3::{DataSource, TransportSocket, transport_socket};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::{
    CombinedCertificateValidationContext, ValidationContextType,
};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::tls_parameters::TlsProtocol;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, SdsSecretConfig, SubjectAltNameMatcher,
    TlsCertificate, TlsParameters, UpstreamTlsContext,
};
use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use prost::Message as _;
use segue_proto::extension::v1 as pb;
use segue_shared::extension::{pack_as, type_url};
use segue_shared::xds_names::type_urls::{CLUSTER, INBOUND};
use segue_sidecar_core::compile::{Compiled, compile};
use segue_sidecar_core::reject::Reject;
use segue_sidecar_core::snapshot::{InboundMtls, UpstreamTls};

const CHAT: &str = "spiffe://mesh.test/ns/default/sa/chat";

fn secret(name: &str) -> SdsSecretConfig {
    SdsSecretConfig { name: name.to_owned(), sds_config: None }
}

fn uri(pattern: MatchPattern) -> SubjectAltNameMatcher {
    SubjectAltNameMatcher {
        san_type: SanType::Uri as i32,
        matcher: Some(StringMatcher { match_pattern: Some(pattern), ..StringMatcher::default() }),
        ..SubjectAltNameMatcher::default()
    }
}

/// A good context, in its three parts.
struct Parts {
    tls: UpstreamTlsContext,
    common: CommonTlsContext,
    peers: CertificateValidationContext,
    bundle: Option<SdsSecretConfig>,
}

fn compiled(change: impl Fn(&mut Parts)) -> Result<Option<UpstreamTls>, Reject> {
    let mut parts = Parts {
        tls: UpstreamTlsContext { sni: "chat.default".to_owned(), ..UpstreamTlsContext::default() },
        common: CommonTlsContext {
            tls_certificate_sds_secret_configs: vec![secret("default")],
            ..CommonTlsContext::default()
        },
        peers: CertificateValidationContext {
            match_typed_subject_alt_names: vec![uri(MatchPattern::Exact(CHAT.to_owned()))],
            ..CertificateValidationContext::default()
        },
        bundle: Some(secret("ROOTCA")),
    };
    change(&mut parts);
    let Parts { mut tls, mut common, peers, bundle } = parts;
    if let Some(bundle) = bundle {
        let combined = CombinedCertificateValidationContext {
            default_validation_context: Some(peers),
            validation_context_sds_secret_config: Some(bundle),
            ..CombinedCertificateValidationContext::default()
        };
        common.validation_context_type =
            Some(ValidationContextType::CombinedValidationContext(combined));
    }
    tls.common_tls_context = Some(common);
    of_socket(socket(&tls))
}

fn socket(tls: &UpstreamTlsContext) -> TransportSocket {
    const NAME: &str = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
    TransportSocket {
        name: "tls".to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(pack_as(&type_url(NAME), tls))),
    }
}

fn of_socket(socket: TransportSocket) -> Result<Option<UpstreamTls>, Reject> {
    let mut cluster = sample::cluster("a", false);
    cluster.transport_socket = Some(socket);
    match compile(CLUSTER, None, &cluster.encode_to_vec())? {
        Compiled::Cluster(cluster) => Ok(cluster.tls.as_deref().cloned()),
        _ => unreachable!(),
    }
}

#[test]
fn identities_are_shown_and_expected() {
    let tls = compiled(|_| {}).unwrap().unwrap();
    assert_eq!(tls.peers[..], [CHAT.parse().unwrap()]);
    assert_eq!(tls.server_name.as_deref(), Some("chat.default"));
    // As others say it.
    #[allow(deprecated)]
    let tls = compiled(|it| {
        it.tls.sni.clear();
        let typed = std::mem::take(&mut it.peers.match_typed_subject_alt_names);
        it.peers.match_subject_alt_names = typed.into_iter().filter_map(|it| it.matcher).collect();
        it.common.alpn_protocols = vec!["istio".to_owned(), "h2".to_owned()];
    });
    let tls = tls.unwrap().unwrap();
    assert_eq!((tls.peers.len(), tls.server_name), (1, None));
}

#[test]
fn raw_sockets_are_plain_text() {
    const RAW: &str = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer";
    let raw = TransportSocket {
        name: "raw".to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(pack_as(
            &type_url(RAW),
            &prost_types(),
        ))),
    };
    assert_eq!(of_socket(raw), Ok(None));
    let named = TransportSocket {
        name: "envoy.transport_sockets.raw_buffer".to_owned(),
        ..TransportSocket::default()
    };
    assert_eq!(of_socket(named), Ok(None));
}

/// A message without fields.
fn prost_types() -> DataSource {
    DataSource::default()
}

#[test]
fn what_would_believe_others_or_less_is_refused_by_its_place() {
    let common = "transport_socket.typed_config.common_tls_context";
    let combined = format!("{common}.combined_validation_context");
    let default = format!("{combined}.default_validation_context");
    let typed = format!("{default}.match_typed_subject_alt_names");
    let at = |change: &dyn Fn(&mut Parts)| compiled(change).unwrap_err().field_path;
    let secrets = format!("{common}.tls_certificate_sds_secret_configs");
    for (expected, change) in [
        (combined.clone(), (&|it: &mut Parts| it.bundle = None) as &dyn Fn(&mut Parts)),
        (format!("{combined}.validation_context_sds_secret_config.name"), &|it| {
            it.bundle = Some(secret("other"));
        }),
        (typed.clone(), &|it| it.peers.match_typed_subject_alt_names.clear()),
        (format!("{typed}[0].san_type"), &|it| {
            it.peers.match_typed_subject_alt_names[0].san_type = SanType::Dns as i32;
        }),
        (format!("{typed}[0].matcher.match_pattern"), &|it| {
            let prefix = MatchPattern::Prefix("spiffe://mesh.test/".to_owned());
            it.peers.match_typed_subject_alt_names = vec![uri(prefix)];
        }),
        (format!("{typed}[0].matcher.exact"), &|it| {
            let wildcard = MatchPattern::Exact("spiffe://mesh.test/*".to_owned());
            it.peers.match_typed_subject_alt_names = vec![uri(wildcard)];
        }),
        (format!("{default}.trusted_ca"), &|it| it.peers.trusted_ca = Some(DataSource::default())),
        (format!("{default}.verify_certificate_spki"), &|it| {
            it.peers.verify_certificate_spki = vec!["x".to_owned()];
        }),
        (format!("{common}.tls_certificates"), &|it| {
            it.common.tls_certificates = vec![TlsCertificate::default()];
        }),
        (secrets.clone(), &|it| it.common.tls_certificate_sds_secret_configs.clear()),
        (format!("{secrets}[0].name"), &|it| {
            it.common.tls_certificate_sds_secret_configs = vec![secret("mine")];
        }),
        (format!("{common}.tls_params.tls_maximum_protocol_version"), &|it| {
            it.common.tls_params = Some(TlsParameters {
                tls_maximum_protocol_version: TlsProtocol::TlSv12 as i32,
                ..TlsParameters::default()
            });
        }),
    ] {
        assert_eq!(at(change), expected);
    }
}

#[test]
fn tls_for_some_endpoints_only_is_refused() {
    let mut cluster = sample::cluster("a", false);
    let tls = compiled(|_| {});
    assert!(tls.is_ok());
    let context = UpstreamTlsContext::default();
    cluster.transport_socket_matches = vec![TransportSocketMatch {
        transport_socket: Some(socket(&context)),
        ..TransportSocketMatch::default()
    }];
    let reject = compile(CLUSTER, None, &cluster.encode_to_vec()).unwrap_err();
    assert!(reject.field_path.starts_with("transport_socket_matches[0]"), "{reject}");
}

#[test]
fn what_is_asked_of_callers_is_read_and_never_guessed() {
    let read = |mtls: i32| {
        let inbound = pb::Inbound { service: "default/chat".to_owned(), mtls };
        compile(INBOUND, None, &inbound.encode_to_vec()).map(|compiled| match compiled {
            Compiled::Inbound(inbound) => inbound.mtls,
            _ => unreachable!(),
        })
    };
    for (said, meant) in [
        (pb::inbound::Mtls::Off, InboundMtls::Off),
        (pb::inbound::Mtls::Permissive, InboundMtls::Permissive),
        (pb::inbound::Mtls::Strict, InboundMtls::Strict),
    ] {
        assert_eq!(read(said.into()), Ok(meant));
    }
    for unknown in [0, 7, -1] {
        assert_eq!(read(unknown).unwrap_err().field_path, "mtls");
    }
}
