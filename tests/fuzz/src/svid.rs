//! Certificates of workloads, in DER: what we read in one is what others read in it.

use rustls::pki_types::CertificateDer;
use segue_shared::tls::Svid;
use webpki::EndEntityCert;

pub fn check(bytes: &[u8]) {
    let certificate = CertificateDer::from(bytes);
    let Ok(svid) = Svid::read(&certificate) else { return };
    assert!(svid.id.to_string().starts_with("spiffe://"));
    // Whoever verifies the chain may refuse to read it, and then nobody is believed.
    let Ok(seen) = EndEntityCert::try_from(&certificate) else { return };
    let names: Vec<&str> = seen.valid_uri_names().collect();
    assert_eq!(names, [svid.id.to_string()], "one name, and the same");
}
