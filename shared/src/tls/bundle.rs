//! The authorities that are believed, by trust domain.

use std::collections::BTreeMap;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, TrustAnchor};
use thiserror::Error;

use crate::spiffe::TrustDomain;

/// Authorities of one trust domain; while a root is replaced there are two.
const MOST_AUTHORITIES: usize = 16;

/// For each trust domain its own authorities: none of them counts for another domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustBundle {
    domains: BTreeMap<TrustDomain, Vec<CertificateDer<'static>>>,
}

/// Certificates that cannot be authorities.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BundleError {
    #[error("holds no certificate in PEM")]
    Empty,
    #[error("holds more than {MOST_AUTHORITIES} authorities")]
    TooMany,
    #[error("is no PEM: {0}")]
    Pem(String),
    #[error("certificate {place} cannot be an authority: {reason}")]
    Authority { place: usize, reason: String },
}

impl TrustBundle {
    /// The authorities of one domain, in DER.
    pub fn new(
        domain: TrustDomain,
        authorities: Vec<CertificateDer<'static>>,
    ) -> Result<Self, BundleError> {
        if authorities.is_empty() {
            return Err(BundleError::Empty);
        }
        if authorities.len() > MOST_AUTHORITIES {
            return Err(BundleError::TooMany);
        }
        for (i, authority) in authorities.iter().enumerate() {
            let reason = match webpki::anchor_from_trusted_cert(authority) {
                Ok(_) if is_authority(authority) => continue,
                Ok(_) => "it may not sign certificates".to_owned(),
                Err(error) => error.to_string(),
            };
            return Err(BundleError::Authority { place: i + 1, reason });
        }
        Ok(Self { domains: BTreeMap::from([(domain, authorities)]) })
    }

    /// The same from PEM.
    pub fn from_pem(domain: TrustDomain, pem: &[u8]) -> Result<Self, BundleError> {
        Self::new(domain, certificates(pem)?)
    }

    /// What certificates of a domain may lead to; nothing for a foreign domain.
    pub(super) fn anchors(&self, domain: &TrustDomain) -> Vec<TrustAnchor<'_>> {
        let authorities = self.domains.get(domain).into_iter().flatten();
        // They were looked at when they came.
        authorities.filter_map(|it| webpki::anchor_from_trusted_cert(it).ok()).collect()
    }

    /// The authorities of a domain.
    pub fn authorities(&self, domain: &TrustDomain) -> &[CertificateDer<'static>] {
        self.domains.get(domain).map(Vec::as_slice).unwrap_or_default()
    }
}

/// All certificates of a PEM file, at least one.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, BundleError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let read = read.map_err(|error| BundleError::Pem(error.to_string()))?;
    if read.is_empty() { Err(BundleError::Empty) } else { Ok(read) }
}

fn is_authority(certificate: &CertificateDer<'_>) -> bool {
    let parsed = x509_parser::parse_x509_certificate(certificate);
    parsed.is_ok_and(|(_, certificate)| certificate.is_ca())
}
