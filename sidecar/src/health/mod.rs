//! Active health, on the control runtime: probes of endpoints, and the sweeps of outlier detection.

mod probe;
mod warm;
mod watch;

pub use warm::ProbeWarm;
pub use watch::watch;
