//! What a certificate of a workload must be (X509-SVID, sections 2 to 5).

use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use thiserror::Error;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::time::ASN1Time;

use crate::spiffe::{InvalidId, SpiffeId};

/// What a leaf says; whether it is true is for the verifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Svid {
    pub id: SpiffeId,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
}

/// Why a certificate is not that of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SvidFault {
    #[error("it is no X.509 certificate")]
    Unreadable,
    #[error("it has {0} URI names instead of one")]
    Uris(usize),
    #[error("its URI name is no SPIFFE ID: {0}")]
    Id(#[from] InvalidId),
    #[error("it is an authority's")]
    Authority,
    #[error("it may not be used for {0}")]
    Usage(&'static str),
}

impl Svid {
    /// Reads a leaf.
    pub fn read(leaf: &CertificateDer<'_>) -> Result<Self, SvidFault> {
        let unreadable = |_| SvidFault::Unreadable;
        let (rest, certificate) =
            x509_parser::parse_x509_certificate(leaf).map_err(|_| SvidFault::Unreadable)?;
        if !rest.is_empty() {
            return Err(SvidFault::Unreadable);
        }
        // Not what its subject says: a common name is nobody's name.
        let names = certificate.subject_alternative_name().map_err(unreadable)?;
        let names = names.as_ref().map(|names| names.value.general_names.as_slice());
        let uris: Vec<&str> = names.unwrap_or_default().iter().filter_map(uri).collect();
        let [uri] = uris[..] else { return Err(SvidFault::Uris(uris.len())) };
        let id = uri.parse()?;
        check_usage(&certificate)?;
        let validity = certificate.validity();
        Ok(Self { id, not_before: time(validity.not_before), not_after: time(validity.not_after) })
    }
}

/// A leaf signs handshakes, at both ends, and nothing else.
fn check_usage(certificate: &X509Certificate<'_>) -> Result<(), SvidFault> {
    let constraints = certificate.basic_constraints().map_err(|_| SvidFault::Unreadable)?;
    if constraints.is_some_and(|constraints| constraints.value.ca) {
        return Err(SvidFault::Authority);
    }
    let usage = certificate.key_usage().map_err(|_| SvidFault::Unreadable)?;
    let usage = usage.map(|usage| usage.value).ok_or(SvidFault::Usage("signatures"))?;
    if usage.key_cert_sign() || usage.crl_sign() {
        return Err(SvidFault::Authority);
    }
    if !usage.digital_signature() {
        return Err(SvidFault::Usage("signatures"));
    }
    let extended = certificate.extended_key_usage().map_err(|_| SvidFault::Unreadable)?;
    let extended = extended.map(|extended| extended.value);
    let extended = extended.ok_or(SvidFault::Usage("clients and servers"))?;
    match (extended.any, extended.client_auth, extended.server_auth) {
        (true, ..) | (_, true, true) => Ok(()),
        (_, false, _) => Err(SvidFault::Usage("clients")),
        (_, _, false) => Err(SvidFault::Usage("servers")),
    }
}

fn uri<'a>(name: &'a GeneralName<'_>) -> Option<&'a str> {
    match name {
        GeneralName::URI(uri) => Some(uri),
        // One that is no text: it must be counted all the same.
        GeneralName::Invalid(tag, _) if tag.0 == URI_TAG => Some(""),
        _ => None,
    }
}

/// `uniformResourceIdentifier [6]` (RFC 5280, 4.2.1.6).
const URI_TAG: u32 = 6;

fn time(time: ASN1Time) -> SystemTime {
    let seconds = u64::try_from(time.timestamp()).unwrap_or_default();
    let moment = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    moment.unwrap_or(SystemTime::UNIX_EPOCH)
}
