//! The admin API as its callers meet it: a whole control plane on loopback.

mod changes;
mod ports;
mod reads;
mod streams;
mod support;
