//! Where instances are, and what that means to who is called.

use std::collections::BTreeMap;

/// A place: a region, a zone in it, a part of that. Any of them may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Locality {
    pub region: Box<str>,
    pub zone: Box<str>,
    pub sub_zone: Box<str>,
}

impl Locality {
    /// Whether nothing is told of it.
    pub fn is_unknown(&self) -> bool {
        self.region.is_empty() && self.zone.is_empty() && self.sub_zone.is_empty()
    }
}

/// `region/zone/sub-zone`, without what is empty at the end.
impl std::fmt::Display for Locality {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let whole = format!("{}/{}/{}", self.region, self.zone, self.sub_zone);
        f.write_str(whole.trim_end_matches('/'))
    }
}

/// What the localities of endpoints mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LocalityRule {
    /// Nothing.
    #[default]
    Ignored,
    /// Each takes its weight of the requests, less what its sick endpoints cannot take.
    Weighted,
    /// Requests stay in the locality of the caller as far as that burdens none more than the others.
    ZoneAware(ZoneAware),
}

/// When requests stay where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZoneAware {
    /// Share of the requests that the rule is for, in ten-thousandths. Default all.
    pub enabled: u16,
    /// Good endpoints below which the rule is off. Default 6.
    pub min_endpoints: u32,
    /// Good endpoints of the caller's own locality from which on all requests stay there, whatever
    /// they burden. Default: never.
    pub all_from: Option<u32>,
}

impl ZoneAware {
    /// All of the ten-thousandths.
    pub const ALL: u16 = 10_000;
}

impl Default for ZoneAware {
    fn default() -> Self {
        Self { enabled: Self::ALL, min_endpoints: 6, all_from: None }
    }
}

/// The callers of a cluster, of whom the sidecar beside one knows where the others are: they share
/// out what each locality can take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callers {
    /// Where this one is.
    pub own: Locality,
    /// How many there are where; empty where that is not known.
    pub counts: BTreeMap<Locality, u32>,
}
