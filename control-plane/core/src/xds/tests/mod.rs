//! The rules of the protocol, one by one and under random schedules.

mod cost;
mod delta;
mod guard;
mod heartbeat;
mod mesh;
mod names;
mod schedule;
mod secrets;
mod sotw;
mod wire;
mod world;
