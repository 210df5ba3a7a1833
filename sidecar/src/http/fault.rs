//! Faults made on purpose, before a request is sent on.

use std::cell::Cell;

use segue_sidecar_core::snapshot::InjectedFault;

use super::respond::Reject;
use crate::worker::Worker;

/// Holds the request for a while, or refuses it, as the fault and chance will.
pub async fn inject(worker: &Worker, fault: &InjectedFault) -> Result<(), Reject> {
    let (delay, abort) = fault.draw(worker.draw(), worker.draw());
    if let Some(delay) = delay
        && worker.delayed.get() < fault.max_active
    {
        let _held = Held::begin(&worker.delayed);
        worker.counters.refused("fault_delay");
        tokio::time::sleep(delay).await;
    }
    abort.map_or(Ok(()), |status| Err(Reject::Fault(status)))
}

/// Counts a request that is held until it goes on or its caller gives up.
struct Held<'a>(&'a Cell<u32>);

impl<'a> Held<'a> {
    fn begin(count: &'a Cell<u32>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
