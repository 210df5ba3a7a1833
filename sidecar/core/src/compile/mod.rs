//! From xDS resources to tables: one Envoy message a file. A bad resource fails alone and is named.

mod action;
mod balancer;
mod cluster;
mod cluster_names;
mod discovery;
mod endpoint;
mod extension;
mod fault;
mod field;
mod hash_policy;
mod header;
mod inbound;
mod judgement;
mod link;
mod listener;
mod localities;
mod resource;
mod route;
mod route_match;
mod secret;
mod tcp;
mod tls;

pub use cluster::ClusterSpec;
pub use discovery::EndpointSource;
pub use endpoint::Assignment;
pub use inbound::Inbound;
pub use link::{Link, Linker};
pub use listener::{Direction, Listener, RouteSource};
pub use resource::{Compiled, Mark, compile};
pub use route::{HostResource, HostSpec, RouteConfig};
pub use secret::Authorities;
pub use tcp::TcpSpec;
