//! Which endpoint of a cluster: one algorithm a file.

pub mod round_robin;
