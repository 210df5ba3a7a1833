//! The names that clusters have now, each looked up when it is due.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::pending;
use std::net::IpAddr;
use std::sync::Arc;

use segue_sidecar_core::dns::{Query, Refresh};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::resolver::{Answer, Lookup, LookupError};

/// Names followed at one time; further ones have no addresses.
const MOST_NAMES: usize = 1_000;
/// Lookups that run at one time.
const MOST_LOOKUPS: usize = 16;

/// All names that are followed.
pub struct Names<L> {
    lookup: Arc<L>,
    followed: BTreeMap<Query, Followed>,
    turned_away: BTreeSet<Query>,
    /// Those of them that nobody has been told of yet.
    untold: Vec<Query>,
    running: JoinSet<Result<Answer, LookupError>>,
    asked: HashMap<Id, Query>,
    draw: fn() -> f64,
    status: NamesStatus,
}

/// One name.
struct Followed {
    refresh: Refresh,
    /// `None` while a lookup runs.
    next: Option<Instant>,
    /// In a row.
    failures: u32,
}

/// What became of a lookup.
#[derive(Debug, PartialEq, Eq)]
pub struct Resolved {
    pub query: Query,
    /// `None`: it failed.
    pub addresses: Option<Arc<[IpAddr]>>,
}

/// What is done for names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NamesStatus {
    /// Names that are followed.
    pub names: usize,
    /// Lookups that were answered, so far.
    pub answers: u64,
    /// Lookups that failed, so far.
    pub failures: u64,
    /// Names that were not followed because there are too many, so far.
    pub turned_away: u64,
}

impl<L: Lookup> Names<L> {
    /// No names yet. `draw` is uniform in 0.0..1.0.
    pub fn new(lookup: L, draw: fn() -> f64) -> Self {
        Self {
            lookup: Arc::new(lookup),
            followed: BTreeMap::new(),
            turned_away: BTreeSet::new(),
            untold: Vec::new(),
            running: JoinSet::new(),
            asked: HashMap::new(),
            draw,
            status: NamesStatus::default(),
        }
    }

    /// What is done for names.
    pub fn status(&self) -> NamesStatus {
        NamesStatus { names: self.followed.len(), ..self.status }
    }

    /// Follows these and no others; new ones are due at once.
    pub fn follow(&mut self, wanted: &BTreeMap<Query, Refresh>) {
        self.followed.retain(|query, _| wanted.contains_key(query));
        self.turned_away.retain(|query| wanted.contains_key(query));
        for (query, &refresh) in wanted {
            if let Some(followed) = self.followed.get_mut(query) {
                followed.refresh = refresh;
            } else if self.followed.len() < MOST_NAMES {
                let next = Some(Instant::now());
                self.followed.insert(query.clone(), Followed { refresh, next, failures: 0 });
                self.turned_away.remove(query);
            } else if self.turned_away.insert(query.clone()) {
                self.status.turned_away += 1;
                self.untold.push(query.clone());
            }
        }
    }

    /// Waits for the end of the next lookup, and begins those that are due meanwhile. May be dropped
    /// and called again; never returns where no name is followed.
    pub async fn step(&mut self) -> Resolved {
        if let Some(query) = self.untold.pop() {
            tracing::error!(host = %query.host, most = MOST_NAMES, "too many names to follow");
            return Resolved { query, addresses: None };
        }
        loop {
            let next = self.begin();
            let due = async {
                match next {
                    Some(next) => sleep_until(next).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                Some(ended) = self.running.join_next_with_id() => {
                    if let Some(resolved) = self.ended(ended) {
                        return resolved;
                    }
                }
                () = due => {}
            }
        }
    }

    /// Begins the lookups that are due and for which there is room; when the next one is.
    fn begin(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let mut soonest = None;
        for (query, followed) in &mut self.followed {
            if self.running.len() >= MOST_LOOKUPS {
                // The end of one makes room.
                return None;
            }
            match followed.next {
                Some(next) if next <= now => {
                    followed.next = None;
                    let (lookup, asked) = (Arc::clone(&self.lookup), query.clone());
                    let task = self.running.spawn(async move { lookup.lookup(&asked).await });
                    self.asked.insert(task.id(), query.clone());
                }
                Some(next) => soonest = Some(soonest.map_or(next, |it: Instant| it.min(next))),
                None => {}
            }
        }
        soonest
    }

    fn ended(
        &mut self,
        ended: Result<(Id, Result<Answer, LookupError>), JoinError>,
    ) -> Option<Resolved> {
        let (id, result) = match ended {
            Ok((id, result)) => (id, result),
            Err(error) => (error.id(), Err(LookupError::Failed(error.to_string()))),
        };
        let query = self.asked.remove(&id)?;
        match &result {
            Ok(_) => self.status.answers += 1,
            Err(_) => self.status.failures += 1,
        }
        // Nobody may want it any more; or it was wanted again meanwhile, and is looked up again.
        let followed = self.followed.get_mut(&query).filter(|it| it.next.is_none())?;
        let draw = (self.draw)();
        let (pause, addresses) = match result {
            Ok(answer) => {
                followed.failures = 0;
                (followed.refresh.after_answer(answer.ttl, draw), Some(answer.addresses.into()))
            }
            Err(error) => {
                followed.failures = followed.failures.saturating_add(1);
                if followed.failures == 1 {
                    tracing::warn!(host = %query.host, %error, "not looked up; what is known of it stays");
                } else {
                    tracing::debug!(host = %query.host, %error, "not looked up again");
                }
                (followed.refresh.after_failure(followed.failures, draw), None)
            }
        };
        followed.next = Some(Instant::now() + pause);
        Some(Resolved { query, addresses })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use segue_sidecar_core::dns::Family;

    use super::*;

    /// Answers of names in turn, and when they were asked for, in milliseconds.
    struct Scripted {
        begun: Instant,
        asked: Mutex<Vec<u128>>,
        answers: Mutex<Vec<Result<Answer, LookupError>>>,
    }

    impl Lookup for Arc<Scripted> {
        async fn lookup(&self, _: &Query) -> Result<Answer, LookupError> {
            self.asked.lock().unwrap().push(self.begun.elapsed().as_millis());
            tokio::time::sleep(Duration::from_millis(1)).await;
            self.answers.lock().unwrap().remove(0)
        }
    }

    fn scripted(
        answers: Vec<Result<Answer, LookupError>>,
    ) -> (Names<Arc<Scripted>>, Arc<Scripted>) {
        let script = Arc::new(Scripted {
            begun: Instant::now(),
            asked: Mutex::default(),
            answers: Mutex::new(answers),
        });
        (Names::new(Arc::clone(&script), || 0.0), script)
    }

    fn wanted(hosts: &[&str], refresh: Refresh) -> BTreeMap<Query, Refresh> {
        let query = |host: &&str| Query { host: (*host).into(), family: Family::Auto };
        hosts.iter().map(|host| (query(host), refresh)).collect()
    }

    fn found(address: &str, ttl: u64) -> Answer {
        Answer { addresses: vec![address.parse().unwrap()], ttl: Duration::from_secs(ttl) }
    }

    fn failed() -> LookupError {
        LookupError::Failed("SERVFAIL".to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_asked_for_again_when_its_records_grow_old_and_later_after_failures() {
        let refresh = Refresh {
            respect_ttl: true,
            failure_first: Duration::from_secs(1),
            failure_most: Duration::from_secs(8),
            ..Refresh::default()
        };
        let answers =
            vec![Ok(found("1.1.1.1", 20)), Err(failed()), Err(failed()), Ok(found("2.2.2.2", 20))];
        let (mut names, script) = scripted(answers);
        names.follow(&wanted(&["a.test"], refresh));
        let mut came = Vec::new();
        for _ in 0..4 {
            came.push(names.step().await.addresses.map(|it| it[0].to_string()));
        }
        assert_eq!(came, [Some("1.1.1.1".to_owned()), None, None, Some("2.2.2.2".to_owned())]);
        assert_eq!(*script.asked.lock().unwrap(), [0, 20_001, 21_002, 23_003]);
        let status = names.status();
        assert_eq!((status.names, status.answers, status.failures), (1, 2, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_nobody_wants_any_more_is_let_go_of() {
        let (mut names, script) = scripted(vec![Ok(found("1.1.1.1", 0)), Ok(found("2.2.2.2", 0))]);
        names.follow(&wanted(&["a.test"], Refresh::default()));
        names.step().await;
        names.follow(&BTreeMap::new());
        let waits = tokio::time::timeout(Duration::from_mins(5), names.step()).await;
        assert!(waits.is_err(), "nothing is asked");
        names.follow(&wanted(&["b.test"], Refresh::default()));
        assert_eq!(&*names.step().await.query.host, "b.test");
        assert_eq!(script.asked.lock().unwrap().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_too_much_has_no_addresses_and_nobody_waits_for_it() {
        let hosts: Vec<String> = (0..=MOST_NAMES).map(|i| format!("h{i:04}.test")).collect();
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let answers = (0..MOST_NAMES).map(|_| Ok(found("1.1.1.1", 0))).collect();
        let (mut names, script) = scripted(answers);
        names.follow(&wanted(&hosts, Refresh::default()));
        let first = names.step().await;
        assert_eq!((&*first.query.host, first.addresses), ("h1000.test", None));
        for _ in 0..MOST_NAMES {
            assert!(names.step().await.addresses.is_some());
        }
        let asked = script.asked.lock().unwrap();
        assert_eq!(asked.iter().filter(|at| **at == 0).count(), MOST_LOOKUPS);
        assert_eq!(names.status().turned_away, 1);
    }
}
