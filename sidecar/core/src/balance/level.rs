//! The endpoints that may be picked now, by priority. Made when the health of an endpoint changes,
//! not per request.
//!
//! A level that lost endpoints keeps its whole share until 1 / 1.4 = 71 % of them are left; what it
//! then cannot take goes to the next (Envoy's overprovisioning factor). Where too few are left in
//! all levels together, a level takes all its endpoints, good or not (panic threshold): to spread
//! requests over endpoints that may be dead is better than to bury those that live.

use super::draw::below;
use super::locality::{self, OVERPROVISION, Share};
use super::tried::Tried;
use crate::snapshot::{Callers, Endpoint, LocalityRule};

/// What the loads of all levels come to.
const ALL: u64 = 100 * locality::WHOLE;

/// The endpoints of a cluster that may be picked.
#[derive(Clone, Debug, Default)]
pub struct Pickable {
    levels: Box<[Level]>,
    /// For each endpoint, the place of its level in `levels`, or [`NOWHERE`].
    level_of: Box<[u16]>,
}

const NOWHERE: u16 = u16::MAX;

/// Endpoints of one priority, or of one locality in it.
#[derive(Clone, Debug, Default)]
pub(super) struct Level {
    /// Places in the cluster.
    pub members: Box<[u32]>,
    /// Where the weight of each member ends; empty where all weights are equal.
    ends: Box<[u64]>,
    stride: u64,
    /// Of [`ALL`] requests, those below this number that no level before took.
    end: u64,
}

impl Pickable {
    /// The endpoints that are healthy, or those of a level in panic. `panic_percent` is the share of
    /// healthy endpoints below which a level panics; 0 never does.
    pub fn new(endpoints: &[Endpoint], healthy: impl Fn(usize) -> bool, panic_percent: u8) -> Self {
        Self::by_locality(endpoints, healthy, panic_percent, LocalityRule::Ignored, None)
    }

    /// The same, with the requests of each priority shared out among its localities. A level in
    /// panic takes its endpoints wherever they are.
    pub fn by_locality(
        endpoints: &[Endpoint],
        healthy: impl Fn(usize) -> bool,
        panic_percent: u8,
        rule: LocalityRule,
        callers: Option<&Callers>,
    ) -> Self {
        let mut priorities: Vec<u32> = endpoints.iter().map(|endpoint| endpoint.priority).collect();
        priorities.sort_unstable();
        priorities.dedup();
        let members = |priority: u32| {
            let of_level = endpoints.iter().enumerate();
            of_level.filter(move |(_, it)| it.priority == priority).map(|(at, _)| at)
        };
        let counts: Vec<(u64, u64)> = priorities
            .iter()
            .map(|&priority| {
                let good = members(priority).filter(|&at| healthy(at)).count();
                (good as u64, members(priority).count() as u64)
            })
            .collect();
        let (loads, panics) = loads(&counts, panic_percent);
        let mut level_of = vec![NOWHERE; endpoints.len()];
        let (mut levels, mut end) = (Vec::new(), 0);
        for ((&priority, load), panics) in priorities.iter().zip(loads).zip(panics) {
            let rule = if panics { LocalityRule::Ignored } else { rule };
            let members = members(priority).map(|at| (at, panics || healthy(at)));
            for Share { members, share } in locality::shares(endpoints, members, rule, callers) {
                // More localities than there are numbers for are not reached.
                let place = u16::try_from(levels.len()).unwrap_or(NOWHERE);
                if load == 0 || members.is_empty() || place == NOWHERE {
                    continue;
                }
                end += load * share;
                for &at in &members {
                    level_of[at as usize] = place;
                }
                levels.push(Level::new(members.into(), endpoints, end));
            }
        }
        Self { levels: levels.into(), level_of: level_of.into() }
    }

    /// The level of a request, by a uniform draw.
    pub(super) fn level(&self, draw: u64) -> Option<&Level> {
        match &*self.levels {
            [] => None,
            [only] => Some(only),
            levels => {
                let drawn = below(draw, ALL);
                levels.iter().find(|level| drawn < level.end).or(levels.last())
            }
        }
    }

    /// Whether an endpoint belongs to a level.
    pub(super) fn holds(&self, level: &Level, at: usize) -> bool {
        let place = self.level_of.get(at).copied().unwrap_or(NOWHERE);
        self.levels.get(usize::from(place)).is_some_and(|its| std::ptr::eq(its, level))
    }

    /// Whether the endpoint at a place may be picked.
    pub fn may_pick(&self, at: usize) -> bool {
        self.level_of.get(at).is_some_and(|&level| level != NOWHERE)
    }

    /// How many endpoints may be picked.
    pub fn len(&self) -> usize {
        self.levels.iter().map(|level| level.members.len()).sum()
    }

    /// Whether none may.
    pub fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }
}

/// Of a hundred requests those of each level, and whether it takes all its endpoints. `counts` are
/// the healthy ones and all.
fn loads(counts: &[(u64, u64)], panic_percent: u8) -> (Vec<u64>, Vec<bool>) {
    let health = |&(good, all): &(u64, u64)| (good * OVERPROVISION / all.max(1)).min(100);
    let sum: u64 = counts.iter().map(health).sum();
    let total = sum.min(100);
    let panics: Vec<bool> = counts
        .iter()
        .map(|&(good, all)| total < 100 && good * 100 < u64::from(panic_percent) * all)
        .collect();
    if total == 0 || panics.iter().all(|&it| it) {
        // Nobody knows which one is better: by the number of endpoints.
        let all: u64 = counts.iter().map(|&(_, all)| all).sum();
        let mut loads: Vec<u64> =
            counts.iter().map(|&(_, count)| count * 100 / all.max(1)).collect();
        let given: u64 = loads.iter().sum();
        if let Some(first) = loads.first_mut() {
            *first += 100 - given;
        }
        return (loads, panics);
    }
    let mut left = 100;
    let mut loads: Vec<u64> = counts
        .iter()
        .map(|count| {
            let load = (health(count) * 100 / total).min(left);
            left -= load;
            load
        })
        .collect();
    // What rounding left over.
    if let Some(first) = loads.iter_mut().find(|load| **load > 0) {
        *first += left;
    }
    (loads, panics)
}

impl Level {
    fn new(members: Box<[u32]>, endpoints: &[Endpoint], end: u64) -> Self {
        let weights = || members.iter().map(|&at| u64::from(endpoints[at as usize].weight));
        let first = weights().next();
        let equal = weights().all(|weight| Some(weight) == first);
        let mut sum = 0;
        let ends: Box<[u64]> = if equal {
            Box::default()
        } else {
            weights()
                .map(|weight| {
                    sum += weight;
                    sum
                })
                .collect()
        };
        Self { members, ends, stride: stride(sum), end }
    }

    /// The endpoint of a turn: over as many turns as the sum of the weights each one comes exactly
    /// by its weight; equal weights alternate.
    pub fn in_turn(&self, cursor: u64) -> usize {
        let Some(&sum) = self.ends.last() else {
            return self.member((cursor % (self.members.len() as u64).max(1)) as usize);
        };
        // A stride that shares no divisor with the sum visits all turns, and mixes the heavy ones.
        let turn = u128::from(cursor % sum) * u128::from(self.stride) % u128::from(sum);
        self.of_weight(turn as u64)
    }

    /// An endpoint drawn by its weight.
    pub fn drawn(&self, draw: u64) -> usize {
        match self.ends.last() {
            None => self.member(below(draw, self.members.len() as u64) as usize),
            Some(&sum) => self.of_weight(below(draw, sum)),
        }
    }

    /// An endpoint other than `not` where there is one, each with the same chance.
    pub fn other(&self, draw: u64, not: usize) -> usize {
        let count = self.members.len() as u64;
        let place = below(draw, count.saturating_sub(1).max(1)) as usize;
        let picked = self.member(place);
        // The one left out stands for the last.
        if picked == not { self.member(self.members.len().saturating_sub(1)) } else { picked }
    }

    /// An endpoint that was not tried, where there is one, or else any but the last; each with the
    /// same chance. Only for attempts after the first: it looks at all of them.
    pub fn untried(&self, draw: u64, tried: Tried) -> usize {
        for tried in [tried, tried.last_alone()] {
            let others = || self.members.iter().filter(|&&at| !tried.holds(at as usize));
            let count = others().count() as u64;
            if count > 0 {
                let picked = others().nth(below(draw, count) as usize);
                return picked.map_or(0, |&at| at as usize);
            }
        }
        self.member(0)
    }

    fn of_weight(&self, turn: u64) -> usize {
        self.member(self.ends.partition_point(|&end| end <= turn))
    }

    fn member(&self, place: usize) -> usize {
        self.members.get(place).map_or(0, |&at| at as usize)
    }
}

/// Near the golden section of the sum and without a common divisor with it.
fn stride(sum: u64) -> u64 {
    let mut stride = ((sum as f64 * 0.618_033_988_75) as u64).max(1);
    while gcd(stride, sum) > 1 {
        stride += 1;
    }
    stride
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::sample::{endpoints, equal};
    use super::*;

    fn shares(pickable: &Pickable) -> Vec<(u64, usize)> {
        pickable
            .levels
            .iter()
            .map(|level| (level.end / locality::WHOLE, level.members.len()))
            .collect()
    }

    #[test]
    fn levels_fail_over_with_room_to_spare() {
        // Ten endpoints in each of two levels; so many of the first are good.
        let two = endpoints(&[vec![(1, 0); 10], vec![(1, 1); 10]].concat());
        let table: [(usize, &[(u64, usize)]); 5] = [
            (10, &[(100, 10)]),
            (8, &[(100, 8)]),
            (7, &[(98, 7), (100, 10)]),
            (5, &[(70, 5), (100, 10)]),
            (0, &[(100, 10)]),
        ];
        for (good, expected) in table {
            let pickable = Pickable::new(&two, |at| at < good || at >= 10, 50);
            assert_eq!(shares(&pickable), expected, "{good} good");
        }
    }

    #[test]
    fn too_few_good_ones_are_a_panic_and_all_are_picked() {
        let ten = equal(10);
        for (good, threshold, picked) in
            [(10, 50, 10), (5, 50, 5), (4, 50, 10), (0, 50, 10), (4, 0, 4), (0, 0, 0)]
        {
            let pickable = Pickable::new(&ten, |at| at < good, threshold);
            assert_eq!(pickable.len(), picked, "{good} good, threshold {threshold}");
        }
        // While the levels together can take everything, none panics.
        let two = endpoints(&[(1, 0), (1, 0), (1, 0), (1, 1)]);
        let pickable = Pickable::new(&two, |at| at == 0 || at == 3, 50);
        assert_eq!(shares(&pickable), [(46, 1), (100, 1)]);
        assert!(Pickable::new(&[], |_| true, 50).is_empty());
    }

    proptest! {
        #[test]
        fn each_round_is_exact(weights in prop::collection::vec(1u32..20, 1..8), round in 0u64..1000) {
            let of: Vec<(u32, u32)> = weights.iter().map(|&weight| (weight, 0)).collect();
            let pickable = Pickable::new(&endpoints(&of), |_| true, 50);
            let level = pickable.level(0).unwrap();
            let sum: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
            let equal = weights.iter().all(|weight| *weight == weights[0]);
            let turns = if equal { weights.len() as u64 } else { sum };
            let mut counts = vec![0u32; weights.len()];
            for cursor in round * turns..(round + 1) * turns {
                counts[level.in_turn(cursor)] += 1;
            }
            let expected = if equal { vec![1; weights.len()] } else { weights };
            prop_assert_eq!(counts, expected);
        }

        #[test]
        fn a_hundred_requests_have_a_level_each_and_good_ones_are_preferred(
            of in prop::collection::vec((1u32..5, 0u32..4, any::<bool>()), 1..30),
            threshold in 0u8..=100,
            draw in any::<u64>(),
        ) {
            let plain: Vec<(u32, u32)> = of.iter().map(|&(weight, level, _)| (weight, level)).collect();
            let endpoints = endpoints(&plain);
            let pickable = Pickable::new(&endpoints, |at| of[at].2, threshold);
            prop_assert!(pickable.levels.is_sorted_by_key(|level| level.end));
            let any_good = of.iter().any(|it| it.2);
            if any_good {
                prop_assert_eq!(pickable.levels.last().map(|level| level.end), Some(ALL));
            }
            if let Some(level) = pickable.level(draw) {
                for at in [level.in_turn(draw), level.drawn(draw), level.other(draw, 0)] {
                    prop_assert!(pickable.holds(level, at));
                }
                let other = level.other(draw, level.drawn(draw));
                prop_assert!(level.members.len() == 1 || other != level.drawn(draw));
            }
            // With a threshold of 0 only good ones are picked.
            if threshold == 0 {
                let good = |level: &Level| level.members.iter().all(|&at| of[at as usize].2);
                prop_assert!(pickable.levels.iter().all(good));
            }
        }
    }
}
