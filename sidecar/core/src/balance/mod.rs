//! Which endpoint of a cluster: one algorithm a file. Turns, draws and what is known of the load are
//! arguments.

mod draw;
mod least_request;
mod level;
mod load;
mod locality;
mod maglev;
mod peak_ewma;
mod pick;
mod random;
mod ring_hash;
mod round_robin;
#[cfg(test)]
mod sample;
mod slow_start;
mod tried;

pub use draw::mixed;
pub use level::Pickable;
pub use load::Load;
pub use peak_ewma::Ewma;
pub use pick::{Ask, key_table, pick};
pub use slow_start::share;
pub use tried::Tried;
