//! The one judge of certificates between workloads, whichever of them called.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use webpki::{EndEntityCert, KeyUsage};

use super::bundle::TrustBundle;
use super::refusal::{MOST_CHAIN, MOST_CHAIN_BYTES, Refusal};
use super::svid::Svid;
use crate::spiffe::{SpiffeId, TrustDomain};

/// Who the other end may be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Expected {
    /// Everybody of the mesh.
    Anyone,
    /// One of these.
    OneOf(Arc<[SpiffeId]>),
}

/// Believes workloads whose certificate leads to an authority of their own trust domain.
#[derive(Debug)]
pub struct MeshVerifier {
    bundle: Arc<TrustBundle>,
    expected: Expected,
    algorithms: WebPkiSupportedAlgorithms,
    /// Whether a caller must show a certificate.
    mandatory: bool,
}

impl MeshVerifier {
    pub fn new(
        bundle: Arc<TrustBundle>,
        expected: Expected,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Self {
        Self { bundle, expected, algorithms, mandatory: true }
    }

    /// One that lets callers come without a certificate as well.
    #[must_use]
    pub fn optional(self) -> Self {
        Self { mandatory: false, ..self }
    }

    /// Who it is, if it is believed at this time.
    pub fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        usage: KeyUsage,
        now: UnixTime,
    ) -> Result<Svid, Refusal> {
        let bytes = intermediates.iter().map(|it| it.len()).sum::<usize>() + leaf.len();
        if intermediates.len() >= MOST_CHAIN || bytes > MOST_CHAIN_BYTES {
            return Err(Refusal::Chain);
        }
        let svid = Svid::read(leaf)?;
        let anchors = self.bundle.anchors(svid.id.domain());
        if anchors.is_empty() {
            return Err(Refusal::Domain(svid.id.domain().clone()));
        }
        let entity = EndEntityCert::try_from(leaf).map_err(refused)?;
        let algorithms = self.algorithms.all;
        entity
            .verify_for_usage(algorithms, &anchors, intermediates, now, usage, None, None)
            .map_err(refused)?;
        match &self.expected {
            Expected::OneOf(ids) if !ids.contains(&svid.id) => Err(Refusal::OtherIdentity(svid.id)),
            Expected::Anyone | Expected::OneOf(_) => Ok(svid),
        }
    }
}

/// Whether a chain, the leaf first, leads to the first authority of its domain. The authority that
/// signs now comes first: whoever leads to another one asks for a new certificate.
pub fn leads_to_first(
    bundle: &TrustBundle,
    domain: &TrustDomain,
    chain: &[CertificateDer<'_>],
    algorithms: WebPkiSupportedAlgorithms,
) -> bool {
    let Some((leaf, above)) = chain.split_first() else { return false };
    let Some(first) = bundle.authorities(domain).first() else { return false };
    let Ok(first) = TrustBundle::new(domain.clone(), vec![first.clone()]) else { return false };
    let verifier = MeshVerifier::new(Arc::new(first), Expected::Anyone, algorithms);
    verifier.verify(leaf, above, KeyUsage::client_auth(), UnixTime::now()).is_ok()
}

fn refused(error: webpki::Error) -> Refusal {
    match error {
        webpki::Error::CertExpired { .. } => Refusal::Expired,
        webpki::Error::CertNotValidYet { .. } => Refusal::NotYetValid,
        webpki::Error::UnknownIssuer
        | webpki::Error::InvalidSignatureForPublicKey
        | webpki::Error::CaUsedAsEndEntity
        | webpki::Error::EndEntityUsedAsCa => Refusal::UnknownAuthority,
        other => Refusal::Invalid(other.to_string()),
    }
}

/// Keeps the reason for whoever asks why the handshake failed.
fn told(refusal: Refusal) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal))))
}

impl ClientCertVerifier for MeshVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // A workload has one certificate, so that there is nothing to choose by.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(end_entity, intermediates, KeyUsage::client_auth(), now).map_err(told)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for MeshVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(end_entity, intermediates, KeyUsage::server_auth(), now).map_err(told)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
