//! Whom the mesh believes at one moment.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use tokio_rustls::rustls::pki_types::CertificateDer;

use super::authority::is_signed_by;

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

/// The SHA-256 of a certificate in hexadecimal digits, as `openssl x509 -fingerprint` has it.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let mut digits = String::new();
    for byte in digest(&SHA256, certificate).as_ref() {
        // Writing to a string does not fail.
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

/// One certificate in PEM.
pub fn pem(certificate: &CertificateDer<'_>) -> String {
    let text = BASE64_STANDARD.encode(certificate);
    // Lines of 64 characters (RFC 7468, section 2).
    let lines = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line) + "\n");
    let lines: String = lines.collect();
    format!("-----BEGIN CERTIFICATE-----\n{lines}-----END CERTIFICATE-----\n")
}
