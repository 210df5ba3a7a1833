//! The harness: a mesh of real processes on this machine, steady load, test applications.
//!
//! Everything here blocks the caller and is meant for plain `#[test]` functions; load runs on
//! threads of its own. Processes die with the process that started them, whatever ends it.

pub mod admin;
pub mod authority;
pub mod binaries;
pub mod draws;
pub mod echo;
pub mod etcd;
pub mod fetch;
pub mod load;
pub mod mesh;
pub mod mixed;
pub mod parent_death;
pub mod peers;
pub mod process;
pub mod wait;
pub mod written;
