//! Who holds certificates of the mesh, below which root, and whom each node is known to believe:
//! what says when a step of a rotation is safe.
//!
//! Certificates are written to a file as they are given, so that a control plane that restarts in
//! the middle of a rotation still knows whom to wait for.

use std::collections::{BTreeMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::authority::AuthorityError;
use super::files;

const FILE: &str = "certificates.jsonl";
/// Nodes that are known by the certificates which they asked for. Beyond, the one whose certificate
/// ends first is forgotten.
const MOST_NODES: usize = 100_000;
/// The file is written anew when it has so many lines more than there are nodes.
const MOST_SURPLUS: usize = 10_000;

/// The roster; clones share it.
#[derive(Clone, Debug)]
pub struct Roster {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    file: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The certificates that nodes asked for. Who is of another service is another node, whatever it
    /// says its id is.
    nodes: BTreeMap<Name, Node>,
    /// The streams of nodes that take their authorities, or all of their identity, from us.
    streams: BTreeMap<u64, Follower>,
    serial: u64,
    appended: usize,
    log: Option<File>,
}

/// A service and the id of one of its nodes.
type Name = (Arc<str>, Arc<str>);

#[derive(Clone, Debug)]
struct Node {
    held: Held,
    /// The version of the authorities that it took last.
    believes: Option<Arc<str>>,
}

/// A certificate as the file has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    node: String,
    service: String,
    /// Fingerprint of the root.
    root: String,
    until_unix_seconds: u64,
}

/// A stream.
#[derive(Clone, Debug)]
struct Follower {
    name: Name,
    /// The version of the authorities that it took last; `None` before it has asked.
    believes: Option<Arc<str>>,
    asks: bool,
    /// Fingerprint of the root of the identity that it took last on this stream.
    shows: Option<String>,
}

/// What a rotation waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal<'a> {
    /// Everyone believes the authorities of this version.
    Believe(&'a str),
    /// Nobody shows a certificate that leads to another root than this.
    Show(&'a str),
}

/// Someone who is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Laggard {
    pub node: Arc<str>,
    pub service: Arc<str>,
    /// Whether it has a stream here.
    pub connected: bool,
    /// When it is waited for no longer, because its certificate has ended then.
    pub until: Option<SystemTime>,
}

/// A stream's place in the roster. Dropping it leaves.
#[derive(Debug)]
pub struct Seat {
    roster: Roster,
    serial: u64,
}

impl Roster {
    /// The one of an authority's directory. Blocks.
    pub fn open(data_dir: &Path, now: SystemTime) -> Result<Self, AuthorityError> {
        let directory = data_dir.join("ca");
        let file = directory.join(FILE);
        let fail = |source| AuthorityError::File { file: file.clone(), source };
        files::directory(&directory).map_err(fail)?;
        let mut state = State::default();
        match File::open(&file) {
            Ok(content) => {
                for line in BufReader::new(content).lines() {
                    // A crash may have cut the last one.
                    if let Ok(held) = serde_json::from_str::<Held>(&line.map_err(fail)?) {
                        state.take(held);
                    }
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(fail(source)),
        }
        let roster = Self { shared: Arc::new(Shared { file, state: Mutex::new(state) }) };
        roster.shared.rewrite(&mut roster.state(), now)?;
        Ok(roster)
    }

    /// A node is given a certificate. Blocks.
    pub fn given(
        &self,
        node: &str,
        service: String,
        root: String,
        until: SystemTime,
        now: SystemTime,
    ) -> Result<(), AuthorityError> {
        let held =
            Held { node: node.to_owned(), service, root, until_unix_seconds: unix_seconds(until) };
        let mut state = self.state();
        let fail = |source| AuthorityError::File { file: self.shared.file.clone(), source };
        let mut line = serde_json::to_vec(&held).map_err(|error| fail(error.into()))?;
        line.push(b'\n');
        if state.appended >= state.nodes.len() + MOST_SURPLUS {
            self.shared.rewrite(&mut state, now)?;
        }
        if let Some(log) = &mut state.log {
            log.write_all(&line).map_err(fail)?;
        }
        state.appended += 1;
        state.take(held);
        Ok(())
    }

    /// A stream of a node begins.
    pub fn sit(&self, node: &str, service: &str) -> Seat {
        let mut state = self.state();
        state.serial += 1;
        let serial = state.serial;
        let name = (service.into(), node.into());
        let follower = Follower { name, believes: None, asks: false, shows: None };
        state.streams.insert(serial, follower);
        Seat { roster: self.clone(), serial }
    }

    /// Who is not there yet. Those that are away are left out where `without_absent`.
    pub fn behind(&self, goal: Goal<'_>, without_absent: bool, now: SystemTime) -> Vec<Laggard> {
        let state = self.state();
        let mut behind = Vec::new();
        let mut here = HashSet::new();
        for stream in state.streams.values() {
            let waits = match goal {
                Goal::Believe(version) => {
                    stream.asks && stream.believes.as_deref() != Some(version)
                }
                Goal::Show(root) => stream.shows.as_deref().is_some_and(|shown| shown != root),
            };
            if waits {
                behind.push(Laggard::new(&stream.name, true, None));
            }
            here.insert(&stream.name);
        }
        for (name, node) in &state.nodes {
            let until = UNIX_EPOCH + Duration::from_secs(node.held.until_unix_seconds);
            let connected = here.contains(name);
            let waits = match goal {
                // Those that are here were looked at above; whoever asks us not whom to believe has
                // that from elsewhere.
                Goal::Believe(version) => !connected && node.believes.as_deref() != Some(version),
                Goal::Show(root) => node.held.root != root,
            };
            if waits && until > now && (connected || !without_absent) {
                behind.push(Laggard::new(name, connected, Some(until)));
            }
        }
        behind
    }

    /// How many nodes hold certificates that count, and when the first of them ends.
    pub fn holders(&self, now: SystemTime) -> (usize, Option<SystemTime>) {
        let state = self.state();
        let ends = state.nodes.values().map(|it| it.held.until_unix_seconds);
        let ends = ends.map(|it| UNIX_EPOCH + Duration::from_secs(it)).filter(|it| *it > now);
        let ends: Vec<SystemTime> = ends.collect();
        (ends.len(), ends.into_iter().min())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Laggard {
    fn new((service, node): &Name, connected: bool, until: Option<SystemTime>) -> Self {
        let (service, node) = (Arc::clone(service), Arc::clone(node));
        Self { node, service, connected, until }
    }
}

impl Seat {
    /// What the node took last: the version of the authorities, and the root of its identity where
    /// it has that from here. `asks`: whether it has asked for the authorities at all.
    pub fn took(&self, asks: bool, believes: Option<&str>, shows: Option<&str>) {
        let mut state = self.roster.state();
        let Some(stream) = state.streams.get_mut(&self.serial) else { return };
        stream.asks = asks;
        if let Some(believes) = believes {
            stream.believes = Some(believes.into());
        }
        if let Some(shows) = shows {
            stream.shows = Some(shows.to_owned());
        }
        let (name, believes) = (stream.name.clone(), stream.believes.clone());
        if let (Some(node), true) = (state.nodes.get_mut(&name), believes.is_some()) {
            node.believes = believes;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.roster.state().streams.remove(&self.serial);
    }
}

impl State {
    fn take(&mut self, held: Held) {
        let name: Name = (held.service.as_str().into(), held.node.as_str().into());
        if let Some(node) = self.nodes.get_mut(&name) {
            node.held = held;
            return;
        }
        if self.nodes.len() >= MOST_NODES {
            let first = self.nodes.iter().min_by_key(|(_, it)| it.held.until_unix_seconds);
            if let Some(first) = first.map(|(name, _)| name.clone()) {
                self.nodes.remove(&first);
            }
        }
        self.nodes.insert(name, Node { held, believes: None });
    }
}

impl Shared {
    /// The file holds those alone whose certificates count.
    fn rewrite(&self, state: &mut State, now: SystemTime) -> Result<(), AuthorityError> {
        let fail = |source| AuthorityError::File { file: self.file.clone(), source };
        let now = unix_seconds(now);
        state.nodes.retain(|_, node| node.held.until_unix_seconds > now);
        let mut content = Vec::new();
        for node in state.nodes.values() {
            serde_json::to_writer(&mut content, &node.held).map_err(|error| fail(error.into()))?;
            content.push(b'\n');
        }
        files::replace(&self.file, &content).map_err(fail)?;
        let log = OpenOptions::new().append(true).mode(0o600).open(&self.file).map_err(fail)?;
        (state.log, state.appended) = (Some(log), state.nodes.len());
        Ok(())
    }
}

fn unix_seconds(moment: SystemTime) -> u64 {
    moment.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn given(roster: &Roster, node: &str, root: &str, until: SystemTime) {
        let (service, now) = ("shop/cart".to_owned(), SystemTime::now());
        roster.given(node, service, root.to_owned(), until, now).unwrap();
    }

    fn names(behind: &[Laggard]) -> Vec<&str> {
        behind.iter().map(|it| &*it.node).collect()
    }

    #[test]
    fn those_who_do_not_believe_yet_are_named_and_those_who_left_until_their_certificate_ends() {
        let directory = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let roster = Roster::open(directory.path(), now).unwrap();
        for node in ["a", "b", "away"] {
            given(&roster, node, "old", now + HOUR);
        }
        let seats = ["a", "b"].map(|node| roster.sit(node, "shop/cart"));
        seats[0].took(true, Some("2"), None);
        seats[1].took(true, Some("1"), None);
        let goal = Goal::Believe("2");
        assert_eq!(names(&roster.behind(goal, false, now)), ["b", "away"]);
        assert_eq!(names(&roster.behind(goal, true, now)), ["b"]);
        assert_eq!(names(&roster.behind(goal, false, now + 2 * HOUR)), ["b"], "it is here still");
        seats[1].took(true, Some("2"), None);
        assert_eq!(names(&roster.behind(goal, true, now)), [] as [&str; 0]);
        let [a, _b] = seats;
        drop(a);
        assert_eq!(names(&roster.behind(goal, false, now)), ["away"], "whoever took it may leave");
    }

    #[test]
    fn a_restart_still_knows_who_shows_what_the_old_root_has_signed() {
        let directory = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let roster = Roster::open(directory.path(), now).unwrap();
        given(&roster, "a", "old", now + HOUR);
        given(&roster, "b", "old", now + HOUR);
        given(&roster, "gone", "old", now - HOUR);
        given(&roster, "b", "new", now + HOUR);
        drop(roster);
        let roster = Roster::open(directory.path(), now).unwrap();
        assert_eq!(names(&roster.behind(Goal::Show("new"), false, now)), ["a"]);
        assert_eq!(roster.holders(now).0, 2);
        given(&roster, "a", "new", now + HOUR);
        assert_eq!(names(&roster.behind(Goal::Show("new"), false, now)), [] as [&str; 0]);
    }

    #[test]
    fn a_line_that_a_crash_cut_hides_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let roster = Roster::open(directory.path(), now).unwrap();
        given(&roster, "a", "old", now + HOUR);
        let file = directory.path().join("ca").join(FILE);
        let mut log = OpenOptions::new().append(true).open(&file).unwrap();
        log.write_all(b"{\"node\":\"b\",\"serv").unwrap();
        drop((roster, log));
        let roster = Roster::open(directory.path(), now).unwrap();
        assert_eq!(roster.holders(now).0, 1);
    }

    #[test]
    fn nodes_that_have_their_identity_from_the_stream_are_waited_for_as_well() {
        let directory = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let roster = Roster::open(directory.path(), now).unwrap();
        let seat = roster.sit("envoy", "shop/cart");
        assert_eq!(roster.behind(Goal::Believe("2"), false, now), [], "it asked for nothing");
        seat.took(true, Some("2"), Some("old"));
        assert_eq!(names(&roster.behind(Goal::Show("new"), false, now)), ["envoy"]);
        given(&roster, "files", "new", now + HOUR);
        let seat_of_files = roster.sit("files", "shop/cart");
        seat_of_files.took(false, None, None);
        assert_eq!(roster.behind(Goal::Believe("2"), false, now), [], "it believes by its files");
        seat.took(true, Some("2"), Some("new"));
        assert_eq!(roster.behind(Goal::Show("new"), false, now), []);
    }
}
