//! The data path against clients, servers and suites that others wrote: what they do through two
//! sidecars, out of one application and into another, must come out as without them.

mod clients;
mod grpc;
mod grpc_mtls;
mod paths;
mod script;
mod tls;
mod websocket;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// One mesh at a time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
