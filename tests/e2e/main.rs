//! The whole mesh, as users meet it: real processes, real load.

mod access;
mod apps;
mod capture;
mod changes;
mod config;
mod crashes;
mod delta_client;
mod files;
mod garbage;
mod identity;
mod lifecycle;
mod moves;
mod outage;
mod pushes;
mod replicas;
mod rotation;
mod serving;
mod soak;
mod takeover;
mod zones;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// One mesh at a time: load must not starve the mesh of another test.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether to take the time that the full promise needs (`SEGUE_TEST_FULL=1`).
fn full() -> bool {
    std::env::var_os("SEGUE_TEST_FULL").is_some_and(|value| value != "0")
}
