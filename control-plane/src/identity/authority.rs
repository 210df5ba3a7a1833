//! The authority's own certificates: a root, kept for long, and an intermediate that signs.
//!
//! The root is made at the first start, or is the user's own. Keys lie in the data directory, mode
//! 0600, as the store and the tokens do: whoever reads that directory is the mesh. What is believed
//! lies there too, as `bundle.pem`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _, SerialNumber, date_time_ymd,
};
use segue_shared::spiffe::TrustDomain;
use segue_shared::tls::{BundleError, TrustBundle, certificates};
use thiserror::Error;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_rustls::rustls::pki_types::CertificateDer;

use super::certificate::{is_signed_by, not_after, pem};
use super::files::{self, FileError};
use super::roots::{Phase, Roots};
use super::trust::Trust;

const DAY: Duration = Duration::from_hours(24);
const ROOT_LIFE: Duration = Duration::from_hours(24 * 3650);
const INTERMEDIATE_LIFE: Duration = Duration::from_hours(24 * 365);
/// Clocks of others may be behind.
const BACKDATE: Duration = Duration::from_mins(1);

/// Signs certificates of workloads.
pub struct Authority {
    pub domain: TrustDomain,
    /// Where roots and intermediate are kept, for the next start.
    directory: PathBuf,
    signing: Mutex<Signing>,
    trust: watch::Sender<Arc<Trust>>,
}

/// Who signs, and below whom.
struct Signing {
    root: Signer,
    /// Whether the root signs workloads itself: it is an intermediate of the user's.
    is_direct: bool,
    intermediate: Arc<Signer>,
    /// `None`: the root is the user's own, who alone replaces it.
    roots: Option<Roots>,
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
    #[error(transparent)]
    Kept(#[from] FileError),
    #[error("a certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    #[error("the authorities of the mesh: {0}")]
    Bundle(#[from] BundleError),
    #[error("the system gives no randomness")]
    Randomness,
    #[error(
        "the root is your own: start with the old and the new one in --ca-bundle, then with the new \
         one as --ca-cert and --ca-key, then without the old one; `segue certs status` tells when \
         each step is safe"
    )]
    Own,
    #[error("{0}")]
    Step(&'static str),
}

impl Authority {
    /// The one of a data directory, made where there is none.
    pub fn embedded(domain: TrustDomain, data_dir: &Path) -> Result<Self, AuthorityError> {
        let directory = data_dir.join("ca");
        make_directory(&directory)?;
        let roots = Roots::open(&directory)?;
        if roots.phase == Phase::Steady {
            make_root(&domain, &directory, &roots.signs)?;
        }
        let (certificate, key) = Roots::files(&directory, &roots.signs);
        let mut bundle = read_certificates(&certificate)?;
        if let Some(beside) = &roots.beside {
            bundle.extend(read_certificates(&Roots::files(&directory, beside).0)?);
        }
        let root = Signer::read(&certificate, &key)?;
        Self::open(domain, directory, (root, None), bundle, Some(roots))
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
        let roots = match bundle {
            Some(file) => read_certificates(file)?,
            None if root.is_root() => root.chain.clone(),
            None => {
                let reason = "is no root: name those above it with --ca-bundle";
                return Err(wrong(certificate, &reason));
            }
        };
        let direct = (!root.is_root()).then(|| Signer::read(certificate, key)).transpose()?;
        Self::open(domain, directory, (root, direct), roots, None)
    }

    fn open(
        domain: TrustDomain,
        directory: PathBuf,
        (root, direct): (Signer, Option<Signer>),
        bundle: Vec<CertificateDer<'static>>,
        roots: Option<Roots>,
    ) -> Result<Self, AuthorityError> {
        // What cannot be believed by sidecars is told now.
        TrustBundle::new(domain.clone(), bundle.clone())?;
        let now = SystemTime::now();
        let is_direct = direct.is_some();
        let intermediate = match direct.or_else(|| kept_intermediate(&directory, &root, now)) {
            Some(known) => known,
            None => new_intermediate(&domain, &directory, &root, now)?,
        };
        let trust = Arc::new(Trust::new(bundle, intermediate.top()));
        let signing = Signing { root, is_direct, intermediate: Arc::new(intermediate), roots };
        let authority = Self {
            domain,
            directory,
            signing: Mutex::new(signing),
            trust: watch::Sender::new(Arc::clone(&trust)),
        };
        authority.write_bundle(&trust)?;
        Ok(authority)
    }

    /// Whom the mesh believes now.
    pub fn trust(&self) -> Arc<Trust> {
        Arc::clone(&self.trust.borrow())
    }

    /// Whom the mesh believes, now and later.
    pub fn watch(&self) -> watch::Receiver<Arc<Trust>> {
        self.trust.subscribe()
    }

    /// Where that lies, in PEM.
    pub fn bundle_file(&self) -> PathBuf {
        self.directory.join("bundle.pem")
    }

    /// How far a rotation of the root is; `None` where the root is the user's own.
    pub fn roots(&self) -> Option<Roots> {
        self.signing().roots.clone()
    }

    /// Until when the signer of workloads signs.
    pub fn signer_not_after(&self) -> SystemTime {
        self.signing().intermediate.not_after
    }

    /// Goes one step on with a rotation; from a steady state it begins one. Blocks.
    pub fn go_on(&self, without_absent: bool, now: SystemTime) -> Result<Roots, AuthorityError> {
        let mut signing = self.signing();
        let roots = signing.roots.as_ref().ok_or(AuthorityError::Own)?;
        let next = roots.next(now).waiting(!without_absent);
        self.turn(&mut signing, next, now)
    }

    /// Whether instances that are away are waited for. Blocks.
    pub fn wait_for_absent(&self, wait: bool) -> Result<Roots, AuthorityError> {
        let mut signing = self.signing();
        let roots = signing.roots.as_mut().ok_or(AuthorityError::Own)?;
        let next = roots.clone().waiting(wait);
        next.save(&self.directory)?;
        *roots = next.clone();
        Ok(next)
    }

    /// Lets go of a root that signs nothing yet. Blocks.
    pub fn abandon(&self, now: SystemTime) -> Result<Roots, AuthorityError> {
        let mut signing = self.signing();
        let roots = signing.roots.as_ref().ok_or(AuthorityError::Own)?;
        match roots.phase {
            Phase::Distribute => {
                let before = roots.abandoned();
                self.turn(&mut signing, before, now)
            }
            Phase::Steady => Err(AuthorityError::Step("no rotation is under way")),
            Phase::Issue | Phase::Drop => Err(AuthorityError::Step(
                "the new root signs already: let the rotation end, then rotate again",
            )),
        }
    }

    /// Makes `next` what is so: first on disk, then here. Where the disk fails it stays as it was.
    fn turn(
        &self,
        signing: &mut Signing,
        next: Roots,
        now: SystemTime,
    ) -> Result<Roots, AuthorityError> {
        let before = signing.roots.clone().ok_or(AuthorityError::Own)?;
        if next.phase == Phase::Distribute
            && let Some(coming) = &next.beside
        {
            make_root(&self.domain, &self.directory, coming)?;
        }
        let (certificate, key) = Roots::files(&self.directory, &next.signs);
        let mut bundle = read_certificates(&certificate)?;
        if let Some(beside) = &next.beside {
            bundle.extend(read_certificates(&Roots::files(&self.directory, beside).0)?);
        }
        TrustBundle::new(self.domain.clone(), bundle.clone())?;
        let mut signers = None;
        if next.signs != before.signs {
            let root = Signer::read(&certificate, &key)?;
            let below = new_intermediate(&self.domain, &self.directory, &root, now)?;
            signers = Some((root, Arc::new(below)));
        }
        let signer = signers.as_ref().map_or(&signing.intermediate, |(_, below)| below);
        let trust = Arc::new(Trust::new(bundle, signer.top()));
        // A crash between the two comes back to the step before, which writes its bundle anew.
        self.write_bundle(&trust)?;
        next.save(&self.directory)?;
        if let Some((root, below)) = signers {
            (signing.root, signing.intermediate) = (root, below);
        }
        // A root that nobody believes any more is of use to nobody.
        if let Some(gone) = before.beside.filter(|it| next.beside.is_none() && *it != next.signs) {
            let (certificate, key) = Roots::files(&self.directory, &gone);
            for file in [key, certificate] {
                if let Err(error) = fs::remove_file(&file) {
                    tracing::warn!(file = %file.display(), %error, "an old root stays on disk");
                }
            }
        }
        signing.roots = Some(next.clone());
        self.trust.send_replace(trust);
        Ok(next)
    }

    fn write_bundle(&self, trust: &Trust) -> Result<(), AuthorityError> {
        let file = self.bundle_file();
        files::replace(&file, trust.pem().as_bytes()).map_err(|source| fail(&file, source))
    }

    fn signing(&self) -> MutexGuard<'_, Signing> {
        self.signing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A certificate and those above it, in PEM.
    pub fn pem_chain(&self, leaf: &CertificateDer<'_>, signer: &Signer) -> String {
        std::iter::once(leaf).chain(&signer.chain).map(|it| pem(it)).collect()
    }

    /// Who signs now, and the fingerprint of the root above it. Blocks as [`Self::signer`] does.
    pub fn signer_and_root(
        &self,
        now: SystemTime,
    ) -> Result<(Arc<Signer>, String), AuthorityError> {
        loop {
            let before = self.trust();
            let signer = self.signer(now)?;
            // A step of a rotation may have come between.
            if Arc::ptr_eq(&before, &self.trust()) {
                return Ok((signer, before.signer()));
            }
        }
    }

    /// Who signs now; made anew at half of its life. Blocks then.
    pub fn signer(&self, now: SystemTime) -> Result<Arc<Signer>, AuthorityError> {
        let mut signing = self.signing();
        let left = signing.intermediate.not_after.duration_since(now).unwrap_or_default();
        if left < INTERMEDIATE_LIFE / 2 && !signing.is_direct {
            let next = new_intermediate(&self.domain, &self.directory, &signing.root, now)?;
            signing.intermediate = Arc::new(next);
        }
        Ok(Arc::clone(&signing.intermediate))
    }
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

impl Signer {
    fn read(certificate: &Path, key: &Path) -> Result<Self, AuthorityError> {
        let chain = read_certificates(certificate)?;
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

    /// Whether there is nobody above it.
    fn is_root(&self) -> bool {
        self.chain.len() == 1 && is_signed_by(&self.chain[0], &self.chain[0])
    }

    /// The last of the chain, which a root has signed.
    fn top(&self) -> Option<&CertificateDer<'static>> {
        self.chain.last()
    }

    /// Until when it signs.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }
}

/// Makes a root, unless it is there.
fn make_root(domain: &TrustDomain, directory: &Path, name: &str) -> Result<(), AuthorityError> {
    let (certificate, key) = Roots::files(directory, name);
    if key.try_exists().map_err(|source| fail(&key, source))? {
        return Ok(());
    }
    let (pem, secret) = new_root(domain, name)?;
    // The key last: without it all is made anew.
    files::replace(&certificate, pem.as_bytes()).map_err(|it| fail(&certificate, it))?;
    files::replace(&key, secret.as_bytes()).map_err(|it| fail(&key, it))?;
    tracing::info!(file = %certificate.display(), "an authority of the mesh was made");
    Ok(())
}

/// No two roots have one name: what one has signed names its signer.
fn new_root(domain: &TrustDomain, name: &str) -> Result<(String, String), AuthorityError> {
    let key = KeyPair::generate()?;
    let params = of_authority(
        &format!("Segue {} of {domain}", name.replace('-', " ")),
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

fn has_key(certificate: &CertificateDer<'_>, key: &KeyPair) -> bool {
    let parsed = x509_parser::parse_x509_certificate(certificate);
    parsed
        .is_ok_and(|(_, certificate)| certificate.public_key().raw == key.subject_public_key_info())
}

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
    let pem = fs::read(file).map_err(|source| fail(file, source))?;
    certificates(&pem).map_err(|error| wrong(file, &error))
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
