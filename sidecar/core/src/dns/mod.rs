//! Clusters whose endpoints are host names: what is asked of DNS, how often, and which endpoints the
//! answers make. Whoever asks is outside.

mod attempts;
mod family;
mod names;
mod refresh;

pub use attempts::interleaved;
pub use family::Family;
pub use names::{DnsSpec, Host, NamedEndpoint, Query};
pub use refresh::Refresh;
