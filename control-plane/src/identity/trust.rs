//! Whom the mesh believes at one moment.

use tokio_rustls::rustls::pki_types::CertificateDer;

use super::certificate::{fingerprint, is_signed_by, pem};

/// The roots, the one first that signs now. Whoever has a certificate that leads to another of them
/// asks for a new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    bundle: Vec<CertificateDer<'static>>,
}

impl Trust {
    /// `signed`: what one of them has signed, below which workloads are.
    pub(super) fn new(
        mut bundle: Vec<CertificateDer<'static>>,
        signed: Option<&CertificateDer<'static>>,
    ) -> Self {
        let signs = |root: &CertificateDer<'_>| signed.is_some_and(|it| is_signed_by(it, root));
        bundle.sort_by_key(|root| !signs(root));
        Self { bundle }
    }

    /// The certificates of the roots.
    pub fn bundle(&self) -> &[CertificateDer<'static>] {
        &self.bundle
    }

    /// The same in PEM.
    pub fn pem(&self) -> String {
        self.bundle.iter().map(|it| pem(it)).collect()
    }

    /// Names the root that signs now, among all that there ever were.
    pub fn signer(&self) -> String {
        self.bundle.first().map(|root| fingerprint(root)).unwrap_or_default()
    }
}
