//! Bodies as both the callers' side and the upstreams' side know them.

mod pump;
mod request;

pub use pump::{Pump, PumpError};
pub use request::{BodyError, Kept, ReceivedBody, RequestBody};
