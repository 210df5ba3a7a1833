//! The open connections of a port: how many there are, how long they may last, and the way to cut
//! one from outside.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;

use super::addresses::{Addresses, Share};

/// Time for streams to end by themselves after a connection has reached its age; never longer than
/// that was.
const GRACE: Duration = Duration::from_secs(30);

/// What a port allows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at one time.
    pub most: u32,
    /// Of those, as many of one address.
    pub each: Share,
    /// Age at which a connection ends, give or take a tenth; `None` where its streams see to that.
    pub age: Option<Duration>,
}

/// The open connections; clones share them.
#[derive(Clone, Debug)]
pub struct Connections {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    most: usize,
    age: Option<Duration>,
    count: Gauge<u64, AtomicU64>,
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    serial: u64,
    count: usize,
    addresses: Addresses,
    cuts: HashMap<SocketAddr, Arc<Cut>>,
}

/// Says that a connection is over to whoever reads or writes it.
#[derive(Debug, Default)]
struct Cut {
    is: AtomicBool,
    task: AtomicWaker,
}

/// The place of a connection, taken until this is dropped.
#[derive(Debug)]
pub struct Place {
    shared: Arc<Shared>,
    address: SocketAddr,
    cut: Arc<Cut>,
    until: Option<Instant>,
}

/// Why there is no place: the word for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full(pub &'static str);

impl Connections {
    /// `count` tells how many there are.
    pub fn new(limits: Limits, count: Gauge<u64, AtomicU64>) -> Self {
        let most = usize::try_from(limits.most).unwrap_or(usize::MAX);
        let addresses = Addresses::new(limits.each);
        let open = Open { serial: 0, count: 0, addresses, cuts: HashMap::new() };
        let shared = Shared { most, age: limits.age, count, open: Mutex::new(open) };
        Self { shared: Arc::new(shared) }
    }

    /// A place for a connection from this address.
    pub fn enter(&self, address: SocketAddr) -> Result<Place, Full> {
        let mut open = self.shared.open();
        if open.count >= self.shared.most {
            return Err(Full("connections"));
        }
        if !open.addresses.enter(address.ip()) {
            return Err(Full("connections_of_address"));
        }
        open.count += 1;
        open.serial += 1;
        let serial = open.serial;
        let cut = Arc::<Cut>::default();
        open.cuts.insert(address, Arc::clone(&cut));
        drop(open);
        self.shared.count.inc();
        let age = self.shared.age.map(|age| around(age, scattered(serial)) + GRACE.min(age));
        let until = age.and_then(|age| Instant::now().checked_add(age));
        Ok(Place { shared: Arc::clone(&self.shared), address, cut, until })
    }

    /// Ends the connection from this address with all its streams.
    pub fn cut(&self, address: SocketAddr) {
        if let Some(cut) = self.shared.open().cuts.get(&address) {
            cut.now();
        }
    }

    /// Ends all that are open.
    pub fn cut_all(&self) {
        for cut in self.shared.open().cuts.values() {
            cut.now();
        }
    }
}

impl Place {
    /// Ready once the connection is cut; until then it wakes whoever asked last.
    pub fn poll_cut(&self, context: &mut Context<'_>) -> Poll<()> {
        if !self.cut.is() {
            self.cut.task.register(context.waker());
        }
        if self.cut.is() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// When the connection ends for its age.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.shared.open();
        open.count -= 1;
        open.addresses.leave(self.address.ip());
        // The client may have connected from the same port again.
        if open.cuts.get(&self.address).is_some_and(|cut| Arc::ptr_eq(cut, &self.cut)) {
            open.cuts.remove(&self.address);
        }
        drop(open);
        self.shared.count.dec();
    }
}

impl Cut {
    fn now(&self) {
        self.is.store(true, Ordering::Release);
        self.task.wake();
    }

    fn is(&self) -> bool {
        self.is.load(Ordering::Acquire)
    }
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A time that differs from `age` by up to a tenth, so that not all end at once; `draw` is any
/// number.
pub fn around(age: Duration, draw: u64) -> Duration {
    let thousandths = u32::try_from(draw % 200).unwrap_or(0);
    age * (900 + thousandths) / 1000
}

/// A number that differs from one serial number to the next, and says nothing else.
pub fn scattered(serial: u64) -> u64 {
    serial.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(most: u32, each: Option<u32>, age: Option<Duration>) -> Connections {
        Connections::new(Limits { most, each: Share::of(most, each), age }, Gauge::default())
    }

    fn address(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    #[test]
    fn places_are_counted_in_all_and_for_each_address() {
        let open = connections(3, Some(2), None);
        let places = [open.enter(address(1)).unwrap(), open.enter(address(2)).unwrap()];
        assert_eq!(open.enter(address(3)).unwrap_err(), Full("connections_of_address"));
        let other = open.enter(([192, 0, 2, 2], 1).into()).unwrap();
        assert_eq!(open.enter(([192, 0, 2, 3], 1).into()).unwrap_err(), Full("connections"));
        assert_eq!(open.shared.count.get(), 3);
        drop((places, other));
        assert_eq!(open.shared.count.get(), 0);
        assert!(open.shared.open().cuts.is_empty());
        open.enter(address(3)).unwrap();
    }

    #[test]
    fn a_port_that_is_used_again_is_that_of_the_newer_connection() {
        let open = connections(8, None, None);
        let older = open.enter(address(1)).unwrap();
        let newer = open.enter(address(1)).unwrap();
        drop(older);
        open.cut(address(1));
        assert!(newer.cut.is());
    }

    #[tokio::test(start_paused = true)]
    async fn ages_spread_by_a_tenth_to_either_side() {
        let begin = Instant::now();
        let open = connections(200, None, Some(Duration::from_mins(30)));
        let minutes = (0..200).map(|port| {
            let place = open.enter(([127, 0, 0, 1], port).into()).unwrap();
            (place.until().unwrap() - (begin + GRACE)).as_secs_f64() / 60.0
        });
        let (least, most) =
            minutes.fold((f64::MAX, 0.0_f64), |(least, most), one| (least.min(one), most.max(one)));
        assert!((27.0..27.5).contains(&least) && (32.5..33.0).contains(&most), "{least} {most}");
        let endless = connections(1, None, None);
        assert_eq!(endless.enter(address(1)).unwrap().until(), None);
    }
}
