//! Addresses that captured requests wanted to go to and that no service has.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use segue_sidecar_core::snapshot::{Cluster, Endpoint, HttpVersion};
use tokio::time::Instant;

use super::registry::{Living, Upstreams};

/// Name under which they are counted, all together.
pub const ORIGINAL_CLUSTER: &str = "original-destination";
/// Beyond this machine, and beyond the mesh.
pub const ORIGINAL_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Addresses that one worker knows at one time.
const MOST_ADDRESSES: usize = 1024;
/// Time without a request after which one is forgotten.
const IDLE_TIME: Duration = Duration::from_mins(2);

/// Those of one worker.
#[derive(Default)]
pub struct Originals {
    all: RefCell<HashMap<(SocketAddr, bool), Rc<Original>>>,
}

/// One address, as a cluster of its own.
pub struct Original {
    pub cluster: Cluster,
    pub living: Living,
    used: Cell<Instant>,
}

impl Originals {
    /// An address; `None` where there are too many in use.
    pub fn get(
        &self,
        address: SocketAddr,
        http: HttpVersion,
        upstreams: &Upstreams,
    ) -> Option<Rc<Original>> {
        let mut all = self.all.borrow_mut();
        let key = (address, http == HttpVersion::Http2);
        if !all.contains_key(&key) && all.len() >= MOST_ADDRESSES {
            all.retain(|_, original| Rc::strong_count(original) > 1);
            if all.len() >= MOST_ADDRESSES {
                return None;
            }
        }
        let found =
            all.entry(key).or_insert_with(|| Rc::new(Original::new(address, http, upstreams)));
        found.used.set(Instant::now());
        Some(Rc::clone(found))
    }

    /// Closes what is idle, and forgets what was not asked for in a while.
    pub fn tick(&self, now: Instant) {
        self.all.borrow_mut().retain(|_, original| {
            original.living.cluster.tick(now, &original.cluster);
            let rested = now.saturating_duration_since(original.used.get());
            Rc::strong_count(original) > 1 || rested < IDLE_TIME
        });
    }
}

impl Original {
    fn new(address: SocketAddr, http: HttpVersion, upstreams: &Upstreams) -> Self {
        let endpoints: Arc<[Endpoint]> = [Endpoint::new(address)].into();
        let cluster = Cluster {
            http,
            connect_timeout: ORIGINAL_CONNECT_TIMEOUT,
            ..Cluster::new(Arc::from(ORIGINAL_CLUSTER), endpoints)
        };
        let living = upstreams.apart(&cluster);
        let living = Living { instances: living.instances(&cluster), cluster: living };
        Self { cluster, living, used: Cell::new(Instant::now()) }
    }
}
