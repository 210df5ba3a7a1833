//! `Secret`: the authorities of the mesh. Keys never come this way: a sidecar makes its own.

use envoy_types::pb::envoy::config::core::v3::DataSource;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use segue_shared::spiffe::TrustDomain;
use segue_shared::tls::TrustBundle;

use crate::reject::Fault;

/// Whom the mesh believes.
#[derive(Debug, PartialEq, Eq)]
pub struct Authorities {
    pub name: Box<str>,
    /// Their certificates; that one first which signs now.
    pub pem: Box<[u8]>,
}

pub(crate) fn authorities(message: &Secret) -> Result<Authorities, Fault> {
    const AT: &str = "validation_context.trusted_ca";
    let Some(Type::ValidationContext(context)) = &message.r#type else {
        return Err(Fault::at("type", "must be validation_context"));
    };
    let source = context.trusted_ca.as_ref().and_then(inline);
    let pem = source.ok_or_else(|| Fault::at(AT, "must be inline"))?;
    let wrong = |error| Fault::at(AT, format!("{error}"));
    // They are for the domain of whoever takes them; here it is seen whether they are any at all.
    TrustBundle::from_pem(TrustDomain::default(), pem).map_err(wrong)?;
    Ok(Authorities { name: message.name.as_str().into(), pem: pem.into() })
}

fn inline(source: &DataSource) -> Option<&[u8]> {
    match source.specifier.as_ref()? {
        Specifier::InlineBytes(bytes) => Some(bytes),
        Specifier::InlineString(text) => Some(text.as_bytes()),
        Specifier::Filename(_) | Specifier::EnvironmentVariable(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
        CertificateValidationContext, TlsCertificate,
    };

    use super::*;

    fn secret(what: Type) -> Secret {
        Secret { name: "ROOTCA".to_owned(), r#type: Some(what) }
    }

    fn believe(pem: &str) -> Secret {
        let specifier = Some(Specifier::InlineBytes(pem.as_bytes().to_vec()));
        secret(Type::ValidationContext(CertificateValidationContext {
            trusted_ca: Some(DataSource { specifier, ..DataSource::default() }),
            ..CertificateValidationContext::default()
        }))
    }

    #[test]
    fn what_names_nobody_to_believe_is_refused_by_its_place() {
        let key = secret(Type::TlsCertificate(TlsCertificate::default()));
        let nothing = secret(Type::ValidationContext(CertificateValidationContext::default()));
        for (message, place, reason) in [
            (key, "type", "must be validation_context"),
            (nothing, "validation_context.trusted_ca", "must be inline"),
            (believe(""), "validation_context.trusted_ca", "holds no certificate in PEM"),
            (believe("no PEM"), "validation_context.trusted_ca", "holds no certificate in PEM"),
            (
                believe("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
                "validation_context.trusted_ca",
                "certificate 1 cannot be an authority",
            ),
        ] {
            let reject = authorities(&message).unwrap_err().reject("Secret", "ROOTCA");
            assert_eq!(reject.field_path, place);
            assert!(reject.reason.contains(reason), "{reject}");
        }
    }
}
