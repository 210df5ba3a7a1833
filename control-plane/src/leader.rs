//! Who runs what only one control plane shall run: controllers, and the tidying of the store.
//!
//! One control plane alone always leads. Of several on one etcd one leads, by a lease that ends
//! within seconds where it is not renewed; another one follows it within ten.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use segue_shared::shutdown::DrainSignal;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::metrics::Metrics;
use crate::store::{EtcdStore, Lead, Tidying};

/// Pause between two attempts to lead.
const STAND_EVERY: Duration = Duration::from_millis(500);
/// Pause between two looks at what a leader should tidy.
const TIDY_EVERY: Duration = Duration::from_secs(5);

/// A number that grows with every leader: what bears a lower one comes from one that was deposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Term(pub u64);

/// Whether this process leads; clones share it.
#[derive(Clone)]
pub struct Leadership {
    term: Arc<watch::Sender<Option<Term>>>,
    metrics: Metrics,
}

impl Leadership {
    /// One that leads nothing yet.
    pub fn new(metrics: Metrics) -> Self {
        Self { term: Arc::default(), metrics }
    }

    /// Leads from now on: no other process uses the store.
    pub fn lead_alone(&self) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.set(Some(Term(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))));
    }

    /// The term of this process, `None` while it does not lead. Whoever works for a leader stops
    /// when it changes.
    pub fn watch(&self) -> watch::Receiver<Option<Term>> {
        self.term.subscribe()
    }

    /// Stands for election, leads, and stands again, until the drain signal.
    pub async fn run(self, store: EtcdStore, name: String, drain: DrainSignal) {
        let mut told = false;
        while !drain.is_cancelled() {
            match store.stand(&name).await {
                Ok(Some(lead)) => {
                    told = false;
                    self.lead(&store, lead, &drain).await;
                }
                Ok(None) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::info!("another control plane leads");
                    }
                }
                Err(error) => tracing::debug!(%error, "nobody is elected"),
            }
            tokio::select! {
                () = sleep(STAND_EVERY) => {}
                () = drain.cancelled() => {}
            }
        }
    }

    async fn lead(&self, store: &EtcdStore, mut lead: Lead, drain: &DrainSignal) {
        let term = lead.term;
        tracing::info!(term, "leads");
        self.set(Some(Term(term)));
        let drained = tokio::select! {
            () = store.hold(&mut lead) => false,
            () = tidy(store) => false,
            () = drain.cancelled() => true,
        };
        self.set(None);
        if drained {
            store.resign(lead).await;
        } else {
            tracing::warn!(term, "leads no more: its lease was not renewed in time");
        }
    }

    fn set(&self, term: Option<Term>) {
        self.metrics.leads(term.is_some());
        self.term.send_replace(term);
    }
}

/// Tidies the store again and again.
async fn tidy(store: &EtcdStore) {
    let mut tidying = Tidying::default();
    let mut rounds = interval(TIDY_EVERY);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        if let Err(error) = store.tidy(&mut tidying).await {
            tracing::warn!(%error, "the store is not tidied: it is tried again");
        }
    }
}
