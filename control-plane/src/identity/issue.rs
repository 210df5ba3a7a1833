//! One certificate of a workload.

use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, ExtendedKeyUsagePurpose,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SanType,
};
use segue_shared::spiffe::SpiffeId;
use thiserror::Error;
use tokio_rustls::rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};

use super::authority::{Authority, AuthorityError, at, serial};
use super::certificate::pem;

/// Clocks of others may be behind.
const BACKDATE: Duration = Duration::from_mins(1);
/// Largest request.
const MOST_CSR_BYTES: usize = 16 * 1024;

/// A certificate and those above it without the root.
#[derive(Clone, Debug)]
pub struct Issued {
    pub chain: Vec<CertificateDer<'static>>,
    /// Fingerprint of the root that it leads to.
    pub root: String,
    pub not_after: SystemTime,
}

impl Issued {
    /// The chain in PEM.
    pub fn pem(&self) -> String {
        self.chain.iter().map(|it| pem(it)).collect()
    }
}

/// No certificate.
#[derive(Debug, Error)]
pub enum IssueError {
    #[error("the certification request cannot be used: {0}")]
    Request(String),
    #[error("the certification request asks for {0}, and the caller is {1}")]
    OtherIdentity(String, SpiffeId),
    #[error("the key of the certification request is none of P-256, P-384 and Ed25519")]
    Key,
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}

impl IssueError {
    /// One word for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Request(_) => "request",
            Self::OtherIdentity(..) => "other_identity",
            Self::Key => "key",
            Self::Authority(_) => "authority",
        }
    }
}

impl Authority {
    /// A certificate of `id` for the key of a request, whose names are only looked at to refuse
    /// those that ask for more. Blocks for a moment.
    pub fn issue(
        &self,
        id: &SpiffeId,
        csr: &[u8],
        ttl: Duration,
        now: SystemTime,
    ) -> Result<Issued, IssueError> {
        if csr.len() > MOST_CSR_BYTES {
            return Err(IssueError::Request(format!("is larger than {MOST_CSR_BYTES} bytes")));
        }
        let request = CertificateSigningRequestDer::from(csr);
        // Its signature shows that the caller has the key.
        let request = CertificateSigningRequestParams::from_der(&request)
            .map_err(|error| IssueError::Request(error.to_string()))?;
        check_names(id, &request.params.subject_alt_names)?;
        let algorithm = rcgen::PublicKeyData::algorithm(&request.public_key);
        let known = [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519];
        if !known.contains(&algorithm) {
            return Err(IssueError::Key);
        }
        let (signer, root) = self.signer_and_root(now)?;
        let not_after = (now + ttl).min(signer.not_after());
        let mut params = CertificateParams::default();
        // Who it is stands in its one URI; a name that people read would only be believed.
        params.distinguished_name = DistinguishedName::new();
        let uri = id.to_string();
        let uri = uri.as_str().try_into().map_err(AuthorityError::Make)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial()?);
        (params.not_before, params.not_after) = (at(now - BACKDATE), at(not_after));
        let signed = params.signed_by(&request.public_key, &signer.issuer);
        let signed = signed.map_err(AuthorityError::Make)?;
        let mut chain = vec![signed.der().clone()];
        chain.extend(signer.chain.iter().cloned());
        Ok(Issued { chain, root, not_after })
    }
}

fn check_names(id: &SpiffeId, names: &[SanType]) -> Result<(), IssueError> {
    for name in names {
        let asked = match name {
            SanType::URI(uri) if uri.as_str() == id.to_string() => continue,
            SanType::URI(uri) => uri.as_str().to_owned(),
            SanType::DnsName(name) => name.as_str().to_owned(),
            other => format!("{other:?}"),
        };
        return Err(IssueError::OtherIdentity(asked, id.clone()));
    }
    Ok(())
}
