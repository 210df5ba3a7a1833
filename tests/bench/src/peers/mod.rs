//! The proxies that are compared, each with one worker on one core and the same work: one host, one
//! route, a weighted split of two clusters with the same upstream behind both.

pub mod envoy;
mod haproxy;
mod nginx;
pub mod segue;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use segue_tests::process::Process;
use segue_tests::wait;

use crate::upstream::Upstream;

/// A proxy under measurement.
pub struct Proxy {
    pub name: &'static str,
    pub address: SocketAddr,
    /// Root of its processes, for CPU time and memory.
    pub pid: u32,
    /// What must live as long as the proxy: its processes, its control plane.
    pub _keep: Vec<Box<dyn std::any::Any>>,
}

/// A process with children of its own, which only it can end in order: it is asked before it is
/// killed.
pub struct Family(pub Process);

impl Drop for Family {
    fn drop(&mut self) {
        // Where it does not end in time, the process is killed as it is dropped.
        let _ = self.0.terminate(Duration::from_secs(2));
    }
}

/// What a proxy talks on its two legs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Legs {
    pub downstream_http2: bool,
    pub upstream_http2: bool,
}

impl Legs {
    pub const HTTP1: Self = Self { downstream_http2: false, upstream_http2: false };
    pub const HTTP2: Self = Self { downstream_http2: true, upstream_http2: true };
}

/// How all proxies of a work are set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    pub legs: Legs,
    /// Whether requests are gRPC.
    pub grpc: bool,
    /// Routes by prefix ([`route_path`]); 0: one route for all paths.
    pub routes: usize,
}

impl Setup {
    /// One route for all paths, and no gRPC.
    pub fn new(legs: Legs) -> Self {
        Self { legs, grpc: false, routes: 0 }
    }

    /// Prefixes of the paths that are routed.
    fn prefixes(self) -> Vec<String> {
        if self.routes == 0 { vec!["/".into()] } else { (0..self.routes).map(route_path).collect() }
    }
}

/// The prefix of a route. All have one length, so that their order is the order of their numbers.
pub fn route_path(index: usize) -> String {
    format!("/route-{index:05}")
}

/// Starts all proxies that can do the work, on `core`; everything else that one needs goes to
/// `other_core`.
pub fn start_all(
    setup: Setup,
    upstream: &Upstream,
    dir: &Path,
    core: u32,
    other_core: u32,
    only: &[String],
) -> io::Result<Vec<Proxy>> {
    let wanted = |name: &str| only.is_empty() || only.iter().any(|only| only == name);
    let mut proxies = Vec::new();
    if wanted("segue") {
        proxies.push(segue::start(setup, upstream, dir, core, other_core)?);
    }
    if wanted("envoy") {
        proxies.push(envoy::start(setup, upstream, dir, core)?);
    }
    if wanted("haproxy") {
        proxies.push(haproxy::start(setup, upstream, dir, core)?);
    }
    // nginx 1.22 speaks HTTP/2 to upstreams only where that is gRPC.
    if wanted("nginx") && (setup.grpc || !setup.legs.upstream_http2) {
        proxies.push(nginx::start(setup, upstream, dir, core)?);
    }
    Ok(proxies)
}

/// An address on loopback that was free a moment ago.
pub fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// Waits until something accepts there.
pub fn wait_for_port(address: SocketAddr) -> io::Result<()> {
    let limit = Duration::from_secs(20);
    wait::until(&format!("{address} accepts"), limit, || TcpStream::connect(address).ok()).map(drop)
}
