//! The rules of the protocol, one by one and under random schedules.

mod delta;
mod schedule;
mod sotw;
mod world;
