//! What was met in a run, counted.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use super::differences::{Difference, KNOWN};
use super::outcome::Outcome;
use super::request::Request;
use super::world::World;

/// Differing requests that are shown for each kind of difference.
const SHOWN: usize = 2;
/// A share among fewer says nothing.
const FEWEST_USERS: usize = 30;

#[derive(Default)]
pub struct Tally {
    pub requests: usize,
    /// By Envoy's account.
    pub reached_upstream: usize,
    pub statuses: BTreeMap<u16, usize>,
    pub actions: BTreeMap<String, usize>,
    pub rules: BTreeMap<String, usize>,
    pub known: BTreeMap<&'static str, usize>,
    /// Connections that Envoy and our sidecar ended without a word.
    pub lost: [usize; 2],
    /// Requests without any difference, known or not.
    pub equal: usize,
    /// Unknown differences by the parts that differ: how many, and the first of them.
    pub unknown: BTreeMap<String, (usize, Vec<String>)>,
    /// Version by proxy, rule and split key.
    homes: BTreeMap<(&'static str, String, String), String>,
    /// Users that met two versions of one rule.
    pub moved: Vec<String>,
}

impl Tally {
    /// Counts one request as both served it.
    pub fn count(&mut self, world: &World, request: &Request, theirs: &Outcome, ours: &Outcome) {
        self.requests += 1;
        self.reached_upstream += usize::from(theirs.seen.is_some());
        *self.statuses.entry(theirs.status).or_default() += 1;
        let action = match &theirs.rule {
            Some(name) => {
                *self.rules.entry(name.clone()).or_default() += 1;
                world.rule(name).map_or("?".into(), |(_, rule)| format!("{:?}", rule.action))
            }
            None if theirs.seen.is_some() => "NoRules".into(),
            None => "None".into(),
        };
        *self.actions.entry(action).or_default() += 1;
        self.keeps(world, request, "Envoy", theirs);
        self.keeps(world, request, "the sidecar", ours);
    }

    /// A user stays with the version of a split that it met first.
    fn keeps(&mut self, world: &World, request: &Request, proxy: &'static str, met: &Outcome) {
        let (Some(name), Some(seen)) = (&met.rule, &met.seen) else { return };
        let Some((service, rule)) = world.rule(name) else { return };
        let Some(key) = request.split_key(service.split_by) else { return };
        if !rule.splits() {
            return;
        }
        let place = (proxy, name.clone(), key.to_owned());
        let home = self.homes.entry(place).or_insert_with(|| seen.version.clone());
        if *home != seen.version {
            let moved = format!("{proxy}, {name}, {key}: {home}, then {}", seen.version);
            self.moved.push(moved);
        }
    }

    /// Splits whose users are not shared out as their weights say. The share of a fair hash over n
    /// users is binomial; 5 σ fails once in more than a million splits.
    pub fn unfair(&self, world: &World) -> Vec<String> {
        let mut met: BTreeMap<(&str, &str), (usize, usize)> = BTreeMap::new();
        for ((proxy, name, _), home) in &self.homes {
            let Some(first) = world.rule(name).and_then(|(_, rule)| rule.first_share()) else {
                continue;
            };
            let (on_first, all) = met.entry((proxy, name)).or_default();
            *on_first += usize::from(home.split_once('/').is_some_and(|(_, it)| it == first.0));
            *all += 1;
        }
        met.retain(|_, (_, all)| *all >= FEWEST_USERS);
        let mut unfair = Vec::new();
        for ((proxy, name), (on_first, all)) in met {
            let share = world.rule(name).and_then(|(_, rule)| rule.first_share());
            let (n, p) = (all as f64, share.map_or(0.0, |(_, share)| share));
            if (on_first as f64 - n * p).abs() > 5.0 * (n * p * (1.0 - p)).sqrt() {
                unfair.push(format!("{proxy}, {name}: {on_first} of {all} users, not {p}"));
            }
        }
        unfair
    }

    /// Keeps what nothing explains.
    pub fn fail(&mut self, request: &Request, theirs: &Outcome, ours: &Outcome) {
        let parts = theirs.differs(ours);
        let names: Vec<&str> = parts.iter().map(|(name, ..)| name.as_str()).collect();
        let statuses = format!("{} ({} {})", names.join(", "), theirs.status, ours.status);
        let (count, shown) = self.unknown.entry(statuses).or_default();
        *count += 1;
        if shown.len() < SHOWN {
            let mut text = format!("request {}:\n", request.number);
            text += &String::from_utf8_lossy(&request.bytes());
            for (name, their, our) in parts {
                let _ = write!(text, "{name}:\n  Envoy {their}\n  ours  {our}\n");
            }
            shown.push(text);
        }
    }

    /// Share of the requests, in percent.
    pub fn percent(&self, count: usize) -> f64 {
        count as f64 * 100.0 / self.requests as f64
    }

    /// Adds what another connection met.
    pub fn join(&mut self, other: Self) {
        self.requests += other.requests;
        self.reached_upstream += other.reached_upstream;
        self.equal += other.equal;
        self.lost = [self.lost[0] + other.lost[0], self.lost[1] + other.lost[1]];
        add(&mut self.statuses, other.statuses);
        add(&mut self.actions, other.actions);
        add(&mut self.rules, other.rules);
        add(&mut self.known, other.known);
        for (parts, (count, shown)) in other.unknown {
            let entry = self.unknown.entry(parts).or_default();
            entry.0 += count;
            let room = SHOWN - entry.1.len();
            entry.1.extend(shown.into_iter().take(room));
        }
        for (place, version) in other.homes {
            let met = self.homes.entry(place.clone()).or_insert_with(|| version.clone());
            if *met != version {
                self.moved.push(format!("{place:?}: {met}, then {version}"));
            }
        }
        self.moved.extend(other.moved);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, reached_upstream, equal, .. } = self;
        writeln!(f, "{requests} requests, {reached_upstream} reached an upstream, {equal} equal")?;
        writeln!(f, "statuses: {:?}", self.statuses)?;
        writeln!(f, "actions: {:?}", self.actions)?;
        writeln!(f, "{} rules, {} users of splits", self.rules.len(), self.homes.len())?;
        writeln!(f, "connections lost by Envoy and by ours: {:?}", self.lost)?;
        for Difference { name, reason, .. } in KNOWN {
            let count = self.known.get(name).copied().unwrap_or(0);
            writeln!(f, "{count:>6} differ in: {name} ({reason})")?;
        }
        Ok(())
    }
}

fn add<K: Ord>(to: &mut BTreeMap<K, usize>, from: BTreeMap<K, usize>) {
    for (key, count) in from {
        *to.entry(key).or_default() += count;
    }
}
