//! TLS of a port: its certificate, and the authorities whose client certificates it believes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use segue_shared::shutdown::DrainSignal;
use segue_shared::spiffe::{SpiffeId, TrustDomain};
use segue_shared::tls::{Expected, MeshVerifier, TrustBundle};
use tokio::time::Instant;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use webpki::KeyUsage;

use super::peer::ClientCertificate;
use super::reload::Followed;
use super::validity::not_after;
use super::wire::Belief;

/// Certificates of a chain, the leaf's included.
const MOST_CHAIN: usize = 6;

/// What a port shows and believes; replaced whole when its files change.
pub type PortTls = Arc<ArcSwap<Shown>>;

/// What connections begin with at one time.
#[derive(Debug)]
pub struct Shown {
    pub config: Arc<ServerConfig>,
    authorities: Vec<CertificateDer<'static>>,
    /// Judges by `authorities`; `None` where there are none.
    nodes: Option<Arc<dyn ClientCertVerifier>>,
    /// Judges workloads of the mesh.
    members: Option<MeshVerifier>,
    /// Begins when one of these authorities is believed no more.
    disbelief: DrainSignal,
}

/// Files of a port's TLS, all in PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The chain, the leaf first.
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Authorities of clients. `None`: clients are not asked for certificates.
    pub client_authorities: Option<PathBuf>,
    /// The mesh's own authorities, whose certificates say which workload a client is.
    pub mesh: Option<(TrustDomain, PathBuf)>,
}

/// What a client's certificate says.
#[derive(Debug, Default)]
pub struct Certified {
    /// By an authority of the file.
    pub names: Option<ClientCertificate>,
    /// By an authority of the mesh.
    pub identity: Option<SpiffeId>,
}

/// Reads the files now and whenever they change.
pub fn follow(what: &'static str, files: TlsFiles) -> Result<(PortTls, Followed), String> {
    let tls = Arc::new(ArcSwap::from_pointee(read(&files)?));
    let target = Arc::clone(&tls);
    let load = move || {
        let before = target.load_full();
        let now = read(&files)?;
        if before.authorities.iter().all(|authority| now.authorities.contains(authority)) {
            // Whoever was believed still is.
            let disbelief = before.disbelief.clone();
            target.store(Arc::new(Shown { disbelief, ..now }));
        } else {
            target.store(Arc::new(now));
            before.disbelief.cancel();
        }
        let mut sources = vec![files.certificate.clone(), files.key.clone()];
        sources.extend(files.client_authorities.clone());
        // A rotation of the mesh's root changes it.
        sources.extend(files.mesh.iter().map(|(_, file)| file.clone()));
        Ok(sources)
    };
    Ok((tls, Followed::begin(what, Box::new(load))?))
}

impl Shown {
    /// What a chain says that was verified just now, by whom it was. `None`: nothing that counts.
    pub(super) fn certified(&self, chain: &[CertificateDer<'_>]) -> Option<Certified> {
        let (leaf, above) = chain.split_first()?;
        let now = UnixTime::now();
        let member = self.members.as_ref();
        let svid = member.and_then(|it| it.verify(leaf, above, KeyUsage::client_auth(), now).ok());
        if let Some(svid) = svid {
            return Some(Certified { names: None, identity: Some(svid.id) });
        }
        // What the mesh's authorities have signed is nobody for another reason.
        self.nodes.as_ref()?.verify_client_cert(leaf, above, now).ok()?;
        Some(Certified { names: Some(names(chain)?), identity: None })
    }

    /// How long a chain counts that was verified just now. `None` where that cannot be read.
    pub(super) fn belief(&self, chain: &[CertificateDer<'_>]) -> Option<Belief> {
        let left = not_after(chain.first()?)?.duration_since(SystemTime::now());
        let until = Instant::now().checked_add(left.unwrap_or_default());
        Some(Belief { until, disbelief: Some(self.disbelief.clone().cancelled_owned()) })
    }
}

fn read(files: &TlsFiles) -> Result<Shown, String> {
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&content(&files.key)?)
        .map_err(|error| format!("{}: no private key: {error}", files.key.display()))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let judge = |authorities: &[CertificateDer<'static>]| {
        let mut roots = RootCertStore::empty();
        for certificate in authorities.iter().cloned() {
            roots.add(certificate).map_err(|error| error.to_string())?;
        }
        // Who comes without a certificate may still bring a token.
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(|error| error.to_string())
    };
    let (mut authorities, mut nodes, mut members) = (Vec::new(), None, None);
    if let Some(file) = &files.client_authorities {
        authorities = certificates(file)?;
        let judge = judge(&authorities).map_err(|error| format!("{}: {error}", file.display()))?;
        nodes = Some(judge);
    }
    let mut all = authorities.clone();
    if let Some((domain, file)) = &files.mesh {
        let own = certificates(file)?;
        all.extend(own.iter().cloned());
        let bundle = TrustBundle::new(domain.clone(), own);
        let bundle = Arc::new(bundle.map_err(|error| error.to_string())?);
        let algorithms = provider.signature_verification_algorithms;
        members = Some(MeshVerifier::new(bundle, Expected::Anyone, algorithms));
    }
    let builder = if all.is_empty() {
        builder.with_no_client_auth()
    } else {
        builder.with_client_cert_verifier(judge(&all)?)
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| {
        let (certificate, key) = (files.certificate.display(), files.key.display());
        format!("{certificate} with {key}: {error}")
    })?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would outlive the authorities that it was accepted by.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    let (config, disbelief) = (Arc::new(config), DrainSignal::new());
    Ok(Shown { config, authorities, nodes, members, disbelief })
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&content(file)?).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(format!("{}: holds no certificate in PEM", file.display())),
        Err(error) => Err(format!("{}: {error}", file.display())),
    }
}

fn content(file: &Path) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|error| format!("{}: {error}", file.display()))
}

/// The names in a chain that was verified. `None`: longer than any honest one, or unreadable.
fn names(chain: &[CertificateDer<'_>]) -> Option<ClientCertificate> {
    if chain.len() > MOST_CHAIN {
        return None;
    }
    let leaf = webpki::EndEntityCert::try_from(chain.first()?).ok()?;
    Some(ClientCertificate {
        uris: leaf.valid_uri_names().map(ToOwned::to_owned).collect(),
        dns_names: leaf.valid_dns_names().map(ToOwned::to_owned).collect(),
    })
}
