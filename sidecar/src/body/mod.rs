//! Bodies as both the callers' side and the upstreams' side know them.

mod kept;
mod pump;
mod request;

pub use kept::Kept;
pub use pump::{Pump, PumpError};
pub use request::{BodyError, ReceivedBody, RequestBody};
