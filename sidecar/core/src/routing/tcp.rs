//! From the name or the address that a caller of no HTTP wanted to a route.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::snapshot::{Domain, TcpRoute, TcpTable};

/// What is known of where a connection wants to go.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// The name that the caller gave, in lower case and without a trailing dot: in `CONNECT`, or as
    /// TLS's server name (RFC 6066 section 3).
    pub name: Option<&'a str>,
    /// The port that it wanted.
    pub port: Option<u16>,
    /// The address that it connected to before the connection was captured.
    pub original: Option<SocketAddr>,
}

impl TcpTable {
    /// The route of a connection: by its name first (exact, then the longest wildcard), then by its
    /// address or its port alone. A port must always agree.
    pub fn route(&self, wanted: Wanted<'_>) -> Option<&Arc<TcpRoute>> {
        let port = wanted.port.or(wanted.original.map(|original| original.port()));
        let address = wanted.original.map(|original| original.ip().to_canonical());
        let fits = |route: &Arc<TcpRoute>| {
            route.port.is_none_or(|own| port.is_none_or(|port| own == port))
                && route.holds_address(address)
        };
        if let Some(name) = wanted.name {
            let exact = self.named(name).iter().find(|route| fits(route));
            let by_wildcard = || {
                let candidates = self.others().iter().filter(|route| fits(route));
                let lengths = candidates.filter_map(|it| Some((wildcard_of(it, name)?, it)));
                // Of equal ones the first.
                lengths.rev().max_by_key(|(length, _)| *length).map(|(_, route)| route)
            };
            if let Some(found) = exact.or_else(by_wildcard) {
                return Some(found);
            }
        }
        // Without any name in common, only an address or a port that was asked for can decide.
        let unnamed = self.others().iter().filter(|route| route.names.is_empty() && fits(route));
        let mut decided =
            unnamed.filter(|route| route.port.is_some() || !route.addresses.is_empty());
        decided.next().filter(|_| wanted.original.is_some())
    }
}

/// Length of the longest wildcard that a name falls under.
fn wildcard_of(route: &TcpRoute, name: &str) -> Option<usize> {
    let length = |domain: &Domain| match domain {
        Domain::Exact(_) => None,
        Domain::Suffix(end) => {
            (name.len() > end.len() && name.ends_with(&**end)).then_some(end.len())
        }
        Domain::Prefix(start) => {
            (name.len() > start.len() && name.starts_with(&**start)).then_some(start.len())
        }
        Domain::Any => Some(0),
    };
    route.names.iter().filter_map(length).max()
}

#[cfg(test)]
mod tests {
    use segue_shared::bucket::Salt;

    use super::*;
    use crate::snapshot::{Split, SplitKey};

    fn route(name: &str, port: u16, names: &[&str], addresses: &[&str]) -> Arc<TcpRoute> {
        Arc::new(TcpRoute {
            name: name.into(),
            port: Some(port),
            names: names.iter().map(|it| it.parse().unwrap()).collect(),
            addresses: addresses.iter().map(|it| it.parse().unwrap()).collect(),
            split: Split { key: SplitKey::Random, salt: Salt::new(name), ranges: Vec::new() },
            idle_timeout: None,
        })
    }

    fn table() -> TcpTable {
        TcpTable::new([
            route("db", 5432, &["db", "db.default"], &[]),
            route("db-by-address", 5432, &[], &["10.96.0.7"]),
            route("wild", 443, &["*.shop.test"], &[]),
            route("wilder", 443, &["*.a.shop.test"], &[]),
            route("cache", 6379, &[], &[]),
        ])
    }

    fn found(name: Option<&str>, port: u16, original: Option<&str>) -> Option<String> {
        let table = table();
        let original = original.map(|it| it.parse().unwrap());
        let route = table.route(Wanted { name, port: Some(port), original })?;
        Some(route.name.to_string())
    }

    #[test]
    fn a_name_and_its_port_decide() {
        assert_eq!(found(Some("db"), 5432, None).as_deref(), Some("db"));
        assert_eq!(found(Some("db.default"), 5432, None).as_deref(), Some("db"));
        assert_eq!(found(Some("db"), 5433, None), None);
        assert_eq!(found(Some("other"), 5432, None), None);
        assert_eq!(found(Some("x.shop.test"), 443, None).as_deref(), Some("wild"));
        assert_eq!(found(Some("x.a.shop.test"), 443, None).as_deref(), Some("wilder"));
        assert_eq!(found(Some(".shop.test"), 443, None), None);
    }

    #[test]
    fn an_address_that_was_captured_decides_where_no_name_does() {
        let to = |address| found(None, 5432, Some(address));
        assert_eq!(to("10.96.0.7:5432").as_deref(), Some("db-by-address"));
        assert_eq!(to("[::ffff:10.96.0.7]:5432").as_deref(), Some("db-by-address"));
        assert_eq!(to("10.96.0.8:5432"), None);
        assert_eq!(found(None, 6379, Some("10.0.0.1:6379")).as_deref(), Some("cache"));
        // A name that nobody has leaves the decision to the address.
        let unknown = found(Some("unknown"), 5432, Some("10.96.0.7:5432"));
        assert_eq!(unknown.as_deref(), Some("db-by-address"));
    }

    #[test]
    fn a_port_alone_decides_nothing_that_was_not_captured() {
        assert_eq!(found(None, 6379, None), None);
        assert_eq!(found(Some("whatever"), 6379, None), None);
    }
}
