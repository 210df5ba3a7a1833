//! The upstream of all proxies: nginx with a fixed answer of 1 KiB, once in HTTP/1.1 and once in
//! HTTP/2 with prior knowledge.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use segue_tests::process::Program;

use crate::peers::{Family, free_address, wait_for_port};

pub struct Upstream {
    pub http1: SocketAddr,
    pub http2: SocketAddr,
    _process: Family,
}

impl Upstream {
    /// Starts it on `core`.
    pub fn start(dir: &Path, core: u32) -> io::Result<Self> {
        let (http1, http2) = (free_address()?, free_address()?);
        let file = dir.join("upstream.conf");
        let body = "x".repeat(1024);
        fs::write(
            &file,
            format!(
                "daemon off; worker_processes 1; pid {dir}/upstream.pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 300s;
  client_body_temp_path {dir}/u1; proxy_temp_path {dir}/u2; fastcgi_temp_path {dir}/u3;
  uwsgi_temp_path {dir}/u4; scgi_temp_path {dir}/u5;
  server {{ listen {http1}; location / {{ default_type text/plain; return 200 '{body}'; }} }}
  server {{ listen {http2} http2; http2_max_concurrent_streams 1024;
    location / {{ default_type text/plain; return 200 '{body}'; }} }}
}}",
                dir = dir.display()
            ),
        )?;
        let process = Program::new("upstream", "taskset", dir)
            .flag("-c", core.to_string())
            .arg("nginx")
            .flag("-c", &file)
            .start()?;
        wait_for_port(http1)?;
        wait_for_port(http2)?;
        Ok(Self { http1, http2, _process: Family(process) })
    }
}
