//! What is read from a certificate, and how it is written for others.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use tokio_rustls::rustls::pki_types::CertificateDer;

/// The end of a certificate.
pub fn not_after(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// By name: whoever keeps both files can be believed to have made them.
pub(super) fn is_signed_by(certificate: &CertificateDer<'_>, issuer: &CertificateDer<'_>) -> bool {
    let read = |der| x509_parser::parse_x509_certificate(der).ok().map(|(_, it)| it);
    read(certificate).zip(read(issuer)).is_some_and(|(certificate, issuer)| {
        certificate.issuer().as_raw() == issuer.subject().as_raw()
    })
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
