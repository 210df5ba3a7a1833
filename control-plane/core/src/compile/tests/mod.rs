//! What the compiler writes, as golden files and as promises.

mod golden;
mod mesh;
mod promises;
mod readable;
