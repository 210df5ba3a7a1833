//! One verb a file. Each has its arguments and a `run` that gives the exit code.

pub mod apply;
mod changes;
pub mod completion;
pub mod delete;
pub mod describe;
pub mod diff;
pub mod get;
pub mod history;
mod rows;
pub mod schema;
pub mod status;
pub mod undo;
pub mod wait;
