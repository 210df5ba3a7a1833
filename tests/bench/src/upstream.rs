//! The upstream of all proxies: nginx with a fixed answer of 1 KiB, a file of 10 MiB, and an answer
//! of gRPC, in HTTP/1.1 and in HTTP/2 with prior knowledge.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use segue_tests::process::Program;

use crate::peers::{Family, free_address, wait_for_port};

/// Length of the answer of `/`.
pub const SMALL_BYTES: usize = 1024;
/// Length of the answer of `/large`.
pub const LARGE_BYTES: usize = 10 << 20;
/// Method of gRPC, and the length of its messages.
pub const GRPC_PATH: &str = "/bench.Echo/Say";
pub const GRPC_BYTES: usize = 128;

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
        let (body, message) = ("x".repeat(SMALL_BYTES), "x".repeat(GRPC_BYTES));
        fs::write(dir.join("large"), vec![b'x'; LARGE_BYTES])?;
        // An upload is answered when all of it is there, which `return` alone would not wait for.
        let locations = format!(
            "root {dir}; client_max_body_size 0; client_body_buffer_size 11m;
    location = /upload {{ proxy_pass http://{http1}/; proxy_pass_request_body off;
      proxy_method GET; proxy_set_header Content-Length ''; }}
    location / {{ default_type text/plain; return 200 '{body}'; }}
    location = /large {{ sendfile on; default_type text/plain; }}
    location /bench.Echo/ {{ default_type application/grpc; add_trailer grpc-status 0;
      return 200 '{message}'; }}",
            dir = dir.display()
        );
        fs::write(
            &file,
            format!(
                "daemon off; worker_processes 1; pid {dir}/upstream.pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 300s;
  client_body_temp_path {dir}/u1; proxy_temp_path {dir}/u2; fastcgi_temp_path {dir}/u3;
  uwsgi_temp_path {dir}/u4; scgi_temp_path {dir}/u5;
  server {{ listen {http1}; {locations} }}
  server {{ listen {http2} http2; http2_max_concurrent_streams 1024; {locations} }}
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
