//! From authority to virtual host.

use std::borrow::Cow;
use std::sync::Arc;

use crate::canonical::CanonHost;
use crate::snapshot::{RouteTable, VirtualHost};

impl RouteTable {
    /// The virtual host of a request. Where ports count, a default port that the caller wrote out
    /// is looked for first: `chat:80`, then `chat`.
    pub fn virtual_host_of(&self, host: &CanonHost) -> Option<&Arc<VirtualHost>> {
        if self.ignore_port {
            return self.virtual_host(host.name());
        }
        let written_out = host.named_default_port().and_then(|port| {
            let with_port = format!("{}:{port}", host.name());
            self.exact.get(with_port.as_str())
        });
        written_out.or_else(|| self.virtual_host(host.as_str()))
    }

    /// The virtual host of an authority (`Host` or `:authority`), in any case, with or without port.
    /// Allocates only where the host has upper-case letters.
    pub fn virtual_host(&self, authority: &str) -> Option<&Arc<VirtualHost>> {
        let host = if self.ignore_port { without_port(authority) } else { authority };
        let host: Cow<'_, str> = if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(host.to_ascii_lowercase())
        } else {
            Cow::Borrowed(host)
        };
        let host = host.as_ref();
        if let Some(found) = self.exact.get(host) {
            return Some(found);
        }
        // The star stands for at least one character.
        let by_suffix =
            self.suffixes.iter().find(|(end, _)| host.len() > end.len() && host.ends_with(&**end));
        let by_prefix = || {
            self.prefixes
                .iter()
                .find(|(start, _)| host.len() > start.len() && host.starts_with(&**start))
        };
        by_suffix.or_else(by_prefix).map(|(_, found)| found).or(self.any.as_ref())
    }
}

/// `chat:80` and `[::1]:80` without the port; a bare IPv6 address stays whole.
fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port))
            if port.bytes().all(|byte| byte.is_ascii_digit())
                && (!host.contains(':') || host.ends_with(']')) =>
        {
            host
        }
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(domains: &[&str], ignore_port: bool) -> RouteTable {
        let mut table = RouteTable { ignore_port, ..RouteTable::default() };
        for domain in domains {
            let host = Arc::new(VirtualHost::new(*domain, Vec::new()));
            assert!(table.insert(&domain.parse().unwrap(), host));
        }
        table
    }

    fn found<'a>(table: &'a RouteTable, authority: &str) -> Option<&'a str> {
        table.virtual_host(authority).map(|host| &*host.name)
    }

    #[test]
    fn the_most_exact_domain_wins() {
        let table = table(
            &["*", "chat", "*.shop.test", "*.a.shop.test", "api.*", "api.v2.*", "[::1]"],
            true,
        );
        for (authority, expected) in [
            ("chat", "chat"),
            ("CHAT:8080", "chat"),
            ("x.shop.test", "*.shop.test"),
            ("x.a.shop.test:80", "*.a.shop.test"),
            ("api.shop.test", "*.shop.test"),
            ("api.v2.test", "api.v2.*"),
            ("api.test", "api.*"),
            (".shop.test", "*"),
            ("[::1]:80", "[::1]"),
            ("::1", "*"),
            ("", "*"),
        ] {
            assert_eq!(found(&table, authority), Some(expected), "{authority}");
        }
    }

    #[test]
    fn a_port_counts_where_it_is_not_ignored() {
        let table = table(&["chat", "chat:8080"], false);
        assert_eq!(found(&table, "chat:8080"), Some("chat:8080"));
        assert_eq!(found(&table, "chat:80"), None);
        assert_eq!(found(&table, "chat"), Some("chat"));
    }

    #[test]
    fn a_default_port_is_as_good_as_none() {
        let host = |text| CanonHost::of(http::HeaderValue::from_static(text), 80).unwrap();
        let name = |table: &RouteTable, text| {
            table.virtual_host_of(&host(text)).map(|found| found.name.to_string())
        };
        let plain = table(&["chat", "other:80"], false);
        assert_eq!(name(&plain, "chat:80").as_deref(), Some("chat"));
        assert_eq!(name(&plain, "Chat.").as_deref(), Some("chat"));
        assert_eq!(name(&plain, "other:80").as_deref(), Some("other:80"));
        assert_eq!(name(&plain, "other"), None);
        let ignoring = table(&["chat"], true);
        assert_eq!(name(&ignoring, "chat:8080").as_deref(), Some("chat"));
    }

    /// Envoy's order, told by ranking every domain.
    fn reference<'a>(domains: &[&'a str], host: &str) -> Option<&'a str> {
        domains
            .iter()
            .filter_map(|domain| {
                let rank = if *domain == "*" {
                    (0, 0)
                } else if let Some(end) = domain.strip_prefix('*') {
                    (host.len() > end.len() && host.ends_with(end)).then_some((2, end.len()))?
                } else if let Some(start) = domain.strip_suffix('*') {
                    (host.len() > start.len() && host.starts_with(start))
                        .then_some((1, start.len()))?
                } else {
                    (*domain == host).then_some((3, 0))?
                };
                Some((rank, *domain))
            })
            .max()
            .map(|(_, domain)| domain)
    }

    proptest! {
        #[test]
        fn lookup_is_the_reference(
            domains in prop::collection::btree_set("(\\*|\\*\\.)?[ab]{1,2}(\\.[ab])?|[ab]\\.?\\*|\\*", 1..12),
            host in "[ab]{1,3}(\\.[ab]{1,2}){0,2}",
        ) {
            let domains: Vec<&str> = domains.iter().map(String::as_str).collect();
            let table = table(&domains, false);
            prop_assert_eq!(found(&table, &host), reference(&domains, &host));
        }
    }
}
