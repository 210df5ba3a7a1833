//! An identity that the control plane issues for a key which never leaves this process.

use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use segue_proto::identity::v1::identity_service_client::IdentityServiceClient;
use segue_proto::identity::v1::{IssueRequest, IssueResponse};
use segue_shared::ids::ServiceName;
use segue_shared::spiffe::TrustDomain;
use segue_shared::tls::{BundleError, TrustBundle};
use tonic::{Request, Status};
use zeroize::Zeroizing;

use super::follow::{Source, SourceError};
use crate::control_plane::ControlPlanes;
use crate::tls::{Identity, Mesh};

/// Time for an answer.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// Part of a certificate's life after which the next one is asked for, give or take the jitter.
const RENEWAL: f64 = 0.5;
const JITTER: f64 = 0.1;
/// Least time between two certificates.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// Asks the control planes, one after the other.
pub struct Issued {
    pub control_planes: ControlPlanes,
    pub service: ServiceName,
    pub node_id: String,
    /// Which identity is in use.
    pub mesh: Mesh,
    /// Uniform in 0.0..1.0.
    pub draw: fn() -> f64,
    /// The place of the control plane that is asked.
    pub place: usize,
    /// Time within which all ask for new certificates when another root signs.
    pub spread: Duration,
    /// How often the authorities had been told when the last certificate was asked for.
    pub answered: u64,
}

impl Issued {
    async fn ask(&self) -> Result<Identity, SourceError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let params = CertificateParams::default();
        let csr = params.serialize_request(&key)?.der().to_vec();
        let dialed = self.control_planes.dial(self.place).await?;
        let mut client = IdentityServiceClient::with_interceptor(dialed.channel, dialed.bearer);
        let mut request = Request::new(IssueRequest {
            service: self.service.to_string(),
            node_id: self.node_id.clone(),
            csr,
            ttl: None,
        });
        request.set_timeout(ANSWER_TIME);
        let refused = |status: Status| SourceError::Refused(Box::new(status));
        let asked = tokio::time::timeout(ANSWER_TIME, client.issue(request));
        let late = |_| refused(Status::deadline_exceeded("no answer came"));
        let issued = asked.await.map_err(late)?.map_err(refused)?.into_inner();
        self.identity(issued, &Zeroizing::new(key.serialize_der()))
    }

    fn identity(&self, issued: IssueResponse, key: &[u8]) -> Result<Identity, SourceError> {
        let owned = |all: Vec<Vec<u8>>| all.into_iter().map(CertificateDer::from).collect();
        let domain: TrustDomain =
            issued.trust_domain.parse().map_err(|_| BundleError::Pem(issued.trust_domain))?;
        let bundle = TrustBundle::new(domain, owned(issued.authorities))?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key)).clone_key();
        let identity = Identity::new(owned(issued.chain), &key, bundle)?;
        if identity.id().service().as_ref() != Some(&self.service) {
            return Err(SourceError::OtherIdentity(identity.id().to_string()));
        }
        Ok(identity)
    }

    /// Waits until the next certificate is due: in time before this one ends, or soon where another
    /// root signs now. A control plane whose first root is not the one that signs is asked once for
    /// each time that it tells its roots.
    async fn due(&self) {
        let mut tellings = self.mesh.tellings();
        let usual = tokio::time::sleep(self.pause());
        tokio::pin!(usual);
        loop {
            let told = *tellings.borrow_and_update();
            let other = self.mesh.identity().is_some_and(|identity| !identity.is_by_signer);
            if other && told != self.answered {
                let soon = tokio::time::sleep(self.spread.mul_f64((self.draw)()));
                tokio::select! {
                    () = &mut usual => {}
                    () = soon => {}
                }
                return;
            }
            tokio::select! {
                () = &mut usual => return,
                // The sender lives as long as the mesh.
                _ = tellings.changed() => {}
            }
        }
    }

    /// When the next certificate is due in its usual time.
    fn pause(&self) -> Duration {
        let Some(identity) = self.mesh.identity() else { return Duration::ZERO };
        let now = SystemTime::now();
        let (begun, end) = (identity.svid.not_before, identity.svid.not_after);
        let life = end.duration_since(begun).unwrap_or_default();
        let share = RENEWAL + JITTER * ((self.draw)() * 2.0 - 1.0);
        let due = begun + life.mul_f64(share);
        due.duration_since(now).unwrap_or_default().max(SHORTEST_PAUSE)
    }
}

impl Source for Issued {
    async fn next(&mut self) -> Result<Identity, SourceError> {
        self.due().await;
        let told = *self.mesh.tellings().borrow();
        let asked = self.ask().await;
        match &asked {
            Ok(_) => self.answered = told,
            Err(_) => self.place = self.place.wrapping_add(1),
        }
        asked
    }
}
