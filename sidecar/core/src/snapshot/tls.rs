//! How connections are secured.

use std::sync::Arc;

use segue_shared::spiffe::SpiffeId;

/// mTLS towards a cluster: the sidecar shows its own identity and expects one of these.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UpstreamTls {
    /// Who may answer; never empty.
    pub peers: Arc<[SpiffeId]>,
    /// What is sent as server name (RFC 6066); `None`: nothing.
    pub server_name: Option<Box<str>>,
}

/// What callers of the application beside the sidecar have to show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InboundMtls {
    /// Nothing: plain text, and TLS is the application's own.
    #[default]
    Off,
    /// An identity where they speak TLS; plain text is taken as well.
    Permissive,
    /// An identity.
    Strict,
}
