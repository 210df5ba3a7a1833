//! Who leads: one key, held by a lease that its owner renews.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::EtcdStore;
use super::api::{self, Txn};
use crate::store::contract::StoreError;

/// A leader that dies is followed by another one after this time and little more.
const TTL_SECONDS: i64 = 5;
/// The lease is over for its owner this long before it is over for etcd.
const MARGIN: Duration = Duration::from_secs(1);

/// A lead, while its lease lasts.
pub struct Lead {
    /// Grows with every election: what a later leader wrote bears a higher one.
    pub term: u64,
    lease: i64,
    /// By the clock of this process, which never goes back.
    until: Instant,
}

impl EtcdStore {
    /// Stands for election once, under a name that logs show. `None`: another one leads.
    pub async fn stand(&self, name: &str) -> Result<Option<Lead>, StoreError> {
        // One that does not follow the log must not tidy it.
        self.inner.check_running()?;
        let connection = &self.inner.connection;
        let key = self.inner.keys.leader();
        if connection.read([api::get(key.clone())]).await?.one().is_some() {
            return Ok(None);
        }
        let until = Instant::now() + lasts(TTL_SECONDS);
        let lease = connection.grant(TTL_SECONDS).await?;
        let put = vec![api::leased(key.clone(), name, lease)];
        let absent = vec![api::unchanged(key, 0)];
        // Where no answer comes and it was won, the lease that nobody renews loses it again.
        let answer = connection.txn(Txn { compare: absent, success: put }).await?;
        if answer.succeeded {
            let term = u64::try_from(answer.revision()).unwrap_or_default();
            return Ok(Some(Lead { term, lease, until }));
        }
        connection.revoke(lease).await;
        Ok(None)
    }

    /// Renews the lease as long as that succeeds in time. On return the lead is over.
    pub async fn hold(&self, lead: &mut Lead) {
        let pause = lasts(TTL_SECONDS) / 3;
        while Instant::now() < lead.until && self.inner.check_running().is_ok() {
            sleep(pause.min(lead.until - Instant::now())).await;
            let asked = Instant::now();
            let renew = self.inner.connection.renew(lead.lease);
            match timeout_at(lead.until, renew).await {
                Ok(Ok(0)) | Err(_) => return,
                Ok(Ok(seconds)) => lead.until = asked + lasts(seconds),
                Ok(Err(trouble)) => tracing::debug!(?trouble, "the lead is not renewed yet"),
            }
        }
    }

    /// Gives the lead back at once.
    pub async fn resign(&self, lead: Lead) {
        self.inner.connection.revoke(lead.lease).await;
    }
}

fn lasts(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or_default()).saturating_sub(MARGIN)
}
