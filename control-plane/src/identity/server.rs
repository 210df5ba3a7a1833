//! The control plane's own certificate, for nodes that know the mesh's authority and nobody else.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
};
use segue_shared::shutdown::DrainSignal;

use super::authority::{Authority, AuthorityError, at, serial};
use super::files;

const LIFE: Duration = Duration::from_hours(24);
const BACKDATE: Duration = Duration::from_mins(1);
/// The next one is made when the last one is so old.
const AGE: Duration = Duration::from_hours(12);
/// Between looks at it.
const LOOK: Duration = Duration::from_mins(1);

/// A certificate in two files, which are followed like those of a user.
pub struct ServerCertificate {
    authority: Arc<Authority>,
    names: Vec<String>,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl ServerCertificate {
    /// Makes a new one. Blocks.
    pub fn make(
        authority: &Arc<Authority>,
        names: &[String],
        data_dir: &Path,
    ) -> Result<Self, AuthorityError> {
        let directory = data_dir.join("ca");
        let made = Self {
            authority: Arc::clone(authority),
            names: names.to_vec(),
            certificate: directory.join("xds.pem"),
            key: directory.join("xds.key"),
        };
        made.renew(SystemTime::now())?;
        Ok(made)
    }

    /// Makes the next one in time, until the drain. What cannot be written is tried again.
    pub async fn keep(self: Arc<Self>, drain: DrainSignal) {
        let mut made = SystemTime::now();
        let mut trust = self.authority.watch();
        let mut signer = trust.borrow_and_update().signer();
        loop {
            let look = async {
                tokio::select! {
                    () = tokio::time::sleep(LOOK) => {}
                    // The sender lives as long as this.
                    _ = trust.changed() => {}
                }
            };
            if drain.run_until_cancelled(look).await.is_none() {
                return;
            }
            let now = SystemTime::now();
            let signs = trust.borrow_and_update().signer();
            let old = now.duration_since(made).is_ok_and(|age| age > AGE) || signs != signer;
            // A clock that was set back may say anything.
            if !old && now >= made {
                continue;
            }
            let own = Arc::clone(&self);
            let renewed = tokio::task::spawn_blocking(move || own.renew(now)).await;
            match renewed {
                Ok(Ok(())) => (made, signer) = (now, signs),
                Ok(Err(error)) => tracing::error!(%error, "no new certificate of the xDS port"),
                Err(error) => tracing::error!(%error, "no new certificate of the xDS port"),
            }
        }
    }

    fn renew(&self, now: SystemTime) -> Result<(), AuthorityError> {
        let signer = self.authority.signer(now)?;
        let mut params = CertificateParams::new(self.names.clone())?;
        params.distinguished_name = DistinguishedName::new();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial()?);
        let not_after = (now + LIFE).min(signer.not_after());
        (params.not_before, params.not_after) = (at(now - BACKDATE), at(not_after));
        let key = KeyPair::generate()?;
        let chain =
            self.authority.pem_chain(params.signed_by(&key, &signer.issuer)?.der(), &signer);
        // A pair that does not fit yet is not taken.
        let write = |file: &Path, content: &[u8]| {
            let fail = |source| AuthorityError::File { file: file.to_owned(), source };
            files::replace(file, content).map_err(fail)
        };
        write(&self.key, key.serialize_pem().as_bytes())?;
        write(&self.certificate, chain.as_bytes())
    }
}
