//! Who this sidecar is to others: its certificate, its key and whom it believes, ready for use.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider, sign::any_supported_type};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use segue_shared::spiffe::SpiffeId;
use segue_shared::tls::{
    BundleError, Expected, MeshVerifier, Svid, SvidFault, TrustBundle, certificates, leads_to_first,
};
use thiserror::Error;

/// What a connection carries (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alpn {
    Http2,
    Http1,
    /// Bytes for an application that speaks no HTTP.
    Tcp,
}

/// Sets of peers that clients are kept for. Beyond, all are made anew at their next connection.
const MOST_CLIENTS: usize = 16_384;
/// Tickets kept for one set of peers.
const TICKETS: usize = 8;

/// An identity. It never changes: a new certificate is a new one, whose connections resume none of
/// the old one's.
pub struct Identity {
    pub svid: Svid,
    /// Whether its certificate leads to the first of the authorities, which is the one that signs
    /// now.
    pub is_by_signer: bool,
    chain: Vec<CertificateDer<'static>>,
    server: Arc<ServerConfig>,
    shown: Arc<SingleCertAndKey>,
    bundle: Arc<TrustBundle>,
    provider: Arc<CryptoProvider>,
    clients: Mutex<HashMap<(Expected, Alpn), Arc<ClientConfig>>>,
}

/// Certificate, key and authorities that do not make an identity.
#[derive(Debug, Error)]
pub enum IdentityError {
    #[error("the certificate is not that of a workload: {0}")]
    Svid(#[from] SvidFault),
    #[error("there is no certificate")]
    NoCertificate,
    #[error("the key cannot be used: {0}")]
    Key(rustls::Error),
    #[error("the key is not that of the certificate")]
    OtherKey,
    #[error("none of the authorities is one of {0}, the certificate's own trust domain")]
    Domain(String),
    #[error("the authorities: {0}")]
    Authorities(#[from] BundleError),
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

impl Alpn {
    pub fn as_bytes(self) -> &'static [u8] {
        match self {
            Self::Http2 => b"h2",
            Self::Http1 => b"http/1.1",
            Self::Tcp => b"segue-tcp",
        }
    }

    /// What was agreed on.
    pub fn of(protocol: &[u8]) -> Option<Self> {
        [Self::Http2, Self::Http1, Self::Tcp].into_iter().find(|it| it.as_bytes() == protocol)
    }
}

impl Identity {
    /// `chain`: the leaf first.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: &PrivateKeyDer<'static>,
        bundle: TrustBundle,
    ) -> Result<Self, IdentityError> {
        let svid = Svid::read(chain.first().ok_or(IdentityError::NoCertificate)?)?;
        if bundle.authorities(svid.id.domain()).is_empty() {
            return Err(IdentityError::Domain(svid.id.domain().to_string()));
        }
        let signer = any_supported_type(key).map_err(IdentityError::Key)?;
        let certified = CertifiedKey::new(chain.clone(), signer);
        certified.keys_match().map_err(|_| IdentityError::OtherKey)?;
        let shown = Arc::new(SingleCertAndKey::from(certified));
        Self::of(svid, chain, shown, bundle, Arc::new(default_provider()))
    }

    /// The same certificate, of one who believes others.
    pub fn believing(&self, authorities: &[u8]) -> Result<Self, IdentityError> {
        let bundle = TrustBundle::from_pem(self.svid.id.domain().clone(), authorities)?;
        let (chain, shown) = (self.chain.clone(), Arc::clone(&self.shown));
        Self::of(self.svid.clone(), chain, shown, bundle, Arc::clone(&self.provider))
    }

    fn of(
        svid: Svid,
        chain: Vec<CertificateDer<'static>>,
        shown: Arc<SingleCertAndKey>,
        bundle: TrustBundle,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, IdentityError> {
        let bundle = Arc::new(bundle);
        let server = Arc::new(server(&shown, &bundle, &provider)?);
        let algorithms = provider.signature_verification_algorithms;
        let is_by_signer = leads_to_first(&bundle, svid.id.domain(), &chain, algorithms);
        let clients = Mutex::default();
        Ok(Self { svid, is_by_signer, chain, server, shown, bundle, provider, clients })
    }

    pub fn id(&self) -> &SpiffeId {
        &self.svid.id
    }

    /// Time that is left of the certificate.
    pub fn left(&self, now: SystemTime) -> std::time::Duration {
        self.svid.not_after.duration_since(now).unwrap_or_default()
    }

    /// How callers are met.
    pub fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// How one of these peers is called.
    pub fn client(
        &self,
        expected: &Expected,
        alpn: Alpn,
    ) -> Result<Arc<ClientConfig>, IdentityError> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (expected.clone(), alpn);
        if let Some(client) = clients.get(&key) {
            return Ok(Arc::clone(client));
        }
        if clients.len() >= MOST_CLIENTS {
            clients.clear();
        }
        let client = Arc::new(self.new_client(expected.clone(), alpn)?);
        clients.insert(key, Arc::clone(&client));
        Ok(client)
    }

    /// How a server outside of the mesh is called that knows it: its certificate leads to one of
    /// these authorities (PEM), or to one of the mesh, and names its host. No workload of the mesh
    /// has a certificate that names a host.
    pub fn client_of(&self, authorities: &[u8]) -> Result<ClientConfig, IdentityError> {
        let mut roots = RootCertStore::empty();
        let own = self.bundle.authorities(self.svid.id.domain()).iter().cloned();
        for authority in certificates(authorities)?.into_iter().chain(own) {
            roots.add(authority)?;
        }
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_cert_resolver(Arc::clone(&self.shown) as _);
        config.alpn_protocols = vec![Alpn::Http2.as_bytes().to_vec()];
        Ok(config)
    }

    fn new_client(&self, expected: Expected, alpn: Alpn) -> Result<ClientConfig, IdentityError> {
        let verifier = verifier(&self.bundle, expected, &self.provider);
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(Arc::clone(&self.shown) as _);
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        config.resumption = Resumption::in_memory_sessions(TICKETS);
        Ok(config)
    }
}

fn server(
    shown: &Arc<SingleCertAndKey>,
    bundle: &Arc<TrustBundle>,
    provider: &Arc<CryptoProvider>,
) -> Result<ServerConfig, IdentityError> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier(bundle, Expected::Anyone, provider))
        .with_cert_resolver(Arc::clone(shown) as _);
    config.alpn_protocols =
        [Alpn::Http2, Alpn::Http1, Alpn::Tcp].map(|it| it.as_bytes().to_vec()).into();
    // Tickets hold all there is to a session, and open only with the keys of this identity: what
    // was resumed before a change of certificate or authorities is not resumed after it.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Ticketer::new()?;
    config.send_tls13_tickets = 1;
    // What is said before the handshake is over could be said again by others.
    config.max_early_data_size = 0;
    Ok(config)
}

fn verifier(
    bundle: &Arc<TrustBundle>,
    expected: Expected,
    provider: &CryptoProvider,
) -> Arc<MeshVerifier> {
    let algorithms = provider.signature_verification_algorithms;
    Arc::new(MeshVerifier::new(Arc::clone(bundle), expected, algorithms))
}
