//! Why a handshake failed, in words for metrics and for people.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};
use thiserror::Error as ThisError;

use super::svid::SvidFault;
use crate::spiffe::{SpiffeId, TrustDomain};

/// Most certificates of a chain, the leaf's included, and their bytes together.
pub const MOST_CHAIN: usize = 6;
pub const MOST_CHAIN_BYTES: usize = 64 * 1024;

/// A peer's certificate that is not believed.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum Refusal {
    #[error(
        "the peer's chain has more than {MOST_CHAIN} certificates, or {MOST_CHAIN_BYTES} bytes"
    )]
    Chain,
    #[error("the peer's certificate is not that of a workload: {0}")]
    NotSvid(#[from] SvidFault),
    #[error("nobody here knows the authorities of trust domain {0}")]
    Domain(TrustDomain),
    #[error("no authority of its trust domain has signed the peer's certificate")]
    UnknownAuthority,
    #[error("the peer's certificate has expired")]
    Expired,
    #[error("the peer's certificate is not valid yet")]
    NotYetValid,
    #[error("the peer is {0}, which was not called")]
    OtherIdentity(SpiffeId),
    #[error("the peer's certificate does not verify: {0}")]
    Invalid(String),
}

impl Refusal {
    /// One word for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::NotSvid(SvidFault::Uris(_) | SvidFault::Id(_)) => "san",
            Self::NotSvid(SvidFault::Unreadable) => "unreadable",
            Self::NotSvid(SvidFault::Authority | SvidFault::Usage(_)) => "usage",
            Self::Domain(_) => "trust_domain",
            Self::UnknownAuthority => "unknown_authority",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::OtherIdentity(_) => "other_identity",
            Self::Invalid(_) => "invalid",
        }
    }
}

/// The word for why a handshake failed.
pub fn reason_of(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::TimedOut {
        return "timeout";
    }
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let Some(inner) = inner else { return "closed" };
    match inner {
        Error::InvalidCertificate(CertificateError::Other(other)) => {
            other.0.downcast_ref::<Refusal>().map_or("invalid", Refusal::reason)
        }
        Error::InvalidCertificate(_) => "invalid",
        Error::NoCertificatesPresented => "no_certificate",
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => "plain_text",
        Error::PeerIncompatible(_) => "incompatible",
        Error::NoApplicationProtocol => "application_protocol",
        Error::AlertReceived(alert) => reason_of_alert(*alert),
        _ => "handshake",
    }
}

/// The peer refused us, and says why as far as TLS has words for it.
fn reason_of_alert(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::ProtocolVersion
        | AlertDescription::HandshakeFailure
        | AlertDescription::InsufficientSecurity => "incompatible",
        AlertDescription::NoApplicationProtocol => "application_protocol",
        _ => "refused_by_peer",
    }
}
