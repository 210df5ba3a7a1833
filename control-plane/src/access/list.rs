//! Everyone who may call the admin API, and how each is recognised.

use std::sync::Arc;

use segue_shared::secret::Secret;

use super::caller::Caller;
use super::peer::ClientCertificate;
use super::role::{Namespaces, Role};
use super::token::TokenDigest;

/// How a caller is recognised.
#[derive(Clone)]
pub enum Credential {
    Token(TokenDigest),
    /// A certificate of a client authority with exactly this one URI among its names.
    Uri(String),
    /// A certificate of a client authority with this DNS name.
    Dns(String),
}

impl Credential {
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Token(one), Self::Token(other)) => one.matches(other),
            (Self::Uri(one), Self::Uri(other)) | (Self::Dns(one), Self::Dns(other)) => one == other,
            _ => false,
        }
    }
}

/// A caller and how it is recognised.
#[derive(Clone)]
pub struct Entry {
    pub credential: Credential,
    pub caller: Arc<Caller>,
}

/// Everyone. Read whole, used whole.
#[derive(Clone, Default)]
pub struct AccessList {
    entries: Vec<Entry>,
}

impl AccessList {
    pub fn new(entries: Vec<Entry>) -> Self {
        Self { entries }
    }

    /// Whoever holds one of these tokens is `operator`.
    pub fn of_operator(tokens: &[Secret]) -> Self {
        let operator = Arc::new(Caller {
            name: "operator".to_owned(),
            role: Role::Operator,
            namespaces: Namespaces::All,
        });
        let entry = |token: &Secret| {
            let digest = TokenDigest::of(token.expose().as_bytes());
            Entry { credential: Credential::Token(digest), caller: Arc::clone(&operator) }
        };
        Self::new(tokens.iter().map(entry).collect())
    }

    /// Whose token this is. Takes the same time whether and wherever it is found.
    pub fn by_token(&self, token: &[u8]) -> Option<&Entry> {
        let digest = TokenDigest::of(token);
        let mut found = None;
        for entry in &self.entries {
            if let Credential::Token(known) = &entry.credential
                && known.matches(&digest)
            {
                found = Some(entry);
            }
        }
        found
    }

    /// Whose certificate this is.
    pub fn by_certificate(&self, certificate: &ClientCertificate) -> Option<&Entry> {
        self.entries.iter().find(|entry| match &entry.credential {
            Credential::Token(_) => false,
            // Of two URIs neither says who it is (SPIFFE X.509-SVID, 2).
            Credential::Uri(uri) => *certificate.uris == [uri.as_str()],
            Credential::Dns(name) => certificate.dns_names.contains(name),
        })
    }

    /// Whether somebody has this credential already.
    pub fn knows(&self, credential: &Credential) -> bool {
        self.entries.iter().any(|entry| entry.credential.is(credential))
    }

    /// Whether the same credential still gives the same rights.
    pub fn still_holds(&self, then: &Entry) -> bool {
        self.entries
            .iter()
            .any(|now| now.credential.is(&then.credential) && now.caller == then.caller)
    }

    pub fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
