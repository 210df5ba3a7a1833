//! The authority's own certificates: a root, kept for long, and an intermediate that signs.
//!
//! The root is made at the first start, or is the user's own. Keys lie in the data directory, mode
//! 0600, as the store and the tokens do: whoever reads that directory is the mesh.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _, SerialNumber, date_time_ymd,
};
use segue_shared::spiffe::TrustDomain;
use segue_shared::tls::{BundleError, TrustBundle, certificates};
use thiserror::Error;
use time::OffsetDateTime;
use tokio_rustls::rustls::pki_types::CertificateDer;

use super::files;

const DAY: Duration = Duration::from_hours(24);
const ROOT_LIFE: Duration = Duration::from_hours(24 * 3650);
const INTERMEDIATE_LIFE: Duration = Duration::from_hours(24 * 365);
/// Clocks of others may be behind.
const BACKDATE: Duration = Duration::from_mins(1);

/// Signs certificates of workloads.
pub struct Authority {
    pub domain: TrustDomain,
    /// Where the intermediate is kept, for the next start.
    directory: PathBuf,
    root: Signer,
    /// Whether the root signs workloads itself: it is an intermediate of the user's.
    is_direct: bool,
    bundle: Vec<CertificateDer<'static>>,
    intermediate: Mutex<Arc<Signer>>,
}

/// A certificate that signs others.
pub struct Signer {
    /// Its own, then those above it without the root.
    pub chain: Vec<CertificateDer<'static>>,
    pub issuer: Issuer<'static, KeyPair>,
    not_after: SystemTime,
}

/// An authority that cannot sign.
#[derive(Debug, Error)]
pub enum AuthorityError {
    #[error("{}: {source}", .file.display())]
    File { file: PathBuf, source: io::Error },
    #[error("{}: {reason}", .file.display())]
    Content { file: PathBuf, reason: String },
    #[error("a certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    #[error("the authorities of the mesh: {0}")]
    Bundle(#[from] BundleError),
    #[error("the system gives no randomness")]
    Randomness,
}

impl Authority {
    /// The one of a data directory, made where there is none.
    pub fn embedded(domain: TrustDomain, data_dir: &Path) -> Result<Self, AuthorityError> {
        let directory = data_dir.join("ca");
        make_directory(&directory)?;
        let (certificate, key) = (directory.join("root.pem"), directory.join("root.key"));
        if !key.try_exists().map_err(|source| fail(&key, source))? {
            let (pem, secret) = new_root(&domain)?;
            // The key last: without it all is made anew.
            files::replace(&certificate, pem.as_bytes()).map_err(|it| fail(&certificate, it))?;
            files::replace(&key, secret.as_bytes()).map_err(|it| fail(&key, it))?;
            tracing::info!(file = %certificate.display(), "an authority of the mesh was made");
        }
        Self::of_files(domain, data_dir, &certificate, &key, None)
    }

    /// The user's own: a root, below which an intermediate is made, or an intermediate, whose roots
    /// are in `bundle`.
    pub fn of_files(
        domain: TrustDomain,
        data_dir: &Path,
        certificate: &Path,
        key: &Path,
        bundle: Option<&Path>,
    ) -> Result<Self, AuthorityError> {
        let directory = data_dir.join("ca");
        make_directory(&directory)?;
        let root = Signer::read(certificate, key)?;
        let is_root = root.chain.len() == 1 && is_self_signed(&root.chain[0]);
        let roots = match bundle {
            Some(file) => {
                let pem = fs::read(file).map_err(|source| fail(file, source))?;
                certificates(&pem).map_err(|error| wrong(file, &error))?
            }
            None if is_root => root.chain.clone(),
            None => {
                let reason = "is no root: name those above it with --ca-bundle";
                return Err(wrong(certificate, &reason));
            }
        };
        // What cannot be believed by sidecars is told now.
        TrustBundle::new(domain.clone(), roots.clone())?;
        let now = SystemTime::now();
        let intermediate = if is_root {
            Self::kept_intermediate(&directory, &root, now)
        } else {
            Some(Signer::read(certificate, key)?)
        };
        let intermediate = match intermediate {
            Some(kept) => kept,
            None => new_intermediate(&domain, &directory, &root, now)?,
        };
        Ok(Self {
            domain,
            directory,
            root,
            is_direct: !is_root,
            bundle: roots,
            intermediate: Mutex::new(Arc::new(intermediate)),
        })
    }

    /// Whom the mesh believes.
    pub fn bundle(&self) -> &[CertificateDer<'static>] {
        &self.bundle
    }

    /// A certificate and those above it, in PEM.
    pub fn pem_chain(&self, leaf: &CertificateDer<'_>, signer: &Signer) -> String {
        std::iter::once(leaf).chain(&signer.chain).map(|it| pem(it)).collect()
    }

    /// Who signs now; made anew at half of its life. Blocks then.
    pub fn signer(&self, now: SystemTime) -> Result<Arc<Signer>, AuthorityError> {
        let mut current = self.intermediate.lock().unwrap_or_else(PoisonError::into_inner);
        let left = current.not_after.duration_since(now).unwrap_or_default();
        if left < INTERMEDIATE_LIFE / 2 && !self.is_direct {
            let next = new_intermediate(&self.domain, &self.directory, &self.root, now)?;
            *current = Arc::new(next);
        }
        Ok(Arc::clone(&current))
    }

    /// The intermediate of an earlier start, if this root has signed it and it lasts.
    fn kept_intermediate(directory: &Path, root: &Signer, now: SystemTime) -> Option<Signer> {
        let kept =
            Signer::read(&directory.join("intermediate.pem"), &directory.join("intermediate.key"));
        let kept = kept.ok()?;
        let lasts = kept.not_after.duration_since(now).ok()? > INTERMEDIATE_LIFE / 2;
        let by_this = kept.chain.first().is_some_and(|it| is_signed_by(it, &root.chain[0]));
        (lasts && by_this).then_some(kept)
    }
}

impl Signer {
    fn read(certificate: &Path, key: &Path) -> Result<Self, AuthorityError> {
        let pem = fs::read(certificate).map_err(|source| fail(certificate, source))?;
        let chain = certificates(&pem).map_err(|error| wrong(certificate, &error))?;
        let secret = fs::read_to_string(key).map_err(|source| fail(key, source))?;
        let pair = KeyPair::from_pem(&secret).map_err(|error| wrong(key, &error))?;
        Self::new(chain, pair).map_err(|reason| wrong(certificate, &reason))
    }

    fn new(chain: Vec<CertificateDer<'static>>, key: KeyPair) -> Result<Self, String> {
        let own = chain.first().ok_or("holds no certificate")?;
        let not_after = not_after(own).ok_or("is no certificate")?;
        if !has_key(own, &key) {
            return Err("is not the certificate of this key".to_owned());
        }
        let issuer = Issuer::from_ca_cert_der(own, key).map_err(|error| error.to_string())?;
        Ok(Self { chain, issuer, not_after })
    }

    /// Until when it signs.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }
}

fn new_root(domain: &TrustDomain) -> Result<(String, String), AuthorityError> {
    let key = KeyPair::generate()?;
    let params = of_authority(
        &format!("Segue root of {domain}"),
        BasicConstraints::Unconstrained,
        SystemTime::now(),
        ROOT_LIFE,
    )?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

fn new_intermediate(
    domain: &TrustDomain,
    directory: &Path,
    root: &Signer,
    now: SystemTime,
) -> Result<Signer, AuthorityError> {
    let key = KeyPair::generate()?;
    let life = INTERMEDIATE_LIFE.min(root.not_after.duration_since(now).unwrap_or(DAY));
    let name = format!("Segue authority of {domain}");
    let mut params = of_authority(&name, BasicConstraints::Constrained(0), now, life)?;
    params.use_authority_key_identifier_extension = true;
    let signed = params.signed_by(&key, &root.issuer)?;
    let (certificate, secret) =
        (directory.join("intermediate.pem"), directory.join("intermediate.key"));
    files::replace(&secret, key.serialize_pem().as_bytes()).map_err(|it| fail(&secret, it))?;
    files::replace(&certificate, signed.pem().as_bytes()).map_err(|it| fail(&certificate, it))?;
    let chain = vec![signed.der().clone()];
    Signer::new(chain, key).map_err(|reason| wrong(&certificate, &reason))
}

fn of_authority(
    name: &str,
    constraints: BasicConstraints,
    now: SystemTime,
    life: Duration,
) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(serial()?);
    (params.not_before, params.not_after) = (at(now - BACKDATE), at(now + life));
    Ok(params)
}

/// A moment as certificates have it.
pub(super) fn at(moment: SystemTime) -> OffsetDateTime {
    date_time_ymd(1970, 1, 1) + moment.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// 128 random bits: nobody knows a serial before it is given (RFC 5280, 4.1.2.2).
pub(super) fn serial() -> Result<SerialNumber, AuthorityError> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| AuthorityError::Randomness)?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    let text = BASE64_STANDARD.encode(certificate);
    // Lines of 64 characters (RFC 7468, section 2).
    let lines = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line) + "\n");
    let lines: String = lines.collect();
    format!("-----BEGIN CERTIFICATE-----\n{lines}-----END CERTIFICATE-----\n")
}

/// The end of a certificate.
fn not_after(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

fn has_key(certificate: &CertificateDer<'_>, key: &KeyPair) -> bool {
    let parsed = x509_parser::parse_x509_certificate(certificate);
    parsed
        .is_ok_and(|(_, certificate)| certificate.public_key().raw == key.subject_public_key_info())
}

fn is_self_signed(certificate: &CertificateDer<'_>) -> bool {
    is_signed_by(certificate, certificate)
}

/// By name: whoever keeps both files can be believed to have made them.
fn is_signed_by(certificate: &CertificateDer<'_>, issuer: &CertificateDer<'_>) -> bool {
    let read = |der| x509_parser::parse_x509_certificate(der).ok().map(|(_, it)| it);
    read(certificate).zip(read(issuer)).is_some_and(|(certificate, issuer)| {
        certificate.issuer().as_raw() == issuer.subject().as_raw()
    })
}

fn make_directory(directory: &Path) -> Result<(), AuthorityError> {
    files::directory(directory).map_err(|source| fail(directory, source))
}

fn fail(file: &Path, source: io::Error) -> AuthorityError {
    AuthorityError::File { file: file.to_owned(), source }
}

fn wrong(file: &Path, reason: &dyn std::fmt::Display) -> AuthorityError {
    AuthorityError::Content { file: file.to_owned(), reason: reason.to_string() }
}
