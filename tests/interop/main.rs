//! Other projects' programs as real peers of our control plane.

mod envoy;
mod envoy_process;
mod envoy_sessions;
