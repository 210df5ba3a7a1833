//! One verb a file. Each has its arguments and a `run` that gives the exit code.

pub mod apply;
pub mod backup;
pub mod certs;
mod changes;
pub mod completion;
pub mod delete;
pub mod describe;
pub mod diff;
pub mod get;
pub mod history;
pub mod restore;
mod rows;
pub mod schema;
pub mod status;
pub mod token;
pub mod undo;
pub mod wait;

/// `1 resource`, `2 resources`.
fn counted(count: u64, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}
