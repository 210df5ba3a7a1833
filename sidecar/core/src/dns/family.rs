//! Which kinds of addresses are asked for, and which are taken.

use std::net::IpAddr;

/// Envoy's `DnsLookupFamily`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv6, or IPv4 where there is none of it.
    #[default]
    Auto,
    V4Only,
    V6Only,
    /// IPv4, or IPv6 where there is none of it.
    V4Preferred,
    /// Both.
    All,
}

impl Family {
    /// Whether A records are asked for.
    pub fn asks_v4(self) -> bool {
        self != Self::V6Only
    }

    /// Whether AAAA records are asked for.
    pub fn asks_v6(self) -> bool {
        self != Self::V4Only
    }

    /// The addresses that count, of those that were found: each once, in an order that does not
    /// follow the whims of the server.
    pub fn select(self, mut v4: Vec<IpAddr>, mut v6: Vec<IpAddr>) -> Vec<IpAddr> {
        for found in [&mut v4, &mut v6] {
            found.sort_unstable();
            found.dedup();
        }
        match self {
            Self::Auto if v6.is_empty() => v4,
            Self::Auto | Self::V6Only => v6,
            Self::V4Preferred if v4.is_empty() => v6,
            Self::V4Preferred | Self::V4Only => v4,
            Self::All => [v6, v4].concat(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_takes_what_it_prefers() {
        let v4: Vec<IpAddr> =
            ["2.2.2.2", "1.1.1.1", "2.2.2.2"].map(|it| it.parse().unwrap()).into();
        let v6: Vec<IpAddr> = vec!["::1".parse().unwrap()];
        let text = |family: Family, v4: &[IpAddr], v6: &[IpAddr]| {
            let taken = family.select(v4.to_vec(), v6.to_vec());
            taken.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        for (family, both, only_v4, only_v6) in [
            (Family::Auto, "::1", "1.1.1.1 2.2.2.2", "::1"),
            (Family::V4Only, "1.1.1.1 2.2.2.2", "1.1.1.1 2.2.2.2", ""),
            (Family::V6Only, "::1", "", "::1"),
            (Family::V4Preferred, "1.1.1.1 2.2.2.2", "1.1.1.1 2.2.2.2", "::1"),
            (Family::All, "::1 1.1.1.1 2.2.2.2", "1.1.1.1 2.2.2.2", "::1"),
        ] {
            assert_eq!(text(family, &v4, &v6), both, "{family:?}");
            assert_eq!(text(family, &v4, &[]), only_v4, "{family:?}");
            assert_eq!(text(family, &[], &v6), only_v6, "{family:?}");
        }
    }
}
