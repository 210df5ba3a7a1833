//! Services that speak no HTTP: from the name or the address that a caller wanted to a cluster.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Domain, Split};
use crate::canonical::AddressRange;

/// One service, or one chain of filters of a listener.
#[derive(Debug)]
pub struct TcpRoute {
    /// Name for logs.
    pub name: Box<str>,
    /// The port that callers want; `None`: any.
    pub port: Option<u16>,
    /// Names that callers want, by `CONNECT` or by TLS's server name. Empty: whatever the name.
    pub names: Vec<Domain>,
    /// Addresses that callers want. Empty: whatever the address.
    pub addresses: Vec<AddressRange>,
    /// Where connections go; one stays where it began.
    pub split: Split,
    /// Without a byte either way; `None`: without limit.
    pub idle_timeout: Option<Duration>,
}

/// All of them. Lookups are made once a connection.
#[derive(Debug, Default)]
pub struct TcpTable {
    /// By exact name, in their order.
    by_name: HashMap<Arc<str>, Vec<Arc<TcpRoute>>>,
    /// With a wildcard among the names, or with no name: looked through one by one.
    others: Vec<Arc<TcpRoute>>,
}

impl TcpTable {
    /// A table of these; of two that fit a connection alike, the first one has it.
    pub fn new(routes: impl IntoIterator<Item = Arc<TcpRoute>>) -> Self {
        let mut table = Self::default();
        for route in routes {
            for name in &route.names {
                if let Domain::Exact(name) = name {
                    table.by_name.entry(Arc::clone(name)).or_default().push(Arc::clone(&route));
                }
            }
            if route.names.is_empty()
                || route.names.iter().any(|it| !matches!(it, Domain::Exact(_)))
            {
                table.others.push(route);
            }
        }
        table
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty() && self.others.is_empty()
    }

    /// Those with this very name.
    pub(crate) fn named(&self, name: &str) -> &[Arc<TcpRoute>] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// Those that no exact name finds.
    pub(crate) fn others(&self) -> &[Arc<TcpRoute>] {
        &self.others
    }
}

impl TcpRoute {
    /// Whether it takes connections to an address.
    pub(crate) fn holds_address(&self, address: Option<IpAddr>) -> bool {
        let within = |address| self.addresses.iter().any(|range| range.contains(address));
        self.addresses.is_empty() || address.is_some_and(within)
    }
}
