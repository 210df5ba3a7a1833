//! The endpoints of a cluster as they were told, by name, and as they are once the names are known.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::attempts::interleaved;
use super::family::Family;
use super::refresh::Refresh;
use crate::snapshot::{Endpoint, Locality};

/// Addresses of one name that are taken; further ones are left out.
const MOST_ADDRESSES: usize = 256;

/// What is asked of DNS.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Query {
    pub host: Arc<str>,
    pub family: Family,
}

/// A cluster whose endpoints are host names.
#[derive(Debug, PartialEq)]
pub struct DnsSpec {
    pub endpoints: Box<[NamedEndpoint]>,
    /// Whether all addresses of a name are one endpoint, as of `LOGICAL_DNS`; else each one is.
    pub logical: bool,
    pub refresh: Refresh,
}

/// One endpoint as it was told.
#[derive(Debug, PartialEq)]
pub struct NamedEndpoint {
    pub host: Host,
    pub port: u16,
    pub weight: u32,
    pub priority: u32,
    pub locality: Option<Arc<Locality>>,
    pub locality_weight: u32,
}

/// Where an endpoint is.
#[derive(Debug, PartialEq)]
pub enum Host {
    Address(IpAddr),
    Name(Query),
}

impl DnsSpec {
    /// What has to be asked.
    pub fn queries(&self) -> impl Iterator<Item = &Query> {
        self.endpoints.iter().filter_map(|endpoint| match &endpoint.host {
            Host::Address(_) => None,
            Host::Name(query) => Some(query),
        })
    }

    /// The endpoints by what is known of the names, or the first name of which nothing is. `before`
    /// are those of the last answers: of a logical endpoint the address that calls go to stays for as
    /// long as it is among those of the name, and all of them do where a name has none any more.
    pub fn known<'a>(
        &'a self,
        answer: impl Fn(&Query) -> Option<&'a [IpAddr]>,
        before: &[Endpoint],
    ) -> Result<Vec<Endpoint>, &'a Query> {
        let mut all = Vec::with_capacity(self.endpoints.len());
        let mut seen = HashSet::new();
        for named in &self.endpoints {
            let found = match &named.host {
                Host::Address(address) => std::slice::from_ref(address),
                Host::Name(query) => answer(query).ok_or(query)?,
            };
            let found = &found[..found.len().min(MOST_ADDRESSES)];
            let addresses = found.iter().map(|address| SocketAddr::new(*address, named.port));
            if self.logical {
                all.extend(named.logical(addresses.collect(), before.first()));
            } else {
                let new = addresses.filter(|address| seen.insert(*address));
                all.extend(new.map(|address| named.at(address)));
            }
        }
        Ok(all)
    }
}

impl NamedEndpoint {
    fn at(&self, address: SocketAddr) -> Endpoint {
        Endpoint {
            weight: self.weight,
            priority: self.priority,
            locality: self.locality.clone(),
            locality_weight: self.locality_weight,
            ..Endpoint::new(address)
        }
    }

    /// One endpoint with all the addresses.
    fn logical(
        &self,
        mut addresses: Vec<SocketAddr>,
        before: Option<&Endpoint>,
    ) -> Option<Endpoint> {
        if addresses.is_empty() {
            return before.cloned();
        }
        if let Some(before) = before.filter(|before| addresses.contains(&before.address)) {
            addresses.insert(0, before.address);
        }
        match &*interleaved(&addresses) {
            [first, others @ ..] => Some(Endpoint { others: others.into(), ..self.at(*first) }),
            [] => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(host: &str) -> Query {
        Query { host: host.into(), family: Family::Auto }
    }

    fn spec(logical: bool, hosts: &[&str]) -> DnsSpec {
        let endpoint = |(i, host): (usize, &&str)| NamedEndpoint {
            host: host.parse().map_or_else(|_| Host::Name(query(host)), Host::Address),
            port: 80,
            weight: i as u32 + 1,
            priority: 0,
            locality: None,
            locality_weight: 0,
        };
        let endpoints = hosts.iter().enumerate().map(endpoint).collect();
        DnsSpec { endpoints, logical, refresh: Refresh::default() }
    }

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn text(endpoints: &[Endpoint]) -> String {
        let one = |it: &Endpoint| {
            let all = [&[it.address], &*it.others].concat();
            let all: Vec<String> = all.iter().map(|it| it.ip().to_string()).collect();
            format!("{} x{}", all.join(" or "), it.weight)
        };
        endpoints.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn each_address_of_a_strict_name_is_an_endpoint_with_its_weight() {
        let spec = spec(false, &["a.test", "9.9.9.9", "b.test"]);
        let (a, b) = (ips(&["1.1.1.1", "2.2.2.2"]), ips(&["2.2.2.2", "3.3.3.3"]));
        let answer = |query: &Query| match &*query.host {
            "a.test" => Some(&*a),
            _ => Some(&*b),
        };
        let known = spec.known(answer, &[]).unwrap();
        assert_eq!(text(&known), "1.1.1.1 x1, 2.2.2.2 x1, 9.9.9.9 x2, 3.3.3.3 x3");
        assert_eq!(spec.queries().map(|it| &*it.host).collect::<Vec<_>>(), ["a.test", "b.test"]);
    }

    #[test]
    fn a_name_of_which_nothing_is_known_is_waited_for_and_one_without_addresses_is_not() {
        let spec = spec(false, &["a.test", "b.test"]);
        let half = |query: &Query| (&*query.host == "a.test").then_some(&[][..]);
        assert_eq!(spec.known(half, &[]).unwrap_err(), &query("b.test"));
        assert_eq!(spec.known(|_| Some(&[]), &[]).unwrap(), []);
    }

    #[test]
    fn a_logical_endpoint_keeps_the_address_that_calls_go_to() {
        let spec = spec(true, &["a.test"]);
        let first = ips(&["1.1.1.1", "2.2.2.2", "::1"]);
        let known = spec.known(|_| Some(&first), &[]).unwrap();
        assert_eq!(text(&known), "1.1.1.1 or ::1 or 2.2.2.2 x1");
        let second = ips(&["0.0.0.1", "1.1.1.1"]);
        let kept = spec.known(|_| Some(&second), &known).unwrap();
        assert_eq!(text(&kept), "1.1.1.1 or 0.0.0.1 x1");
        let third = ips(&["0.0.0.1"]);
        let moved = spec.known(|_| Some(&third), &kept).unwrap();
        assert_eq!(text(&moved), "0.0.0.1 x1");
        let none = spec.known(|_| Some(&[]), &moved).unwrap();
        assert_eq!(text(&none), "0.0.0.1 x1", "a logical name that has no address any more");
    }
}
