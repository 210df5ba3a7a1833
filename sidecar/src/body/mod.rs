//! Bodies as both the callers' side and the upstreams' side know them.

mod pump;
mod request;
mod stream_end;

pub use pump::{Pump, PumpError};
pub use request::{BodyError, Kept, Pace, Paced, ReceivedBody, RequestBody};
pub use stream_end::StreamEnd;
