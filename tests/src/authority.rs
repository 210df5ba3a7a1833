//! Certificates of a mesh as files, good ones and others.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};

/// An authority of trust domain `mesh.local` that signs whatever a test asks for.
pub struct Authority {
    root: CertifiedIssuer<'static, KeyPair>,
    dir: PathBuf,
}

/// A certificate, its key and the authority, in PEM.
#[derive(Clone, Debug)]
pub struct Files {
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub bundle: PathBuf,
}

impl Authority {
    /// Writes its own certificate as `root.pem`.
    pub fn new(dir: &Path) -> io::Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "root of a test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let root = CertifiedIssuer::self_signed(params, key).map_err(io::Error::other)?;
        fs::create_dir_all(dir)?;
        fs::write(dir.join("root.pem"), root.pem())?;
        Ok(Self { root, dir: dir.to_owned() })
    }

    /// A good certificate of a service of namespace `default`, as `SERVICE.pem` and `SERVICE.key`.
    pub fn of_service(&self, service: &str) -> io::Result<Files> {
        self.of_service_but(service, service, |_| Ok(()))
    }

    /// The same under another name of the files, but for what the test changes.
    pub fn of_service_but(
        &self,
        name: &str,
        service: &str,
        change: impl FnOnce(&mut CertificateParams) -> Result<(), rcgen::Error>,
    ) -> io::Result<Files> {
        let write = || {
            let mut params = CertificateParams::default();
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.subject_alt_names =
                vec![uri(&format!("spiffe://mesh.local/ns/default/sa/{service}"))?];
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
            params.not_after = date_time_ymd(2090, 1, 1);
            change(&mut params)?;
            let key = KeyPair::generate()?;
            Ok((params.signed_by(&key, &self.root)?.pem(), key.serialize_pem()))
        };
        let (certificate, key) = write().map_err(|error: rcgen::Error| io::Error::other(error))?;
        let files = Files {
            certificate: self.dir.join(format!("{name}.pem")),
            key: self.dir.join(format!("{name}.key")),
            bundle: self.dir.join("root.pem"),
        };
        fs::write(&files.certificate, certificate)?;
        fs::write(&files.key, key)?;
        Ok(files)
    }
}

impl Files {
    /// The flags of a sidecar that is this workload.
    pub fn flags(&self) -> Vec<(&'static str, String)> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        vec![
            ("--identity", "files".to_owned()),
            ("--identity-cert", text(&self.certificate)),
            ("--identity-key", text(&self.key)),
            ("--identity-bundle", text(&self.bundle)),
        ]
    }
}

/// A URI as a name of a certificate.
pub fn uri(uri: &str) -> Result<SanType, rcgen::Error> {
    Ok(SanType::URI(uri.try_into()?))
}
