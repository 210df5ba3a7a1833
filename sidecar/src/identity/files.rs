//! An identity from files that something else keeps new, such as cert-manager.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use segue_shared::tls::{Svid, TrustBundle, certificates};
use xxhash_rust::xxh3::Xxh3;
use zeroize::Zeroizing;

use super::follow::{Source, SourceError};
use crate::tls::{Identity, IdentityError};

/// Between looks at the files.
const LOOK: Duration = Duration::from_secs(1);
/// Largest file.
const MOST_BYTES: u64 = 1 << 20;

/// The files, all in PEM.
#[derive(Clone, Debug)]
pub struct Files {
    /// The chain, the leaf first.
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// The authorities that are believed.
    pub bundle: PathBuf,
    /// Digest of what was taken, or refused, last.
    seen: Option<u64>,
}

/// What is in them.
struct Content {
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    bundle: Vec<u8>,
}

impl Files {
    pub fn new(certificate: PathBuf, key: PathBuf, bundle: PathBuf) -> Self {
        Self { certificate, key, bundle, seen: None }
    }

    /// What the files hold now, if that is not what was seen last. Blocks.
    fn look(&mut self) -> Result<Option<Identity>, SourceError> {
        let content = Content {
            certificate: read(&self.certificate)?.to_vec(),
            key: read(&self.key)?,
            bundle: read(&self.bundle)?.to_vec(),
        };
        let digest = content.digest();
        if self.seen == Some(digest) {
            return Ok(None);
        }
        // What is wrong now is told once, until it changes.
        self.seen = Some(digest);
        self.read_identity(&content).map(Some)
    }

    fn read_identity(&self, content: &Content) -> Result<Identity, SourceError> {
        let of = |file: &Path, reason: String| SourceError::Content { file: file.into(), reason };
        let chain = certificates(&content.certificate)
            .map_err(|error| of(&self.certificate, error.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(&content.key)
            .map_err(|error| of(&self.key, format!("holds no key in PEM: {error}")))?;
        let leaf = chain.first().ok_or(IdentityError::NoCertificate)?;
        let svid = Svid::read(leaf).map_err(|error| of(&self.certificate, error.to_string()))?;
        let bundle = TrustBundle::from_pem(svid.id.domain().clone(), &content.bundle)
            .map_err(|error| of(&self.bundle, error.to_string()))?;
        Ok(Identity::new(chain, &key, bundle)?)
    }
}

impl Source for Files {
    async fn next(&mut self) -> Result<Identity, SourceError> {
        loop {
            let mut files = self.clone();
            let looked = tokio::task::spawn_blocking(move || (files.look(), files)).await;
            // It neither panics nor is aborted.
            let Ok((found, files)) = looked else { continue };
            self.seen = files.seen;
            if let Some(identity) = found? {
                return Ok(identity);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Content {
    fn digest(&self) -> u64 {
        let mut digest = Xxh3::new();
        for part in [&self.certificate[..], &self.key, &self.bundle] {
            digest.update(&(part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        digest.digest()
    }
}

fn read(file: &Path) -> Result<Zeroizing<Vec<u8>>, SourceError> {
    let fail = |source| SourceError::File { file: file.to_owned(), source };
    let mut content = Zeroizing::new(Vec::new());
    let opened = fs::File::open(file).map_err(fail)?;
    opened.take(MOST_BYTES + 1).read_to_end(&mut content).map_err(fail)?;
    if content.len() as u64 > MOST_BYTES {
        return Err(fail(io::Error::new(io::ErrorKind::InvalidData, "is larger than 1 MiB")));
    }
    Ok(content)
}
