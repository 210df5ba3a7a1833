//! The rules of the protocol, one by one and under random schedules.

mod cost;
mod delta;
mod guard;
mod schedule;
mod sotw;
mod wire;
mod world;
