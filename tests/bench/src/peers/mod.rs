//! The proxies that are compared, each with one worker on one core and the same work: one host, one
//! route, a weighted split of two clusters with the same upstream behind both.

mod envoy;
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

/// Starts all proxies that can do the work, on `core`; everything else that one needs goes to
/// `other_core`.
pub fn start_all(
    legs: Legs,
    upstream: &Upstream,
    dir: &Path,
    core: u32,
    other_core: u32,
    only: &[String],
) -> io::Result<Vec<Proxy>> {
    let wanted = |name: &str| only.is_empty() || only.iter().any(|only| only == name);
    let mut proxies = Vec::new();
    if wanted("segue") {
        proxies.push(segue::start(legs, upstream, dir, core, other_core)?);
    }
    if wanted("envoy") {
        proxies.push(envoy::start(legs, upstream, dir, core)?);
    }
    if wanted("haproxy") {
        proxies.push(haproxy::start(legs, upstream, dir, core)?);
    }
    // nginx 1.22 speaks HTTP/1.1 to upstreams only.
    if wanted("nginx") && !legs.upstream_http2 {
        proxies.push(nginx::start(legs, upstream, dir, core)?);
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
