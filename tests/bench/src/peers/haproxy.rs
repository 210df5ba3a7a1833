//! HAProxy, one thread.

use std::fs;
use std::io;
use std::path::Path;

use segue_tests::process::Program;

use super::{Proxy, Setup, free_address, wait_for_port};
use crate::upstream::Upstream;

pub fn start(setup: Setup, upstream: &Upstream, dir: &Path, core: u32) -> io::Result<Proxy> {
    let address = free_address()?;
    let down = if setup.legs.downstream_http2 { " proto h2" } else { "" };
    let (up, up_protocol) = if setup.legs.upstream_http2 {
        (upstream.http2, " proto h2")
    } else {
        (upstream.http1, "")
    };
    let known = dir.join("haproxy-routes");
    fs::write(&known, setup.prefixes().join("\n"))?;
    let file = dir.join("haproxy.cfg");
    fs::write(
        &file,
        format!(
            "global
  nbthread 1
  maxconn 4096
  tune.h2.max-concurrent-streams 1024
defaults
  mode http
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  option http-keep-alive
  http-reuse always
frontend in
  bind {address}{down}
  http-request return status 404 unless {{ path -m beg -f {known} }}
  use_backend v2 if {{ req.hdr(x-user-id),sdbm(1),mod(100) lt 50 }}
  default_backend v1
backend v1
  server up {up}{up_protocol}
backend v2
  server up {up}{up_protocol}
",
            known = known.display()
        ),
    )?;
    let process = Program::new("haproxy", "taskset", dir)
        .flag("-c", core.to_string())
        .arg("haproxy")
        .arg("-db")
        .flag("-f", &file)
        .start()?;
    wait_for_port(address)?;
    Ok(Proxy { name: "haproxy", address, pid: process.id(), _keep: vec![Box::new(process)] })
}
