//! `kill -9` at any moment: everything acknowledged is there, nothing is half.
//!
//! A second process commits as fast as it can and prints each acknowledged revision; this one
//! kills it at a random moment and opens what is left, thirty times over on one store.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use segue_control_plane::store::{Commit, RedbStore, Store as _, StoredResource};
use segue_proto::config::v1::resource::Resource as Body;
use segue_proto::config::v1::{ObjectMeta, Resource, Service, ServiceSpec};
use segue_shared::ids::Revision;

const ROUNDS: u64 = 30;
const RETENTION: usize = 40;
const DIRECTORY: &str = "SEGUE_TEST_CRASH_DIRECTORY";
/// The services of one commit, which all carry its number.
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// Not a test of its own: the process that is killed.
#[tokio::test]
#[ignore = "run by the test below"]
async fn commit_until_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let store = RedbStore::open(Path::new(&directory), RETENTION).unwrap();
    loop {
        let next = store.watch().borrow().next();
        let revision = store.commit(numbered(next)).await.unwrap();
        assert_eq!(revision, next);
        // One write a line: a killed process leaves no half number behind a line feed.
        let line = format!("ack {revision}\n");
        std::io::stdout().write_all(line.as_bytes()).unwrap();
    }
}

#[tokio::test]
async fn a_store_survives_kill_at_any_moment() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = Revision::NONE;
    let mut draw = Draw(u64::from(std::process::id()) | 1);
    for round in 0..ROUNDS {
        let (mut child, acks) = start(directory.path());
        // The first rounds die while the store is being made or opened, the others while it works.
        let first = (round >= 5).then(|| acks.recv_timeout(Duration::from_secs(30)).unwrap());
        acknowledged = acknowledged.max(first.unwrap_or_default());
        let most_micros = if round < 5 { 25_000 } else { 40_000 };
        std::thread::sleep(Duration::from_micros(draw.below(most_micros)));
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged = acknowledged.max(acks.iter().max().unwrap_or_default());

        let store = RedbStore::open(directory.path(), RETENTION).unwrap();
        let found = store.load().await.unwrap();
        let (revision, resources) = (found.revision, found.listed());
        assert!(
            revision == acknowledged || revision == acknowledged.next(),
            "round {round}: acknowledged {acknowledged}, found {revision}"
        );
        assert_whole(revision, &resources);
        let history = store.history(None, 100).await.unwrap();
        let newest = history.revisions.first().map_or(Revision::NONE, |past| past.revision);
        assert_eq!(newest, revision, "round {round}: history and revision agree");
        for past in &history.revisions {
            let then = store.at(past.revision).await.unwrap();
            assert_whole(past.revision, &then.listed());
        }
        acknowledged = revision;
    }
    assert!(acknowledged.0 > ROUNDS, "the child hardly committed: {acknowledged}");
}

fn start(directory: &Path) -> (Child, mpsc::Receiver<Revision>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "commit_until_killed", "--ignored", "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (sender, acks) = mpsc::channel();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            // The test runner's own words may stand before the first acknowledgement.
            let number = line.rsplit_once("ack ").and_then(|(_, number)| number.parse().ok());
            if let Some(number) = number {
                let _gone_with_the_round = sender.send(Revision(number));
            }
        }
    });
    (child, acks)
}

fn numbered(revision: Revision) -> Commit {
    let service = |name: &&str| {
        let metadata = Some(ObjectMeta { name: (*name).to_owned(), ..ObjectMeta::default() });
        let default_version = format!("v{revision}");
        let spec = Some(ServiceSpec { default_version, ..ServiceSpec::default() });
        Resource { resource: Some(Body::Service(Service { metadata, spec, ..Service::default() })) }
    };
    Commit {
        expected: None,
        upserts: NAMES.iter().map(service).collect(),
        deletes: Vec::new(),
        author: String::new(),
        message: String::new(),
        restores: None,
        at: SystemTime::now(),
    }
}

/// Every service carries the number of the revision.
fn assert_whole(revision: Revision, resources: &[StoredResource]) {
    let versions: Vec<String> = resources
        .iter()
        .map(|stored| match &stored.resource.resource {
            Some(Body::Service(service)) => service.spec.clone().unwrap().default_version,
            other => panic!("{other:?}"),
        })
        .collect();
    let expected =
        if revision == Revision::NONE { vec![] } else { vec![format!("v{revision}"); NAMES.len()] };
    assert_eq!(versions, expected, "revision {revision} is half");
}

/// xorshift64: moments need to differ, not to be secret.
struct Draw(u64);

impl Draw {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}
