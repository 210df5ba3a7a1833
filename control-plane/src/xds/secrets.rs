//! The secrets of one stream: whom its node is to believe, and, for nodes that keep no key of their
//! own, who it is.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use segue_control_plane_core::compile::secret;
use segue_control_plane_core::snapshot::EncodedResource;
use segue_control_plane_core::xds::{Session, Variant};
use segue_shared::ids::ServiceName;
use segue_shared::spiffe::SpiffeId;
use segue_shared::xds_names::{BUNDLE_SECRET, IDENTITY_SECRET};
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::access::Member;
use crate::identity::{IssueError, Membership, Seat, Trust};

/// Time after which an identity that could not be made is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// See the module.
pub(super) struct NodeSecrets {
    membership: Arc<Membership>,
    node_id: Arc<str>,
    /// Who the node is. `None`: it did not say.
    service: Option<ServiceName>,
    /// The token that it came in with, until a certificate was given for it.
    token: Option<String>,
    trust: watch::Receiver<Arc<Trust>>,
    authorities: Arc<EncodedResource>,
    identity: Option<Shown>,
    /// When the identity is made anew, or tried again.
    due: Option<Instant>,
    seat: Seat,
}

/// An identity that was made.
struct Shown {
    secret: Arc<EncodedResource>,
    /// Fingerprint of the root that it leads to.
    root: String,
}

/// No identity for this node, for now.
#[derive(Debug, Error)]
enum NoIdentity {
    #[error("the node does not say of which service it is: set node.cluster")]
    NoService,
    #[error("the join token: {0}")]
    Token(String),
    #[error("no key can be made: {0}")]
    Key(#[from] rcgen::Error),
    #[error(transparent)]
    Issue(#[from] IssueError),
    #[error("{0}")]
    Broken(#[from] tokio::task::JoinError),
}

impl NodeSecrets {
    pub fn of(
        membership: &Arc<Membership>,
        node_id: &str,
        service: Option<ServiceName>,
        member: Option<&Member>,
    ) -> Self {
        let trust = membership.authority.watch();
        let authorities = secret::authorities(&trust.borrow().pem());
        let name = service.as_ref().map(ToString::to_string).unwrap_or_default();
        Self {
            seat: membership.roster.sit(node_id, &name),
            token: member.and_then(|member| member.token.clone()),
            membership: Arc::clone(membership),
            node_id: node_id.into(),
            service,
            trust,
            authorities,
            identity: None,
            due: None,
        }
    }

    /// What the node may ask for now.
    pub fn shown(&self) -> impl Iterator<Item = Arc<EncodedResource>> {
        let identity = self.identity.as_ref().map(|shown| Arc::clone(&shown.secret));
        [Arc::clone(&self.authorities)].into_iter().chain(identity)
    }

    /// Waits until others are to be believed. May be dropped and called again.
    pub async fn changed(&mut self) {
        // The sender lives as long as the membership.
        let _ = self.trust.changed().await;
        self.trust.mark_changed();
    }

    /// When the identity is made anew, or tried again.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether [`Self::refresh`] has something to do.
    pub fn are_due(&self, wants_identity: bool) -> bool {
        self.trust.has_changed().unwrap_or(false)
            || self.is_due() && (wants_identity || self.due.is_some())
    }

    /// Whether an identity would be made now, if it is wanted.
    fn is_due(&self) -> bool {
        self.due.map_or(self.identity.is_none(), |due| due <= Instant::now())
    }

    /// Brings the secrets up to date; whether there are others now.
    pub async fn refresh(&mut self, wants_identity: bool) -> bool {
        let mut changed = false;
        if self.trust.has_changed().unwrap_or(false) {
            let trust = Arc::clone(&self.trust.borrow_and_update());
            self.authorities = secret::authorities(&trust.pem());
            changed = true;
            let other = |shown: &Shown| shown.root != trust.signer();
            if self.identity.as_ref().is_some_and(other) {
                self.due = Some(Instant::now());
            }
        }
        let is_due = self.is_due();
        if is_due && !wants_identity {
            // Nobody has a use for it.
            (self.identity, self.due) = (None, None);
        } else if is_due {
            match self.make().await {
                Ok(()) => changed = true,
                Err(error) => {
                    self.membership.metrics.refused("secret");
                    let service = self.service.as_ref().map(ToString::to_string);
                    tracing::warn!(service, %error, "no identity for a node");
                    self.due = Some(Instant::now() + RETRY);
                }
            }
        }
        changed
    }

    /// The node has taken these.
    pub fn taken<V: Variant>(&self, session: &Session<V>) {
        let believes = session.taken_secret(BUNDLE_SECRET);
        let identity = session.taken_secret(IDENTITY_SECRET);
        let current = |taken: &&Arc<EncodedResource>| {
            self.identity.as_ref().is_some_and(|shown| shown.secret.version() == taken.version())
        };
        let shows = identity.filter(current).and(self.identity.as_ref());
        self.seat.took(
            session.wants_secret(BUNDLE_SECRET),
            believes.map(|secret| secret.version()),
            shows.map(|shown| shown.root.as_str()),
        );
    }

    async fn make(&mut self) -> Result<(), NoIdentity> {
        let service = self.service.clone().ok_or(NoIdentity::NoService)?;
        let (membership, token) = (Arc::clone(&self.membership), self.token.clone());
        let (ttl, node) = (membership.ttl, Arc::clone(&self.node_id));
        // Disk and keys.
        let work = move || make(&membership, &node, &service, token, SystemTime::now());
        let made = tokio::task::spawn_blocking(work);
        self.identity = Some(made.await??);
        self.token = None;
        self.membership.metrics.issued();
        self.due = Some(Instant::now() + ttl / 2);
        Ok(())
    }
}

fn make(
    membership: &Membership,
    node: &str,
    service: &ServiceName,
    token: Option<String>,
    now: SystemTime,
) -> Result<Shown, NoIdentity> {
    let authority = &membership.authority;
    let id = SpiffeId::of_service(&authority.domain, service);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let csr = CertificateParams::default().serialize_request(&key)?;
    let issued = authority.issue(&id, csr.der(), membership.ttl, now)?;
    if let Some(token) = token {
        let redeemed = membership.tokens.redeem(&token, now);
        let redeemed = redeemed.map_err(|error| NoIdentity::Token(error.to_string()))?;
        redeemed.map_err(|unfit| NoIdentity::Token(unfit.to_string()))?;
    }
    let (root, until) = (issued.root.clone(), issued.not_after);
    membership
        .roster
        .given(node, service.to_string(), root, until, now)
        .map_err(IssueError::Authority)?;
    let key = Zeroizing::new(key.serialize_pem());
    tracing::info!(%id, node, "a node was given an identity");
    Ok(Shown { secret: secret::identity(&issued.pem(), &key), root: issued.root })
}
