//! One spelling for all that a caller may spell in many ways: what is matched is what is forwarded.

mod address_range;
mod forwarded;
mod host;
mod path;
mod trailers;

pub use address_range::{AddressRange, InvalidAddressRange};
pub use forwarded::{ForwardedHeaders, INTERNAL_PREFIX, Peer, Trust, is_forwarding, is_identity};
pub use host::{CanonHost, HostFault};
pub use path::{CanonPath, EscapedSlashes, PathFault, rule_path};
pub use trailers::{clean_trailers, may_trail};
