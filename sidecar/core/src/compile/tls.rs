//! `TransportSocket` of a cluster.
//!
//! | field of `UpstreamTlsContext` | taken |
//! |---|---|
//! | `common_tls_context.tls_certificate_sds_secret_configs` | one, named `default`: the sidecar's own identity |
//! | `common_tls_context.combined_validation_context` | `validation_context_sds_secret_config` named `ROOTCA`: whom the mesh believes |
//! | `…default_validation_context.match_typed_subject_alt_names` | URIs, exact, at least one: who may answer |
//! | `…default_validation_context.match_subject_alt_names` | the same |
//! | `sni` | yes |
//! | `common_tls_context.alpn_protocols`, `tls_params.tls_minimum_protocol_version` | ignored: what is spoken follows from the cluster, and TLS is 1.3 |
//! | `tls_params.tls_maximum_protocol_version` below 1.3 | refused |
//! | other certificates, other authorities, other ways to verify | refused |
//!
//! The names of the secrets are those that Istio uses.

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::{TransportSocket, transport_socket};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::tls_parameters::TlsProtocol;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, SdsSecretConfig, UpstreamTlsContext,
};
use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use segue_shared::extension::unpack;
use segue_shared::spiffe::SpiffeId;
use segue_shared::xds_names::{BUNDLE_SECRET, IDENTITY_SECRET};

use super::field::{over_ads, refuse};
use crate::reject::Fault;
use crate::snapshot::UpstreamTls;

const RAW_BUFFER: &str = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer";
const UPSTREAM_TLS: &str = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";

/// `None`: plain text.
pub(crate) fn upstream(socket: &TransportSocket) -> Result<Option<Arc<UpstreamTls>>, Fault> {
    let Some(transport_socket::ConfigType::TypedConfig(any)) = &socket.config_type else {
        let raw = socket.name == "envoy.transport_sockets.raw_buffer";
        return if raw { Ok(None) } else { Err(Fault::at("typed_config", "must be set")) };
    };
    if any.type_url.ends_with(RAW_BUFFER) {
        return Ok(None);
    }
    let tls: UpstreamTlsContext =
        unpack(any, UPSTREAM_TLS).map_err(|error| Fault::at("typed_config", error.to_string()))?;
    mesh(&tls).map(|tls| Some(Arc::new(tls))).map_err(|fault| fault.under("typed_config"))
}

fn mesh(tls: &UpstreamTlsContext) -> Result<UpstreamTls, Fault> {
    refuse(tls.auto_host_sni, "auto_host_sni")?;
    refuse(tls.auto_sni_san_validation, "auto_sni_san_validation")?;
    let common = tls.common_tls_context.as_ref();
    let common = common.ok_or_else(|| Fault::at("common_tls_context", "must be set"))?;
    let peers = common_context(common).map_err(|fault| fault.under("common_tls_context"))?;
    let server_name = (!tls.sni.is_empty()).then(|| tls.sni.as_str().into());
    Ok(UpstreamTls { peers, server_name })
}

#[allow(deprecated, reason = "so that they are refused where they are used")]
fn common_context(common: &CommonTlsContext) -> Result<Arc<[SpiffeId]>, Fault> {
    let most = common.tls_params.as_ref().map_or(0, |it| it.tls_maximum_protocol_version);
    if most != TlsProtocol::TlsAuto as i32 && most != TlsProtocol::TlSv13 as i32 {
        return Err(Fault::at("tls_params.tls_maximum_protocol_version", "must be TLSv1_3"));
    }
    refuse(!common.tls_certificates.is_empty(), "tls_certificates")?;
    let instance = common.tls_certificate_provider_instance.is_some();
    refuse(instance, "tls_certificate_provider_instance")?;
    refuse(common.custom_tls_certificate_selector.is_some(), "custom_tls_certificate_selector")?;
    refuse(common.custom_handshaker.is_some(), "custom_handshaker")?;
    let provider = common.tls_certificate_certificate_provider.is_some();
    refuse(provider, "tls_certificate_certificate_provider")?;
    let instance = common.tls_certificate_certificate_provider_instance.is_some();
    refuse(instance, "tls_certificate_certificate_provider_instance")?;
    let field = "tls_certificate_sds_secret_configs";
    match &common.tls_certificate_sds_secret_configs[..] {
        [secret] => {
            named(secret, IDENTITY_SECRET).map_err(|it| it.under(&format!("{field}[0]")))?;
        }
        _ => return Err(Fault::at(field, format!("must be one, named {IDENTITY_SECRET:?}"))),
    }
    match &common.validation_context_type {
        Some(ValidationContextType::CombinedValidationContext(combined)) => {
            let under = |field: &str| format!("combined_validation_context.{field}");
            let field = under("validation_context_sds_secret_config");
            let secret = combined.validation_context_sds_secret_config.as_ref();
            let secret = secret.ok_or_else(|| Fault::at(field.as_str(), "must be set"))?;
            named(secret, BUNDLE_SECRET).map_err(|fault| fault.under(&field))?;
            let default = combined.default_validation_context.clone().unwrap_or_default();
            peers(&default).map_err(|it| it.under(&under("default_validation_context")))
        }
        _ => Err(Fault::at(
            "combined_validation_context",
            format!("must be set: who may answer, and the secret {BUNDLE_SECRET:?}"),
        )),
    }
}

fn named(secret: &SdsSecretConfig, expected: &str) -> Result<(), Fault> {
    if secret.name != expected {
        return Err(Fault::at("name", format!("is {:?}, must be {expected:?}", secret.name)));
    }
    // Where it comes from is known; who says otherwise means something else.
    match &secret.sds_config {
        None => Ok(()),
        config => over_ads("sds_config", config.as_ref()),
    }
}

#[allow(deprecated, reason = "Istio says it so")]
fn peers(context: &CertificateValidationContext) -> Result<Arc<[SpiffeId]>, Fault> {
    refuse(context.trusted_ca.is_some(), "trusted_ca")?;
    refuse(context.ca_certificate_provider_instance.is_some(), "ca_certificate_provider_instance")?;
    refuse(context.system_root_certs.is_some(), "system_root_certs")?;
    refuse(!context.verify_certificate_spki.is_empty(), "verify_certificate_spki")?;
    refuse(!context.verify_certificate_hash.is_empty(), "verify_certificate_hash")?;
    let typed = context.match_typed_subject_alt_names.iter().enumerate().map(|(i, matcher)| {
        let under = format!("match_typed_subject_alt_names[{i}]");
        if matcher.san_type != SanType::Uri as i32 {
            return Err(Fault::at("san_type", "must be URI").under(&under));
        }
        peer(matcher.matcher.as_ref()).map_err(|fault| fault.under(&under))
    });
    let untyped = context.match_subject_alt_names.iter().enumerate().map(|(i, matcher)| {
        peer(Some(matcher)).map_err(|fault| fault.under(&format!("match_subject_alt_names[{i}]")))
    });
    let peers: Vec<SpiffeId> = typed.chain(untyped).collect::<Result<_, _>>()?;
    if peers.is_empty() {
        let reason = "must name who may answer: everybody in the mesh could pose as the upstream";
        return Err(Fault::at("match_typed_subject_alt_names", reason));
    }
    Ok(peers.into())
}

fn peer(matcher: Option<&StringMatcher>) -> Result<SpiffeId, Fault> {
    let matcher = matcher.ok_or_else(|| Fault::at("matcher", "must be set"))?;
    refuse(matcher.ignore_case, "matcher.ignore_case")?;
    match &matcher.match_pattern {
        Some(MatchPattern::Exact(id)) => {
            id.parse().map_err(|error| Fault::at("matcher.exact", format!("{id:?}: {error}")))
        }
        _ => Err(Fault::at("matcher.match_pattern", "only `exact` is supported")),
    }
}
