//! Other projects' programs as real peers of our control plane.

mod differential;
mod envoy;
mod envoy_follows;
mod envoy_mtls;
mod envoy_process;
mod envoy_sds;
mod envoy_sessions;
mod envoy_traffic;
mod faults;
mod grpc;
mod grpc_client;
mod websocket;

use std::sync::{Mutex, MutexGuard, PoisonError};

static TURN: Mutex<()> = Mutex::new(());

/// One mesh at a time: these tests load the machine.
fn alone() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
