//! The pick of a request: level, then algorithm.

use super::level::{Level, Pickable};
use super::load::Load;
use super::tried::Tried;
use super::{least_request, maglev, mixed, peak_ewma, random, ring_hash, round_robin};
use crate::snapshot::{Algorithm, Cluster, Endpoint, Hashing, KeyTable, TableKind};

/// Steps on a ring or in a table before one that is pickable is looked for in another way.
const MOST_STEPS: usize = 256;

/// What a request brings along.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask {
    /// Turn of the round robin.
    pub turn: u64,
    /// Uniform over all of `u64`.
    pub draw: u64,
    /// Hash of its key, where the algorithm hashes and the request has one.
    pub hash: Option<u64>,
    /// Where attempts went: another one is picked where there is one.
    pub not: Tried,
}

/// The place of an endpoint in the cluster; `None` where none may be picked.
pub fn pick(cluster: &Cluster, pickable: &Pickable, load: &impl Load, ask: Ask) -> Option<usize> {
    // What decides the level must not decide the endpoint.
    let level = pickable.level(mixed(ask.hash.unwrap_or(ask.draw)))?;
    if !ask.not.is_empty()
        && let Some(unlikely) = last_resort(cluster, pickable, level, ask)
    {
        return Some(unlikely);
    }
    if level.members.len() == 1 {
        return Some(level.in_turn(0));
    }
    let picked = match &cluster.traffic.algorithm {
        Algorithm::RoundRobin => round_robin::pick(level, load, ask.turn, ask.draw),
        Algorithm::LeastRequest { choices } => least_request::pick(level, load, *choices, ask.draw),
        Algorithm::PeakEwma => peak_ewma::pick(level, load, ask.draw),
        Algorithm::Random => random::pick(level, load, ask.draw),
        Algorithm::Hash(hashing) => {
            return Some(by_hash(cluster, pickable, level, load, hashing, ask));
        }
    };
    Some(if ask.not.holds(picked) { level.untried(ask.draw, ask.not) } else { picked })
}

/// Where an attempt goes after all that are thought to be good have had theirs: one that is not may
/// live by now, as one does that crashed and is back. Not where it was said that only good ones are
/// ever picked.
fn last_resort(cluster: &Cluster, pickable: &Pickable, level: &Level, ask: Ask) -> Option<usize> {
    let all_tried = level.members.iter().all(|&at| ask.not.holds(at as usize));
    if !all_tried || cluster.traffic.panic_percent == 0 {
        return None;
    }
    let unlikely = |at: &usize| !pickable.may_pick(*at) && !ask.not.holds(*at);
    let count = (0..cluster.endpoints.len()).filter(unlikely).count() as u64;
    let drawn = ask.draw.checked_rem(count)?;
    (0..cluster.endpoints.len()).filter(unlikely).nth(drawn as usize)
}

/// Which endpoint has which keys; made when the endpoints change, not per request.
pub fn key_table(algorithm: &Algorithm, endpoints: &[Endpoint]) -> KeyTable {
    match algorithm {
        Algorithm::Hash(Hashing { table: TableKind::Ring { least, most }, .. }) => {
            KeyTable::Ring(ring_hash::ring(endpoints, *least, *most))
        }
        Algorithm::Hash(Hashing { table: TableKind::Maglev { size }, .. }) => {
            KeyTable::Maglev(maglev::table(endpoints, *size))
        }
        _ => KeyTable::None,
    }
}

/// The first on the way of the key that may be picked and has room. A request without a key is
/// drawn.
fn by_hash(
    cluster: &Cluster,
    pickable: &Pickable,
    level: &Level,
    load: &impl Load,
    hashing: &Hashing,
    ask: Ask,
) -> usize {
    let hash = ask.hash.unwrap_or(ask.draw);
    let bound = hashing.max_load_percent.map(|percent| Bound::new(cluster, level, load, percent));
    let fits = |at: &usize| {
        pickable.holds(level, *at)
            && !ask.not.holds(*at)
            && bound.as_ref().is_none_or(|bound| bound.has_room(cluster, load, *at))
    };
    let found = match &cluster.keys {
        KeyTable::Ring(ring) => ring_hash::walk(ring, hash).take(MOST_STEPS).find(fits),
        KeyTable::Maglev(table) => maglev::walk(table, hash).take(MOST_STEPS).find(fits),
        KeyTable::None => None,
    };
    found.unwrap_or_else(|| {
        let drawn = level.drawn(mixed(hash));
        if ask.not.holds(drawn) { level.untried(hash, ask.not) } else { drawn }
    })
}

/// The most that an endpoint takes before keys go on to the next (Mirrokni et al., Consistent Hashing
/// with Bounded Loads, 2018).
struct Bound {
    /// Requests for each unit of weight.
    by_weight: f64,
}

impl Bound {
    fn new(cluster: &Cluster, level: &Level, load: &impl Load, percent: u32) -> Self {
        let (mut running, mut weights) = (1.0, 0.0);
        for &at in &level.members {
            running += f64::from(load.in_flight(at as usize));
            weights += weight(cluster, at as usize);
        }
        Self { by_weight: running * f64::from(percent) / 100.0 / weights }
    }

    fn has_room(&self, cluster: &Cluster, load: &impl Load, at: usize) -> bool {
        let most = (self.by_weight * weight(cluster, at)).ceil();
        f64::from(load.in_flight(at)) + 1.0 <= most
    }
}

fn weight(cluster: &Cluster, at: usize) -> f64 {
    cluster.endpoints.get(at).map_or(1.0, |endpoint| f64::from(endpoint.weight))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::load::Idle;
    use super::super::sample::{endpoints, equal};
    use super::*;
    use crate::snapshot::Traffic;

    fn hashing(table: TableKind, max_load_percent: Option<u32>) -> Algorithm {
        Algorithm::Hash(Hashing { table, key: None, max_load_percent })
    }

    const RING: TableKind = TableKind::Ring { least: 1024, most: 65_536 };
    const MAGLEV: TableKind = TableKind::Maglev { size: 5003 };

    fn all() -> [Algorithm; 6] {
        [
            Algorithm::RoundRobin,
            Algorithm::LeastRequest { choices: 2 },
            Algorithm::PeakEwma,
            Algorithm::Random,
            hashing(RING, Some(125)),
            hashing(MAGLEV, None),
        ]
    }

    fn cluster(algorithm: Algorithm, endpoints: Vec<Endpoint>) -> Cluster {
        Cluster {
            keys: key_table(&algorithm, &endpoints),
            traffic: Traffic { algorithm, ..Traffic::default() }.into(),
            ..Cluster::new("a".into(), endpoints.into())
        }
    }

    #[test]
    fn a_key_stays_while_its_endpoint_is_good_and_comes_back() {
        for table in [RING, MAGLEV] {
            let cluster = cluster(hashing(table, None), equal(5));
            let whole = Pickable::new(&cluster.endpoints, |_| true, 50);
            for key in 0..200 {
                let ask =
                    |draw| Ask { hash: Some(mixed(key)), draw, turn: draw, not: Tried::default() };
                let picked =
                    |pickable: &Pickable, draw| pick(&cluster, pickable, &Idle, ask(draw)).unwrap();
                let owner = picked(&whole, 1);
                assert_eq!(picked(&whole, 2), owner);
                let without = Pickable::new(&cluster.endpoints, |at| at != owner, 50);
                let other = picked(&without, 3);
                assert_ne!(other, owner);
                // One that has nothing to do with it goes: the key does not care.
                let third = (0..5).find(|at| ![owner, other].contains(at)).unwrap();
                let elsewhere = Pickable::new(&cluster.endpoints, |at| at != third, 50);
                assert_eq!(picked(&elsewhere, 4), owner);
            }
        }
    }

    struct Busy(RefCell<Vec<u32>>);

    impl Load for Busy {
        fn in_flight(&self, at: usize) -> u32 {
            self.0.borrow()[at]
        }

        fn latency(&self, _: usize) -> f64 {
            0.0
        }

        fn share(&self, _: usize) -> f64 {
            1.0
        }
    }

    #[test]
    fn a_hot_key_spills_over_at_the_bound() {
        for table in [RING, MAGLEV] {
            let cluster = cluster(hashing(table, Some(125)), equal(4));
            let pickable = Pickable::new(&cluster.endpoints, |_| true, 50);
            let busy = Busy(RefCell::new(vec![0; 4]));
            for draw in 0..100 {
                let ask = Ask { hash: Some(99), draw, turn: 0, not: Tried::default() };
                let at = pick(&cluster, &pickable, &busy, ask).unwrap();
                busy.0.borrow_mut()[at] += 1;
            }
            // 1.25 × 100 / 4, rounded up.
            let counts = busy.0.borrow();
            assert!(counts.iter().all(|&count| count <= 32), "{counts:?}");
            assert_eq!(counts.iter().max(), Some(&32), "the owner is full before others are used");
        }
    }

    #[test]
    fn a_repetition_goes_to_a_sick_endpoint_rather_than_to_the_one_that_failed() {
        for algorithm in all() {
            let mut cluster = cluster(algorithm, equal(3));
            let pickable = Pickable::new(&cluster.endpoints, |at| at == 1, 0);
            let ask = |draw, not| Ask { turn: draw, draw, hash: None, not };
            for draw in 0..50 {
                let first = ask(draw, Tried::default());
                assert_eq!(pick(&cluster, &pickable, &Idle, first), Some(1));
                let second = pick(&cluster, &pickable, &Idle, ask(draw, first.not.with(1)));
                let second = second.unwrap();
                assert_ne!(second, 1);
                let third = ask(draw, first.not.with(1).with(second));
                assert_eq!(pick(&cluster, &pickable, &Idle, third), Some(2 - second));
                let fourth = ask(draw, third.not.with(2 - second));
                assert_eq!(pick(&cluster, &pickable, &Idle, fourth), Some(1), "all had theirs");
            }
            // Where only good ones are to be picked, they are.
            Arc::make_mut(&mut cluster.traffic).panic_percent = 0;
            let again = ask(7, Tried::default().with(1));
            assert_eq!(pick(&cluster, &pickable, &Idle, again), Some(1));
        }
    }

    proptest! {
        #[test]
        fn whatever_is_picked_may_be_and_a_retry_goes_elsewhere(
            of in prop::collection::vec((1u32..5, 0u32..3, any::<bool>()), 1..12),
            draw in any::<u64>(),
            turn in any::<u64>(),
            hash in proptest::option::of(any::<u64>()),
        ) {
            let plain: Vec<(u32, u32)> = of.iter().map(|&(weight, level, _)| (weight, level)).collect();
            for algorithm in all() {
                let mut cluster = cluster(algorithm, endpoints(&plain));
                Arc::make_mut(&mut cluster.traffic).panic_percent = 0;
                let pickable = Pickable::new(&cluster.endpoints, |at| of[at].2, 0);
                let ask = Ask { turn, draw, hash, not: Tried::default() };
                let picked = pick(&cluster, &pickable, &Idle, ask);
                prop_assert_eq!(picked.is_some(), of.iter().any(|it| it.2));
                let Some(picked) = picked else { continue };
                prop_assert!(of[picked].2);
                // Attempt by attempt, every one of the level has its turn before any has two.
                let level = of.iter().filter(|it| it.2 && it.1 == of[picked].1).count();
                let (mut tried, mut last) = (Tried::default().with(picked), picked);
                for attempt in 1..=2 * level {
                    let again = Ask { not: tried, turn: turn.wrapping_add(attempt as u64), ..ask };
                    let other = pick(&cluster, &pickable, &Idle, again).unwrap();
                    prop_assert!(of[other].2 && (other != last || level == 1));
                    prop_assert!(attempt >= level || !tried.holds(other));
                    (tried, last) = (tried.with(other), other);
                }
            }
        }
    }
}
