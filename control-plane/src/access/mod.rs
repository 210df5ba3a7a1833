//! Who may do what on the two gRPC ports.

mod audit;
mod caller;
mod credentials;
mod crowd;
mod document;
mod first_start;
mod gate;
mod held;
mod incoming;
mod join;
mod list;
mod method;
mod metrics;
mod pace;
mod peer;
mod reload;
mod role;
mod settings;
mod setup;
mod tls;
mod token;
mod wire;

pub use caller::{Call, Caller, Foreign};
pub use gate::AdminGate;
pub use incoming::{Arrival, Connection, Threshold, connections};
pub use join::JoinGate;
pub use list::AccessList;
pub use metrics::{AccessMetrics, Port};
pub use peer::Peer;
pub use role::{Namespaces, Role};
pub use settings::AccessSettings;
pub use setup::{Access, AccessError, Ground};
pub use wire::Wire;
