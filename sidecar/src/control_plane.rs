//! Where the control planes are, and how this sidecar shows them who it is.
//!
//! Token and certificates are read again at each connection, so that both may be rotated while the
//! sidecar runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use segue_shared::here::is_this_machine;
use segue_shared::secret::{Secret, SecretError};
use thiserror::Error;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};
use tower::service_fn;
use xxhash_rust::xxh3::xxh3_64;

use crate::tls::{Identity as MeshIdentity, Mesh, dial};

/// Largest file of certificates or of a key.
const MOST_PEM_BYTES: u64 = 1 << 20;
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Control planes that serve one configuration, any of which will do.
#[derive(Clone, Debug)]
pub struct ControlPlanes {
    /// `http://host:port` or `https://host:port`; at least one.
    pub urls: Vec<String>,
    /// File whose first token is sent as `authorization: Bearer TOKEN`. `None`: nothing is sent.
    pub join_token_file: Option<PathBuf>,
    /// Whether the token may go to another machine without TLS.
    pub plaintext_token: bool,
    /// PEM file of the authorities that sign certificates of control planes; `https` needs it.
    pub ca_file: Option<PathBuf>,
    /// PEM file of this sidecar's own certificate and those above it, and of its key.
    pub identity_files: Option<(PathBuf, PathBuf)>,
    /// Who this sidecar is to the mesh: from the moment when it is somebody, that is what it shows
    /// over TLS, in place of the token.
    pub mesh: Mesh,
    /// Time to connect, TLS included. Default 5 s.
    pub connect_timeout: Duration,
}

/// A control plane that cannot be asked. A retry helps where a file is at fault and is mended.
#[derive(Debug, Error)]
pub enum ControlPlaneError {
    #[error("no control plane is given; use --control-plane http://HOST:PORT[,…]")]
    None,
    #[error("control plane {0:?} is no URL; use http://HOST:PORT or https://HOST:PORT")]
    Url(String),
    #[error("control plane {0} needs --control-plane-ca FILE: no authority is trusted by default")]
    NoAuthority(String),
    #[error(
        "the join token would go to control plane {0} in plain sight; use https, or --insecure-dev \
         where nobody listens"
    )]
    Plaintext(String),
    #[error("join token: {0}")]
    Token(#[from] SecretError),
    #[error("{}: {source}", .file.display())]
    File { file: PathBuf, source: io::Error },
    #[error("{}: holds no certificate in PEM", .0.display())]
    NoCertificate(PathBuf),
    #[error("control plane {url}: {reason}")]
    Tls { url: String, reason: String },
}

/// A control plane that can be called; it is connected to at the first call.
pub struct Dialed {
    pub url: String,
    pub channel: Channel,
    pub bearer: Bearer,
}

/// Adds the join token to each call.
#[derive(Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

impl ControlPlanes {
    /// Control planes at these URLs, without token and certificates.
    pub fn at(urls: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            urls: urls.into_iter().map(Into::into).collect(),
            join_token_file: None,
            plaintext_token: false,
            ca_file: None,
            identity_files: None,
            mesh: Mesh::default(),
            connect_timeout: Duration::from_secs(5),
        }
    }

    /// What would be wrong with every connection, before there is one.
    pub fn check(&self) -> Result<(), ControlPlaneError> {
        if self.urls.is_empty() {
            return Err(ControlPlaneError::None);
        }
        for url in &self.urls {
            self.check_one(url)?;
        }
        Ok(())
    }

    fn check_one(&self, url: &str) -> Result<(), ControlPlaneError> {
        let invalid = || ControlPlaneError::Url(url.to_owned());
        let uri: http::Uri = url.parse().map_err(|_| invalid())?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(invalid)?;
        match uri.scheme_str() {
            Some("https") if self.ca_file.is_none() => {
                Err(ControlPlaneError::NoAuthority(url.to_owned()))
            }
            Some("http")
                if self.join_token_file.is_some()
                    && !self.plaintext_token
                    && !is_this_machine(host) =>
            {
                Err(ControlPlaneError::Plaintext(url.to_owned()))
            }
            Some("http" | "https") => Ok(()),
            _ => Err(invalid()),
        }
    }

    /// Which one to begin with: another for another node, so that a fleet spreads over all.
    pub fn first(&self, node_id: &str) -> usize {
        let hash = xxh3_64(node_id.as_bytes()) as usize;
        hash.checked_rem(self.urls.len()).unwrap_or_default()
    }

    /// Reads token and certificates, and makes a channel to the control plane at a place in the
    /// list, counted on from its end at its beginning.
    pub async fn dial(&self, which: usize) -> Result<Dialed, ControlPlaneError> {
        let planes = self.clone();
        let dialing = tokio::task::spawn_blocking(move || planes.dial_blocking(which));
        dialing.await.unwrap_or_else(|error| {
            Err(ControlPlaneError::Tls { url: String::new(), reason: error.to_string() })
        })
    }

    fn dial_blocking(&self, which: usize) -> Result<Dialed, ControlPlaneError> {
        let place = which.checked_rem(self.urls.len()).ok_or(ControlPlaneError::None)?;
        let url = self.urls.get(place).ok_or(ControlPlaneError::None)?;
        self.check_one(url)?;
        let own_files = self.identity_files.is_some();
        if let Some(identity) = self.mesh.identity().filter(|_| !own_files && is_https(url)) {
            return self.dial_as(&identity, url);
        }
        let token = match &self.join_token_file {
            Some(file) => Some(bearer(&Secret::read(file)?, file)?),
            None => None,
        };
        let mut endpoint = self.endpoint(url, url)?;
        if is_https(url) {
            let tls = self.tls(url)?;
            endpoint = endpoint.tls_config(tls).map_err(|error| ControlPlaneError::Tls {
                url: url.clone(),
                reason: chain(&error),
            })?;
        }
        Ok(Dialed { url: url.clone(), channel: endpoint.connect_lazy(), bearer: Bearer(token) })
    }

    /// As a member of the mesh: its certificate says who calls.
    fn dial_as(&self, identity: &MeshIdentity, url: &str) -> Result<Dialed, ControlPlaneError> {
        let reason = |reason: String| ControlPlaneError::Tls { url: url.to_owned(), reason };
        let ca_file = self.ca_file.as_ref();
        let ca_file = ca_file.ok_or_else(|| ControlPlaneError::NoAuthority(url.to_owned()))?;
        let tls = identity.client_of(&pem(ca_file)?).map_err(|error| reason(chain(&error)))?;
        let (tls, timeout) = (Arc::new(tls), self.connect_timeout);
        let connector = service_fn(move |uri| dial(Arc::clone(&tls), uri, timeout));
        // TLS is the connector's work.
        let endpoint = self.endpoint(url, &url.replacen("https:", "http:", 1))?;
        let channel = endpoint.connect_with_connector_lazy(connector);
        Ok(Dialed { url: url.to_owned(), channel, bearer: Bearer(None) })
    }

    /// Not yet with TLS, which asks for authorities of its own.
    fn endpoint(&self, url: &str, at: &str) -> Result<Endpoint, ControlPlaneError> {
        Ok(Endpoint::from_shared(at.to_owned())
            .map_err(|_| ControlPlaneError::Url(url.to_owned()))?
            .connect_timeout(self.connect_timeout)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true))
    }

    fn tls(&self, url: &str) -> Result<ClientTlsConfig, ControlPlaneError> {
        let ca_file = self.ca_file.as_ref();
        let ca_file = ca_file.ok_or_else(|| ControlPlaneError::NoAuthority(url.to_owned()))?;
        let ca = pem(ca_file)?;
        if !ca.windows(BEGIN.len()).any(|part| part == BEGIN) {
            return Err(ControlPlaneError::NoCertificate(ca_file.clone()));
        }
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(ca))
            .timeout(self.connect_timeout);
        if let Some((certificate, key)) = &self.identity_files {
            tls = tls.identity(Identity::from_pem(pem(certificate)?, pem(key)?));
        }
        Ok(tls)
    }
}

fn is_https(url: &str) -> bool {
    url.starts_with("https:")
}

const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// The header of a token, which no log shows.
fn bearer(token: &Secret, file: &Path) -> Result<MetadataValue<Ascii>, ControlPlaneError> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, "holds no token");
    let mut value = MetadataValue::try_from(format!("Bearer {}", token.expose()))
        .map_err(|_| ControlPlaneError::File { file: file.to_owned(), source: invalid() })?;
    value.set_sensitive(true);
    Ok(value)
}

fn pem(file: &Path) -> Result<Vec<u8>, ControlPlaneError> {
    let fail = |source| ControlPlaneError::File { file: file.to_owned(), source };
    if fs::metadata(file).map_err(fail)?.len() > MOST_PEM_BYTES {
        let source = io::Error::new(io::ErrorKind::InvalidData, "is larger than 1 MiB");
        return Err(fail(source));
    }
    fs::read(file).map_err(fail)
}

/// An error and what caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(url: &str, change: impl FnOnce(&mut ControlPlanes)) -> Result<(), String> {
        let mut planes = ControlPlanes::at([url]);
        change(&mut planes);
        planes.check().map_err(|error| error.to_string())
    }

    #[test]
    fn a_url_says_how_and_where() {
        for good in ["http://127.0.0.1:18000", "http://cp.test:1", "http://[::1]:1"] {
            assert_eq!(with(good, |_| {}), Ok(()), "{good}");
        }
        for bad in ["127.0.0.1:18000", "ftp://a:1", "", "http://", "unix:/tmp/x"] {
            assert!(with(bad, |_| {}).unwrap_err().contains("is no URL"), "{bad}");
        }
        assert!(ControlPlanes::at([""; 0]).check().is_err());
        let error = with("https://cp.test:1", |_| {}).unwrap_err();
        assert!(error.contains("--control-plane-ca"), "{error}");
    }

    #[test]
    fn a_token_leaves_this_machine_only_over_tls() {
        let token = |planes: &mut ControlPlanes| planes.join_token_file = Some("t".into());
        for here in ["http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1"] {
            assert_eq!(with(here, token), Ok(()), "{here}");
        }
        let error = with("http://10.0.0.1:1", token).unwrap_err();
        assert!(error.contains("--insecure-dev"), "{error}");
        let dev = |planes: &mut ControlPlanes| {
            token(planes);
            planes.plaintext_token = true;
        };
        assert_eq!(with("http://10.0.0.1:1", dev), Ok(()));
        let tls = |planes: &mut ControlPlanes| {
            token(planes);
            planes.ca_file = Some("ca".into());
        };
        assert_eq!(with("https://10.0.0.1:1", tls), Ok(()));
    }

    #[test]
    fn a_fleet_spreads_over_all_control_planes() {
        let planes = ControlPlanes::at(["http://a:1", "http://b:1", "http://c:1"]);
        let mut counts = [0; 3];
        for i in 0..3000 {
            counts[planes.first(&format!("node-{i}"))] += 1;
        }
        assert!(counts.iter().all(|count| (900..1100).contains(count)), "{counts:?}");
        assert_eq!(planes.first("node-1"), planes.first("node-1"));
    }

    #[tokio::test]
    async fn files_that_cannot_be_used_are_named_and_tokens_are_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let (token, ca) = (dir.path().join("token"), dir.path().join("ca.pem"));
        let mut planes = ControlPlanes::at(["http://127.0.0.1:1"]);
        planes.join_token_file = Some(token.clone());
        let fail = |error: Option<ControlPlaneError>| error.unwrap().to_string();
        assert!(fail(planes.dial(0).await.err()).contains("token"));
        fs::write(&token, "segue-join-0123456789\n").unwrap();
        let mut dialed = planes.dial(0).await.ok().unwrap();
        let request = dialed.bearer.call(Request::new(())).unwrap();
        let header = request.metadata().get("authorization").unwrap();
        assert_eq!(header.to_str().unwrap(), "Bearer segue-join-0123456789");
        assert!(!format!("{request:?}").contains("0123456789"));

        planes.urls = vec!["https://127.0.0.1:1".to_owned()];
        planes.ca_file = Some(ca.clone());
        fs::write(&ca, "nothing").unwrap();
        assert!(fail(planes.dial(0).await.err()).contains("holds no certificate"));
    }
}
