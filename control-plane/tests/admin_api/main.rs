//! The admin API as its callers meet it: a whole control plane on loopback.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod access;
mod changes;
mod clients;
mod conditions;
mod csds;
mod endings;
#[path = "../../src/store/tests/etcd_process.rs"]
#[allow(dead_code, reason = "tests of the store need more of it")]
mod etcd_process;
mod joining;
mod loads;
mod ports;
mod reads;
mod replicas;
mod restore;
mod streams;
mod support;
mod tls;

// What `etcd_process` takes from above, here as there.
use segue_control_plane::store::{EtcdSettings, EtcdStore};
