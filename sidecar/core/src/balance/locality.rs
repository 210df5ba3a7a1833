//! How the requests of one priority are shared out among localities. Made when the health of an
//! endpoint changes, not per request.
//!
//! Weighted localities have their weight, less what their sick endpoints cannot take. Zone-aware
//! callers keep to their own locality: where its share of the endpoints is at least its share of the
//! callers, all their requests stay; else so many as it can take, and the rest goes where endpoints
//! are left over (Envoy's zone-aware routing).

use std::collections::BTreeMap;

use crate::snapshot::{Callers, Endpoint, Locality, LocalityRule, ZoneAware};

/// Percent of its requests that a priority or a locality with all its endpoints could take.
pub(super) const OVERPROVISION: u64 = 140;
/// What all shares of one priority come to.
pub(super) const WHOLE: u64 = 10_000;

/// What one locality takes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// Places of its good endpoints.
    pub members: Vec<u32>,
    /// Of [`WHOLE`].
    pub share: u64,
}

/// One locality of a priority.
#[derive(Debug, Default)]
struct Group {
    all: u64,
    good: Vec<u32>,
    weight: u64,
}

/// Shares the requests of one priority out. `members` are its endpoints, and whether each is good.
pub(super) fn shares(
    endpoints: &[Endpoint],
    members: impl Iterator<Item = (usize, bool)>,
    rule: LocalityRule,
    callers: Option<&Callers>,
) -> Vec<Share> {
    let mut groups: BTreeMap<Option<&Locality>, Group> = BTreeMap::new();
    for (at, good) in members {
        let endpoint = &endpoints[at];
        let locality = match rule {
            LocalityRule::Ignored => None,
            LocalityRule::Weighted | LocalityRule::ZoneAware(_) => endpoint.locality.as_deref(),
        };
        let group = groups.entry(locality).or_default();
        group.all += 1;
        group.weight = u64::from(endpoint.locality_weight);
        if good {
            group.good.push(at as u32);
        }
    }
    let parts = match rule {
        _ if groups.len() < 2 => None,
        LocalityRule::Ignored => None,
        LocalityRule::Weighted => Some(weighted(&groups)),
        LocalityRule::ZoneAware(rule) => callers.and_then(|it| zone_aware(&groups, rule, it)),
    };
    let Some(parts) = parts.filter(|parts| parts.iter().any(|part| *part > 0.0)) else {
        let mut members: Vec<u32> = groups.into_values().flat_map(|group| group.good).collect();
        members.sort_unstable();
        return vec![Share { members, share: WHOLE }];
    };
    let sum: f64 = parts.iter().sum();
    let groups = groups.into_values().zip(parts);
    let shares = groups.map(|(group, part)| Share {
        members: group.good,
        share: (part / sum * WHOLE as f64) as u64,
    });
    let mut shares: Vec<Share> = shares.filter(|it| it.share > 0).collect();
    let given: u64 = shares.iter().map(|it| it.share).sum();
    // What rounding left over.
    if let Some(most) = shares.iter_mut().max_by_key(|it| it.share) {
        most.share += WHOLE - given;
    }
    shares
}

fn weighted(groups: &BTreeMap<Option<&Locality>, Group>) -> Vec<f64> {
    let part = |group: &Group| {
        let health = (group.good.len() as u64 * OVERPROVISION / group.all.max(1)).min(100);
        group.weight as f64 * health as f64
    };
    groups.values().map(part).collect()
}

/// `None` where the rule does not apply.
fn zone_aware(
    groups: &BTreeMap<Option<&Locality>, Group>,
    rule: ZoneAware,
    callers: &Callers,
) -> Option<Vec<f64>> {
    let own = groups.get(&Some(&callers.own))?.good.len();
    let good: usize = groups.values().map(|group| group.good.len()).sum();
    if own == 0 || good < rule.min_endpoints as usize {
        return None;
    }
    let is_own = |locality: Option<&Locality>| locality == Some(&callers.own);
    // Parts of the endpoints and of the callers.
    let endpoints = |group: &Group| group.good.len() as f64 / good as f64;
    let all: u32 = callers.counts.values().sum();
    let calls = |locality: Option<&Locality>| {
        let count = locality.and_then(|locality| callers.counts.get(locality));
        f64::from(count.copied().unwrap_or(0)) / f64::from(all.max(1))
    };
    let (can, asks) = (own as f64 / good as f64, calls(Some(&callers.own)));
    let all_stay = rule.all_from.is_some_and(|from| own >= from as usize);
    let stays = if all_stay || asks <= can { 1.0 } else { can / asks };
    let room = |(locality, group): (Option<&Locality>, &Group)| {
        if is_own(locality) { 0.0 } else { (endpoints(group) - calls(locality)).max(0.0) }
    };
    let each = || groups.iter().map(|(locality, group)| (*locality, group));
    let rooms: f64 = each().map(room).sum();
    let enabled = f64::from(rule.enabled) / f64::from(ZoneAware::ALL);
    let part = |(locality, group): (Option<&Locality>, &Group)| {
        let aware = if is_own(locality) {
            stays
        } else if rooms > 0.0 {
            (1.0 - stays) * room((locality, group)) / rooms
        } else {
            0.0
        };
        enabled * aware + (1.0 - enabled) * endpoints(group)
    };
    Some(each().map(part).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::sample::equal;
    use super::*;

    fn zone(name: &str) -> Locality {
        Locality { region: "r".into(), zone: name.into(), sub_zone: "".into() }
    }

    /// Zones by name, with so many endpoints and this weight.
    fn zones(of: &[(&str, usize, u32)]) -> Vec<Endpoint> {
        let mut endpoints = equal(of.iter().map(|it| it.1).sum());
        let mut rest = endpoints.iter_mut();
        for &(name, count, weight) in of {
            let locality = Arc::new(zone(name));
            for endpoint in rest.by_ref().take(count) {
                endpoint.locality = Some(Arc::clone(&locality));
                endpoint.locality_weight = weight;
            }
        }
        endpoints
    }

    fn callers(own: &str, counts: &[(&str, u32)]) -> Callers {
        let counts = counts.iter().map(|&(name, count)| (zone(name), count)).collect();
        Callers { own: zone(own), counts }
    }

    /// Shares in the order of the zones' names, and how many endpoints each has.
    fn shared(
        endpoints: &[Endpoint],
        good: impl Fn(usize) -> bool,
        rule: LocalityRule,
        callers: Option<&Callers>,
    ) -> Vec<(u64, usize)> {
        let members = (0..endpoints.len()).map(|at| (at, good(at)));
        let shares = shares(endpoints, members, rule, callers);
        shares.iter().map(|it| (it.share, it.members.len())).collect()
    }

    #[test]
    fn weights_count_less_where_endpoints_are_sick() {
        let two = zones(&[("a", 10, 1), ("b", 10, 3)]);
        let weighted = LocalityRule::Weighted;
        assert_eq!(shared(&two, |_| true, weighted, None), [(2_500, 10), (7_500, 10)]);
        // 8 of 10 can take all of it, 5 of 10 can take 70 %.
        assert_eq!(shared(&two, |at| at != 19, weighted, None), [(2_500, 10), (7_500, 9)]);
        let half = shared(&two, |at| at < 15, weighted, None);
        assert_eq!(half, [(3_225, 10), (6_775, 5)]);
        assert_eq!(shared(&two, |at| at < 10, weighted, None), [(10_000, 10)]);
        let none = zones(&[("a", 2, 0), ("b", 2, 0)]);
        assert_eq!(shared(&none, |_| true, weighted, None), [(10_000, 4)], "nobody has a weight");
        assert_eq!(shared(&two, |_| true, LocalityRule::Ignored, None), [(10_000, 20)]);
    }

    #[test]
    fn requests_stay_as_far_as_there_is_room_for_them() {
        let rule = LocalityRule::ZoneAware(ZoneAware::default());
        let even = zones(&[("a", 4, 1), ("b", 4, 1), ("c", 4, 1)]);
        let fair = callers("b", &[("a", 3), ("b", 3), ("c", 3)]);
        assert_eq!(shared(&even, |_| true, rule, Some(&fair)), [(10_000, 4)]);
        // Half of the callers are in a, and a third of the endpoints: two thirds stay, and the rest
        // goes to the zone without callers, then to the one with few.
        let crowded = callers("a", &[("a", 6), ("b", 2), ("c", 4)]);
        assert_eq!(shared(&even, |_| true, rule, Some(&crowded)), [(6_667, 4), (3_333, 4)]);
        let unknown = callers("a", &[]);
        assert_eq!(shared(&even, |_| true, rule, Some(&unknown)), [(10_000, 4)]);
    }

    #[test]
    fn the_rule_is_off_where_it_could_do_harm() {
        let rule = |rule: ZoneAware| LocalityRule::ZoneAware(rule);
        let even = zones(&[("a", 3, 1), ("b", 3, 1)]);
        let of = |own: &str| Some(callers(own, &[("a", 1), ("b", 1)]));
        let plain = rule(ZoneAware::default());
        assert_eq!(shared(&even, |_| true, plain, of("a").as_ref()), [(10_000, 3)]);
        let why = "five good ones are too few to tell";
        assert_eq!(shared(&even, |at| at > 0, plain, of("a").as_ref()), [(10_000, 5)], "{why}");
        assert_eq!(shared(&even, |_| true, plain, of("z").as_ref()), [(10_000, 6)], "none there");
        assert_eq!(shared(&even, |_| true, plain, None), [(10_000, 6)], "not known where this is");
        let few = rule(ZoneAware { min_endpoints: 1, ..ZoneAware::default() });
        assert_eq!(shared(&even, |at| at > 2, few, of("a").as_ref()), [(10_000, 3)], "a is down");
        let half = rule(ZoneAware { enabled: 5_000, ..ZoneAware::default() });
        assert_eq!(shared(&even, |_| true, half, of("a").as_ref()), [(7_500, 3), (2_500, 3)]);
    }

    #[test]
    fn all_may_be_made_to_stay() {
        let rule = ZoneAware { all_from: Some(2), ..ZoneAware::default() };
        let rule = LocalityRule::ZoneAware(rule);
        let uneven = zones(&[("a", 2, 1), ("b", 8, 1)]);
        let crowded = callers("a", &[("a", 9), ("b", 1)]);
        assert_eq!(shared(&uneven, |_| true, rule, Some(&crowded)), [(10_000, 2)]);
        let one_is_sick = shared(&uneven, |at| at != 0, rule, Some(&crowded));
        assert_eq!(one_is_sick, [(1_234, 1), (8_766, 8)]);
    }

    proptest! {
        /// Where callers of all zones follow the rule, no endpoint gets more than its part.
        #[test]
        fn no_endpoint_is_burdened_more_than_the_others(
            of in prop::collection::vec((1usize..9, 0u32..9), 2..6),
        ) {
            let names = ["a", "b", "c", "d", "e", "f"];
            let counted = of.iter().zip(names).map(|(&(count, _), name)| (name, count, 1));
            let endpoints = zones(&counted.collect::<Vec<_>>());
            let calls: Vec<(&str, u32)> = of.iter().zip(names).map(|(it, name)| (name, it.1)).collect();
            let all: u32 = of.iter().map(|it| it.1).sum();
            prop_assume!(all > 0);
            let rule = LocalityRule::ZoneAware(ZoneAware { min_endpoints: 1, ..ZoneAware::default() });
            let mut burdens = vec![0.0; endpoints.len()];
            for &(own, count) in &calls {
                let members = (0..endpoints.len()).map(|at| (at, true));
                let shares = shares(&endpoints, members, rule, Some(&callers(own, &calls)));
                prop_assert_eq!(shares.iter().map(|it| it.share).sum::<u64>(), WHOLE);
                for it in shares {
                    for &at in &it.members {
                        let part = it.share as f64 / WHOLE as f64 / it.members.len() as f64;
                        burdens[at as usize] += part * f64::from(count) / f64::from(all);
                    }
                }
            }
            let fair = 1.0 / endpoints.len() as f64;
            for burden in burdens {
                prop_assert!((burden - fair).abs() < 0.01, "{burden} is not {fair}");
            }
        }
    }
}
