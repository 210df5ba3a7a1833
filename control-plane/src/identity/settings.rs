//! Settings of the authority.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::Args;
use segue_shared::spiffe::{InvalidId, TrustDomain};
use thiserror::Error;

use super::authority::{Authority, AuthorityError};
use super::metrics::IdentityMetrics;
use super::roster::Roster;
use super::rotation::Rotation;
use super::server::ServerCertificate;
use super::tokens::{TokenError, Tokens};

/// The authority that gives workloads their certificates.
#[derive(Clone, Debug, Args)]
pub struct IdentitySettings {
    /// Trust domain of the mesh: workloads are `spiffe://DOMAIN/ns/NAMESPACE/sa/SERVICE`. To change
    /// it is to begin a new mesh.
    #[arg(long, env = "SEGUE_TRUST_DOMAIN", value_name = "DOMAIN", default_value_t, value_parser = domain)]
    pub trust_domain: TrustDomain,

    /// Certificate (PEM) of your own authority: a root, below which an intermediate is made, or an
    /// intermediate. Without it the first start makes a root, DATA_DIR/ca/root.pem.
    #[arg(long, env = "SEGUE_CA_CERT", value_name = "FILE", requires = "ca_key")]
    pub ca_cert: Option<PathBuf>,

    /// Key (PEM) of that certificate.
    #[arg(long, env = "SEGUE_CA_KEY", value_name = "FILE", requires = "ca_cert")]
    pub ca_key: Option<PathBuf>,

    /// Roots (PEM) that the mesh believes, where --ca-cert is none of them itself.
    #[arg(long, env = "SEGUE_CA_BUNDLE", value_name = "FILE", requires = "ca_cert")]
    pub ca_bundle: Option<PathBuf>,

    /// Names and addresses under which nodes reach the xDS port, separated by commas: then it speaks
    /// TLS with a certificate of the mesh's own authority, in place of --xds-tls-cert. Nodes need
    /// DATA_DIR/ca/bundle.pem to believe it.
    #[arg(
        long,
        env = "SEGUE_XDS_TLS_NAMES",
        value_name = "NAME|IP",
        value_delimiter = ',',
        conflicts_with = "xds_tls_cert"
    )]
    pub xds_tls_names: Vec<String>,

    /// Life of a workload's certificate, in seconds. Sidecars ask for the next one at half of it.
    #[arg(
        long,
        env = "SEGUE_CERTIFICATE_TTL_SECONDS",
        value_name = "SECONDS",
        default_value = "86400",
        value_parser = clap::value_parser!(u64).range(300..=86_400)
    )]
    pub certificate_ttl_seconds: u64,
}

impl Default for IdentitySettings {
    fn default() -> Self {
        Self {
            trust_domain: TrustDomain::default(),
            ca_cert: None,
            ca_key: None,
            ca_bundle: None,
            xds_tls_names: Vec::new(),
            certificate_ttl_seconds: 86_400,
        }
    }
}

fn domain(text: &str) -> Result<TrustDomain, InvalidId> {
    text.parse()
}

/// Who may be a member of the mesh, and what they are given.
#[derive(Clone)]
pub struct Membership {
    pub authority: Arc<Authority>,
    /// Of the xDS port, where it is the authority's.
    pub server: Option<Arc<ServerCertificate>>,
    pub tokens: Tokens,
    /// Who holds what.
    pub roster: Roster,
    pub ttl: Duration,
    pub metrics: IdentityMetrics,
}

/// Nothing of it is for logs.
impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Membership").field(&self.authority.domain).finish()
    }
}

impl Membership {
    /// The way from one root to the next.
    pub fn rotation(&self) -> Rotation {
        Rotation {
            authority: Arc::clone(&self.authority),
            roster: self.roster.clone(),
            metrics: self.metrics.clone(),
        }
    }
}

/// An authority that cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error("the authority of the mesh: {0}")]
    Authority(#[from] AuthorityError),
    #[error(
        "--xds-tls-names: several control planes need one authority, which --ca-cert and --ca-key name"
    )]
    NoAuthority,
    #[error("join tokens: {0}")]
    Tokens(#[from] TokenError),
}

impl IdentitySettings {
    /// The authority; `None` where several control planes would each make their own. Blocks.
    pub fn open(
        &self,
        data_dir: &Path,
        several: bool,
        metrics: IdentityMetrics,
    ) -> Result<Option<Membership>, OpenError> {
        let domain = self.trust_domain.clone();
        let authority = match (&self.ca_cert, &self.ca_key) {
            (Some(certificate), Some(key)) => {
                let bundle = self.ca_bundle.as_deref();
                Authority::of_files(domain, data_dir, certificate, key, bundle)?
            }
            _ if several && !self.xds_tls_names.is_empty() => {
                return Err(OpenError::NoAuthority);
            }
            _ if several => {
                tracing::info!(
                    "no certificates are issued: several control planes need one authority, which \
                     --ca-cert and --ca-key name"
                );
                return Ok(None);
            }
            _ => Authority::embedded(domain, data_dir)?,
        };
        let authority = Arc::new(authority);
        let server = (!self.xds_tls_names.is_empty())
            .then(|| ServerCertificate::make(&authority, &self.xds_tls_names, data_dir))
            .transpose()?;
        Ok(Some(Membership {
            authority,
            server: server.map(Arc::new),
            tokens: Tokens::open(data_dir)?,
            roster: Roster::open(data_dir, SystemTime::now())?,
            ttl: Duration::from_secs(self.certificate_ttl_seconds),
            metrics,
        }))
    }
}
